"""Predict with a network: from inputs to features, logits, probabilities and labels.

Shapes: N examples, T timesteps, F features of the output layer, C classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unbraid.config import IOArchitecture
from unbraid.data.rows import ROW, aligned, check_rows, has_rows
from unbraid.data.targets import Label, labels_at
from unbraid.data.texts import is_text
from unbraid.data.vocabulary import Vocabulary
from unbraid.errors import DataError
from unbraid.networks.allowed import restricted
from unbraid.networks.cells import ACTIVATIONS
from unbraid.networks.inputs import Inputs, leaves, run_batched
from unbraid.networks.layers import Layer, decomposable_layers
from unbraid.networks.outputs import OUTPUTS, Task, check_decides, check_restricts, task_of
from unbraid.networks.precision import check_values, full
from unbraid.networks.reading import check_inputs
from unbraid.networks.spec import EncoderDecoderSpec, Spec
from unbraid.networks.stage_spec import FlattenSpec, RecurrentSpec, RepeatSpec
from unbraid.networks.text_padding import read_from_the_front
from unbraid.networks.timesteps import decides_each_step
from unbraid.networks.torch_spec import TorchSpec


class Predictor(nn.Module):
    """The part of a network that predicts; :class:`unbraid.Network` adds how it is made, changed and stored.

    Attributes:
        spec: description of the body and the output layer.
        body: computes the features.
        head: the output layer.
        labels: names of the outputs, (C,).
        vocabulary: converts text to word indices, or None.
    """

    spec: Spec
    body: nn.Module
    head: nn.Linear
    labels: list[Label]
    vocabulary: Vocabulary | None

    @property
    def layers(self) -> dict[str, Layer]:
        """Name -> layer whose hidden units can be removed, in the order of computation."""
        return decomposable_layers(self.body)

    @property
    def task(self) -> Task:
        """What the outputs are: scores of classes (``classification``), independent ``labels``, or ``regression``."""
        return task_of(self.spec.output, self.spec.classes)

    @property
    def classes(self) -> int:
        """Number of labels: C, or 2 for a single sigmoid column."""
        return max(self.spec.classes, 2) if self.binary else self.spec.classes

    @property
    def binary(self) -> bool:
        """Whether the output is one sigmoid column that decides between two classes."""
        return self.spec.output == "sigmoid" and self.spec.classes == 1

    @property
    def independent(self) -> bool:
        """Whether the labels are independent: more than one sigmoid column."""
        return self.spec.output == "sigmoid" and self.spec.classes > 1

    @property
    def io(self) -> IOArchitecture:
        """The input/output type of the paper: 1:1, 1:N, M:1, M:N, or encoder-decoder.

        A network without a recurrence is 1:1, or M:N if its dense layers run at each timestep.
        """
        if isinstance(self.spec, EncoderDecoderSpec):
            return IOArchitecture.ENCODER_DECODER
        if isinstance(self.spec, TorchSpec):
            if self.spec.many_outputs:
                return IOArchitecture.MANY_TO_MANY
            return IOArchitecture.MANY_TO_ONE if self.spec.layers else IOArchitecture.ONE_TO_ONE
        if not self.spec.recurrent:
            return IOArchitecture.MANY_TO_MANY if decides_each_step(self.spec) else IOArchitecture.ONE_TO_ONE
        recurrent = [i for i, s in enumerate(self.spec.stages) if isinstance(s, RecurrentSpec)]
        one_input = any(isinstance(s, RepeatSpec) for s in self.spec.stages[: recurrent[0]])
        many = False
        for stage in self.spec.stages[recurrent[0] :]:
            if isinstance(stage, RecurrentSpec):
                many = stage.sequences
            elif isinstance(stage, FlattenSpec):
                many = False
            elif isinstance(stage, RepeatSpec):
                many = True
        return IOArchitecture(f"{'1' if one_input else 'M'}:{'N' if many else '1'}")

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.head.weight.device

    def features(self, x: Any) -> Tensor:
        """Compute the inputs of the output layer: (N, F), or (N, T, F) for many outputs."""
        features: Tensor = self.body(x)
        return features

    def forward(self, x: Any) -> Tensor:
        """Compute the logits: (N, C), or (N, T, C) for many outputs."""
        return full(self.head(self.features(x)))

    def activate(self, logits: Tensor) -> Tensor:
        """Apply the output activation over the last axis."""
        return ACTIVATIONS[OUTPUTS[self.spec.output].activation](logits)

    def _activated(self, x: Any) -> np.ndarray:
        """Compute the outputs with their activation, in batches: (N, C) or (N, T, C)."""
        inputs = self.check(x)
        return run_batched(lambda b: self.activate(self(b)), inputs, self.device, decided=not self.io.many_outputs)

    def logits(self, x: Any) -> np.ndarray:
        """Compute the logits of all examples, in batches: the outputs before their activation.

        Args:
            x: word indices (N, T), features (N, T, D), or text if the network has a vocabulary. A PyTorch module takes
                its own inputs. An encoder-decoder takes a dict of ``source`` and ``target``.

        Returns:
            float array (N, C), or (N, T, C) for many outputs.

        Raises:
            DataError: the inputs do not fit (see :func:`unbraid.networks.reading.check_inputs`).

        Example:
            >>> from unbraid.demo.small import small_examples, small_network
            >>> network = small_network()
            >>> x, y = small_examples(network)
            >>> network.logits(x).shape
            (120, 3)
        """
        return run_batched(self, self.check(x), self.device, decided=not self.io.many_outputs)

    def predict_proba(self, x: Any, allowed: Any = None) -> np.ndarray:
        """Compute the probabilities of all classes, in batches.

        Args:
            x: as for :meth:`logits`.
            allowed: booleans (N, C), (N, T, C) or (C,), or a list of labels for each example: the classes that may be
                predicted; others get 0. Default None, all.

        Returns:
            float array (N, C), or (N, T, C) for many outputs, each value in [0, 1].

        Raises:
            DataError: the inputs do not fit, or the network is a regression.

        Example:
            >>> from unbraid.demo.small import small_examples, small_network
            >>> network = small_network()
            >>> x, y = small_examples(network)
            >>> network.predict_proba(x).shape
            (120, 3)
        """
        check_decides(self.task, "predict_proba")
        if allowed is None:
            return self._activated(x)
        return self.activate(torch.from_numpy(restricted(self.logits(x), allowed, self.labels))).numpy()

    def predict_index(self, x: Any, allowed: Any = None) -> np.ndarray:
        """Predict class indices.

        Args:
            x: as for :meth:`logits`.
            allowed: as for :meth:`predict`.

        Returns:
            int64 array (N,), or (N, T) for many outputs, with -1 at padded timesteps; booleans (..., C) for
            independent labels.

        Raises:
            DataError: the inputs do not fit, or the network is a regression.
        """
        check_decides(self.task, "predict_index")
        if allowed is not None or self.independent:
            return self.decide(restricted(self.logits(x), allowed, self.labels))
        found = run_batched(self._decided, self.check(x), self.device, decided=not self.io.many_outputs)
        return np.where(np.isnan(found), -1, found).astype(np.int64)

    def _decided(self, x: Any) -> Tensor:
        """Decide for one batch, so that memory does not grow with N * C: class indices, NaN where logits are NaN."""
        found = self.decide(self(x).cpu().numpy()).astype(np.float64)
        return torch.from_numpy(np.where(found < 0, np.nan, found))

    def decide(self, logits: np.ndarray) -> np.ndarray:
        """Convert logits (N, C) or (N, T, C) to class indices, as :meth:`predict_index` returns them."""
        if self.independent:
            return np.asarray(logits > 0)
        decided = (logits[..., 0] > 0).astype(np.int64) if self.binary else logits.argmax(-1)
        return np.where(np.isnan(logits).any(-1), -1, decided)

    def predict(self, x: Any, allowed: Any = None) -> np.ndarray:
        """Predict labels, or the numbers of a regression.

        Args:
            x: as for :meth:`logits`.
            allowed: booleans (N, C), (N, T, C) or (C,), or a list of labels for each example: the classes that may be
                predicted. Default None, all.

        Returns:
            labels (N,), or (N, T) for many outputs; booleans (..., C) for independent labels; for a regression floats
            (N, C) or (N, T, C), also with one column. Padded timesteps of shorter texts get "", or -1 where all labels
            are numbers, and NaN in a regression.

        Raises:
            DataError: the inputs or ``allowed`` do not fit, or the network is an encoder-decoder.

        Example:
            >>> from unbraid.demo.small import small_examples, small_network
            >>> network = small_network(labels=["travel", "banking"])
            >>> x, y = small_examples(network)
            >>> set(network.predict(x).tolist()) <= {"travel", "banking"}
            True
        """
        if isinstance(self.spec, EncoderDecoderSpec):
            raise DataError("an encoder-decoder returns sentences, not labels: use unbraid.Translator on its modules.")
        check_restricts(self.task, allowed)
        if self.task == "regression":
            return self._activated(x)
        found = self.predict_index(x, allowed)
        return found if self.independent else labels_at(self.labels, found)

    def check(self, x: Any) -> Inputs:
        """Check inputs and convert them to the arrays that the network reads.

        Raises:
            DataError: the inputs do not fit.
        """
        check_values(self.head, "the network")
        found = check_inputs(self.spec, x, self.vocabulary)
        if not is_text(x) or not isinstance(self.spec, TorchSpec) or list(self.spec.axes) != [2, 1]:
            return found
        assert self.vocabulary is not None
        return read_from_the_front(self, found, self.vocabulary.padding, self.io.many_outputs, self.device)

    def align(self, y: Any, x: Inputs, texts: Any) -> Any:
        """Pad and cut lists of labels, one label per word, in the same way as the words.

        Other labels are returned unchanged.

        Args:
            y: labels, N rows. Each row has one label per word, or all rows have one label per timestep.
            x: checked inputs of the texts.
            texts: N texts.

        Raises:
            DataError: a row of another length, or rows that are not lists of labels.
        """
        per_word = self.io is IOArchitecture.MANY_TO_MANY and is_text(texts) and has_rows(y)
        if self.vocabulary is None or not per_word:
            return y
        y = list(y)
        steps = leaves(x.tree)[0].shape[1 - x.axis]
        if {len(row) if isinstance(row, ROW) else None for row in y} == {steps}:
            return y
        check_rows(y, texts)
        padding = self.vocabulary.padding
        return aligned(y, steps, padding.side, padding.truncation)

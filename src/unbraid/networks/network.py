"""A trained network: stages, the output layer, and what its classes are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from unbraid.config import IOArchitecture
from unbraid.data.rows import ROW, aligned, check_rows, has_rows
from unbraid.data.targets import Label, labels_at
from unbraid.data.texts import is_text
from unbraid.data.vocabulary import Vocabulary
from unbraid.errors import DataError, FormatError
from unbraid.networks.checking import check_flow, check_labels, check_vocabulary
from unbraid.networks.encoder_decoder import EncoderDecoder, check_encoder_decoder
from unbraid.networks.inputs import Inputs, leaves, map_tree, run_batched
from unbraid.networks.layers import Layer, decomposable_layers
from unbraid.networks.precision import check_values, full
from unbraid.networks.pytorch.answer import Answer
from unbraid.networks.pytorch.body import TorchBody, copied, copied_linear, own_module
from unbraid.networks.pytorch.calling import check_tree
from unbraid.networks.pytorch.finding import find, recurrent_sites
from unbraid.networks.reading import check_inputs
from unbraid.networks.recurrent import RecurrentLayer
from unbraid.networks.snapshot import Snapshot, own_copy
from unbraid.networks.spec import (
    EmbeddingSpec,
    EncoderDecoderSpec,
    FlattenSpec,
    NetworkSpec,
    RecurrentSpec,
    RepeatSpec,
    Spec,
    TorchSpec,
)
from unbraid.networks.stages import StageSequence


class Network(nn.Module):
    """A trained recurrent network, ready to be taken apart.

    Args:
        spec: its stages and output layer, or what was found in a user's own module.
        weights: name -> tensor, as :meth:`weights` gives them; copied.
        labels: the classes' names in the order of the output columns; 0..C-1 by default.
        module: an instance of the user's own module, where the spec is one's; it is copied, its weights are not used.
        vocabulary: how it reads text; without one it reads numbers only.

    Raises:
        FormatError: a weight is missing, left over, of another shape, or not finite.
        DataError: the labels are not C different ones.
    """

    def __init__(
        self,
        spec: Spec,
        weights: Mapping[str, Tensor],
        labels: Sequence[Label] | None = None,
        module: nn.Module | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        super().__init__()
        self._build(spec, labels, module)
        self.with_vocabulary(vocabulary)
        self._load(weights)

    def _build(
        self, spec: Spec, labels: Sequence[Label] | None, module: nn.Module | None, answer: Answer | None = None
    ) -> None:
        self.spec = spec
        self.loss: str | None = None  # the training loss, where a Keras file stores it
        self._snapshot: Snapshot | None = None
        self.vocabulary: Vocabulary | None = None
        self.target_vocabulary: Vocabulary | None = None  # of an encoder-decoder
        self.labels: list[Label] = check_labels(labels, spec)
        self.body: nn.Module
        if isinstance(spec, TorchSpec):
            ready = own_module(spec, module)
            self.head, self.body = copied_linear(ready.get_submodule(spec.head)), TorchBody(ready, spec, answer=answer)
        else:
            self._declare(spec)
        self.requires_grad_(False)
        self.eval()

    def _declare(self, spec: NetworkSpec | EncoderDecoderSpec) -> None:
        """Layers with shapes; nothing is allocated before these are known to fit."""
        with torch.device("meta"):
            if isinstance(spec, EncoderDecoderSpec):
                check_encoder_decoder(spec)
                self.body = EncoderDecoder(spec)
            else:
                check_flow(spec)
                self.body = StageSequence(spec.stages, spec.features)
            self.head = nn.Linear(spec.features, spec.classes)

    @classmethod
    def skeleton(cls, spec: NetworkSpec | EncoderDecoderSpec) -> Network:
        """A network of that structure whose weights have shapes but no memory; raises FormatError as building does."""
        network = cls.__new__(cls)
        nn.Module.__init__(network)
        network._build(spec, None, None)
        return network

    @classmethod
    def from_torch(
        cls,
        module: nn.Module,
        example: Any,
        head: str | None = None,
        labels: Sequence[Label] | None = None,
        output: Literal["softmax", "sigmoid"] | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> Network:
        """A network of a user's own ``nn.Module``, whose forward keeps running; only layers in it are exchanged.

        Args:
            module: any module whose recurrence is nn.RNN, nn.LSTM or nn.GRU and whose scores come from one nn.Linear;
                copied.
            example: a batch of at least two different examples as the module reads it: a tensor, a tuple (its
                arguments) or a dict (by name).
            head: path of that nn.Linear; found where one alone gives what the module returns. A layer whose softmax,
                sigmoid or argmax is returned is preferred to one whose numbers are returned as they are.
            labels: the classes' names; 0..C-1 by default.
            output: ``softmax`` (classes) or ``sigmoid`` (independent labels, or one column for two classes); taken from
                what the module does behind the layer where that shows. One column without a sigmoid is taken for a
                regression, and refused, unless ``output="sigmoid"`` is given.
            vocabulary: how it reads text; the module is then given indices (N, T), and lengths where it takes two.

        Returns:
            the network, in eval mode.

        Raises:
            UnsupportedLayer: a construction that cannot be taken apart exactly; the message says which.
            DataError: a head that was not found, a regression, or an example that does not run. Later, wherever the
                network runs: inputs on which the module's own result decides otherwise than its output layer.
        """
        recurrent_sites(module)  # refuses before anything is copied
        check_tree(example, "examples")
        with torch.inference_mode(False):  # weights that are copied in that mode never take part in gradients
            own = copied(module).eval()
            tree = map_tree(lambda leaf: torch.as_tensor(leaf) if isinstance(leaf, np.ndarray) else leaf, example)
            spec, answer = find(own, tree, head, output)
            network = cls.__new__(cls)
            nn.Module.__init__(network)
            network._build(spec, labels, own, answer)
        network._check_finite()
        network.with_vocabulary(vocabulary)
        return network

    def with_vocabulary(self, vocabulary: Vocabulary | None, target: Vocabulary | None = None) -> Network:
        """Give the network a vocabulary, so that it reads text; returns itself.

        Args:
            vocabulary: of what it reads.
            target: of what an encoder-decoder says.

        Raises:
            DataError: indices that its embedding does not have, or another T.
            ArgumentError: something else than vocabularies.
        """
        check_vocabulary(vocabulary, "vocabulary")
        check_vocabulary(target, "target")
        if isinstance(self.spec, EncoderDecoderSpec):
            for words, embedding in ((vocabulary, self.spec.source), (target, self.spec.target)):
                if words is not None and words.size > embedding.vocabulary:
                    raise DataError(
                        f"the vocabulary has indices up to {words.size - 1}, the embedding {embedding.name!r} up to "
                        f"{embedding.vocabulary - 1}: was the network trained with it?"
                    )
        self.target_vocabulary = target
        if vocabulary is not None and isinstance(self.spec, NetworkSpec):
            first, steps = self.spec.stages[0], vocabulary.padding.steps
            if not isinstance(first, EmbeddingSpec):
                raise DataError("the network reads features, not words: it has no use for a vocabulary.")
            if vocabulary.size > first.vocabulary:
                raise DataError(
                    f"the vocabulary has indices up to {vocabulary.size - 1}, the embedding {first.name!r} up to "
                    f"{first.vocabulary - 1}: was the network trained with it (num_words)?"
                )
            if None not in (steps, self.spec.steps) and steps != self.spec.steps:
                raise DataError(f"the vocabulary pads to {steps} timesteps, the network reads {self.spec.steps}.")
        self.vocabulary = vocabulary
        return self

    @property
    def layers(self) -> dict[str, Layer]:
        """The layers whose nodes can be removed, in the order of computation."""
        return decomposable_layers(self.body)

    @property
    def classes(self) -> int:
        """Number of labels: C, or 2 for a single sigmoid column."""
        return max(self.spec.classes, 2) if self.binary else self.spec.classes

    @property
    def binary(self) -> bool:
        """Whether one sigmoid column tells two classes apart."""
        return self.spec.output == "sigmoid" and self.spec.classes == 1

    @property
    def independent(self) -> bool:
        """Whether several labels may hold at once (more than one sigmoid column)."""
        return self.spec.output == "sigmoid" and self.spec.classes > 1

    @property
    def io(self) -> IOArchitecture:
        """Inputs and outputs over time (the paper's 1:1, 1:N, M:1, M:N, encoder-decoder)."""
        if isinstance(self.spec, EncoderDecoderSpec):
            return IOArchitecture.ENCODER_DECODER
        if isinstance(self.spec, TorchSpec):
            return IOArchitecture.MANY_TO_MANY if self.spec.many_outputs else IOArchitecture.MANY_TO_ONE
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
        """Where the weights are."""
        return self.head.weight.device

    def features(self, x: Any) -> Tensor:
        """What the output layer reads: (N, F), or (N, T, F) for many outputs."""
        features: Tensor = self.body(x)
        return features

    def forward(self, x: Any) -> Tensor:
        """The output layer's scores before its activation: (N, C) or (N, T, C)."""
        return full(self.head(self.features(x)))

    def activate(self, logits: Tensor) -> Tensor:
        """The output activation over the last axis."""
        return torch.softmax(logits, -1) if self.spec.output == "softmax" else torch.sigmoid(logits)

    def logits(self, x: Any) -> np.ndarray:
        """Scores before the output activation, (N, C) or (N, T, C), in batches.

        Raises:
            DataError: the inputs do not fit (see :func:`unbraid.networks.reading.check_inputs`).
        """
        return run_batched(self, self.check(x), self.device, decided=not self.io.many_outputs)

    def predict_proba(self, x: Any) -> np.ndarray:
        """Probabilities as the trained model gives them: (N, C), or (N, T, C) for many outputs; raises DataError."""
        inputs = self.check(x)
        return run_batched(lambda b: self.activate(self(b)), inputs, self.device, decided=not self.io.many_outputs)

    def predict_index(self, x: Any) -> np.ndarray:
        """Class indices (N,) or (N, T), -1 at timesteps without a decision; of independent labels booleans (..., C)."""
        return self.decide(self.logits(x))

    def decide(self, logits: np.ndarray) -> np.ndarray:
        """What :meth:`predict_index` makes of scores (N, C) or (N, T, C)."""
        if self.independent:
            return np.asarray(logits > 0)
        decided = (logits[..., 0] > 0).astype(np.int64) if self.binary else logits.argmax(-1)
        return np.where(np.isnan(logits).any(-1), -1, decided)

    def predict(self, x: Any) -> np.ndarray:
        """Labels (N,) or (N, T); of independent labels booleans (..., C), column by label; raises DataError.

        Timesteps that a shorter text does not have get "", or -1 where all labels are numbers.
        """
        if isinstance(self.spec, EncoderDecoderSpec):
            raise DataError("an encoder-decoder gives sentences, no labels: use unbraid.Translator on its modules.")
        if self.independent:
            return self.predict_index(x)
        return labels_at(self.labels, self.predict_index(x))

    def check(self, x: Any) -> Inputs:
        """Inputs (text, where there is a vocabulary) as this network reads them; raises DataError."""
        check_values(self.head, "the network")
        if isinstance(self.spec, TorchSpec):
            check_tree(x, "inputs")
        return check_inputs(self.spec, x, self.vocabulary)

    def align(self, y: Any, x: Inputs, texts: Any) -> Any:
        """Lists of labels, one for each word, padded and cut as the words are; other labels as they come.

        Args:
            y: the labels.
            x: what this network reads for the texts.
            texts: N texts; of lists of words every row has as many labels as words, or all have one for each timestep.

        Raises:
            DataError: a row of another length, or rows that are no lists of labels.
        """
        per_word = self.io is IOArchitecture.MANY_TO_MANY and is_text(texts) and has_rows(y)
        if self.vocabulary is None or not per_word:
            return y
        y = list(y)
        steps = leaves(x.tree)[0].shape[1 - x.axis]
        if {len(row) if isinstance(row, ROW) else None for row in y} == {steps}:
            return y
        check_rows(y, texts)
        return aligned(y, steps, self.vocabulary.padding.side)

    def weights(self) -> dict[str, Tensor]:
        """Name -> tensor: everything that was learned."""
        return {name: tensor.detach() for name, tensor in self.state_dict().items()}

    def sha256(self) -> str:
        """Digest of the weights as they are now, and their names: networks with one digest compute the same."""
        return self.snapshot().sha256

    def snapshot(self) -> Snapshot:
        """The weights as they are now; the same object while nothing changes them. Raises DataError without values."""
        if self._snapshot is None or not self._snapshot.matches(self):
            self._snapshot = Snapshot(self, self.spec.model_dump_json())
        return self._snapshot

    def as_released(self) -> Network:
        """This network as the authors' release evaluates it: sigmoid gates, and a GRU that resets after the product.

        A deviation of the release, kept for comparison: files that say hard_sigmoid or reset-before then compute
        another function than was trained.
        """
        if not isinstance(self.spec, NetworkSpec):
            return self  # torch's layers have sigmoid gates and reset after
        stages = []
        for stage in self.spec.stages:
            if isinstance(stage, RecurrentSpec):
                cell = stage.cell.model_copy(update={"gate_activation": "sigmoid", "reset_after": True})
                stage = stage.model_copy(update={"cell": cell})
            stages.append(stage)
        return Network(
            self.spec.model_copy(update={"stages": stages}), self.weights(), self.labels, None, self.vocabulary
        )

    def _load(self, weights: Mapping[str, Tensor]) -> None:
        expected = {name: tuple(p.shape) for name, p in self.state_dict().items()}
        for name, shape in expected.items():
            if name not in weights:
                raise FormatError(f"weight {name!r} is missing; expected shape {shape}.")
            found = weights[name]
            if tuple(found.shape) != shape:
                raise FormatError(f"weight {name!r} has shape {tuple(found.shape)}, expected {shape}.")
            if not isinstance(self.spec, TorchSpec) and found.dtype not in (torch.float32, torch.float64):
                raise FormatError(f"weight {name!r} is {found.dtype}, expected float32 or float64.")
        extra = sorted(set(weights) - set(expected))
        if extra:
            raise FormatError(f"weights {extra} belong to no layer; expected only {sorted(expected)}.")
        with torch.inference_mode(False):
            self.load_state_dict({name: own_copy(tensor) for name, tensor in weights.items()}, assign=True)
        self.requires_grad_(False)
        self._check_finite()

    def _check_finite(self) -> None:
        for name, tensor in self.state_dict().items():
            if not torch.isfinite(tensor).all():
                raise FormatError(
                    f"weight {name!r} holds NaN or infinite values: the training diverged, or the file is damaged."
                )

    def recurrent_layers(self) -> dict[str, RecurrentLayer]:
        """The recurrent ones among :attr:`layers`."""
        return {n: layer.module for n, layer in self.layers.items() if isinstance(layer.module, RecurrentLayer)}

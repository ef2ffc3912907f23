"""A trained network: its body, its output layer and the names of its classes.

Shapes: N examples, T timesteps, F features of the output layer, C classes.
"""

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
from unbraid.errors import DataError, FormatError, UnsupportedLayer
from unbraid.networks.cells import ACTIVATIONS
from unbraid.networks.checking import check_flow, check_graph_vocabulary, check_labels, check_vocabulary
from unbraid.networks.encoder_decoder import EncoderDecoder, check_encoder_decoder
from unbraid.networks.graph_spec import KerasSpec
from unbraid.networks.inputs import Inputs, leaves, run_batched
from unbraid.networks.layers import Layer, decomposable_layers
from unbraid.networks.outputs import OUTPUTS, GivenTask, Task, check_decides, check_task, task_of
from unbraid.networks.precision import check_values, full
from unbraid.networks.pytorch.answer import Answer
from unbraid.networks.pytorch.body import TorchBody, own_module
from unbraid.networks.pytorch.calling import check_tree
from unbraid.networks.pytorch.facts import TorchFacts, facts_of
from unbraid.networks.pytorch.finding import find, recurrent_sites
from unbraid.networks.pytorch.heads import copied_linear
from unbraid.networks.pytorch.plain import user_module
from unbraid.networks.pytorch.plain_stages import plain_network
from unbraid.networks.pytorch.replacing import copied
from unbraid.networks.reading import check_inputs
from unbraid.networks.recurrent import RecurrentLayer
from unbraid.networks.snapshot import Snapshot, own_copy
from unbraid.networks.spec import EncoderDecoderSpec, NetworkSpec, Spec, needs_module
from unbraid.networks.stage_spec import EmbeddingSpec, FlattenSpec, RecurrentSpec, RepeatSpec
from unbraid.networks.stages import StageSequence
from unbraid.networks.torch_spec import TorchSpec


class Network(nn.Module):
    """A trained recurrent network that can be decomposed into modules.

    Read one from a Keras file with :func:`unbraid.load`, or make one of a PyTorch module with :meth:`from_torch`.

    Args:
        spec: description of the body and the output layer.
        weights: name -> tensor, as returned by :meth:`weights`; copied.
        labels: names of the classes or numbers in the order of the output columns, (C,); 0..C-1 by default.
        module: an instance of the user's module where ``spec`` is a TorchSpec. It is copied; its weights are not used.
        vocabulary: converts text to word indices; None for a network that reads numbers only.

    Raises:
        FormatError: a weight is missing, not expected, of another shape, or not finite.
        DataError: the labels are not C different ones.

    Example:
        >>> from unbraid.demo.small import small_examples, small_network
        >>> network = small_network()
        >>> x, y = small_examples(network)
        >>> network.predict(x).shape
        (120,)
        >>> list(network.layers), network.classes, network.io.value
        (['gru'], 3, 'M:1')
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
        self.loss: str | None = None  # the training loss, if a Keras file stores it
        self._snapshot: Snapshot | None = None
        self.vocabulary: Vocabulary | None = None
        self.target_vocabulary: Vocabulary | None = None  # of an encoder-decoder
        self.labels: list[Label] = check_labels(labels, spec)
        self.facts: TorchFacts | None = None  # about a user's PyTorch module
        self.body: nn.Module
        if isinstance(spec, TorchSpec):
            ready = own_module(spec, module)
            self.facts = facts_of(ready) if needs_module(spec) else None
            self.head, self.body = copied_linear(ready.get_submodule(spec.head)), TorchBody(ready, spec, answer=answer)
        else:
            self._declare(spec)
        self.requires_grad_(False)
        self.eval()

    def _declare(self, spec: NetworkSpec | EncoderDecoderSpec) -> None:
        """Make layers with shapes but no memory, so that the shapes are checked before memory is allocated."""
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
        """Make a network with the structure of ``spec`` whose weights have shapes but no memory.

        Raises:
            FormatError: the sizes of the layers do not fit together.
        """
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
        name: str | None = None,
        init: Mapping[str, Any] | None = None,
        task: GivenTask | None = None,
    ) -> Network:
        """Make a network of a PyTorch module.

        The forward method of the module stays in use. Only its recurrent layers and its output layer are replaced.

        Args:
            module: a module with nn.RNN, nn.LSTM or nn.GRU layers and one output nn.Linear. It is copied.
            example: a batch of at least two different examples: a tensor, a tuple of arguments, or a dict of arguments
                by name.
            head: path of the output nn.Linear. None searches for the layer whose scores, or a softmax, sigmoid or
                argmax of them, the module returns. An activated result is preferred to plain scores.
            labels: names of the classes or of the predicted numbers, (C,); 0..C-1 by default.
            output: ``softmax`` (classes) or ``sigmoid`` (independent labels, or one column for two classes). None
                derives it from the result of the module. One column without a sigmoid needs ``output="sigmoid"`` or
                ``task="regression"``.
            vocabulary: converts text to word indices. The module then gets indices (N, T), and lengths (N,) if it takes
                two arguments.
            name: a name for the network, at most 100 characters. Saved folders show it, and ``module=`` of the load
                functions accepts it as a key.
            init: the arguments that ``module`` was constructed with, as keywords; values that JSON has. Folders store
                them, so that ``module=`` of the load functions can be the class itself.
            task: ``regression`` for a module that returns numbers: the outputs of its output layer, or a sigmoid, tanh
                or relu of them. None, the default, for a classifier.

        Returns:
            the network, in eval mode.

        Warns:
            UnbraidWarning: weights of half precision, a module that reads one example a call, or a result that cannot
                be compared with the output layer. The logger ``unbraid`` notes merged weights at level INFO.

        Raises:
            UnsupportedLayer: the module cannot be decomposed exactly; the message names the reason.
            DataError: no output layer was found, one column without a task, an example that does not run, or a value of
                ``init`` that JSON does not have. Later calls raise it where the result of the module and its output
                layer decide differently.

        Example:
            >>> import torch
            >>> from torch import nn
            >>> class Classifier(nn.Module):
            ...     def __init__(self):
            ...         super().__init__()
            ...         self.lstm = nn.LSTM(4, 8, batch_first=True)
            ...         self.out = nn.Linear(8, 3)
            ...     def forward(self, x):
            ...         return self.out(self.lstm(x)[0][:, -1])
            >>> network = Network.from_torch(Classifier(), example=torch.randn(5, 6, 4), labels=["a", "b", "c"])
            >>> network.spec.head, network.classes
            ('out', 3)
        """
        recurrent_sites(module)  # refuse before anything is copied
        check_tree(example, "examples")
        check_task(task)
        with torch.inference_mode(False):  # weights that are copied in inference mode cannot have gradients
            own = copied(module).eval()
            spec, answer = find(own, example, head, output, task)
            network = cls.__new__(cls)
            nn.Module.__init__(network)
            network._build(spec, labels, own, answer)
            network.facts = facts_of(own, name, init)
        network._check_finite()
        network.with_vocabulary(vocabulary)
        return network

    @staticmethod
    def from_keras(
        model: Any,
        example: Any = None,
        labels: Sequence[Label] | None = None,
        task: Literal["classification", "regression"] | None = None,
        output: str | None = None,
    ) -> Network:
        """Make a network of a Keras model in memory. It needs Keras 3 and works with each of its backends.

        Args:
            model: a built Sequential or Functional ``keras.Model`` of built-in layers.
            example: inputs as the model reads them, (N, ...), or a tuple of arrays. If given, the predictions of the
                network and of the model on it are compared.
            labels: names of the classes, (C,); 0..C-1 by default.
            task: as for :func:`unbraid.load`.
            output: as for :func:`unbraid.load`.

        Returns:
            the network, in eval mode, with its own copy of the weights.

        Raises:
            ArgumentError: ``model`` is no ``keras.Model``.
            UnsupportedLayer: a layer that cannot be computed exactly, or a network that may be a regressor.
            ConfigError: a model without weights, or an argument that does not fit.
            DataError: the predictions on the example differ.

        Example:
            >>> network = Network.from_keras(model, example=x, labels=["travel", "banking"])  # doctest: +SKIP
        """
        from unbraid.networks.keras.live import from_keras

        return from_keras(model, example, labels, task, output)

    def with_vocabulary(self, vocabulary: Vocabulary | None, target: Vocabulary | None = None) -> Network:
        """Set the vocabulary in place, so that the network accepts text.

        Args:
            vocabulary: vocabulary of the inputs; None removes it.
            target: vocabulary of the outputs of an encoder-decoder; None by default.

        Returns:
            the network itself.

        Raises:
            DataError: the vocabulary has indices that the embedding does not have, or another T.
            ArgumentError: an argument that is not a Vocabulary.

        Example:
            >>> from unbraid import Vocabulary
            >>> from unbraid.demo.small import small_network
            >>> network = small_network().with_vocabulary(Vocabulary.from_word_index({"a": 2, "flight": 3}))
            >>> network.predict(["a flight", "a"]).shape
            (2,)
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
                raise DataError(
                    "the network reads features, not word indices, so it cannot use a vocabulary: pass vocabulary=None."
                )
            if vocabulary.size > first.vocabulary:
                raise DataError(
                    f"the vocabulary has indices up to {vocabulary.size - 1}, the embedding {first.name!r} up to "
                    f"{first.vocabulary - 1}: was the network trained with it (num_words)?"
                )
            if None not in (steps, self.spec.steps) and steps != self.spec.steps:
                raise DataError(f"the vocabulary pads to {steps} timesteps, the network reads {self.spec.steps}.")
        if vocabulary is not None and isinstance(self.spec, KerasSpec):
            check_graph_vocabulary(vocabulary, self.spec)
        self.vocabulary = vocabulary
        return self

    @property
    def name(self) -> str | None:
        """The name that :meth:`from_torch` was given; None without one."""
        return None if self.facts is None else self.facts.name

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
        """The input/output type of the paper: 1:1, 1:N, M:1, M:N, or encoder-decoder."""
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

    def predict_proba(self, x: Any) -> np.ndarray:
        """Compute the probabilities of all classes, in batches.

        Args:
            x: as for :meth:`logits`.

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
        return self._activated(x)

    def predict_index(self, x: Any) -> np.ndarray:
        """Predict class indices.

        Args:
            x: as for :meth:`logits`.

        Returns:
            int64 array (N,), or (N, T) for many outputs, with -1 at padded timesteps; booleans (..., C) for
            independent labels.

        Raises:
            DataError: the inputs do not fit, or the network is a regression.
        """
        check_decides(self.task, "predict_index")
        return self.decide(self.logits(x))

    def decide(self, logits: np.ndarray) -> np.ndarray:
        """Convert logits (N, C) or (N, T, C) to class indices, as :meth:`predict_index` returns them."""
        if self.independent:
            return np.asarray(logits > 0)
        decided = (logits[..., 0] > 0).astype(np.int64) if self.binary else logits.argmax(-1)
        return np.where(np.isnan(logits).any(-1), -1, decided)

    def predict(self, x: Any) -> np.ndarray:
        """Predict labels, or the numbers of a regression.

        Args:
            x: as for :meth:`logits`.

        Returns:
            labels (N,), or (N, T) for many outputs; booleans (..., C) for independent labels; for a regression floats
            (N, C) or (N, T, C), also with one column. Padded timesteps of shorter texts get "", or -1 where all labels
            are numbers, and NaN in a regression.

        Raises:
            DataError: the inputs do not fit, or the network is an encoder-decoder.

        Example:
            >>> from unbraid.demo.small import small_examples, small_network
            >>> network = small_network(labels=["travel", "banking"])
            >>> x, y = small_examples(network)
            >>> set(network.predict(x).tolist()) <= {"travel", "banking"}
            True
        """
        if isinstance(self.spec, EncoderDecoderSpec):
            raise DataError("an encoder-decoder returns sentences, not labels: use unbraid.Translator on its modules.")
        if self.task == "regression":
            return self._activated(x)
        if self.independent:
            return self.predict_index(x)
        return labels_at(self.labels, self.predict_index(x))

    def check(self, x: Any) -> Inputs:
        """Check inputs and convert them to the arrays that the network reads.

        Raises:
            DataError: the inputs do not fit.
        """
        check_values(self.head, "the network")
        if isinstance(self.spec, TorchSpec):
            check_tree(x, "inputs")
        return check_inputs(self.spec, x, self.vocabulary)

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

    def weights(self) -> dict[str, Tensor]:
        """Return name -> tensor, for all parameters and buffers."""
        return {name: tensor.detach() for name, tensor in self.state_dict().items()}

    def sha256(self) -> str:
        """Compute a digest of the structure, the names of the weights and their current values."""
        return self.snapshot().sha256

    def snapshot(self) -> Snapshot:
        """Copy the current weights; the same object is returned until they change.

        Raises:
            DataError: a weight on the meta device.
        """
        if self._snapshot is None or not self._snapshot.matches(self):
            self._snapshot = Snapshot(self, self.spec.model_dump_json())
        return self._snapshot

    def as_released(self) -> Network:
        """Copy this network with the cells that the authors' release uses for every file.

        The release always uses sigmoid gates, and a GRU whose reset gate multiplies after the recurrent product. A
        network that was trained with other cells then computes another function. Use it for comparison only.

        Returns:
            the changed network; the network itself for a PyTorch module or an encoder-decoder.
        """
        if not isinstance(self.spec, NetworkSpec):
            return self  # PyTorch layers already have these cells
        stages = []
        for stage in self.spec.stages:
            if isinstance(stage, RecurrentSpec):
                cell = stage.cell.model_copy(update={"gate_activation": "sigmoid", "reset_after": True})
                stage = stage.model_copy(update={"cell": cell})
            stages.append(stage)
        return Network(
            self.spec.model_copy(update={"stages": stages}), self.weights(), self.labels, None, self.vocabulary
        )

    def to_torch(self) -> nn.Module:
        """Copy this network as a module of torch's own layers, for ``quantize_dynamic`` and the like.

        Returns:
            for a network of a Keras file an nn.Sequential that maps word indices (N, T) or features (N, T, D) to
            logits; for a PyTorch module an instance of its class.

        Raises:
            UnsupportedLayer: a layer that torch does not have (hard sigmoid gates, masks of padding).

        Example:
            >>> import torch
            >>> from unbraid.demo.small import small_examples, small_network
            >>> network = small_network()
            >>> x, y = small_examples(network)
            >>> bool(torch.allclose(network.to_torch()(torch.as_tensor(x)), network(torch.as_tensor(x)), atol=1e-5))
            True
        """
        if isinstance(self.spec, KerasSpec):
            raise UnsupportedLayer("to_torch() and shrink do not support Keras models that are graphs: use decompose.")
        if isinstance(self.body, TorchBody):
            return user_module(self.body)
        return plain_network(self.body, self.head)

    def _load(self, weights: Mapping[str, Tensor]) -> None:
        expected = {name: tuple(p.shape) for name, p in self.state_dict().items()}
        for name, shape in expected.items():
            if name not in weights:
                raise FormatError(f"weight {name!r} is missing; expected shape {shape}.")
            found = weights[name]
            if tuple(found.shape) != shape:
                wanted = (
                    f"that of the passed module has {shape}"
                    if isinstance(self.spec, TorchSpec)
                    else f"expected {shape}"
                )
                raise FormatError(f"weight {name!r} has shape {tuple(found.shape)}, {wanted}.")
            if not isinstance(self.spec, TorchSpec) and found.dtype not in (torch.float32, torch.float64):
                raise FormatError(f"weight {name!r} is {found.dtype}, expected float32 or float64.")
        extra = sorted(set(weights) - set(expected))
        if extra:
            raise FormatError(f"weights {extra} belong to no layer; expected {sorted(expected)}.")
        with torch.inference_mode(False):
            self.load_state_dict({name: own_copy(tensor) for name, tensor in weights.items()}, assign=True)
        self.requires_grad_(False)
        self._check_finite()

    def _check_finite(self) -> None:
        for name, tensor in self.state_dict().items():
            if not torch.isfinite(tensor).all():
                raise FormatError(
                    f"weight {name!r} holds NaN or infinite values: retrain the network, or save the file again."
                )

    def recurrent_layers(self) -> dict[str, RecurrentLayer]:
        """Return name -> recurrent layer, a subset of :attr:`layers`."""
        return {n: layer.module for n, layer in self.layers.items() if isinstance(layer.module, RecurrentLayer)}

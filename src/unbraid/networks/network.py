"""A trained network: its body, its output layer and the names of its classes.

Shapes: N examples, T timesteps, F features of the output layer, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from unbraid.data.targets import Label
from unbraid.data.vocabulary import Vocabulary
from unbraid.errors import DataError, FormatError
from unbraid.networks.checking import check_flow, check_graph_vocabulary, check_labels, check_vocabulary
from unbraid.networks.encoder_decoder import EncoderDecoder, check_encoder_decoder
from unbraid.networks.graph_spec import KerasSpec
from unbraid.networks.outputs import GivenTask, check_task
from unbraid.networks.own_layer import OwnLayer
from unbraid.networks.predictor import Predictor
from unbraid.networks.pytorch import pruning  # noqa: F401  # registers how PyTorch modules are pruned
from unbraid.networks.pytorch.answer import Answer
from unbraid.networks.pytorch.body import TorchBody, own_module
from unbraid.networks.pytorch.facts import TorchFacts, facts_of
from unbraid.networks.pytorch.finding import find, recurrent_sites
from unbraid.networks.pytorch.heads import copied_linear
from unbraid.networks.pytorch.plain import user_module
from unbraid.networks.pytorch.plain_stages import plain_network
from unbraid.networks.pytorch.replacing import copied
from unbraid.networks.recurrent import RecurrentLayer
from unbraid.networks.snapshot import Snapshot, own_copy
from unbraid.networks.spec import EncoderDecoderSpec, NetworkSpec, Spec, needs_module
from unbraid.networks.stage_spec import EmbeddingSpec, RecurrentSpec
from unbraid.networks.stages import Dense, StageSequence
from unbraid.networks.torch_spec import TorchSpec


class Network(Predictor):
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
        self,
        spec: Spec,
        labels: Sequence[Label] | None,
        module: nn.Module | None,
        answer: Answer | None = None,
        plain_copy: bool = False,
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
            ready = own_module(spec, module, plain_copy)
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
        recurrent_sites(module, required=False)  # refuse before anything is copied
        check_task(task)
        with torch.inference_mode(False):  # weights that are copied in inference mode cannot have gradients
            own = copied(module).eval()
            spec, answer = find(own, example, head, output, task)
            network = cls.__new__(cls)
            nn.Module.__init__(network)
            network._build(spec, labels, own, answer, plain_copy=True)
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
        """Make a network of a Keras model in memory. It needs Keras 3.

        Custom layers, Lambdas and rare layers of Keras run as they are, on the torch backend only. Their code is not
        stored: a saved folder is loaded after this method was called on the model. Other models work with each backend.

        Args:
            model: a built Sequential or Functional ``keras.Model``.
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
            ConfigError: a model without weights, custom layers on another backend, or an argument that does not fit.
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
            logits; of a Keras model that is a graph a module that reads its inputs in order; for a PyTorch module an
            instance of its class.

        Raises:
            UnsupportedLayer: a layer that torch does not have (hard sigmoid gates, masks of padding). In a graph such
                layers stay as they are, and all others are layers of torch.

        Example:
            >>> import torch
            >>> from unbraid.demo.small import small_examples, small_network
            >>> network = small_network()
            >>> x, y = small_examples(network)
            >>> bool(torch.allclose(network.to_torch()(torch.as_tensor(x)), network(torch.as_tensor(x)), atol=1e-5))
            True
        """
        if isinstance(self.body, TorchBody) and not isinstance(self.spec, KerasSpec):
            return user_module(self.body)
        return plain_network(self.body, self.head)

    def _load(self, weights: Mapping[str, Tensor]) -> None:
        own = self.state_dict()
        expected = {name: tuple(p.shape) for name, p in own.items()}
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
            if own[name].is_floating_point() != found.is_floating_point():
                raise FormatError(f"weight {name!r} is {found.dtype}, expected {own[name].dtype}.")
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

    def recurrent_layers(self) -> dict[str, RecurrentLayer | OwnLayer]:
        """Return name -> recurrent layer, a subset of :attr:`layers`."""
        return {n: layer.module for n, layer in self.layers.items() if not isinstance(layer.module, Dense)}

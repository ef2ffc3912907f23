"""A module: the part of a network that decides for one class.

Shapes: N examples, T timesteps, H hidden units, F features of the output layer, P parts of a state.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from unbraid.config import DecompositionConfig
from unbraid.data.targets import Label
from unbraid.modules.building import LayerWeights, build_body, check_finite, fill
from unbraid.modules.concern import Concern
from unbraid.modules.deciding import Deciding
from unbraid.modules.describing import modules_html, name_text
from unbraid.modules.domain.evidence import Domain
from unbraid.modules.origin import BodyWeights, Origin, digest, inherited, named_tensors
from unbraid.modules.retention import Retention, retention
from unbraid.networks.encoder_decoder import EncoderDecoder, bridge_weights, set_bridges
from unbraid.networks.heads import Head
from unbraid.networks.network import Network
from unbraid.networks.pytorch.plain_stages import PlainMargins, plain_features
from unbraid.networks.snapshot import own_copy, unchanged


class ConcernModule(Deciding):
    """The part of a parent network that decides for one class, or predicts one of its numbers.

    A rolled module has smaller standard layers: slices of the parent's layers, or reconstructed weights of the same
    shapes. An unrolled module has the parent's weights and a mask for each timestep. The output is a *margin*, the
    log-odds of the class.

    A module owns its weights. Training it, or changing them in place, does not change the parent or another module.
    Training the parent does not change the module. Large weights share memory with the parent until one side is written
    to. :meth:`save` stores the weights that the module computes with. Modules share one body only after
    :meth:`Composition.fuse`, after :meth:`renamed`, or with ``like``. Training one of these modules trains the others.

    Args:
        parent: the parent network.
        index: the class of the module, an index into the labels of the parent, in [0, C).
        concern: the hidden units that the module keeps.
        head: the output layer, over all features of the parent (R, F).
        config: the settings that the module was made with.
        label: name of the module; default: the name of the class in the parent.
        parent_sha256: digest of the whole parent, where ``parent`` holds only the weights that the module needs.
        weights: for a compact module, layer -> parameter name -> tensor of the smaller layer. They are copied.
        original: for a fused module, the module that it was made from.
        fitted: in place of ``weights``, a body of smaller layers made from ``parent``, and the indices of its features
            (None for all). The module takes over the weights that the body does not share with the parent.
        bridges: for a distilled module of a language, decoder layer -> weights (P, H', H). They lead from the last
            state of the encoder layer to the first state of the decoder layer.
        like: a module of the same parent and hidden units. The new module shares its body and weights.

    Attributes:
        domain: what inputs of the parent look like, see :mod:`unbraid.modules.domain.evidence`; None without evidence.

    Raises:
        FormatError: a tensor of ``weights`` is missing, not finite, or of another shape, or a weight of ``fitted`` is
            not finite.

    Example:
        >>> import unbraid
        >>> from unbraid.demo.small import small_modules
        >>> parts, x, y = small_modules()
        >>> module = parts["travel"]
        >>> module.margins(x).shape
        (120,)
        >>> bool((module.claims(x) == (module.margins(x) > 0)).all())
        True
        >>> module.retention().nodes <= 1
        True
    """

    body: nn.Module
    features: Tensor | None
    weights: BodyWeights | None
    bridged: bool
    domain: Domain | None = None
    _inherited: Mapping[str, str]
    _made: bytes

    def __init__(
        self,
        parent: Network,
        index: int,
        concern: Concern,
        head: Head,
        config: DecompositionConfig,
        label: Label | None = None,
        parent_sha256: str | None = None,
        weights: LayerWeights | None = None,
        original: ConcernModule | None = None,
        bridges: Mapping[str, Tensor] | None = None,
        like: ConcernModule | None = None,
        fitted: tuple[nn.Module, Tensor | None] | None = None,
    ) -> None:
        super().__init__()
        self._origin = Origin(parent)  # in an object, so that torch does not register it as a submodule
        self._original = (original,)
        self.index, self.concern, self.config = index, concern, config
        self.label: Label = parent.labels[index] if label is None else label
        self.parent_sha256 = parent_sha256 or self._origin.sha256
        with torch.inference_mode(False):  # tensors made in inference mode cannot be trained
            if like is None:
                self._own_body(parent, weights, bridges, fitted)
            else:
                self.body, self.features, self.weights = like.body, like.features, like.weights
                self._inherited, self._made = like._inherited, like._made
                self.bridged = like.bridged
            self.head = head.sliced(self.features)
            self._removed = _removed_columns(head, self.features)
            self._head_as_made = own_copy(self.head.weight, lazily=True), own_copy(self.head.bias)
        self.domain = None if original is None else original.domain
        self.eval()

    def _own_body(
        self,
        parent: Network,
        weights: LayerWeights | None,
        bridges: Mapping[str, Tensor] | None,
        fitted: tuple[nn.Module, Tensor | None] | None,
    ) -> None:
        body, self.features = build_body(parent, self.concern) if fitted is None else fitted
        self._inherited = inherited(body, parent)
        self.body = self._origin.owned(body, self._inherited)
        made = weights is not None or fitted is not None
        self.weights = BodyWeights(self.body, self.concern.kept) if made else None
        self.bridged = bridges is not None
        if fitted is not None:
            check_finite(self.body, self.concern.kept)
        if weights is not None:
            fill(self.body, weights, self.concern.kept)
        if bridges is not None:
            assert isinstance(self.body, EncoderDecoder)
            set_bridges(self.body, bridges)
        self._made = digest(self._own_tensors())

    @property
    def parent(self) -> Network:
        """The parent network as it is now. For a rolled module that was saved alone: its slices of the parent."""
        return self._origin.live

    @property
    def origin(self) -> Origin:
        """The parent network with the weights that it had when the module was made."""
        return self._origin

    @property
    def is_remnant(self) -> bool:
        """Whether :attr:`parent` holds only the weights that the module needs."""
        return self.parent_sha256 != self._origin.sha256

    @property
    def original(self) -> ConcernModule | None:
        """For a fused module, the module that it was made from; else None."""
        return self._original[0]

    @property
    def bridges(self) -> dict[str, Tensor] | None:
        """For a distilled module of a language, decoder layer -> weights (P, H', H); else None."""
        if not self.bridged:
            return None
        assert isinstance(self.body, EncoderDecoder)
        return {name: weight.detach() for name, weight in bridge_weights(self.body).items()}

    @property
    def whole_head(self) -> Head:
        """The output layer over all features of the parent.

        Columns of removed features have the values that they had when the module was made. Folders do not store them:
        after loading they are zero.
        """
        if self.features is None:
            return self.head
        width, removed = self._removed
        weight = self.head.weight.detach().new_zeros(len(self.head.bias), width)
        if removed is not None:
            weight.copy_(removed)
        weight[:, self.features] = self.head.weight.detach()
        return Head(weight, self.head.bias, self.head.idle, self.head.words)

    @property
    def tuned(self) -> bool:
        """Whether any weight has changed since the module was made or loaded."""
        heads = zip((self.head.weight, self.head.bias), self._head_as_made, strict=True)
        same = all(unchanged(now.detach().to(then), then) for now, then in heads)
        return not same or bool(self.changed_inherited()) or self.changed_own()

    def changed_inherited(self) -> dict[str, Tensor]:
        """Weights taken from the parent without slicing that have changed since, by the parent's names."""
        now, then = named_tensors(self.body), self._origin.weights
        pairs = {theirs: now[own].detach().to(then[theirs]) for own, theirs in self._inherited.items()}
        return {name: tensor for name, tensor in pairs.items() if not unchanged(tensor, then[name])}

    def changed_own(self) -> bool:
        """Return whether weights that differ from the parent's have changed since the module was made or loaded."""
        return digest(self._own_tensors()) != self._made

    def _own_tensors(self) -> dict[str, Tensor]:
        return {name: p.detach() for name, p in self.body.named_parameters() if name not in self._inherited}

    @property
    def labels(self) -> list[Label]:
        """A list with the module's label, as a network has one with all of its labels."""
        return [self.label]

    @property
    def kept_nodes(self) -> dict[str, np.ndarray]:
        """Masks of the kept hidden units.

        Returns:
            layer name -> booleans, (H,) for a rolled module and (T, H) for an unrolled one.

        Example:
            >>> import unbraid
            >>> from unbraid.demo.small import small_modules
            >>> parts, x, y = small_modules()
            >>> {layer: kept.shape for layer, kept in parts["travel"].kept_nodes.items()}
            {'gru': (16,)}
        """
        return {name: self.concern.nodes(layer) for name, layer in self.parent.layers.items()}

    def __repr__(self) -> str:
        kept = f"{self.retention().nodes:.1%} of the hidden units"
        return f"ConcernModule({name_text(self.label)}, {self.io.value}, {self.concern.mode.value}, {kept})"

    def _repr_html_(self) -> str:
        """Make a table for notebooks."""
        return modules_html("ConcernModule", {self.label: self})

    def retention(self) -> Retention:
        """Count the share of the parent that the module keeps.

        Returns:
            shares of hidden units, weights, bytes and FLOPs, see :class:`unbraid.modules.retention.Retention`.

        Example:
            >>> import unbraid
            >>> from unbraid.demo.small import small_modules
            >>> parts, x, y = small_modules()
            >>> kept = parts["travel"].retention()
            >>> 0 < kept.nodes <= 1
            True
        """
        added = sum(weight.numel() for weight in (self.bridges or {}).values())
        return retention(self.parent, self.concern, self.head.weight.shape[0], added)

    def to_torch(self) -> nn.Module:
        """Copy a rolled module as a module of torch's own layers, for ``quantize_dynamic`` and the like.

        Returns:
            a module that maps word indices (N, T) or features (N, T, D) to margins, (N, 1) or (N, T, 1). If the parent
            is a PyTorch module, it takes the same arguments, and runs a copy of that module with smaller layers.

        Raises:
            UnsupportedLayer: an unrolled module, or a layer that torch does not have (hard sigmoid gates, masks of
                padding). In a graph and in a PyTorch module such layers stay as they are.

        Example:
            >>> import torch
            >>> from unbraid.demo.small import small_modules
            >>> parts, x, y = small_modules()
            >>> margins = parts["travel"].to_torch()(torch.as_tensor(x))
            >>> bool(torch.allclose(margins[:, 0], parts["travel"](torch.as_tensor(x)), atol=1e-5))
            True
        """
        return plain_margins([self], torch.ones(1), torch.zeros(1))

    def renamed(self, label: Label) -> ConcernModule:
        """Give the same module another label. Both modules share all weights.

        Args:
            label: the new label, text or a whole number.

        Example:
            >>> import unbraid
            >>> from unbraid.demo.small import small_modules
            >>> parts, x, y = small_modules()
            >>> parts["travel"].renamed("journeys").label
            'journeys'
        """
        other = copy.copy(self)
        other.label = label
        return other

    def save(
        self,
        folder: str | os.PathLike[str],
        license: str | None = None,
        scores: Mapping[str, Any] | None = None,
        dtype: Literal["float32", "float16"] = "float32",
    ) -> None:
        """Write this module into a folder, with only the weights that it needs and a model card.

        The folder is replaced as a whole. After an error or a crash it holds the old version or the new one.

        Args:
            folder: path of the folder. An existing Unbraid folder is replaced.
            license: license for the model card, as ``cc-by-4.0``.
            scores: figures to store with the module.
            dtype: ``float16`` stores weights in half of the bytes. They are rounded to 11 binary digits and load as
                float32. :func:`unbraid.half_precision_change` gives the effect on margins. Default ``float32``.

        Raises:
            FormatError: ``folder`` holds files that are not Unbraid's, or it cannot be written.
            ConfigError: another ``dtype``.

        Example:
            >>> import tempfile
            >>> import unbraid
            >>> from unbraid.demo.small import small_modules
            >>> parts, x, y = small_modules()
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     parts["travel"].save(f"{folder}/travel")
            ...     unbraid.load_module(f"{folder}/travel").label
            'travel'
        """
        from unbraid.modules.about import NOTHING
        from unbraid.storage.saving import save_module

        save_module(folder, self, NOTHING.changed(license, scores), dtype)


def _removed_columns(head: Head, kept: Tensor | None) -> tuple[int, Tensor | None]:
    """Return the width of an output layer, and its weights where any column of a removed feature is not zero.

    Compact modules have zeros there; with many classes, their output layers are most of their memory.
    """
    weight = head.weight.detach()
    if kept is None:
        return weight.shape[1], None
    gone = torch.ones(weight.shape[1], dtype=torch.bool, device=weight.device)
    gone[kept] = False
    return weight.shape[1], weight.clone() if bool(weight[:, gone].any()) else None


def plain_margins(modules: Sequence[ConcernModule], temperature: Tensor, offset: Tensor) -> PlainMargins:
    """Copy modules as one module of torch's own layers; modules that share a body share its copy.

    Args:
        modules: rolled modules, K.
        temperature: divides the margins, (K,).
        offset: is added then, (K,).

    Raises:
        UnsupportedLayer: as :meth:`ConcernModule.to_torch`.
    """
    bodies = {id(module.body): module.body for module in modules}
    places = {key: place for place, key in enumerate(bodies)}
    made = [plain_features(body) for body in bodies.values()]
    return PlainMargins(
        made, [places[id(m.body)] for m in modules], [m.head for m in modules], temperature, offset
    ).eval()

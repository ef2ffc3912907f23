"""One module: the part of a network that answers for one class.

Shapes: N examples, T timesteps, H units, F features.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unbraid.config import DecompositionConfig, IOArchitecture, Mode
from unbraid.data.targets import Label
from unbraid.errors import DataError, FormatError
from unbraid.modules.concern import Concern, kept_indices, removals
from unbraid.modules.origin import BodyWeights, Origin, digest, inherited, named_tensors
from unbraid.modules.retention import Retention, retention
from unbraid.networks.encoder_decoder import EncoderDecoder, bridge_weights, set_bridges
from unbraid.networks.heads import Head
from unbraid.networks.inputs import Inputs, run_batched
from unbraid.networks.layers import decomposable_layers, gate_rows, pruned, sliced
from unbraid.networks.network import Network
from unbraid.networks.precision import check_values
from unbraid.networks.recurrent import RecurrentLayer
from unbraid.networks.snapshot import unchanged
from unbraid.networks.spec import NetworkSpec

LayerWeights = Mapping[str, Mapping[str, Tensor]]


class ConcernModule(nn.Module):
    """The part of a network that answers for one class, by itself usable as a detector of that class.

    A rolled module runs as exact slices of its parent's layers; an unrolled one as the parent's weights and a mask on
    values. Its output is a *margin*, the log-odds of its class.

    A module owns its weights: training it, loading weights into it or changing them in place changes neither its
    parent nor another module, and training the parent does not change the module. Weights that are large and unchanged
    share memory until one side is written to. What is saved is what the module computes with. Modules share one body
    only where :meth:`Composition.fuse` or ``like`` makes them, and after :meth:`renamed`; training one of those trains
    the others.

    Args:
        parent: the monolithic model.
        index: the module's class, an index into the parent's labels.
        concern: the nodes it keeps.
        head: its output layer over all of the parent's features.
        config: how it was made.
        label: its name; the parent's by default.
        parent_sha256: digest of the network it was taken from, where ``parent`` holds only what the module needs.
        weights: of a compact module, layer -> parameter name -> the smaller layer's own tensor; copied.
        original: of a fused module, the one that it was made from.
        bridges: of a refined module of a language, decoder layer -> weights (P, H', H) from all of an encoder layer's
            last state, of P parts, to what is left of the decoder layer's first.
        like: a module of the same parent and nodes whose body this one shares, weights included.
    """

    body: nn.Module
    features: Tensor | None
    weights: BodyWeights | None
    bridged: bool
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
    ) -> None:
        super().__init__()
        self._origin = Origin(parent)  # no submodule: a module moves and saves by itself
        self._original = (original,)
        self.index, self.concern, self.config = index, concern, config
        self.label: Label = parent.labels[index] if label is None else label
        self.parent_sha256 = parent_sha256 or self._origin.sha256
        with torch.inference_mode(False):  # what is made in that mode cannot be trained
            if like is None:
                self._own_body(parent, weights, bridges)
            else:
                self.body, self.features, self.weights = like.body, like.features, like.weights
                self._inherited, self._made = like._inherited, like._made
                self.bridged = like.bridged
            self.head = head.sliced(self.features)
            self._head_as_made = (Head(head.weight, head.bias, head.idle, head.words),)
        self.eval()

    def _own_body(self, parent: Network, weights: LayerWeights | None, bridges: Mapping[str, Tensor] | None) -> None:
        body, self.features = _built(parent, self.concern)
        self._inherited = inherited(body, parent)
        self.body = self._origin.owned(body, self._inherited)
        self.weights = None if weights is None else BodyWeights(self.body)
        self.bridged = bridges is not None
        if weights is not None:
            _fill(self.body, weights)
        if bridges is not None:
            assert isinstance(self.body, EncoderDecoder)
            set_bridges(self.body, bridges)
        self._made = digest(self._own_tensors())

    @property
    def parent(self) -> Network:
        """The network it was taken from (of a rolled module saved alone: what is left of it), as it is now."""
        return self._origin.live

    @property
    def origin(self) -> Origin:
        """The network that it was taken from, with the weights that it had then."""
        return self._origin

    @property
    def is_remnant(self) -> bool:
        """Whether its parent is only what the module itself needs of it."""
        return self.parent_sha256 != self._origin.sha256

    @property
    def original(self) -> ConcernModule | None:
        """Of a fused module, the one that it was made from."""
        return self._original[0]

    @property
    def bridges(self) -> dict[str, Tensor] | None:
        """Of a refined module of a language, its weights between encoder and decoder, by decoder layer."""
        if not self.bridged:
            return None
        assert isinstance(self.body, EncoderDecoder)
        return {name: weight.detach() for name, weight in bridge_weights(self.body).items()}

    @property
    def whole_head(self) -> Head:
        """Its output layer over all of the parent's features, zeros or the old weights where features are gone."""
        if self.features is None:
            return self.head
        made = self._head_as_made[0]
        weight = made.weight.to(self.head.weight).clone()
        weight[:, self.features] = self.head.weight.detach()
        return Head(weight, self.head.bias, self.head.idle, self.head.words)

    @property
    def tuned(self) -> bool:
        """Whether any of its weights was changed since it was made or loaded."""
        made = self._head_as_made[0].sliced(self.features)
        heads = ((self.head.weight, made.weight), (self.head.bias, made.bias))
        same = all(unchanged(now.detach().to(then), then) for now, then in heads)
        return not same or bool(self.changed_inherited()) or self.changed_own()

    def changed_inherited(self) -> dict[str, Tensor]:
        """Weights that it has from its parent unsliced and that were changed since, by the parent's names."""
        now, then = named_tensors(self.body), self._origin.weights
        pairs = {theirs: now[own].detach().to(then[theirs]) for own, theirs in self._inherited.items()}
        return {name: tensor for name, tensor in pairs.items() if not unchanged(tensor, then[name])}

    def changed_own(self) -> bool:
        """Whether the weights that are not its parent's as they stand were changed since it was made or loaded."""
        return digest(self._own_tensors()) != self._made

    def _own_tensors(self) -> dict[str, Tensor]:
        return {name: p.detach() for name, p in self.body.named_parameters() if name not in self._inherited}

    @property
    def labels(self) -> list[Label]:
        """The one class it answers for."""
        return [self.label]

    @property
    def io(self) -> IOArchitecture:
        """Inputs and outputs over time."""
        return self.parent.io

    @property
    def kept_nodes(self) -> dict[str, np.ndarray]:
        """Layer name -> booleans, (H,) rolled or (T, H) unrolled."""
        return {name: self.concern.nodes(layer) for name, layer in self.parent.layers.items()}

    def retention(self) -> Retention:
        """What of the parent it keeps: nodes, weights, bytes and FLOPs, as shares in [0, 1]."""
        added = sum(weight.numel() for weight in (self.bridges or {}).values())
        return retention(self.parent, self.concern, self.head.weight.shape[0], added)

    def forward(self, x: Any) -> Tensor:
        """The margin: log-odds of the module's class, (N,), or (N, T) for many outputs."""
        return self.head.margin(self.body(x))

    def margins(self, x: Any) -> np.ndarray:
        """Margins over all examples in batches, (N,) or (N, T); raises DataError where inputs do not fit."""
        check_steps(self, inputs := self.parent.check(x))
        return run_batched(self, inputs, self.head.weight.device, decided=not self.io.many_outputs)

    def predict_proba(self, x: Any) -> np.ndarray:
        """P(dominant), (N,) or (N, T), in [0, 1]; raises DataError where inputs do not fit."""
        return torch.sigmoid(torch.from_numpy(self.margins(x))).numpy()

    def claims(self, x: Any) -> np.ndarray:
        """Booleans (N,) or (N, T): whether P(dominant) > 0.5; raises DataError."""
        return self.margins(x) > 0

    def predict(self, x: Any) -> np.ndarray:
        """The module's label where it claims the example, None elsewhere, (N,) or (N, T) objects; raises DataError."""
        claimed = self.claims(x)
        found = np.full(claimed.shape, None, dtype=object)
        found[claimed] = self.label
        return found

    def renamed(self, label: Label) -> ConcernModule:
        """The same module under another name; both share all their weights."""
        other = copy.copy(self)
        other.label = label
        return other

    def save(
        self, folder: str | os.PathLike[str], license: str | None = None, scores: Mapping[str, Any] | None = None
    ) -> None:
        """Write this module alone, with only what it needs, and a model card.

        Args:
            folder: where; an Unbraid folder that is there is replaced.
            license: for the card, as ``cc-by-4.0``.
            scores: figures to keep beside the module.

        Raises:
            FormatError: something else lies there.
        """
        from unbraid.modules.about import NOTHING
        from unbraid.storage.saving import save_module

        save_module(folder, self, NOTHING.changed(license, scores))


def check_steps(module: ConcernModule, x: Inputs) -> None:
    """Unrolled masks are made for one T; raises DataError for another, and for weights without values."""
    check_values(module.head, f"module {module.label!r}")
    if module.concern.mode is Mode.ROLLED or module.parent.io.value.startswith("1"):
        return
    if x.ragged:
        raise DataError(
            f"the unrolled module {module.label!r} reads texts of one length: give the network's vocabulary a length "
            "(steps=...), or decompose with mode='rolled'."
        )
    if not isinstance(module.parent.spec, NetworkSpec):
        return  # shorter batches are padded by the module itself; longer ones are refused where they run
    steps = next(iter(module.concern.steps.values()))  # the first layer reads the input's timesteps
    if x.array.shape[1] != steps:
        raise DataError(
            f"inputs have {x.array.shape[1]} timesteps, the unrolled module {module.label!r} was made for {steps}: "
            "pad or cut them, or decompose with mode='rolled'."
        )


def _built(parent: Network, concern: Concern) -> tuple[nn.Module, Tensor | None]:
    if concern.mode is Mode.UNROLLED:
        return pruned(parent.body, removals([concern], parent.layers, parent.device), 1), None
    kept = {name: kept_indices(concern, layer).to(parent.device) for name, layer in parent.layers.items()}
    return sliced(parent.body, kept, lambda name, layer: _without_gates(layer, concern, name))


def _without_gates(layer: nn.Module, concern: Concern, name: str) -> nn.Module:
    """The layer with the columns of removed gates at zero."""
    if not concern.by_gates or not isinstance(layer, RecurrentLayer) or len(layer.cell.gates) == 1:
        return layer
    edited = copy.deepcopy(layer)
    gone = torch.from_numpy(~concern.kept[name].reshape(-1)).to(layer.weight_ih.device)
    assert len(gone) == len(gate_rows(layer, torch.arange(layer.units)))
    for parameter in edited.parameters():
        parameter.data[gone] = 0
    return edited


def _fill(body: nn.Module, weights: LayerWeights) -> None:
    """Give a sliced body's layers weights of their own; raises FormatError where a shape does not fit."""
    for name, layer in decomposable_layers(body).items():
        for key, parameter in layer.module.named_parameters():
            own = weights.get(name, {}).get(key)
            if own is None or own.shape != parameter.shape or not torch.isfinite(own).all():
                found = None if own is None else tuple(own.shape)
                expected = tuple(parameter.shape)
                raise FormatError(f"layer {name!r}, {key}: found {found}, expected finite values of shape {expected}.")
            setattr(layer.module, key, nn.Parameter(own.detach().to(parameter, copy=True), requires_grad=False))

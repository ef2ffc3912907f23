"""Encoder and decoder: two recurrent stacks, the second started from the first one's last states, layer by layer.

Shapes: N sentences, S source words, T target words, D dimensions, H units, F features, L layers, K modules.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from unbraid.errors import FormatError, UnsupportedLayer, quoted
from unbraid.networks.cells import State
from unbraid.networks.checking import check_names
from unbraid.networks.layers import (
    Edit,
    Layer,
    decomposable_layers,
    head_sources,
    pruned,
    slice_layer,
    sliced,
    unedited,
)
from unbraid.networks.recurrent import PrunedRecurrentLayer, RecurrentLayer
from unbraid.networks.removal import Removal
from unbraid.networks.spec import EncoderDecoderSpec
from unbraid.networks.stages import Embedding

States = tuple[State, ...]  # one per decoder layer


class EncoderDecoder(nn.Module):
    """The body of an encoder-decoder network, everything before its output layer.

    Padding is index 0. In targets it stands at the right and never counts; in sources it is left out where the
    source embedding masks it, and read like a word where not.

    Args:
        spec: what to build.
    """

    def __init__(self, spec: EncoderDecoderSpec) -> None:
        super().__init__()
        self.spec, self.copies = spec, 1
        self.source, self.target = Embedding(spec.source), Embedding(spec.target)
        self.encoder, self.decoder = (
            nn.ModuleList(RecurrentLayer(s.cell, s.inputs, s.units, s.reverse) for s in side)
            for side in (spec.encoder, spec.decoder)
        )
        self.bridges = nn.ModuleList(Bridge() for _ in spec.decoder)

    def encode(self, source: Tensor) -> States:
        """The decoder's first states, one per layer, each part (N, H); of K modules (K*N, H).

        Args:
            source: word indices (N, S).
        """
        x, mask = self.source(source, None)
        states = []
        for layer, bridge in zip(self.encoder, self.bridges, strict=True):
            x, state = layer(x, mask)
            apart = isinstance(layer, PrunedRecurrentLayer) or self.copies == 1
            states.append(bridge(state if apart else tuple(s.repeat(self.copies, 1) for s in state)))
        return tuple(states)

    def handed(self, states: States) -> States:
        """The decoder's first states from those of a whole encoder, which :meth:`encode` of the parent gives."""
        return tuple(bridge(state) for bridge, state in zip(self.bridges, states, strict=True))

    def step(self, token: Tensor, states: States, position: int = 0) -> tuple[Tensor, States]:
        """One target word further.

        Args:
            token: the word said last (N,).
            states: what :meth:`encode` or the step before gave.
            position: how many words came before; unrolled modules have other nodes at each.

        Returns:
            features (N, F) and the next states.
        """
        x, _ = self.target(token.unsqueeze(1), None)
        following = []
        for layer, state in zip(self.decoder, states, strict=True):
            at = layer.at_step(position) if isinstance(layer, PrunedRecurrentLayer) else layer
            x, state = at(x, None, state)
            following.append(state)
        return x.squeeze(1), tuple(following)

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        """Features with the right words fed (teacher forcing): (N, T, F), of K modules (K*N, T, F); 0 at padding.

        Args:
            x: ``source`` (N, S) and ``target`` (N, T), the words from the language's first token on.
        """
        return self.taught(self.encode(x["source"]), x["target"])

    def taught(self, states: States, target: Tensor) -> Tensor:
        """The same from the decoder's first states, as :meth:`encode` gives them, and the target alone."""
        values, _ = self.target(target, None)
        counted = target != 0
        for layer, state in zip(self.decoder, states, strict=True):
            values, _ = layer(values, counted, state)
        return values * counted.repeat(self.copies, 1).unsqueeze(-1)

    def sharing(self, encoder: list[nn.Module], decoder: list[nn.Module], bridges: list[Bridge]) -> EncoderDecoder:
        """The same embeddings with other layers."""
        other = EncoderDecoder.__new__(EncoderDecoder)
        nn.Module.__init__(other)
        other.spec, other.copies = self.spec, self.copies
        other.source, other.target = self.source, self.target
        other.encoder, other.decoder = nn.ModuleList(encoder), nn.ModuleList(decoder)
        other.bridges = nn.ModuleList(bridges)
        return other


class Bridge(nn.Module):
    """From an encoder layer's last state to a decoder layer's first: the same units, or what is left of them.

    Where ``weight`` is there, what is left also takes up what it says of all the units: a sentence goes through here,
    and the units that are gone knew a part of it.

    Args:
        kept: units (H') that the decoder's layer still has; None: all.
        known: units that the encoder's layer still has, in its order; None: all H.
        units: H.

    Attributes:
        weight: (P, H', H), a matrix for each of the P parts of a state.
    """

    kept: Tensor | None
    known: Tensor | None
    weight: nn.Parameter | None

    def __init__(self, kept: Tensor | None = None, known: Tensor | None = None, units: int = 0) -> None:
        super().__init__()
        self.units = units
        self.register_buffer("kept", kept, persistent=False)
        self.register_buffer("known", known, persistent=False)
        self.register_parameter("weight", None)

    def forward(self, state: State) -> State:
        return tuple(self._one(number, part) for number, part in enumerate(state))

    def _one(self, number: int, values: Tensor) -> Tensor:
        if self.known is not None:
            values = values.new_zeros(len(values), self.units).index_copy(1, self.known, values)
        left = values if self.kept is None else values[:, self.kept]
        return left if self.weight is None else left + linear(values, self.weight[number])


def bridge_shapes(body: EncoderDecoder) -> dict[str, tuple[int, int, int]]:
    """Decoder layer -> the shape (P, H', H) of its bridge's weight."""
    layers = zip(body.spec.decoder, body.decoder, strict=True)
    return {s.name: (2 if s.cell.kind == "lstm" else 1, layer.units, s.units) for s, layer in layers}  # type: ignore[misc]


def bridge_weights(body: EncoderDecoder) -> dict[str, nn.Parameter]:
    """Decoder layer -> its bridge's weight, where all have one."""
    found = zip(body.spec.decoder, body.bridges, strict=True)
    return {spec.name: bridge.weight for spec, bridge in found}  # type: ignore[misc]  # bridges


def set_bridges(body: EncoderDecoder, weights: Mapping[str, Tensor]) -> None:
    """Give a sliced body's bridges weights, by decoder layer; raises FormatError where one does not fit."""
    for (name, shape), bridge in zip(bridge_shapes(body).items(), body.bridges, strict=True):
        own = weights.get(name)
        if own is None or own.shape != shape or not torch.isfinite(own).all():
            found = None if own is None else tuple(own.shape)
            raise FormatError(f"bridge to layer {name!r}: found {found}, expected finite values of shape {shape}.")
        like = next(body.decoder.parameters())
        bridge.weight = nn.Parameter(own.to(like), requires_grad=False)


@decomposable_layers.register
def _(body: EncoderDecoder) -> dict[str, Layer]:
    sides = [(body.spec.encoder, body.encoder)] if body.spec.encoder_too else []
    found: dict[str, Layer] = {}
    for specs, layers in [*sides, (body.spec.decoder, body.decoder)]:
        sources: tuple[str, ...] = ()
        for spec, layer in zip(specs, layers, strict=True):
            found[spec.name] = Layer(spec.name, layer, sources)  # type: ignore[arg-type]  # a RecurrentLayer
            sources = (spec.name,)
    return found


@head_sources.register
def _(body: EncoderDecoder) -> tuple[str, ...]:
    return (body.spec.decoder[-1].name,)


@pruned.register
def _(body: EncoderDecoder, removals: Mapping[str, Removal | Tensor], modules: int) -> EncoderDecoder:
    encoder, decoder = (
        [
            PrunedRecurrentLayer(layer, removals[spec.name], modules, opens=number == 0)  # type: ignore[arg-type]
            if spec.name in removals
            else layer
            for number, (spec, layer) in enumerate(zip(specs, layers, strict=True))
        ]
        for specs, layers in ((body.spec.encoder, body.encoder), (body.spec.decoder, body.decoder))
    )
    other = body.sharing(encoder, decoder, [Bridge() for _ in decoder])
    other.copies = modules
    return other


@sliced.register
def _(body: EncoderDecoder, kept: Mapping[str, Tensor], edit: Edit = unedited) -> tuple[EncoderDecoder, Tensor]:
    sides = []
    for specs, layers in ((body.spec.encoder, body.encoder), (body.spec.decoder, body.decoder)):
        inputs: Tensor | None = None
        cut: list[nn.Module] = []
        for spec, layer in zip(specs, layers, strict=True):
            own = kept.get(spec.name)
            cut.append(layer if own is None else slice_layer(edit(spec.name, layer), own, inputs))
            inputs = own
        sides.append(cut)
    bridges = [
        Bridge(kept[after.name], kept.get(before.name), after.units)
        for before, after in zip(body.spec.encoder, body.spec.decoder, strict=True)
    ]
    return body.sharing(sides[0], sides[1], bridges), kept[body.spec.decoder[-1].name]


def check_encoder_decoder(spec: EncoderDecoderSpec) -> None:
    """Sizes must fit from layer to layer; raises FormatError, or UnsupportedLayer for what cannot be run."""
    for embedding, side in ((spec.source, spec.encoder), (spec.target, spec.decoder)):
        width = embedding.dimension
        for layer in side:
            if layer.bidirectional or (layer.reverse and side is spec.decoder) or not layer.sequences:
                raise UnsupportedLayer(
                    f"layer {quoted(layer.name)!r} of an encoder-decoder is bidirectional, reads backwards or gives "
                    "its last output alone; supported: one direction, sequences=True (an encoder may read backwards)."
                )
            if layer.inputs != width:
                raise FormatError(
                    f"layer {quoted(layer.name)!r} reads {layer.inputs} features, the layer before it gives {width}."
                )
            width = layer.units
    pairs = [[(s.cell, s.units) for s in side] for side in (spec.encoder, spec.decoder)]
    if pairs[0] != pairs[1]:
        found = [[f"{cell.kind} {units}" for cell, units in side] for side in pairs]
        raise FormatError(f"encoder {found[0]} and decoder {found[1]} differ: states pass layer by layer.")
    if spec.features != width:
        raise FormatError(f"the output layer reads {spec.features} features, the layer before it gives {width}.")
    if spec.target.vocabulary != spec.classes:
        raise FormatError(
            f"the target embedding knows {spec.target.vocabulary} words, the output layer {spec.classes}."
        )
    check_names(spec.stages)
    _check_languages(spec)


def _check_languages(spec: EncoderDecoderSpec) -> None:
    for tag in spec.languages:
        if max(tag.start, tag.end) >= spec.classes or tag.start == tag.end:
            raise FormatError(
                f"language {quoted(tag.name)!r} begins with word {tag.start} and ends with {tag.end}, expected two "
                f"different ones of 1 to {spec.classes - 1}."
            )
    names = [tag.name for tag in spec.languages]
    if len(set(names)) != len(names):
        raise FormatError(f"languages repeat: {quoted(names)}.")

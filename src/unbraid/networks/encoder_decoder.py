"""Encoder and decoder: two recurrent stacks. The decoder starts from the last states of the encoder, layer by layer.

Shapes: N sentences, S source words, T target words, D dimensions, H hidden units, F features, L layers, K modules, P
parts of a state (LSTM 2, others 1).
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
    """The body of an encoder-decoder network: all layers before the output layer.

    Padding is index 0. Targets are padded at the right, and their padding is always masked. Padding of sources is
    masked if the source embedding has ``mask_zero``; otherwise it is read like a word.

    Args:
        spec: description of the layers.
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
        """Compute the first states of the decoder.

        Args:
            source: word indices (N, S).

        Returns:
            one state per layer, with parts (N, H), or (K*N, H) for K modules.
        """
        x, mask = self.source(source, None)
        states = []
        for layer, bridge in zip(self.encoder, self.bridges, strict=True):
            x, state = layer(x, mask)
            apart = isinstance(layer, PrunedRecurrentLayer) or self.copies == 1
            states.append(bridge(state if apart else tuple(s.repeat(self.copies, 1) for s in state)))
        return tuple(states)

    def handed(self, states: States) -> States:
        """Compute the first states of the decoder from the states of the parent's :meth:`encode`."""
        return tuple(bridge(state) for bridge, state in zip(self.bridges, states, strict=True))

    def step(self, token: Tensor, states: States, position: int = 0) -> tuple[Tensor, States]:
        """Run the decoder for one target word.

        Args:
            token: the previous word, (N,).
            states: states of :meth:`encode` or of the previous step.
            position: number of words before this one; unrolled modules keep other nodes at each position.

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
        """Compute features with teacher forcing.

        Args:
            x: ``source`` (N, S) and ``target`` (N, T); targets start with the first token of the language.

        Returns:
            features (N, T, F), or (K*N, T, F) for K modules; 0 at padding.
        """
        return self.taught(self.encode(x["source"]), x["target"])

    def taught(self, states: States, target: Tensor) -> Tensor:
        """Compute the same features from the states of :meth:`encode` and the target."""
        values, _ = self.target(target, None)
        counted = target != 0
        for layer, state in zip(self.decoder, states, strict=True):
            values, _ = layer(values, counted, state)
        return values * counted.repeat(self.copies, 1).unsqueeze(-1)

    def sharing(self, encoder: list[nn.Module], decoder: list[nn.Module], bridges: list[Bridge]) -> EncoderDecoder:
        """Make a body with the same embeddings and other layers."""
        other = EncoderDecoder.__new__(EncoderDecoder)
        nn.Module.__init__(other)
        other.spec, other.copies = self.spec, self.copies
        other.source, other.target = self.source, self.target
        other.encoder, other.decoder = nn.ModuleList(encoder), nn.ModuleList(decoder)
        other.bridges = nn.ModuleList(bridges)
        return other


class Bridge(nn.Module):
    """Maps the last state of an encoder layer to the first state of a decoder layer.

    The result has the kept units of the decoder layer. With ``weight``, a linear map of all units of the encoder layer
    is added. It makes up for the removed units, because the state is the only path from source to target.

    Args:
        kept: indices of the kept units of the decoder layer, (H',); None for all units.
        known: indices of the kept units of the encoder layer, in its order; None for all H units.
        units: H.

    Attributes:
        weight: floats (P, H', H), one matrix for each part of a state; None without a map.
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
    """Return for each decoder layer the shape (P, H', H) of the weight of its bridge."""
    layers = zip(body.spec.decoder, body.decoder, strict=True)
    return {s.name: (2 if s.cell.kind == "lstm" else 1, layer.units, s.units) for s, layer in layers}  # type: ignore[misc]


def bridge_weights(body: EncoderDecoder) -> dict[str, nn.Parameter]:
    """Return for each decoder layer the weight of its bridge; all bridges need a weight."""
    found = zip(body.spec.decoder, body.bridges, strict=True)
    return {spec.name: bridge.weight for spec, bridge in found}  # type: ignore[misc]  # bridges


def set_bridges(body: EncoderDecoder, weights: Mapping[str, Tensor]) -> None:
    """Set the weights of the bridges of a sliced body by decoder layer; raise FormatError if a weight does not fit."""
    for (name, shape), bridge in zip(bridge_shapes(body).items(), body.bridges, strict=True):
        own = weights.get(name)
        if own is None or own.shape != shape or not torch.isfinite(own).all():
            found = None if own is None else tuple(own.shape)
            raise FormatError(
                f"bridge to layer {name!r}: found shape {found}, expected finite values of shape {shape}: save the "
                "module again."
            )
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
    """Check that the sizes of the layers fit together.

    Raises:
        FormatError: sizes, names or languages that do not fit.
        UnsupportedLayer: a layer that cannot be computed.
    """
    for embedding, side in ((spec.source, spec.encoder), (spec.target, spec.decoder)):
        width = embedding.dimension
        for layer in side:
            if layer.bidirectional or (layer.reverse and side is spec.decoder) or not layer.sequences:
                raise UnsupportedLayer(
                    f"layer {quoted(layer.name)!r} of an encoder-decoder is bidirectional, reads backwards or returns "
                    "its last output only; expected one direction and sequences=True (an encoder may read backwards)."
                )
            if layer.inputs != width:
                raise FormatError(
                    f"layer {quoted(layer.name)!r} reads {layer.inputs} features, the layer before it has {width}."
                )
            width = layer.units
    pairs = [[(s.cell, s.units) for s in side] for side in (spec.encoder, spec.decoder)]
    if pairs[0] != pairs[1]:
        found = [[f"{cell.kind} {units}" for cell, units in side] for side in pairs]
        raise FormatError(
            f"encoder {found[0]} and decoder {found[1]} differ; expected equal layers, because each decoder layer "
            "starts from the state of an encoder layer."
        )
    if spec.features != width:
        raise FormatError(f"the output layer reads {spec.features} features, the layer before it has {width}.")
    if spec.target.vocabulary != spec.classes:
        raise FormatError(
            f"the target embedding has {spec.target.vocabulary} words, the output layer {spec.classes}; expected the "
            "same number."
        )
    check_names(spec.stages)
    _check_languages(spec)


def _check_languages(spec: EncoderDecoderSpec) -> None:
    for tag in spec.languages:
        if max(tag.start, tag.end) >= spec.classes or tag.start == tag.end:
            raise FormatError(
                f"language {quoted(tag.name)!r} has the first token {tag.start} and the last token {tag.end}, expected "
                f"two different indices from 1 to {spec.classes - 1}."
            )
    names = [tag.name for tag in spec.languages]
    if len(set(names)) != len(names):
        raise FormatError(f"languages {quoted(names)}: expected each language once.")

"""Bidirectional layers of Keras whose directions are merged unit by unit. They keep all hidden units when shrunk."""

from __future__ import annotations

from collections.abc import Iterable

from unbraid.errors import UnsupportedLayer, quoted
from unbraid.networks.graph_spec import KerasSpec
from unbraid.networks.network import Network
from unbraid.networks.spec import NetworkSpec
from unbraid.networks.stage_spec import RecurrentSpec


def is_merged(spec: RecurrentSpec) -> bool:
    """Return whether a layer merges its directions unit by unit: a unit of one direction needs that of the other."""
    return spec.bidirectional and spec.merge != "concat"


def merged_layers(network: Network) -> list[RecurrentSpec]:
    """Return the layers of a network of a Keras file that :func:`is_merged` is true of."""
    spec = network.spec
    assert isinstance(spec, KerasSpec | NetworkSpec)
    parts = spec.graph.layers if isinstance(spec, KerasSpec) else spec.stages
    return [part for part in parts if isinstance(part, RecurrentSpec) and is_merged(part)]


def check_any_smaller(network: Network, possible: Iterable[str], recurrent_only: bool) -> None:
    """Raise UnsupportedLayer if merged layers are all that could be made smaller.

    Args:
        network: of a Keras file.
        possible: names of the other layers that may lose units.
        recurrent_only: whether dense layers keep their units by a setting.
    """
    merged = merged_layers(network)
    if merged and not list(possible):
        dense = ", layers='all' for hidden dense layers," if recurrent_only else ""
        raise UnsupportedLayer(
            f"no layer can be made smaller: {_reason(merged)}. Use merge_mode='concat' for training{dense} or "
            "unbraid.decompose."
        )


def kept_whole(network: Network, small: Network) -> str:
    """Return a sentence about merged layers that kept their units while others lost some; empty without any."""
    merged = merged_layers(network)
    units = [[layer.units for layer in one.layers.values()] for one in (network, small)]
    return f"{_reason(merged)}. Other layers are smaller." if merged and units[0] != units[1] else ""


def _reason(merged: list[RecurrentSpec]) -> str:
    told = ", ".join(f"{quoted(one.name)!r} (merge_mode={one.merge!r}, {one.units} units)" for one in merged)
    one = len(merged) == 1
    layers = f"bidirectional {'layer' if one else 'layers'} {quoted(told, 400)} {'keeps' if one else 'keep'}"
    return f"{layers} all hidden units, because directions are merged unit by unit"

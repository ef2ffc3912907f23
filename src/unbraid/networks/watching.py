"""Record values of layers while a network runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from unbraid.networks.layers import Layer

View = Callable[[Layer, tuple, tuple], Any]  # (layer, inputs, outputs) -> recorded value


@contextmanager
def watched(layers: Mapping[str, Layer], view: View) -> Iterator[dict[str, Any]]:
    """Store ``view`` of every layer that runs within the context, by layer name."""
    seen: dict[str, Any] = {}

    def hook_of(layer: Layer) -> Callable[[nn.Module, tuple, tuple], None]:
        def hook(module: nn.Module, inputs: tuple, output: tuple) -> None:
            seen[layer.name] = view(layer, inputs, output)

        return hook

    handles = [layer.module.register_forward_hook(hook_of(layer)) for layer in layers.values()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()

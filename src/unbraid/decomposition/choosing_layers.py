"""Which layers of a network a decomposition prunes, see ``layers`` of :class:`unbraid.DecompositionConfig`."""

from __future__ import annotations

from unbraid.config import DecompositionConfig, GateView, LayerChoice, Mode, RemovalConfig
from unbraid.errors import ConfigError
from unbraid.networks.layers import Layer
from unbraid.networks.network import Network


def chosen_layers(network: Network, config: DecompositionConfig) -> dict[str, Layer]:
    """Return the layers that modules name: name -> layer, in the order of computation."""
    every = config.layers is LayerChoice.ALL
    return {name: layer for name, layer in network.layers.items() if every or layer.core}


def pruned_layers(network: Network, config: DecompositionConfig) -> dict[str, Layer]:
    """Return the layers that reconstruction prunes; it refits the other chosen layers and keeps all of their units."""
    dense = config.layers is LayerChoice.ALL or not network.recurrent_layers()
    chosen = chosen_layers(network, config).items()
    return {name: layer for name, layer in chosen if layer.cell is not None or (dense and not layer.whole)}


def check_recurrent(network: Network, config: RemovalConfig) -> None:
    """Raise ConfigError for settings that need a recurrent layer, if the network has none."""
    if network.recurrent_layers():
        return
    for name, value, usual in (("mode", config.mode, Mode.ROLLED), ("gates", config.gates, GateView.HIDDEN)):
        if value is not usual:
            raise ConfigError(
                f"{name}={value.value!r} needs a recurrent layer, and the network has dense layers alone: use "
                f"{name}={usual.value!r}."
            )

"""The layers of a network as text, for people."""

from __future__ import annotations

from unbraid.networks.cells import Cell, OwnCell
from unbraid.networks.graph_spec import KerasSpec
from unbraid.networks.spec import EncoderDecoderSpec, NetworkSpec
from unbraid.networks.stage_spec import DenseSpec, RecurrentSpec
from unbraid.networks.torch_spec import TorchSpec


def layers_text(spec: NetworkSpec | EncoderDecoderSpec | TorchSpec | KerasSpec) -> str:
    """List the recurrent layers of a network, as ``LSTM 64 in two directions, GRU 32``.

    Of a network of dense layers alone, list these, as ``Dense 49, Dense 49``.

    Args:
        spec: the layers of the network. For a PyTorch module, the name of its class follows.
    """
    named: list[tuple[Cell | OwnCell, int, bool]]
    if isinstance(spec, NetworkSpec) and not spec.recurrent:
        return ", ".join(f"Dense {stage.units}" for stage in spec.stages if isinstance(stage, DenseSpec))
    if not isinstance(spec, TorchSpec):
        named = [(s.cell, s.units, s.bidirectional) for s in spec.stages if isinstance(s, RecurrentSpec)]
    else:
        named = [(layer.cell, layer.units, False) for layer in spec.layers]
    if isinstance(spec, TorchSpec) and not named:
        return ", ".join(f"Dense {layer.units}" for layer in spec.dense) + f" in {spec.module}"
    shown = [f"{cell.title} {units}{' in two directions' if both else ''}" for cell, units, both in named]
    return ", ".join(shown) + (f" in {spec.module}" if isinstance(spec, TorchSpec) else "")

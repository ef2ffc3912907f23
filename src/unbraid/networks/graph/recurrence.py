"""Recurrent layers in a graph: those that are decomposed, and convolutional ones, which are not.

Shapes: N examples, T timesteps, D inputs, H units, F filters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unbraid.networks.cells import ACTIVATIONS, State
from unbraid.networks.graph.convolution import CONVOLUTION
from unbraid.networks.graph.kind import Kind, Mask, Settings, Shapes, Weight, Weights
from unbraid.networks.recurrent import RecurrentLayer
from unbraid.networks.stack import RecurrentStack
from unbraid.networks.stage_spec import RecurrentSpec
from unbraid.networks.stages import merged

MAX_STEPS = 2**20  # of a recurrent layer, as in saved folders


def recurrent_shapes(spec: RecurrentSpec, x: Tensor) -> list[Tensor]:
    """Return outputs and last states of a recurrent layer on the meta device, without a loop over the timesteps.

    Raises:
        ValueError: values of another shape than (N, T, D).
    """
    if x.dim() != 3 or x.shape[2] != spec.inputs:
        raise ValueError(f"expected (N, T, {spec.inputs})")
    if x.shape[1] > MAX_STEPS:
        raise ValueError(f"{x.shape[1]} timesteps, expected at most {MAX_STEPS}")
    ways = 2 if spec.bidirectional else 1
    width = spec.units * (ways if spec.merge == "concat" else 1)
    states = ways * (2 if spec.cell.kind == "lstm" else 1)
    outputs = x.new_zeros(*x.shape[: 2 if spec.sequences else 1], width)
    return [outputs, *[x.new_zeros(x.shape[0], spec.units) for _ in range(states)]]


class KerasRecurrent(RecurrentStack):
    """A Keras recurrent layer whose hidden units can be removed.

    Args:
        spec: the layer.
    """

    def __init__(self, spec: RecurrentSpec) -> None:
        nn.Module.__init__(self)
        ways = [spec.reverse, not spec.reverse][: 2 if spec.bidirectional else 1]
        self.set_layers([RecurrentLayer(spec.cell, spec.inputs, spec.units, way) for way in ways])
        self.spec = spec

    def forward(  # type: ignore[override]  # called by the graph, with a mask
        self, x: Tensor, mask: Mask, states: list[Tensor]
    ) -> tuple[list[Tensor], Mask]:
        """Run the layer.

        Args:
            x: (N, T, D).
            mask: (N, T) booleans, or None.
            states: initial states (N, H), those of the forward direction first; empty for zeros.

        Returns:
            the outputs (N, T, H) or (N, H) and the last states (N, H) of each direction, and the mask of the outputs.
        """
        ways, spec = len(self.layers), self.spec
        initial: State = ()
        if states:
            each = len(states) // ways
            initial = tuple(torch.stack(states[number::each]) for number in range(each))
        self._check_states(initial, x)
        values, last = self._run(x, mask, initial)
        if spec.reverse and ways == 1:  # Keras returns the outputs in the order of reading
            values = values.flip(1)
        finals = [state[way] for way in range(ways) for state in last]
        if not spec.sequences:
            result = [finals[way * len(last)] for way in range(ways)]
        else:
            result = list(values.split(self.hidden_size, dim=-1))
        return [merged(spec.merge, result, mask if spec.sequences else None), *finals], mask if spec.sequences else None


def _conv_lstm(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    """Run an LSTM whose products are convolutions: (N, T, *, D) to (N, [T,] *, F)."""
    if masks[0] is not None:
        raise ValueError("a convolutional LSTM reads a mask, expected none")
    if x[0].is_meta and x[0].shape[1] > 2**12:
        raise ValueError(f"a convolutional LSTM over {x[0].shape[1]} timesteps, expected at most {2**12}")
    conv = CONVOLUTION[f"Conv{x[0].dim() - 3}D"].run
    gate, candidate = (
        ACTIVATIONS[settings.get(name, default)]
        for name, default in (("recurrent_activation", "sigmoid"), ("activation", "tanh"))
    )
    outer = {key: w[key] for key in ("kernel", "bias") if key in w}
    inner, same = {"kernel": w["recurrent_kernel"]}, Settings({"padding": "same"})
    steps = x[0].unbind(1)
    outputs: list[Tensor] = []
    state: tuple[Tensor, Tensor] | None = None
    for step in reversed(steps) if settings.get("go_backwards", False) else steps:
        gates = conv(settings, outer, [step], [None])
        if state is None:
            zeros = gates.new_zeros(*gates.shape[:-1], gates.shape[-1] // 4)
            state = (zeros, zeros)
        i, f, g, o = (gates + conv(same, inner, [state[0]], [None])).chunk(4, dim=-1)
        c = gate(f) * state[1] + gate(i) * candidate(g)
        state = (gate(o) * candidate(c), c)
        outputs.append(state[0])
    return torch.stack(outputs, 1) if settings.get("return_sequences", False) else outputs[-1]


def _conv_lstm_weights(settings: Settings, shapes: Shapes) -> list[Weight]:
    axes, depth = len(shapes[0]) - 2, shapes[0][-1]
    filters, sizes = settings.sizes("filters", 1)[0], settings.sizes("kernel_size", axes)
    kernels = [Weight("kernel", (*sizes, depth, 4 * filters), "cell"),
               Weight("recurrent_kernel", (*sizes, filters, 4 * filters), "cell")]  # fmt: skip
    return kernels + [Weight("bias", (4 * filters,), "cell")] * bool(settings.get("use_bias", True))


_CONV_LSTM = Kind(
    _conv_lstm,
    (
        "filters", "kernel_size", "strides", "padding", "dilation_rate", "use_bias", "data_format", "go_backwards",
        "return_sequences", "recurrent_activation",
    ),
    _conv_lstm_weights,
)  # fmt: skip
CONVOLUTIONAL: dict[str, Kind] = {f"ConvLSTM{axes}D": _CONV_LSTM for axes in (1, 2, 3)}

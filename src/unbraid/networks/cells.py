"""Recurrent cells: gates, their order, their activations, and the step from one state to the next.

The order of the gates is that of torch: LSTM ``i f g o``, GRU ``r z n``, vanilla ``h``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

Activation = Callable[[Tensor], Tensor]
State = tuple[Tensor, ...]

ACTIVATIONS: dict[str, Activation] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "linear": lambda x: x,
    "hard_sigmoid": lambda x: torch.clamp(x / 6 + 0.5, 0, 1),  # as Keras 3 and torch define it
    "hard_sigmoid_keras2": lambda x: torch.clamp(0.2 * x + 0.5, 0, 1),
    "softmax": lambda x: torch.softmax(x, dim=-1),
    "log_softmax": lambda x: torch.log_softmax(x, dim=-1),
    "elu": F.elu,
    "selu": F.selu,
    "gelu": F.gelu,
    "silu": F.silu,
    "mish": F.mish,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "relu6": F.relu6,
    "relu1": lambda x: torch.clamp(x, 0, 1),
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),  # as Keras defines it; the default of torch is 0.01
    "leaky_relu_0.01": F.leaky_relu,
    "leaky_relu_0.1": lambda x: F.leaky_relu(x, 0.1),
    "leaky_relu_0.3": lambda x: F.leaky_relu(x, 0.3),  # the default of the layer LeakyReLU
    "hard_silu": F.hardswish,
    "hard_tanh": F.hardtanh,
    "log_sigmoid": F.logsigmoid,
    "exponential": torch.exp,
}


def _known(name: str) -> str:
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation, expected one of {', '.join(ACTIVATIONS)}")
    return name


Known = Annotated[str, AfterValidator(_known)]

GATES: dict[str, tuple[str, ...]] = {"rnn": ("h",), "lstm": ("i", "f", "g", "o"), "gru": ("r", "z", "n")}
CANDIDATE = {"rnn": "h", "lstm": "g", "gru": "n"}

LARGEST = 2**31


class Cell(BaseModel):
    """The function that a recurrent layer computes at one timestep.

    Attributes:
        kind: ``rnn`` (vanilla), ``lstm`` or ``gru``.
        activation: activation of the candidate, and of the cell state of an LSTM.
        gate_activation: activation of the gates; not used by ``rnn``.
        reset_after: for a GRU only. True if the reset gate multiplies after the recurrent product (torch, and the
            default of Keras), False if before.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["rnn", "lstm", "gru"]
    activation: Known = "tanh"
    gate_activation: Known = "sigmoid"
    reset_after: bool = True

    @property
    def gates(self) -> tuple[str, ...]:
        """Names of the gates, in the order of the weights."""
        return GATES[self.kind]

    @property
    def title(self) -> str:
        """Name for people, as ``LSTM``."""
        return self.kind.upper()

    @property
    def states(self) -> int:
        """Number of states of one unit: 2 for an LSTM, otherwise 1."""
        return 2 if self.kind == "lstm" else 1

    @property
    def fused(self) -> bool:
        """Whether the fused layer of torch computes the same function."""
        if self.kind == "rnn":
            return self.activation in ("tanh", "relu")
        return self.activation == "tanh" and self.gate_activation == "sigmoid" and self.reset_after

    @property
    def rectified(self) -> bool:
        """Whether the activation is a ReLU: nodes are compared by active rate instead of central tendency."""
        return self.activation == "relu"

    def input_bias(self, bias_ih: Tensor, bias_hh: Tensor) -> Tensor:
        """Return the part of the two biases, (G*H,), that is added to the input product before the recurrence."""
        if self.kind != "gru" or not self.reset_after:
            return bias_ih + bias_hh
        units = bias_hh.shape[0] // 3
        return bias_ih + torch.cat([bias_hh[: 2 * units], torch.zeros_like(bias_hh[2 * units :])])

    def candidate_bias(self, bias_hh: Tensor) -> Tensor | None:
        """Return the recurrent bias (H,) that the reset gate multiplies; None if the cell has none."""
        if self.kind != "gru" or not self.reset_after:
            return None
        return bias_hh[2 * (bias_hh.shape[0] // 3) :]

    def gate_values(
        self,
        inputs: Tensor,
        hidden: Tensor,
        product: Callable[[Tensor, slice], Tensor],
        mask: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Compute the values of the gates at one timestep, or at many timesteps with one row each.

        Args:
            inputs: W x + :meth:`input_bias`, (..., G*H).
            hidden: the previous hidden state, (..., H).
            product: (h, columns) -> h times the rows ``columns`` of U, plus :meth:`candidate_bias` for the candidate.
            mask: multiplies all pre-activations, broadcastable to (..., G*H).

        Returns:
            one tensor (..., H) per gate.
        """
        units = hidden.shape[-1]
        candidate, gate = ACTIVATIONS[self.activation], ACTIVATIONS[self.gate_activation]
        if self.kind != "gru":
            s = inputs + product(hidden, slice(None))
            s = s if mask is None else s * mask
            if self.kind == "rnn":
                return (candidate(s),)
            both, g, o = s.split((2 * units, units, units), dim=-1)
            return *gate(both).split(units, dim=-1), candidate(g), gate(o)
        rz, n = slice(0, 2 * units), slice(2 * units, 3 * units)
        s = inputs[..., rz] + product(hidden, rz)
        r, z = gate(s if mask is None else s * mask[..., rz]).split(units, dim=-1)
        recurrent = r * product(hidden, n) if self.reset_after else product(r * hidden, n)
        s = inputs[..., n] + recurrent
        return r, z, candidate(s if mask is None else s * mask[..., n])

    def advance(self, gates: tuple[Tensor, ...], state: State) -> State:
        """Compute the next state from the values of the gates: (h,), or (h, c) for an LSTM, each (..., H)."""
        if self.kind == "rnn":
            return (gates[0],)
        if self.kind == "gru":
            _, z, n = gates
            return (n + z * (state[0] - n),)
        i, f, g, o = gates
        c = f * state[1] + i * g
        return o * ACTIVATIONS[self.activation](c), c


class OwnWeight(BaseModel):
    """A weight of a user's own cell.

    Attributes:
        name: its name in the cell.
        shape: its shape.
        axes: what each of its axes holds, see :func:`unbraid.register_cell`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    shape: tuple[Annotated[int, Field(ge=0, le=LARGEST)], ...]
    axes: tuple[Annotated[str, Field(max_length=80)], ...]

    @model_validator(mode="after")
    def _each_axis(self) -> Self:
        if len(self.shape) != len(self.axes) or len(self.shape) > 8:
            raise ValueError(f"a weight of {len(self.shape)} axes has {len(self.axes)} names, expected one for each")
        return self


class OwnCell(BaseModel):
    """A recurrent cell that is a user's own class; see :func:`unbraid.register_cell`. Its code is never stored.

    Attributes:
        kind: always ``own``.
        name: name of the class.
        states: number of states of one unit.
        weights: all parameters, each once.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["own"]
    name: str
    states: Annotated[int, Field(ge=1, le=8)]
    weights: tuple[OwnWeight, ...]

    gates: ClassVar[tuple[str, ...]] = ("h",)
    activation: ClassVar[str] = "linear"
    rectified: ClassVar[bool] = False
    fused: ClassVar[bool] = False

    @property
    def title(self) -> str:
        """Name for people: the name of the class."""
        return self.name

    @model_validator(mode="after")
    def _once(self) -> Self:
        if len({weight.name for weight in self.weights}) < len(self.weights):
            raise ValueError("two weights have one name")
        return self

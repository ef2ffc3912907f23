"""What all recurrent layers have in common: their checks, and a recurrence that is computed step by step.

Shapes: N examples, T timesteps, D inputs, H hidden units, K modules in one batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from unbraid.errors import DataError
from unbraid.networks.cells import Cell, OwnCell, State
from unbraid.networks.removal import Removal


class StepLayer(nn.Module, ABC):
    """A layer that computes one state from the last, timestep by timestep.

    Args:
        reverse: whether to read the sequence from its end; outputs keep the order of the inputs. Default False.

    Attributes:
        cell: the function of one timestep.
    """

    cell: Any  # a Cell or an OwnCell

    def __init__(self, reverse: bool = False) -> None:
        super().__init__()
        self.reverse = reverse

    @property
    @abstractmethod
    def units(self) -> int:
        """H."""

    @property
    @abstractmethod
    def inputs(self) -> int:
        """D."""

    @property
    @abstractmethod
    def kernel(self) -> Tensor:
        """Weights of the features that the units read, one row for each gate column or unit."""

    @property
    @abstractmethod
    def incoming(self) -> Tensor:
        """All weights of each gate column or unit, one row for each."""

    @property
    @abstractmethod
    def strength(self) -> Tensor:
        """Sum of |weight| of the edges from each hidden unit (column) to each hidden unit (row), (H, H)."""

    @abstractmethod
    def scan(
        self, x: Tensor, state: State, valid: Tensor | None = None, removal: Removal | None = None
    ) -> tuple[Tensor, State]:
        """Compute the recurrence for K modules in one batch; see :func:`unbraid.networks.recurrent.scan`."""

    def check_removal(self, removal: Removal) -> None:
        """Raise ConfigError for a form of removal that the layer does not have; by default it has all."""

    def check(self, x: Tensor, valid: Tensor | None = None, initial: State | None = None) -> None:
        """Check that the inputs fit the weights.

        The kernels of torch read beyond the end of weights that are too small.

        Args:
            x: inputs (N, T, D).
            valid: booleans (N, T).
            initial: h (and c), each (N, H).

        Raises:
            DataError: a shape, dtype or device that does not fit.
        """
        if x.dim() != 3 or x.shape[2] != self.inputs or x.shape[1] == 0:
            raise DataError(
                f"a recurrent layer got inputs of shape {tuple(x.shape)}, expected (N, T, {self.inputs}) with at "
                "least one timestep: give as many features per timestep as in training."
            )
        self._check_kind("inputs", x)
        if valid is not None and (valid.shape != x.shape[:2] or valid.dtype != torch.bool):
            raise DataError(
                f"the mask of a recurrent layer is {valid.dtype} {tuple(valid.shape)}, expected booleans "
                f"{tuple(x.shape[:2])}."
            )
        if initial is not None:
            self.check_initial(initial, x.shape[0])

    def check_initial(self, initial: State, examples: int) -> None:
        """Raise DataError for first states that are not (N, H) or have another dtype or device than the weights."""
        count, expected = self.cell.states, (examples, self.units)
        shapes = [tuple(state.shape) for state in initial]
        if shapes != [expected] * count:
            raise DataError(
                f"initial states have shapes {shapes}, expected {count} of shape {expected}: give one state for each "
                "example."
            )
        for state in initial:
            self._check_kind("initial states", state)

    def _check_kind(self, what: str, values: Tensor) -> None:
        weight = next(self.parameters())
        if values.dtype != weight.dtype or values.device != weight.device:
            raise DataError(
                f"{what} of a recurrent layer are {values.dtype} on {values.device}, its weights {weight.dtype} on "
                f"{weight.device}: convert one to the other."
            )


def zero_state(cell: Cell | OwnCell, rows: int, units: int, like: Tensor) -> State:
    """Make the zero state of ``rows`` examples, one tensor (rows, H) for each state: h, and c of an LSTM."""
    return (like.new_zeros(rows, units),) * cell.states

"""Which dense layers of a chain of stages have hidden units that can be removed.

A removed unit is 0. So that is also what the stages between its layer and the next weights must make of a 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch

from unbraid.networks.cells import ACTIVATIONS
from unbraid.networks.stage_spec import ActivationSpec, DenseSpec, MaskingSpec, RecurrentSpec, StageSpec


@cache
def zero_at_zero(activation: str) -> bool:
    """Return whether an activation is elementwise and maps 0 to 0, a key of :data:`ACTIVATIONS`."""
    return not bool(ACTIVATIONS[activation](torch.zeros(2, device="cpu")).any())


def prunable_dense(stages: Sequence[StageSpec]) -> set[str]:
    """Return the names of the dense layers whose units can be removed.

    Behind a recurrent layer these are all dense layers, because networks with other stages there are refused. In front
    of it, or without one, an activation that does not map 0 to 0 keeps its layer whole. So does a Masking behind the
    layer, which would mask other timesteps.
    """
    found: set[str] = set()
    pending: str | None = None  # a layer whose units no weights have read yet
    recurrent = False
    for stage in stages:
        if isinstance(stage, RecurrentSpec):
            recurrent, pending = True, None
        elif isinstance(stage, DenseSpec):
            pending = stage.name if recurrent or zero_at_zero(stage.activation) else None
            found |= {stage.name} if pending else set()
        elif not recurrent and pending is not None and not _keeps_zeros(stage):
            found.discard(pending)
            pending = None
    return found


def _keeps_zeros(stage: StageSpec) -> bool:
    if isinstance(stage, ActivationSpec):
        return zero_at_zero(stage.activation)
    return not isinstance(stage, MaskingSpec)


def first_own(stages: Sequence[StageSpec]) -> int:
    """Return the index of the first stage that modules do not share: a recurrent one, else a prunable dense one."""
    prunable = prunable_dense(stages)
    for wanted in (
        lambda stage: isinstance(stage, RecurrentSpec),
        lambda stage: stage.name in prunable,
    ):
        for index, stage in enumerate(stages):
            if wanted(stage):
                return index
    return len(stages)

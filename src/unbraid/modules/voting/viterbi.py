"""Decode sequences with transition scores, by Viterbi's algorithm (Viterbi 1967).

Shapes: N examples, T timesteps, K classes of a composition, C classes of its parent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unbraid.errors import DataError, IncompatibleModules
from unbraid.modules.module import ConcernModule
from unbraid.networks.padding import real_steps
from unbraid.networks.pytorch.body import TorchBody
from unbraid.networks.pytorch.transitions import Transitions, transitions_of


def best_paths(scores: np.ndarray, transitions: Transitions, valid: np.ndarray) -> np.ndarray:
    """Find the sequence of classes with the highest sum of emission and transition scores, for each example.

    Args:
        scores: emission scores, float (N, T, K). Scores where ``valid`` is False are not used.
        transitions: of the K classes.
        valid: booleans (N, T), False at padding.

    Returns:
        integers (N, T), -1 at padding.

    Raises:
        DataError: the scores forbid all sequences of an example.
    """
    n, steps, k = scores.shape
    best, started = np.zeros((n, k)), np.zeros(n, bool)
    back = np.tile(np.arange(k), (steps, n, 1))
    for t in range(steps):
        here, score = valid[:, t], scores[:, t].astype(np.float64)
        reached = best[:, :, None] + transitions.matrix
        follows = here & started
        back[t, follows] = reached.argmax(1)[follows]
        best[follows] = (reached.max(1) + score)[follows]
        begins = here & ~started
        best[begins] = (transitions.start + score)[begins]
        started |= here
    total = best + transitions.end
    if len(none := np.flatnonzero(started & np.isneginf(total).all(1))):
        raise DataError(
            f"{len(none)} of {n} examples have no sequence that the transition scores allow, the first is example "
            f"{none[0]}: they are -inf for all. Use finite scores where a transition is possible."
        )
    current = total.argmax(1)
    path = np.full((n, steps), -1)
    for t in reversed(range(steps)):
        path[:, t] = np.where(valid[:, t], current, -1)
        current = np.where(valid[:, t], back[t, np.arange(n), current], current)
    return path


def chosen_transitions(
    modules: Sequence[ConcernModule], transitions: Any = None, start: Any = None, end: Any = None
) -> Transitions:
    """Select the transition scores of the classes of modules.

    Args:
        modules: K modules.
        transitions: scores (C, C) over the classes of the parent, rows before columns. None takes those of its module.
        start: scores (C,) of the first timestep; zeros by default.
        end: scores (C,) of the last timestep; zeros by default.

    Raises:
        IncompatibleModules: modules of several parents, or with one decision per example, or independent labels.
        DataError: the parent has no transition scores that can be read, or scores of another shape.
    """
    parent = modules[0].parent
    if len({module.parent_sha256 for module in modules}) > 1:
        raise IncompatibleModules(
            "the labels are of several parents, and transition scores are known within one only: use predict()."
        )
    if not all(module.io.many_outputs for module in modules) or parent.task != "classification" or parent.binary:
        raise IncompatibleModules(
            "Viterbi decoding is for taggers: one of several classes at each timestep. Use predict()."
        )
    if transitions is None:
        found = transitions_of(parent.body.module, parent.classes) if isinstance(parent.body, TorchBody) else None
        if found is None:
            raise DataError(
                "the parent has no transition scores named as in pytorch-crf (transitions, start_transitions, "
                f"end_transitions): pass transitions=, ({parent.classes}, {parent.classes}), rows before columns."
            )
    else:
        zeros = np.zeros(parent.classes)
        found = Transitions(
            _scores(transitions, "transitions", (parent.classes,) * 2),
            zeros if start is None else _scores(start, "start", (parent.classes,)),
            zeros if end is None else _scores(end, "end", (parent.classes,)),
        )
    places = [module.index for module in modules]
    return Transitions(found.matrix[np.ix_(places, places)], found.start[places], found.end[places])


def checked_valid(valid: Any, margins: np.ndarray) -> np.ndarray:
    """Return the timesteps (N, T) that count: those without NaN and, if given, where ``valid`` is True."""
    real = ~np.isnan(margins).any(-1)
    if valid is None:
        return real
    given = np.asarray(valid.detach().cpu() if hasattr(valid, "detach") else valid)
    if given.shape != real.shape or given.dtype != bool:
        raise DataError(f"valid is {given.dtype} {given.shape}, expected booleans {real.shape}, False at padding.")
    return real & given


def real_timesteps(modules: Sequence[ConcernModule], x: Any, margins: np.ndarray) -> np.ndarray | None:
    """Find the timesteps (N, T) of inputs that are no padding; None where the inputs do not state them.

    Args:
        modules: modules of one parent.
        x: inputs, as for :meth:`unbraid.Composition.margins`.
        margins: margins of the modules, (N, T, K).
    """
    parent = modules[0].parent
    return real_steps(parent, parent.check(x), margins.shape[1])


def _scores(values: Any, name: str, shape: tuple[int, ...]) -> np.ndarray:
    try:
        found = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{name} is {type(values).__name__}, expected numbers of shape {shape}.") from None
    if found.shape != shape or np.isnan(found).any() or np.isposinf(found).any():
        raise DataError(
            f"{name} has shape {found.shape}, expected numbers of shape {shape}, one for each class of the parent "
            "(-inf forbids a transition)."
        )
    return found

"""Random inputs for a network of a Keras file, drawn from the shapes of its inputs.

Shapes: N examples, T timesteps, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from unbraid.errors import UnbraidError

OPEN = (7, 32, 128)  # sizes for an axis of any size, tried in this order
FAILED = (UnbraidError, RuntimeError, ValueError, IndexError)  # of a network on inputs that it cannot read
T = TypeVar("T")
Shapes = Sequence[Sequence[int | None]]  # of one example of each input; None for any size


def drawn(shapes: Shapes, words: Sequence[int | None], examples: int) -> Iterator[Any]:
    """Draw inputs with several sizes and value ranges: an array, or a tuple of several inputs.

    Args:
        shapes: shape of one example of each input; None for any size.
        words: for each input, the number of its word indices; None for numbers.
        examples: N.
    """
    for size in OPEN if any(None in shape for shape in shapes) else OPEN[:1]:
        for draw in (_normal, _uniform):
            random = np.random.default_rng(0)
            arrays = [
                draw(random, [examples, *(one or size for one in shape)], count)
                for shape, count in zip(shapes, words, strict=True)
            ]
            yield arrays[0] if len(arrays) == 1 else tuple(arrays)


def first_that_runs(run: Callable[[Any], T], candidates: Iterator[Any]) -> tuple[Any, T] | None:
    """Return the first inputs that ``run`` can read, and its result; None if there are none."""
    for x in candidates:
        try:
            return x, run(x)
        except FAILED:
            continue
    return None


def _normal(random: np.random.Generator, sizes: list[int], words: int | None) -> np.ndarray:
    """Draw numbers of both signs, or word indices; some rows are zero, like padding."""
    if words is not None:
        return random.integers(0, words, sizes) * (random.random(sizes) < 0.8)
    rows = random.random([*sizes[:2], *[1] * (len(sizes) - 2)]) < 0.8
    return (random.normal(size=sizes) * (rows if len(sizes) > 2 else 1)).astype(np.float32)


def _uniform(random: np.random.Generator, sizes: list[int], words: int | None) -> np.ndarray:
    """Draw numbers from 0 to 1, for layers that read no negative ones."""
    return _normal(random, sizes, words) if words is not None else random.random(sizes).astype(np.float32)

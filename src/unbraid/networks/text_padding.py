"""Texts that are padded at the front, for users' PyTorch modules with an argument of lengths.

Such a module usually packs the first words of each row, which are padding then. Whether it does is tested: the result
does not change with the last word of a text. Shapes: N texts, T timesteps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unbraid.data.padding import Padding
from unbraid.errors import DataError
from unbraid.networks.inputs import Inputs, Words, run_batched

TESTED = 64  # largest number of texts that are run to see what a module reads


def read_from_the_front(
    run: Callable[[Any], Tensor], x: Inputs, padding: Padding, many_outputs: bool, device: torch.device
) -> Inputs:
    """Make texts that are padded at the front readable for a module that reads the first words of each row.

    Args:
        run: a batch -> scores of the module.
        x: inputs that were made of texts, a pair of indices (N, T) or (T, N) and lengths (N,).
        padding: settings of the vocabulary.
        many_outputs: whether the module makes one decision at each timestep.
        device: device of the module.

    Returns:
        ``x`` if the module reads texts that are padded at the front. Otherwise the same texts, padded at the end, if
        T is not fixed and there is one decision for each text. A tagger without a fixed T can run on each text alone
        only: :meth:`Inputs.batches` then raises DataError.

    Raises:
        DataError: T is fixed, and the module would read padding in place of words.
    """
    axis = x.axis
    rows, lengths = np.moveaxis(x.tree[0], axis, 0), x.tree[1]
    short = np.flatnonzero((lengths < rows.shape[1]) & (rows[:, -1] != padding.index))[:TESTED]
    if padding.side == "right" or not len(short):
        return x
    plain = replace(x, words=None).take(short)
    blank = np.array(rows[short])
    blank[:, -1] = padding.index
    other = replace(plain, tree=(np.moveaxis(blank, 0, axis), plain.tree[1]))
    one, two = (run_batched(run, each, device) for each in (plain, other))
    if not np.array_equal(one, two, equal_nan=True):
        return x
    if x.words is None:
        raise DataError(
            f"texts are padded at the front to {rows.shape[1]} words, and the module reads the first words of each "
            "row: give the vocabulary side='right', which pads at the end."
        )
    if many_outputs:
        return replace(x, words=replace(x.words, alone=True))
    places = (np.arange(rows.shape[1]) - lengths[:, None]) % rows.shape[1]
    moved = np.moveaxis(np.take_along_axis(rows, places, 1), 0, axis)
    return replace(x, tree=(moved, lengths), words=Words(x.words.lengths, "right", x.words.maskable))

"""The kinds of input and how often each is drawn."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Kind:
    """A reader and the inputs for it.

    Attributes:
        name: in the table of outcomes.
        weight: how often it is drawn, relative to the others.
        make: writes one input into an empty folder and returns its path.
        load: what reads it.
        use: what works with the result, given the folder for what it writes.
        strict: whether using what was loaded must not raise FormatError either.
        opens: whether inputs name other files by design, so that opening files elsewhere is no finding.
    """

    name: str
    weight: int
    make: Callable[[random.Random, Path], Path]
    load: Callable[[Path], Any]
    use: Callable[[Any, Path], None]
    strict: bool = True
    opens: bool = False


def source(seed, index):
    """The random numbers of one input; the same on every machine."""
    return random.Random(f"{seed}/{index}")


def draw(kinds, rng):
    """One of the kinds."""
    return rng.choices(kinds, [kind.weight for kind in kinds])[0]

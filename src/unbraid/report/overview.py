"""The start of a report of several folders: a table, and the curve of score against size."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from unbraid.errors import quoted
from unbraid.report.content import Figure, Table
from unbraid.report.figures import sizes_figure
from unbraid.report.sections import Quality, Section, quality

NAME = 60  # characters of the name of a folder
SIZES = {"nodes": "nodes", "recurrent weights": "recurrent_weights", "bytes": "bytes"}


def overview(sections: Sequence[Section]) -> Table | None:
    """Compare several sections in a table; None for one section."""
    if len(sections) == 1:
        return None
    found = _qualities(sections)
    rows = []
    for place, section in enumerate(sections):
        sizes = [f"{_mean(section, key):.1%}" for key in SIZES.values()]
        scores = [] if found is None else [f"{found[place].value:.4f}", _text(found[place].parent)]
        rows.append([quoted(section.name, NAME), str(len(section.structure.parts)), *sizes, *scores])
    names = [] if found is None else [found[0].name, "the network"]
    return Table(f"{len(rows)} folders", ["folder", "modules", *SIZES, *names], rows)


def curve(sections: Sequence[Section]) -> Figure | None:
    """Draw the score of several sections against their size; None for one, or without a common score."""
    found = _qualities(sections)
    if found is None or len(sections) == 1:
        return None
    sizes = [_mean(section, "recurrent_weights") for section in sections]
    names = [os.path.basename(os.path.normpath(section.name)) for section in sections]
    caption = "The line joins the folders that no smaller folder equals (Pareto curve). Dashed: the network."
    return Figure(f"Size against {found[0].name}", sizes_figure(sizes, found, names), caption)


def _qualities(sections: Sequence[Section]) -> list[Quality] | None:
    """Return the main score of each section; None if one has none, or another one."""
    found = [None if section.result is None else quality(section.result) for section in sections]
    known = [one for one in found if one is not None]
    return known if len(known) == len(sections) and len({one.name for one in known}) == 1 else None


def _mean(section: Section, key: str) -> float:
    return float(np.mean([getattr(part.retention, key) for part in section.structure.parts]))


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"

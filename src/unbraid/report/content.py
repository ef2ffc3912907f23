"""The text, the tables and the figures of a section of a report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np

from unbraid.data.targets import Label
from unbraid.errors import quoted
from unbraid.evaluation.details import Structure
from unbraid.evaluation.report import Evaluation
from unbraid.report import figures
from unbraid.report.facts import Fact, facts, notes, score_columns
from unbraid.report.sections import Result, Section, quality
from unbraid.storage.card import FEW, settings_groups

LONGEST = 200  # characters of a label
LISTED = 2_000  # most labels of a list
HALF = 13  # most modules of a heat map that fills half of the page
CONFUSIONS = 10  # pairs of classes in the table of confusions
SIZES = {"recurrent weights": "recurrent_weights", "all weights": "weights", "bytes": "bytes", "FLOPs": "flops"}
Rows = list[list[str]]


@dataclass(frozen=True)
class Table:
    """A table that the reader can sort: the first ``names`` columns are text, the others are numbers."""

    title: str
    head: list[str]
    rows: Rows
    names: int = 1

    @property
    def folded(self) -> bool:
        """Whether the table is long, so that it is hidden until the reader opens it."""
        return len(self.rows) > FEW


@dataclass(frozen=True)
class Figure:
    """A figure: title, SVG element and caption. A wide one has a row of its own."""

    title: str
    svg: str
    caption: str
    wide: bool = False


@dataclass(frozen=True)
class Content:
    """What the template shows of a section. A fact is a term, its value and its interval."""

    name: str
    facts: list[Fact]
    notes: list[str]
    table: Table
    confusions: Table | None
    figures: list[Figure]
    parents: list[dict[str, Any]]
    settings: list[tuple[str, str]]
    saved: list[tuple[str, str]]


def content(section: Section) -> Content:
    """Make the content of a section."""
    result, structure = section.result, section.structure
    shown, remarks = ([], []) if result is None else (facts(result), notes(result))
    for name, key in {"nodes": "nodes", **SIZES}.items():
        mean = float(np.mean([getattr(part.retention, key) for part in structure.parts]))
        shown.append(Fact(f"{name} kept, mean", _percent(mean)))
    drawn = [] if result is None else [*outcome_figures(result, structure), *_size_figures(result, structure)]
    return Content(
        _name(section.name),
        [Fact("modules", f"{len(structure.parts):,}"), *shown],
        remarks,
        _modules_table(structure, result),
        confusion_table(result, structure),
        [*drawn, *_unit_figures(structure, remarks)],
        [_parent(structure, number) for number in range(len(structure.parents))],
        _settings(structure),
        [(name, quoted(text, LONGEST)) for name, text in section.saved.items()],
    )


@singledispatch
def outcome_figures(result: Result, structure: Structure) -> list[Figure]:
    """Draw confusions and reliability, where the evaluation has them."""
    return []


@outcome_figures.register
def _(result: Evaluation, structure: Structure) -> list[Figure]:
    found, labels, details = [], [part.label for part in structure.parts], result.details
    assert details is not None
    if details.confusion is not None and 1 < len(labels) <= figures.MOST:
        drawn = figures.confusion_figure(details.confusion.matrix(len(labels)), labels)
        caption = f"Rows: the true class. Columns: the decision.{_unnamed(labels)}"
        found.append(Figure("Confusion matrix", drawn, caption, len(labels) > HALF))
    if details.reliability is not None and len(labels) > 1:
        drawn = figures.reliability_figure(details.reliability)
        caption = "Accuracy by confidence, the highest probability. On the dashed line, both are equal."
        found.append(Figure("Reliability", drawn, caption))
    return found


def confusion_table(result: Result | None, structure: Structure) -> Table | None:
    """List the most frequent confusions; None if there are none."""
    details = None if result is None else result.details
    if details is None or details.confusion is None:
        return None
    pairs, counts = details.confusion.pairs, details.confusion.counts
    wrong = np.flatnonzero(pairs[:, 0] != pairs[:, 1])
    if not wrong.size:
        return None
    worst = wrong[np.argsort(-counts[wrong], kind="stable")][:CONFUSIONS]
    totals = np.bincount(pairs[:, 0], weights=counts, minlength=len(structure.parts))
    rows = []
    for place in worst:
        true, decided = pairs[place]
        share = counts[place] / totals[true]
        names = [_name(structure.parts[int(k)].label) for k in (true, decided)]
        rows.append([*names, f"{counts[place]:,}", f"{share:.1%}"])
    more = f", the first {len(rows)} of {len(wrong):,} pairs" if len(wrong) > len(rows) else ""
    return Table(f"Most frequent confusions{more}", ["true", "decided", "decisions", "of the true class"], rows, 2)


def _size_figures(result: Result, structure: Structure) -> list[Figure]:
    found = quality(result)
    if found is None:
        return []
    score = "F1" if isinstance(result, Evaluation) else "R2"
    sizes = [part.retention.recurrent_weights for part in structure.parts]
    caption = f"Dots: {score} of each module alone. Diamond: {found.name} of all modules."
    return [Figure("Size against quality", figures.modules_figure(sizes, found, f"{score}, {found.name}"), caption)]


def _unit_figures(structure: Structure, notes: list[str]) -> list[Figure]:
    """Draw kept units and their overlap, for each group of modules that can be compared."""
    found = []
    groups = structure.alike()
    for number, parts in enumerate(groups, 1):
        which = f", group {number} of {len(groups)}" if len(groups) > 1 else ""
        if len(parts) > figures.MOST:
            notes.append(f"Heat maps of more than {figures.MOST:,} modules are left out.")
            continue
        caption = f"A row is a module{' of the same layers' if which else ''}.{_unnamed([p.label for p in parts])}"
        found.append(Figure(f"Kept units{which}", figures.units_figure(parts), caption, True))
        if len(parts) > 1:
            caption = "Units that both modules keep, over units that one of them keeps."
            found.append(
                Figure(f"Overlap of kept units{which}", figures.overlap_figure(parts), caption, len(parts) > HALF)
            )
    return found


def _modules_table(structure: Structure, result: Result | None) -> Table:
    several = len(structure.parents) > 1
    columns = {} if result is None else score_columns(result)
    head = ["module", *(["network"] if several else []), *columns, *([] if "nodes" in columns else ["nodes"]), *SIZES]
    rows = []
    for part in structure.parts:
        own = [] if result is None else [show(result.modules[part.label]) for show in columns.values()]
        sizes = [_percent(getattr(part.retention, key)) for key in SIZES.values()]
        nodes = [] if "nodes" in columns else [_percent(part.retention.nodes)]
        rows.append([_name(part.label), *([str(part.parent + 1)] if several else []), *own, *nodes, *sizes])
    return Table(f"{len(rows):,} module{'' if len(rows) == 1 else 's'}", head, rows)


def _parent(structure: Structure, number: int) -> dict[str, Any]:
    parent = structure.parents[number]
    return {
        "number": number + 1,
        "sha256": parent.sha256,
        "io": parent.io,
        "layers": quoted(parent.layers, LONGEST),
        "classes": len(parent.labels),
        "modules": sum(part.parent == number for part in structure.parts),
        "labels": _listed(parent.labels),
    }


def _settings(structure: Structure) -> list[tuple[str, str]]:
    groups = settings_groups((part.label, part.config) for part in structure.parts)
    one = len(groups) == 1
    return [("all modules" if one else _listed(labels), text) for text, labels in groups.items()]


def _listed(labels: Iterable[Label]) -> str:
    names = [_name(label) for label in labels]
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED:,} more" if len(names) > LISTED else "")


def _unnamed(labels: Sequence[Label]) -> str:
    return "" if len(labels) <= figures.NAMED else " The order is that of the table of modules."


def _name(label: object) -> str:
    return quoted(label, LONGEST)


def _percent(share: Any) -> str:
    return f"{share:.1%}"

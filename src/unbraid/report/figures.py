"""Figures of a report, as SVG. Shapes: K modules, H hidden units, B bins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unbraid.data.targets import Label
from unbraid.errors import quoted
from unbraid.evaluation.details import Part, overlap
from unbraid.evaluation.metrics import Reliability
from unbraid.report.sections import Quality
from unbraid.report.svg import svg

NAMED = 40  # most modules whose names are written on an axis
MOST = 1_000  # most modules of a heat map
LABEL = 24  # characters of a name on an axis
BLUE, RED, GREY = "#3b5bdb", "#c92a2a", "#868e96"


def confusion_figure(counts: np.ndarray, labels: Sequence[Label]) -> str:
    """Draw a confusion matrix, int (K, K): row true, column decided. The colours are shares of the row."""
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        _image(figure, axes, shares, "share of the true class")
        _names(axes.yaxis, labels)
        _names(axes.xaxis, labels, rotation=90)
        axes.set(xlabel="decided", ylabel="true")
        if len(labels) <= 12:
            for (row, column), count in np.ndenumerate(counts):
                if count:
                    tone = "white" if shares[row, column] > 0.5 else "black"
                    axes.text(column, row, f"{count:,}", ha="center", va="center", color=tone, fontsize=8)

    size = min(max(4.5, 2 + 0.26 * len(labels)), 9.0)
    return svg(draw, size + 0.8, size)


def reliability_figure(found: Reliability) -> str:
    """Draw a reliability diagram: accuracy by confidence, and the number of decisions."""
    bins = len(found.counts)
    used = found.counts > 0
    confidence, right = found.confidence[used] / found.counts[used], found.right[used] / found.counts[used]

    def draw(figure: Any) -> None:
        above, below = figure.subplots(2, sharex=True, height_ratios=[3, 1])
        above.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
        above.plot(confidence, right, color=BLUE, marker="o", markersize=4)
        above.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.03))
        below.bar((np.arange(bins) + 0.5) / bins, found.counts, width=0.9 / bins, color=BLUE, alpha=0.5)
        below.set(xlabel="confidence", ylabel="decisions")

    return svg(draw, 5.2, 4.6)


def sizes_figure(sizes: Sequence[float], qualities: Sequence[Quality], names: Sequence[str]) -> str:
    """Draw the main score of several folders against their size, and the line of those that no other one beats.

    Args:
        sizes: mean share of the recurrent weights, of each folder.
        qualities: their scores; all have the same name.
        names: their names.
    """
    order = sorted(range(len(sizes)), key=lambda place: (sizes[place], -qualities[place].value))
    front = [p for i, p in enumerate(order) if all(qualities[p].value > qualities[q].value for q in order[:i])]

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.plot([100 * sizes[p] for p in front], [qualities[p].value for p in front], color=BLUE, linewidth=1)
        for size, found, name in zip(sizes, qualities, names, strict=True):
            _point(axes, 100 * size, found)
            shown = quoted(name, LABEL)
            axes.annotate(shown, (100 * size, found.value), (6, -10), textcoords="offset points", fontsize=8)
        for parent in sorted({found.parent for found in qualities if found.parent is not None}):
            axes.axhline(parent, color=GREY, linestyle="--", linewidth=1)
        axes.set(xlabel="recurrent weights kept, mean of the modules, %", ylabel=qualities[0].name)
        axes.set_xlim(0, 115 * max(sizes))

    return svg(draw, 6.5, 4.0)


def modules_figure(sizes: Sequence[float], found: Quality, score: str) -> str:
    """Draw the score of each module alone against its share of the recurrent weights."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.scatter([100 * size for size in sizes], found.modules, color=BLUE, s=16, alpha=0.6, label="a module alone")
        _point(axes, 100 * float(np.mean(sizes)), found, f"all modules: {found.name}", RED)
        if found.parent is not None:
            axes.axhline(found.parent, color=GREY, linestyle="--", linewidth=1, label=f"the network: {found.name}")
        axes.set(xlabel="recurrent weights kept, %", ylabel=score, xlim=(0, 103))
        axes.legend(frameon=False, fontsize=8)

    return svg(draw, 5.2, 4.0)


def units_figure(parts: Sequence[Part]) -> str:
    """Draw which units each module keeps. All have layers of the same shapes; means over timesteps are shown."""
    layers = list(parts[0].kept)
    rows = [[np.atleast_2d(part.kept[name]).mean(0) for name in layers] for part in parts]
    widths = [len(mask) for mask in rows[0]]
    over_time = any(mask.ndim > 1 for mask in parts[0].kept.values())
    meaning = "kept, share of the timesteps" if over_time else "kept"

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        _image(figure, axes, np.stack([np.concatenate(row) for row in rows]), meaning)
        axes.set_aspect("auto")
        _names(axes.yaxis, [part.label for part in parts])
        ends = np.cumsum(widths)
        for end in ends[:-1]:
            axes.axvline(end - 0.5, color=RED, linewidth=1)
        shown = [f"{quoted(name, LABEL)} ({width})" for name, width in zip(layers, widths, strict=True)]
        axes.set_xticks(ends - np.asarray(widths) / 2 - 0.5, shown)
        axes.set(xlabel="hidden units of each layer", ylabel="module")

    return svg(draw, 9.0, min(max(2.2, 1.2 + 0.2 * len(parts)), 8.0))


def overlap_figure(parts: Sequence[Part]) -> str:
    """Draw the Jaccard index of the kept units of each pair of modules."""
    labels = [part.label for part in parts]

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        _image(figure, axes, overlap(list(parts)), "Jaccard index")
        _names(axes.yaxis, labels)
        _names(axes.xaxis, labels, rotation=90)

    size = min(max(4.0, 2 + 0.24 * len(labels)), 8.0)
    return svg(draw, size + 0.8, size)


def _image(figure: Any, axes: Any, values: np.ndarray, meaning: str) -> None:
    """Draw numbers in [0, 1] as colours."""
    shown = axes.imshow(values, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(shown, ax=axes, label=meaning, shrink=0.7)


def _names(axis: Any, labels: Sequence[Label], **settings: Any) -> None:
    """Write the names of modules at an axis, or nothing if there are many."""
    if len(labels) <= NAMED:
        axis.set_ticks(range(len(labels)), [quoted(label, LABEL) for label in labels], fontsize=8, **settings)
    else:
        axis.set_ticks([])


def _point(axes: Any, x: float, found: Quality, label: str | None = None, colour: str = BLUE) -> None:
    ends = (
        None
        if found.interval is None
        else [[max(found.value - found.interval[0], 0)], [max(found.interval[1] - found.value, 0)]]
    )
    axes.errorbar([x], [found.value], yerr=ends, color=colour, marker="D", markersize=5, capsize=3, label=label, ls="")

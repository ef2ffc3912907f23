"""The section about growth of time and memory."""

from __future__ import annotations

import json
from collections.abc import Iterable
from math import log
from typing import Any

import numpy as np

from benchmarks import files
from benchmarks.measure.scaling import CELLS, ENOUGH, GROWTH, LARGE, SHARED
from benchmarks.report.tables import table

CAPTION = """\
Networks with random weights, LSTM with 128 units, 20 timesteps, 10 classes with 200 examples each, one layer, modules
at 30 % of the units, where the row does not say otherwise. One thread, CPU time; in the rows of ten classes the
smallest of three. *pass*: milliseconds of one pass of the parent over the sample. All other times are multiples of it.
*decompose*: all modules; *paper*: all modules by the paper's method. *composed*: the modules together on the sample,
*a module*: the same for each. *fused*: the modules fused at 30 %. *memory*: peak above that of the parent's pass, in
MB, with the modules that are returned; *modules*: weights of these modules, in MB; *budget*: the setting `memory`.
*made*: modules; of 10,000 classes only those with at least {enough} examples get one.
To hold: *memory* without *modules* within *budget*; *decompose* at most 6 for ten classes and 30 for 150, *paper* at
most 3, *a module* at most 0.3, and 0.12 with 512 units, *fused* at most 1.
`python -m benchmarks --only scaling --again` repeats it.
"""
SHARING = """
Wall time of `decompose` in one process and in two (`jobs=2`), smallest of three runs. To hold: 1.7 times faster. *two
apart*: two whole decompositions at the same time, in processes that share nothing, and how much faster they are than
one after the other. More than that is not to be had from two cores of this machine.
"""


def sections() -> Iterable[str]:
    """Yield the tables and draw the picture, where there is a result."""
    path = files.RESULTS / "scaling.json"
    if not path.exists():
        return
    found = json.loads(path.read_text())["sizes"]
    yield "\n## Growth of time and memory\n"
    yield CAPTION.format(enough=next(iter(ENOUGH.values())))
    columns = [
        "network",
        "pass",
        "made",
        "decompose",
        "paper",
        "composed",
        "a module",
        "fused",
        "memory",
        "modules",
        "budget",
    ]
    yield table(columns, [_row(name, found[name]) for name in (*CELLS, *LARGE) if name in found])
    yield ""
    yield "Growth of one setting: *slope* is that of a line through the logarithms, 1 for proportional growth.\n"
    yield table(["setting", "values", "seconds", "slope", "memory (MB)", "slope"], [
        _growth(axis, [found[f"{axis} {value}"] for value in values])
        for axis, values in GROWTH.items() if all(f"{axis} {value}" in found for value in values)
    ])  # fmt: skip
    if all(name in found for name in SHARED):
        yield SHARING
        columns = ["network", "one process", "two", "faster", "two apart", "faster"]
        yield table(columns, [_shared(found[name]) for name in SHARED])
    if all(f"{axis} {value}" in found for axis, values in GROWTH.items() for value in values):
        _draw(found)
        yield "\n![growth of time and memory](results/scaling.png)"


def _row(name: str, size: dict[str, Any]) -> list[str]:
    one = size["pass"]
    own = [f"{size[way] / one:.1f}" if way in size else "" for way in ("paper", "composed")]
    each = f"{size['composed'] / one / size['made']:.2f}" if "composed" in size else ""
    fused = f"{size['fused'] / one:.2f}" if "fused" in size else ""
    times = [f"{1000 * one:.0f} ms", str(size["made"]), f"{size['decompose'] / one:.1f}"]
    return [
        name,
        *times,
        *own,
        each,
        fused,
        f"{size['peak_mb']:.0f}",
        f"{size['modules_mb']:.0f}",
        size["budget"] or "",
    ]


def _shared(size: dict[str, Any]) -> list[str]:
    (one, two), apart = size["wall"], size["apart"]
    times = [f"{one:.1f} s", f"{two:.1f} s", f"{one / two:.2f} x", f"{apart:.1f} s", f"{2 * one / apart:.2f} x"]
    return [f"{size['classes']} classes", *times]


def _growth(axis: str, sizes: list[dict[str, Any]]) -> list[str]:
    values = [size[axis] for size in sizes]
    cells = [axis, " / ".join(map(str, values))]
    for name, digits in (("decompose", 1), ("peak_mb", 0)):
        measured = [max(size[name], 1e-3) for size in sizes]
        cells += [" / ".join(f"{value:.{digits}f}" for value in measured), f"{slope(values, measured):.2f}"]
    return cells


def slope(x: list[float], y: list[float]) -> float:
    """Return the slope of a line through the logarithms."""
    return float(np.polyfit([log(value) for value in x], [log(value) for value in y], 1)[0])


def _draw(found: dict[str, Any]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(GROWTH), figsize=(3 * len(GROWTH), 5), sharey="row")
    for column, (axis, values) in enumerate(GROWTH.items()):
        sizes = [found[f"{axis} {value}"] for value in values]
        for row, (name, label) in enumerate((("decompose", "CPU seconds"), ("peak_mb", "peak memory (MB)"))):
            place = axes[row][column]
            place.loglog(values, [max(size[name], 1e-3) for size in sizes], marker="o")
            place.set_xticks(values, labels=list(map(str, values)), rotation=45)
            place.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
            place.set_xlabel(axis)
            place.grid(True, which="both", alpha=0.3)
            if not column:
                place.set_ylabel(label)
    figure.tight_layout()
    figure.savefig(files.RESULTS / "scaling.png", dpi=110, metadata={"Software": None})
    pyplot.close(figure)

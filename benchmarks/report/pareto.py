"""Plot size against accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Plot the cost of decomposition over the share of recurrent weights kept, with dashed baselines."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.use("Agg")
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for colour, data in zip(("C0", "C1", "C2", "C3"), sorted({r["data"] for r in results}), strict=False):
        some = [r["sizes"] for r in results if r["data"] == data]
        weights = _mean([[100 * s["recurrent_weights"] for s in sizes] for sizes in some])
        deltas = np.asarray([[100 * s["delta"] for s in sizes] for sizes in some])
        spread = 1.96 * deltas.std(0) / len(deltas) ** 0.5
        axes.errorbar(
            weights, deltas.mean(0), spread, color=colour, marker="o", capsize=3, label=f"{data}, reconstruct"
        )
        plain = [[100 * s["baselines"]["paper"]["delta"] for s in sizes] for sizes in some if sizes[0]["baselines"]]
        if plain:
            axes.plot(weights, _mean(plain), color=colour, linestyle="--", marker="x", label=f"{data}, paper's choice")
    axes.set_xlabel("recurrent weights kept by a module, %")
    axes.set_ylabel("composed minus whole network, points")
    axes.set_yscale("symlog", linthresh=2)
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.legend(fontsize="small", ncols=2)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _mean(rows: list[list[float]]) -> np.ndarray:
    return np.asarray(np.mean(rows, axis=0))

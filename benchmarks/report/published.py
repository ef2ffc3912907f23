"""Means of the published results, stored so that the tables can be built without the authors' files.

``python -m benchmarks.report.published`` computes them again from published_results.csv in the shared folder.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from functools import cache
from statistics import fmean
from typing import Any

from benchmarks import files

PATH = files.ROOT / "published.json"
KEYS = ("question", "data", "cell", "mode", "gates")
DATA = {
    "CLINC OOS": "clinc", "Brown": "brown", "MathQA": "mathqa", "Wiki-toxicity": "toxic", "Tatoeba": "tatoeba",
    "CLINC OOS+Brown": "clinc+brown", "MathQA+Wiki-toxicity": "mathqa+toxic",
}  # fmt: skip
CELLS = {"vanilla": "vanilla", "lstm": "LSTM", "gru": "GRU"}


def write() -> None:
    """Store the mean of each question, data set (or motivating example), cell, mode and treatment of the gates."""
    found = defaultdict(list)
    with (files.shared() / "reference" / "published_results.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            gates = "each" if row["setting"].startswith("gates: each") else "hidden"
            example = f"{row['model']}, {row['setting']}" if row["question"] == "motivating" else ""
            found[row["question"], example or DATA[row["dataset"]], CELLS[row["rnn"]], row["mode"], gates].append(row)
    means = []
    for key, rows in sorted(found.items()):
        figures = {name: _mean(rows, name) for name in ("monolithic", "composed", "delta", "ji")}
        means.append({**dict(zip(KEYS, key, strict=True)), "rows": len(rows), **figures})
    about = "Means of figures in the authors' replication package (Imtiaz et al. 2023), by benchmarks.report.published."
    PATH.write_text(json.dumps({"source": about, "means": means}, indent=1) + "\n")


def _mean(rows: list[dict[str, str]], name: str) -> float | None:
    values = [float(row[name]) for row in rows if row[name]]
    return round(fmean(values), 6) if values else None


@cache
def means() -> list[dict[str, Any]]:
    """Return all stored means."""
    return list(json.loads(PATH.read_text())["means"])


def mean(**wanted: str) -> dict[str, Any] | None:
    """Return the mean with these keys, of :data:`KEYS`, or None if the paper has no such figure."""
    return next((m for m in means() if all(m[key] == value for key, value in wanted.items())), None)


if __name__ == "__main__":
    write()

"""Compute means over the cells of Tables III and IV, and the published means over the same cells."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from benchmarks.report.cells import DECIDED, NOT_PUBLISHED, Result, figures, grouped, published_of, ways_in
from benchmarks.report.tables import table


def means(question: str, intra: list[Result], inter: list[Result], alone: str) -> str:
    """Build the table of means over the cells of Table III or IV.

    Args:
        question: RQ2 or RQ3.
        intra: results within one data set.
        inter: results across two data sets.
        alone: key of the intra figures: ``composed`` or ``calibrated``.
    """
    rows = []
    known = [name for name in DECIDED if all(_knows(r, name) for r in inter)]
    for way in dict.fromkeys(map(_of_any_mode, ways_in(intra + [r["vocabularies"]["joint"] for r in inter]))):
        within = {k: _decided(some, way, alone) for k, some in grouped(intra).items()}
        for words in ("joint", "separate"):
            across = {
                k: {name: _decided([r["vocabularies"][words] for r in some], way, name) for name in known}
                for k, some in grouped(inter).items()
            }
            if words == "joint" and within:
                rows.append([way, "intra", *_mean_row(question, within, {})])
            if across:
                for name in known:
                    found = {k: values[name] for k, values in across.items()}
                    rows.append([way, f"inter, {words} words, {DECIDED[name]}", *_mean_row(question, {}, found)])
            for name in known[2:] if within and across else ():
                judged = {k: values[name] for k, values in across.items()}
                rows.append([way, f"both, {words} words, {DECIDED[name]}", *_mean_row(question, within, judged)])
    return table(["modules", "", "cells", "published", "ours"], rows)


def _knows(result: Result, name: str) -> bool:
    return all(f"{name}_over_scratch" in f for words in result["vocabularies"].values() for f in words.values())


def _of_any_mode(way: str) -> str:
    """Return the method's name without its mode, which depends on the data set."""
    return way.removeprefix("un").removeprefix("rolled, ")


def _decided(some: list[Result], way: str, name: str) -> float:
    """Return the mean difference from the reference network, in points."""
    found = [values for r in some for key, values in figures(r).items() if _of_any_mode(key) == way]
    return 100 * fmean(values.get(f"{name}_over_scratch", values.get(name)) for values in found)


def _mean_row(question: str, intra: dict[Any, float], inter: dict[Any, float]) -> list[str]:
    """Return the number of cells, the published mean over them, and ours."""
    theirs = [published_of(f"{question}-intra", *k) for k in intra] + [
        published_of(f"{question}-inter", *k) for k in inter
    ]
    known = [100 * t["delta"] for t in theirs if t is not None and t["delta"] is not None]
    ours = [*intra.values(), *inter.values()]
    return [str(len(ours)), f"{fmean(known):+.2f}" if known else NOT_PUBLISHED, f"{fmean(ours):+.2f}"]

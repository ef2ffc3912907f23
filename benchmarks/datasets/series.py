"""Real time series of the package statsmodels (extra ``bench``), as windows for forecasting.

All series are in the public domain; statsmodels names the sources in ``statsmodels/datasets``. Only its CSV files are
read. Inputs and targets are relative to the last value of the window, so that a trend does not leave the range of the
training data. Both are scaled by standard deviations of the training part. The parts follow each other in time: 70 %
for training, 15 % for choosing, 15 % for testing. Windows whose targets reach into the next part are left out.
Shapes: N windows, T timesteps, D variables, C target columns.
"""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TRAIN, CHOOSE = 0.7, 0.85  # ends of the first two parts, as shares of the series
Part = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Windows:
    """Windows of a series: x, float32 (N, T, D), and y, float32 (N, C), of each part."""

    train: Part
    choose: Part
    test: Part
    labels: list[str]


@dataclass(frozen=True)
class Series:
    """How a series is read.

    Attributes:
        values: reads the values, (R, D), NaN where one is missing.
        steps: T.
        target: the variable that is forecast at a horizon above 1. At horizon 1 all variables are.
        names: names of the D variables.
    """

    values: Callable[[], np.ndarray]
    steps: int
    names: tuple[str, ...]
    target: int = 0


def _columns(name: str, *columns: str) -> np.ndarray:
    found = importlib.util.find_spec("statsmodels")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("the series come with statsmodels: pip install statsmodels, or the extra 'bench'.")
    path = Path(found.submodule_search_locations[0]) / "datasets" / name / f"{name}.csv"
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return np.asarray([[float(row[column] or "nan") for column in columns] for row in rows])


def _el_nino() -> np.ndarray:
    months = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
    return _columns("elnino", *months).reshape(-1, 1)


def _macro() -> np.ndarray:
    found = _columns("macrodata", *MACRO)
    found[:, :3] = 100 * np.log(found[:, :3])
    return found


MACRO = ("realgdp", "realcons", "realinv", "unemp", "tbilrate", "infl")
SERIES = {
    "sunspots": Series(lambda: np.sqrt(_columns("sunspots", "SUNACTIVITY")), 12, ("activity",)),
    "CO2": Series(lambda: _columns("co2", "co2")[::4], 13, ("ppm",)),  # every fourth week
    "El Nino": Series(_el_nino, 12, ("temperature",)),
    "macro": Series(_macro, 8, MACRO, target=3),
}


def windows(name: str, horizon: int) -> Windows:
    """Make the windows of one series.

    Args:
        name: a key of :data:`SERIES`.
        horizon: 1: the next value of each variable, C = D. More: so many values of one variable, C = horizon.
    """
    series = SERIES[name]
    values = _filled(series.values())
    variables = list(range(values.shape[1])) if horizon == 1 else [series.target]
    starts = np.arange(len(values) - series.steps - horizon + 1)
    past = values[starts[:, None] + np.arange(series.steps)]
    future = values[starts[:, None] + series.steps + np.arange(horizon)][..., variables]
    last = past[:, -1:]
    x, y = past - last, (future - last[..., variables]).reshape(len(starts), -1)
    ends = starts + series.steps + horizon  # behind the last value of the target
    first, second = (int(share * len(values)) for share in (TRAIN, CHOOSE))
    parts = (
        ends <= first,
        (starts + series.steps >= first) & (ends <= second),
        starts + series.steps >= second,
    )
    scale = x[parts[0]].std((0, 1)), y[parts[0]].std(0)
    x, y = ((one / size).astype(np.float32) for one, size in zip((x, y), scale, strict=True))
    labels = list(series.names) if horizon == 1 else [f"step {i + 1}" for i in range(horizon)]
    train, choose, test = ((x[part], y[part]) for part in parts)
    return Windows(train, choose, test, labels)


def _filled(values: np.ndarray) -> np.ndarray:
    """Replace missing values by linear interpolation in time."""
    found = values.copy()
    for column in found.T:
        known = np.flatnonzero(np.isfinite(column))
        column[:] = np.interp(np.arange(len(column)), known, column[known])
    return found

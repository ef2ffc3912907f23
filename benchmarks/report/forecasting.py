"""The section about networks that predict numbers."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from typing import Any

from benchmarks import files
from benchmarks.report.tables import table

CAPTION = """\
Forecasters of real series (statsmodels): sunspots of each year, CO2 of every fourth week, sea temperature of each month
(El Nino), and six quarterly figures of the economy (macro). LSTM, GRU and vanilla networks of 32 units with 1 and 2
layers, one seed each; horizon 1 forecasts all variables, horizon 12 twelve steps of one. Figures are the change of the
mean absolute error on the test part, in percent of the error of the whole network: the mean over the models of a row.
*column*: one body for each output column, the default. *output*: one body for all columns. *refined*: the same with 100
steps of distillation. *chosen*: the way with the lowest error on the part for choosing. *magnitude*, *random*: as many
units of the network, by the norm of their weights or at random (mean of 3 seeds), without a fit. *to hold*: the target.
*models*: models within it by *column*, by *chosen* / all. *skill*: error of the whole network over that of the last
value as the forecast; 1 is no better. INCITE reports +18.56 % for regression modules at 1.83 x compression, on other
data. `python -m benchmarks --only forecasting` repeats it.
"""
DETECTING = """\
LSTM autoencoders of the same series, 32 units in the encoder and in the decoder. Every second window of the test part
has an artificial anomaly: a peak or a shift. *height*: of the anomaly, in standard deviations. The score is the error
of the reconstruction. Figures are areas under the ROC curve. *modules*: 50 % of the units. *refined*: with 100 steps of
distillation. To hold: a loss of at most 0.005.
"""
TARGETS = {"0.5": 1.0, "0.3": 3.0, "0.15": 10.0}  # largest change of the error, in percent
WAYS = ("column", "output", "refined", "chosen", "magnitude", "random")


def sections() -> Iterable[str]:
    """Yield the tables, where there is a result."""
    path = files.RESULTS / "forecasting.json"
    if not path.exists():
        return
    found = json.loads(path.read_text())
    yield "\n## Networks that predict numbers\n"
    yield CAPTION
    yield table(["series", "horizon", "units kept", *WAYS, "to hold", "models", "skill"], _rows(found["models"]))
    yield ""
    yield DETECTING
    yield table(
        ["series", "height", "anomalies", "whole", "modules", "refined", "loss", "loss, refined"], _detectors(found)
    )


def _rows(models: dict[str, Any]) -> list[list[str]]:
    groups: dict[tuple[str, str], list[Any]] = {}
    for name, model in models.items():
        series, horizon, _ = name.split(", ")
        for key in ((series, horizon.split(" ")[1]), ("all", "both")):
            groups.setdefault(key, []).append(model)
    order = sorted(groups, key=lambda key: (key[0] == "all", key[0], int(key[1]) if key[1].isdigit() else 0))
    return [_row(*key, keep, groups[key]) for key in order for keep in TARGETS]


def _row(series: str, horizon: str, keep: str, models: list[Any]) -> list[str]:
    changes = {way: [c for model in models if (c := _change(model, keep, way)) is not None] for way in WAYS}
    within = [str(sum(change <= TARGETS[keep] for change in changes[way])) for way in ("column", "chosen")]
    skill = statistics.mean(model["mae"]["test"] / model["naive"] for model in models)
    return [
        series,
        horizon,
        f"{float(keep):.0%}",
        *(f"{statistics.mean(own):+.1f}" if own else "-" for own in changes.values()),
        f"{TARGETS[keep]:+.0f}",
        f"{', '.join(within)} / {len(models)}",
        f"{skill:.2f}",
    ]


def _change(model: dict[str, Any], keep: str, way: str) -> float | None:
    """Change of the error in percent; None where a way does not apply."""
    size = model["sizes"][keep]
    found = size["ways"].get(size["chosen"] if way == "chosen" else way)
    return None if found is None else 100 * (found["test"] / model["mae"]["test"] - 1)


def _detectors(found: dict[str, Any]) -> list[list[str]]:
    rows = []
    for name, model in found["detectors"].items():
        for height, area in model["auroc"].items():
            losses = [f"{area['whole'] - area[way]:+.4f}" for way in ("modules", "refined")]
            areas = [f"{area[way]:.4f}" for way in ("whole", "modules", "refined")]
            count = f"{model['anomalies']} / {model['examples']}"
            rows.append([name.split(", ")[0], height, count, *areas, *losses])
    return rows

"""``python -m benchmarks``: run the experiments without a result, then rebuild RESULTS.md from the stored results.

Examples:

    python -m benchmarks --scale quick --jobs 2        all of the paper's tables on subsampled data
    python -m benchmarks --only table2                 experiments with this prefix of the file name
    python -m benchmarks --only speed --again          repeat one of the other measurements
    python -m benchmarks --cluster auto                the experiments on a Ray cluster
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from benchmarks.experiments import calibration as calibrating
from benchmarks.experiments import experiment, running
from benchmarks.measure import (
    clinc,
    dense,
    durability,
    forecasting,
    fusing,
    reconstruct,
    refining,
    scaling,
    sensors,
    serving,
    shrink,
    shrink_networks,
    speed,
    torch_runs,
    translation,
    unknown,
    votes,
)
from benchmarks.measure import cost as compacting
from benchmarks.report import build as report

PARTS = {
    "clinc": clinc.run,
    "speed": speed.run,
    "fusing": fusing.run,
    "reconstruct": reconstruct.run,
    "refined": refining.run,
    "compacting": compacting.run,
    "calibrating": calibrating.run,
    "torch": torch_runs.run,
    "durability": durability.run,
    "scaling": scaling.run,
    "serving": serving.run,
    "forecasting": forecasting.run,
    "shrink": shrink.run,
    "shrink_networks": shrink_networks.run,
    "dense": dense.run,
    "votes": votes.run,
    "unknown": unknown.run,
    "sensors": sensors.run,
    "translation": lambda again: translation.main("small", "", again, False),
}

app = typer.Typer(help=__doc__, rich_markup_mode=None)


@app.command(help=__doc__)
def main(
    scale: Annotated[str, typer.Option(help="quick or full.")] = "full",
    only: Annotated[
        str, typer.Option(help=f"Prefix of an experiment's file name, or one of {', '.join(PARTS)}, report.")
    ] = "",
    jobs: Annotated[int, typer.Option(help="Number of parallel experiments; -1: one for each core.")] = 1,
    cluster: Annotated[str | None, typer.Option(help="Run the experiments on the Ray cluster at this address.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Repeat measurements that have a result.")] = False,
) -> None:
    if scale not in experiment.SCALES:
        sys.exit(f"no scale {scale!r}, expected one of {list(experiment.SCALES)}.")
    chosen = experiment.SCALES[scale]
    experiments = {name: e for name, e in experiment.read().items() if name.startswith(only)}
    if not experiments and only not in (*PARTS, "report"):
        sys.exit(f"unknown part {only!r}, expected {', '.join(PARTS)}, report or a file of {experiment.FOLDER}.")
    failed = running.run_missing(experiment.runs(chosen, list(experiments.values())), jobs, cluster, again)
    if scale == "quick" and only in ("", "translation"):
        translation.main("quick", "", again, False)
    for name, measure in PARTS.items():
        if scale == "full" and only in ("", name):
            measure(again)
    print(report.write(chosen), file=sys.stderr)
    if failed:
        sys.exit(f"{failed} experiments failed.")


app()

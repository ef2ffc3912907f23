"""``python -m benchmarks``: run what is missing, then rebuild RESULTS.md from the stored results alone."""

from __future__ import annotations

from typing import Annotated

import typer

from benchmarks import (
    calibrating,
    clinc,
    compacting,
    fusing,
    reconstruct,
    report,
    reuse,
    speed,
    torch_runs,
    trained,
    translation,
)

PARTS = {
    "clinc": clinc.run,
    "speed": speed.run,
    "fusing": fusing.run,
    "trained": lambda again: trained.main(),
    "reconstruct": reconstruct.run,
    "refined": reconstruct.run_refined,
    "compacting": compacting.run,
    "reuse": reuse.run,
    "calibrating": calibrating.run,
    "torch": torch_runs.run,
    "translation": lambda again: translation.main(again=again),
    "report": lambda again: None,
}

app = typer.Typer(help=__doc__, invoke_without_command=True)


@app.callback()
def main(
    context: typer.Context,
    only: Annotated[str, typer.Option(help=f"One of {', '.join(PARTS)}; all of them by default.")] = "",
    again: Annotated[bool, typer.Option("--again", help="Measure anew what has a result already.")] = False,
) -> None:
    """Run what is missing, then rebuild RESULTS.md."""
    for name, measure in PARTS.items():
        if only in ("", name):
            measure(again)
    report.write()


app()

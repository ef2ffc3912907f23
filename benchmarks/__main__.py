"""``python -m benchmarks``: run what is missing, then rebuild RESULTS.md from the stored results alone."""

from __future__ import annotations

from typing import Annotated

import typer

from benchmarks import clinc, compact, report, speed, torch_runs, translation

app = typer.Typer(help=__doc__, invoke_without_command=True)


@app.callback()
def main(
    context: typer.Context,
    only: Annotated[str, typer.Option(help="clinc, compact, speed, torch, translation, report; all by default.")] = "",
    again: Annotated[bool, typer.Option("--again", help="Measure anew what has a result already.")] = False,
) -> None:
    """Run what is missing, then rebuild RESULTS.md."""
    if only in ("", "clinc"):
        clinc.run(again)
    if only in ("", "compact"):
        compact.run(again)
    if only in ("", "speed"):
        speed.run(again)
    if only in ("", "torch"):
        torch_runs.run(again)
    if only in ("", "translation"):
        translation.main(again=again)
    report.write()


app()

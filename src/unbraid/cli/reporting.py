"""The command ``report``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unbraid.cli.options import AsTask, Labels, Modules, Vocabularies, X, Y, read_labels
from unbraid.cli.places import check_output
from unbraid.cli.terminal import done, guarded, reading
from unbraid.cli.unused import refuse
from unbraid.errors import DataError, quoted

if TYPE_CHECKING:
    from unbraid.cli.open_any import Beside
    from unbraid.cli.running import Trial
    from unbraid.report.sections import Section

LEVEL = 0.95  # of the intervals


@guarded
@reading
def report(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER... [DATA]",
            help="Folders of modules, and after them a file of examples: .npz, .csv, .jsonl or .parquet.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML file to write. An existing file is replaced.")],
    against: Annotated[Path | None, typer.Option(help="Model to compare with [default: their own network].")] = None,
    x: X = None,
    y: Y = None,
    labels: Labels = None,
    module: Modules = None,
    vocabulary: Vocabularies = None,
    task: AsTask = None,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap for the intervals.")] = 0,
) -> None:
    """Write an HTML page about modules: sizes, kept units, settings and, with DATA, scores with 95 % intervals.

    The page needs no other file and no network. Several folders give a curve of size and accuracy. Without DATA no
    code of yours is needed.
    """
    from unbraid.cli.open_any import Beside, parse_vocabularies
    from unbraid.cli.own_code import own_modules
    from unbraid.cli.running import Trial
    from unbraid.data.files import read_examples
    from unbraid.report.write import write_report

    check_output(out, *sources, against)
    folders, data = _split(sources)
    trial = None if data is None else Trial(read_examples(data, x, y), read_labels(labels), against, task)
    if trial is None:
        given = {"--labels": labels, "--against": against, "--x": x, "--y": y, "--task": task}
        refuse(given, "needs DATA: name a file of examples after the folders.")
    if against is None:
        refuse({"--task": task}, "is for the model of --against: leave it out.")
    vocabularies = parse_vocabularies(vocabulary or [])
    own = own_modules(module or [], folders)
    beside = Beside(own, trial is not None, vocabularies, several=len(folders) > 1)
    write_report(out, [_section(folder, beside, trial, seed) for folder in folders])
    done(f"wrote {out}")


def _split(sources: Sequence[Path]) -> tuple[list[Path], Path | None]:
    """Split the arguments into folders and an optional file of examples at the end."""
    files = [place for place, source in enumerate(sources) if not os.path.isdir(source)]
    if not files:
        return list(sources), None
    last = sources[-1]
    if len(files) > 1 or files[0] != len(sources) - 1:
        raise DataError(
            f"{quoted(sources[files[0]])}: is not a folder; expected folders, and one file of examples last."
        )
    if len(sources) == 1:
        raise DataError(f"{quoted(last)}: is not a folder; expected a folder of modules, and examples after it.")
    return list(sources[:-1]), last


def _section(folder: Path, beside: Beside, trial: Trial | None, seed: int) -> Section:
    from unbraid.cli.open_any import modules_in
    from unbraid.evaluation.details import structure_of
    from unbraid.report.sections import Section

    if trial is None:
        return Section(str(folder), structure_of(modules_in(str(folder), beside=beside)), None, _saved(folder))
    result = trial.evaluate(folder, beside, LEVEL, seed)
    assert result.details is not None
    return Section(str(folder), result.details.structure, result, _saved(folder))


def _saved(folder: Path) -> dict[str, str]:
    """Return facts about a saved folder."""
    from unbraid.storage.folders import MANIFEST, bytes_on_disk, read_file
    from unbraid.storage.layout import REFEREE
    from unbraid.storage.manifest_checks import parse_manifest

    manifest = parse_manifest(read_file(folder, MANIFEST), str(folder / MANIFEST))
    sizes = bytes_on_disk(folder)
    found = {"kind": manifest.kind, "written by": f"Unbraid {manifest.unbraid}, folder format {manifest.format}"}
    if manifest.kind == "composition":
        found["vote"] = manifest.vote
        found["calibrated"] = "yes" if any((e.temperature, e.offset) != (1, 0) for e in manifest.modules) else "no"
        found["referee"] = "yes" if REFEREE in manifest.files else "no"
    if manifest.skipped:
        found["classes without a module"] = f"{len(manifest.skipped):,}"
    names = {"parents": "weights of networks", "modules": "weights of modules", "folder": "all files"}
    return {**found, **{names[name]: f"{size:,} bytes" for name, size in sizes.items()}}

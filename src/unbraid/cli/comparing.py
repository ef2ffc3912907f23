"""``unbraid compare``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from unbraid.cli.options import AsJson, AsTask, Labels, Modules, Vocabularies, X, Y, read_labels
from unbraid.cli.terminal import emit, guarded, reading
from unbraid.cli.unused import refuse
from unbraid.errors import printable

if TYPE_CHECKING:
    from unbraid.cli.open_any import Beside
    from unbraid.evaluation.compare import Comparison

LEVEL = 0.95  # of the intervals
Compared = Annotated[
    str, typer.Argument(help="A .h5 or .keras model, a folder of modules, or FOLDER:LABEL[,LABEL...].")
]


@guarded
@reading
def compare(
    first: Compared,
    second: Compared,
    data: Annotated[
        Path | None,
        typer.Argument(
            help="Examples to compare the decisions on: .npz, .csv, .jsonl or .parquet; labels may be missing."
        ),
    ] = None,
    x: X = None,
    y: Y = None,
    labels: Labels = None,
    module: Modules = None,
    vocabulary: Vocabularies = None,
    task: AsTask = None,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap for the intervals.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Compare two models or folders: settings, sizes, labels, kept units, and with DATA the decisions.

    The difference in accuracy has a 95 % interval by bootstrap over examples. Without DATA no code of yours is needed.
    --labels and --task are for model files; --vocabulary and --module for both sides.
    """
    from unbraid.cli.open_any import Beside, parse_vocabularies, split_source
    from unbraid.cli.own_code import own_modules
    from unbraid.data.files import read_examples
    from unbraid.evaluation.compare import compare_sides
    from unbraid.evaluation.sides import columns_of_labels, side_of

    folders = [split_source(source)[0] for source in (first, second)]
    if data is None:
        refuse({"--x": x, "--y": y}, "needs DATA: name a file of examples after the folders.")
    if all(Path(folder).is_dir() for folder in folders):
        refuse({"--labels": labels, "--task": task}, "is for model files, and both are saved folders: leave it out.")
    beside = Beside(
        own_modules(module or [], folders),
        data is not None,
        parse_vocabularies(vocabulary or []),
        read_labels(labels),
        task,
        several=True,
    )
    sides = side_of(_opened(first, beside), "first"), side_of(_opened(second, beside), "second")
    examples = None
    if data is not None:
        found = read_examples(data, x, y, need_labels=False)
        numbers = sides[0].task == "regression"
        no_labels = found.y is None
        examples = found.x, None if no_labels else found.y if numbers else found.y_for(columns_of_labels(*sides))
    result = compare_sides(*sides, examples, LEVEL, seed)
    sizes = tuple(_bytes(folder) for folder in folders)
    result = dataclasses.replace(result, sizes={**result.sizes, "bytes on disk": sizes})  # type: ignore[dict-item]
    emit(as_json, result.to_dict(), _table(result), result=True)


def _opened(source: str, beside: Beside) -> Any:
    from unbraid.cli.open_any import open_any, pick, split_source
    from unbraid.translation.translator import Translator

    folder, wanted = split_source(source)
    if wanted:
        modules = pick(source, beside=beside)
        return next(iter(modules.values())) if len(modules) == 1 else modules
    opened = open_any(folder, beside)
    return opened.modules if isinstance(opened, Translator) else opened


def _bytes(folder: str) -> int:
    from unbraid.storage.folders import bytes_on_disk

    place = Path(folder)
    return bytes_on_disk(place)["folder"] if place.is_dir() else place.stat().st_size


def _table(result: Comparison) -> Table:
    found = Table(caption=Text("\n".join(map(printable, result.lines()))), caption_justify="left")
    for name in ("", "first", "second"):
        found.add_column(name, overflow="fold")
    for row in result.rows():
        found.add_row(*map(Text, row))
    return found

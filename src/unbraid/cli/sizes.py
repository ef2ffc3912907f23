"""Several sizes in ``unbraid decompose``: ``--keep 0.5,0.3,0.15``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from unbraid.cli.terminal import emit
from unbraid.decomposition.decomposition import Decomposition
from unbraid.decomposition.size_table import SizeTable, check_max_loss, read_sizes
from unbraid.errors import ConfigError, NoSize, quoted

Save = Callable[[Decomposition, Path], dict[str, Any]]


def parse_keep(text: str | None) -> float | list[float] | None:
    """Parse ``--keep``: one number, or several with commas between them; raise ConfigError for anything else."""
    if text is None:
        return None
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--keep {quoted(text, 60)}: expected a number, or several as 0.5,0.3,0.15.") from None
    return found if len(found) > 1 else found[0]


def place_of(output: Path, keep: float) -> Path:
    """Return the folder of one of several sizes, next to the others: ``parts-0.3`` of ``parts``."""
    return output.with_name(f"{output.name}-{keep:g}")


def save_sizes(table: SizeTable, output: Path, max_loss: float | None, save: Save, as_json: bool) -> None:
    """Print the table, and save the smallest size within ``max_loss``; without it, each size in a folder of its own.

    Args:
        table: the decompositions by size.
        output: the folder, or the start of the names of the folders.
        max_loss: tolerated loss, in [0, 1), or None.
        save: saves a decomposition in a folder and describes it.
        as_json: whether to print JSON.

    Raises:
        NoSize: no size is within ``max_loss``. The table is printed, and nothing is saved.
    """
    try:
        chosen = None if max_loss is None else table.smallest(max_loss)
    except NoSize:
        emit(as_json, {"folder": None, "chosen": None, **table.to_dict()}, sizes_table(table, None))
        raise
    if chosen is None:
        folders = {keep: place_of(output, keep) for keep in table}
    else:
        folders = {chosen.config.keep or 1.0: output}
    saved = [{"keep": keep, **save(table[keep], folder)} for keep, folder in folders.items()]
    summary = {"chosen": None if chosen is None else chosen.config.keep, "saved": saved, **table.to_dict()}
    emit(as_json, summary, sizes_table(table, folders))


def sizes_table(table: SizeTable, folders: dict[float, Path] | None) -> Table:
    """Make a table with a row for each size; ``folders`` are those of the saved sizes, None if none was within."""
    head, rows = table.cells()
    found = Table(title=Text(table.title()), title_justify="left", caption_justify="left")
    for name in head:
        found.add_column(name, justify="right")
    for row in rows:
        found.add_row(*row)
    if folders:
        names = [f"keep {keep:g} in {quoted(folder)}" for keep, folder in folders.items()]
        found.caption = Text("\n".join(["saved:", *names] if len(names) > 1 else [f"saved: {names[0]}"]))
    return found


def check_choice(keep: float | list[float] | None, max_loss: float | None, output: Path) -> list[float] | None:
    """Return several sizes, or None for one; raise ConfigError for a ``max_loss`` or a folder that does not fit them.

    Args:
        keep: the parsed ``--keep``.
        max_loss: ``--max-loss``.
        output: ``--out``.
    """
    if not isinstance(keep, list):
        return None
    if max_loss is not None:
        check_max_loss(max_loss)
    elif not output.name:
        raise ConfigError(
            f"--out {quoted(output)}: expected a name, as each size is saved in a folder such as NAME-0.5."
        )
    return read_sizes(keep)

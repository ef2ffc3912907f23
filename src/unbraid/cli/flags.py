"""Replace names of Python arguments in messages by flags of the command line.

Errors of the library name arguments as ``module=...``. :data:`FLAGS` maps each argument to its flag.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from unbraid.errors import ModuleNeeded, UnbraidError, quoted

if TYPE_CHECKING:
    from unbraid.storage.own_modules import ParentFacts

CODE = "path/to/file.py:Factory"

# Python argument -> flag. "FLAG WORD" replaces the value by WORD; "FLAG=" keeps the value; "FLAG" drops it.
FLAGS: Mapping[str, str] = {
    "module": f"--module {CODE}",
    "vocabulary": "--vocabulary FILE",
    "target_vocabulary": "--target-vocabulary FILE",
    "labels": "--labels FILE",
    "sample": "--sample FILE",
    "task": "--task=",
    "weights": "--weights FILE",
    "referee": "--referee",
    "calibrate": "--sample",
    "name": "--name=",
    "init": "--init JSON",
    "example": "--example FILE",
    "mode": "--mode=",
    "strategy": "--strategy=",
    "gates": "--gates=",
    "head": "--head=",
    "max_removed": "--max-removed=",
    "keep": "--keep=",
    "layers": "--layers=",
    "sizes": "--keep",
    "max_loss": "--max-loss=",
    "memory": "--memory=",
    "refine": "--refine=",
    "samples_per_class": "--samples-per-class=",
    "padding_label": "--padding-label=",
    "words": "--words=",
    "concern": "--concern=",
    "bins": "--bins=",
    "sample_weight": "--sample-weight",
    "dtype": "--dtype=",
    "seed": "--seed=",
    "intervals": "--intervals=",
    "against": "--against FILE",
    "transitions": "--transitions FILE",
    "beam": "--beam=",
    "longest": "--longest=",
    "revision": "--revision=",
}
TORCH: Mapping[str, str] = {"head": "--output-layer=", "output": "--activation="}  # of Network.from_torch

_VALUE = r"""(\.\.\.|'[^']*'|"[^"]*"|\([^()]*\)|\[[^\[\]]*\]|[\w.+-]*\w(?:\([^()]*\))?)?"""
_SENTENCES = (  # Python calls in messages -> what does the same here
    (r"pass vocabulary=\{NAME: \.\.\.\}", "pass --vocabulary NAME=FILE"),
    (r"\(unbraid\.load\(\.\.\., vocabulary=\.\.\.\)\)", "(--vocabulary FILE)"),
    (
        r"Give each network its own with with_vocabulary\(vocabulary\)",
        "Give each network its own: --vocabulary NUMBER=FILE",
    ),
    (r"compose\(modules, sample=\(x, y\)\), on the command line ", ""),
    (r" to unbraid\.load, or --task", ""),
    (
        r"build the module, fill it with unbraid\.load_weights\(module, path\), and pass it to "
        r"unbraid\.Network\.from_torch\(module, example=\.\.\.\)",
        f"run 'unbraid decompose' on it with --module {CODE}",
    ),
    (r"^example (does not run|holds)", r"the data file \1"),
    (r"load the folder with module=", f"add --module {CODE}"),
    (r"Pass it as export_onnx\(\.\.\., example=x\[:4\]\)", "Name a data file with --example FILE"),
)


def as_flags(text: str, more: Mapping[str, str] | None = None) -> str:
    """Replace the names of Python arguments by those of flags.

    Args:
        text: a message of the library.
        more: arguments whose flags differ from :data:`FLAGS`.

    Example:
        >>> as_flags("keep=2.0: expected at most 1, or pass vocabulary=...")
        '--keep 2.0: expected at most 1, or pass --vocabulary FILE'
    """
    for pattern, words in _SENTENCES:
        text = re.sub(pattern, words, text)
    table = {**FLAGS, **(more or {})}
    names = "|".join(sorted(table, key=len, reverse=True))
    return re.sub(rf"(?<![\w.\-])({names})={_VALUE}", lambda found: _flag(table, found), text)


def _flag(table: Mapping[str, str], found: re.Match[str]) -> str:
    flag, value = table[found[1]], found[2] or ""
    if not flag.endswith("="):
        return flag
    plain = value[1:-1] if value[:1] in ("'", '"') else value
    return f"{flag[:-1]} {plain}".rstrip()


@contextmanager
def renamed(more: Mapping[str, str]) -> Iterator[None]:
    """Raise errors of the block with flags that differ from :data:`FLAGS`."""
    try:
        yield
    except ModuleNeeded:
        raise
    except UnbraidError as error:
        raise type(error)(as_flags(str(error), more)) from None


def message(error: Any) -> str:
    """Return the text of an error or a warning for the command line."""
    if not isinstance(error, ModuleNeeded) or not error.facts:
        return as_flags(str(error))
    from unbraid.storage.own_modules import described

    return (
        f"{error.where}: {as_flags(error.reason)} Add {needed_options(error.facts)}. Stored: {described(error.facts)}."
    )


def needed_options(facts: list[ParentFacts]) -> str:
    """Format the ``--module`` options that a folder needs."""
    from unbraid.storage.own_modules import needed_argument

    if all(one.init is not None for one in facts):
        names = dict.fromkeys(one.class_name for one in facts)
        if len(names) == 1:
            return f"--module path/to/file.py:{quoted(next(iter(names)), 60)}"
        return " ".join(f"--module {one.number}=path/to/file.py:{quoted(one.class_name, 60)}" for one in facts)
    calls = needed_argument(facts)
    return f"{FLAGS['module']}, a function that is called for each network with its facts and returns {calls}"

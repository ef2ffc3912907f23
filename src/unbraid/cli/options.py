"""Arguments and options of several commands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from unbraid.errors import ConfigError, DataError, quoted
from unbraid.limits import check_size, parse_json, read_regular
from unbraid.networks.outputs import GivenTask

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to write. An existing Unbraid folder is replaced.")]
Dtype = Annotated[
    str, typer.Option("--dtype", help="Type of stored weights: float32, or float16 for half of the bytes.")
]
Data = Annotated[
    Path,
    typer.Argument(help="Examples: .npz with arrays x, y (and labels), or .csv/.jsonl/.parquet with text and labels."),
]
AsTask = Annotated[
    GivenTask | None,
    typer.Option(
        "--task",
        help="Of a model: classification for outputs that are scores, regression for numbers [default: by its loss].",
    ),
]
KerasOutput = Annotated[
    str | None,
    typer.Option("--output", metavar="NAME", help="Output layer to use, of a Keras model or a folder with several."),
]
KerasWeights = Annotated[
    Path | None,
    typer.Option("--weights", help="Weights of a Keras model (model.save_weights), whose JSON is the model file."),
]
X = Annotated[
    str | None,
    typer.Option(
        "--x",
        help="Name of the inputs in the data file [default: x, text]. Several inputs of a network: words,lengths, or "
        "words=words,lengths=lengths for a dict.",
    ),
]
Y = Annotated[str | None, typer.Option("--y", help="Name of the labels in the data file [default: y, label].")]
Modules = Annotated[
    list[str] | None,
    typer.Option(
        "--module",
        metavar="[NAME=]PLACE:FACTORY",
        help="Code of a PyTorch network: package.file:Factory or path/to/file.py:Factory. A class is called with the "
        "stored constructor arguments, a function with the stored facts. NAME: one of several networks, by name or "
        "number; repeat the option.",
    ),
]
Vocabularies = Annotated[
    list[str] | None,
    typer.Option(
        "--vocabulary",
        metavar="[NAME=]FILE",
        help="Keras Tokenizer JSON, word_index JSON or tokenizer.json, to read text. NAME: one of several networks, "
        "by name or number; repeat the option.",
    ),
]
Transitions = Annotated[
    Path | None,
    typer.Option(
        "--transitions",
        help="With --viterbi: .npz with an array transitions (C, C), the score of each class (column) after each class "
        "(row), and start and end (C,) if they are not zero [default: of the network].",
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        "--labels", help="Names of the classes in the order of the outputs: .txt, one a line, or a JSON list."
    ),
]


def read_transitions(path: Path | None, viterbi: bool) -> dict[str, Any]:
    """Read ``--transitions``, for the arguments of :meth:`unbraid.Composition.viterbi`; raise DataError as a reader."""
    if path is None:
        return {}
    if not viterbi:
        raise ConfigError("--transitions are scores of sequences: add --viterbi.")
    from unbraid.data.files import read_arrays

    return read_arrays(path, ["transitions", "start", "end"])


def read_labels(path: Path | None) -> list[str] | None:
    """Read ``--labels``: one name per line, or JSON: a list, or a mapping between names and numbers.

    Raises:
        FormatError: the file cannot be read.
        DataError: there are no names, or the JSON has another form.
    """
    if path is None:
        return None
    try:
        text = read_regular(path, "json_bytes").decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"--labels {quoted(path)}: is not UTF-8 text.") from None
    if path.suffix == ".json":
        found = _names(parse_json(text, f"--labels {quoted(path)}", strict=True), path)
    else:
        found = [line.strip() for line in text.splitlines()]
        while found and not found[-1]:
            found.pop()
    if not found or not all(found):
        raise DataError(
            f"--labels {quoted(path)}: found {'an empty name' if found else 'no names'}, expected one a line."
        )
    check_size(len(found), "vocabulary", f"--labels {quoted(path)}", "number of names")
    return found


def _names(value: object, path: Path) -> list[str]:
    """Return the names of a list, ``{"travel": 0}`` or ``{"0": "travel"}``, in order."""
    pairs: Sequence[tuple[object, object]] = [(None, None)]
    if isinstance(value, list):
        pairs = list(enumerate(value))
    elif isinstance(value, dict):
        swapped = all(type(place) is int for place in value.values())
        pairs = [(place, name) for name, place in value.items()] if swapped else list(value.items())
    named = {int(str(place)): str(name) for place, name in pairs if str(place).isascii() and str(place).isdigit()}
    plain = all(type(name) in (str, int) for _, name in pairs)
    if not plain or len(named) != len(pairs) or sorted(named) != list(range(len(named))):
        raise DataError(
            f'--labels {quoted(path)}: expected a JSON list of names, {{"travel": 0, ...}} or {{"0": "travel", ...}}.'
        )
    return [named[place] for place in range(len(named))]

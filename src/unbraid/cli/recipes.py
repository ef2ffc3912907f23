"""Recipes: a YAML file that lists the modules of a classifier.

    title: FAQ intents
    license: cc-by-4.0
    vote: margin
    modules:
      - from: ../intent-parts
        labels: [travel, home]
      - from: ../bank-parts
        labels: {money: banking}   # new name: old name
        prefix: bank               # its labels become bank/money
    calibration:
      sample: dev.npz
      referee: true              # for modules of different networks
      unknown: other             # examples of no class, to choose the threshold for unknown inputs
    domain: true                 # vote with the evidence about the inputs of the networks

Folders and data files are relative to the recipe. Every value is text: a class called ``no`` is not a boolean. Aliases,
tags and files over 256 KiB are refused.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from unbraid.cli.open_any import PLAIN, Beside, find_label, merged, modules_in, split_source
from unbraid.cli.plain_yaml import parse_yaml, read_text
from unbraid.config import IOArchitecture
from unbraid.data.files import read_examples, some_of
from unbraid.data.targets import Label
from unbraid.errors import DataError, FormatError, IncompatibleModules, ModuleNeeded, UnbraidError, quoted
from unbraid.modules.about import About
from unbraid.modules.comparability import warn
from unbraid.modules.compose import compose
from unbraid.modules.composition import Composition
from unbraid.modules.module import ConcernModule
from unbraid.modules.rejecting import check_unknown
from unbraid.modules.voter import Vote
from unbraid.paths import user_path
from unbraid.progress import Progress, silent
from unbraid.translation.translator import Translator

ENDINGS = (".yaml", ".yml")
FOLDERS, MODULES = 500, 4_000  # largest number of folders, and of modules per folder; more take too long


def _renames(value: Any) -> Any:
    """Convert ``[a, b]`` to ``{a: a, b: b}``."""
    if isinstance(value, dict) and value:
        return value
    if isinstance(value, list) and value and all(isinstance(label, str) for label in value):
        if len(set(value)) < len(value):
            raise ValueError("a label comes twice")
        return dict(zip(value, value, strict=True))
    raise ValueError("expected a list of labels, or new names with old ones, as {money: banking}")


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Part(_Entry):
    """Modules of one folder.

    Attributes:
        source: path of the folder (``from``).
        labels: new name -> label in the folder; None for all of its modules.
        prefix: text before each label, with a slash between them; None for no change.
    """

    source: str = Field(alias="from", min_length=1)
    labels: Annotated[dict[str, str], BeforeValidator(_renames), Field(max_length=MODULES)] | None = None
    prefix: str | None = Field(default=None, min_length=1)


class Calibration(_Entry):
    """A few labelled examples; see :meth:`unbraid.Composition.with_calibration`.

    Attributes:
        sample: the data file. Its labels are names of the classes of the recipe; examples of other classes are ignored.
        x: name of the inputs; None for the default of :func:`unbraid.data.files.read_examples`.
        y: name of the labels; None for the default of :func:`unbraid.data.files.read_examples`.
        referee: whether to fit a referee on it as well; see :meth:`unbraid.Composition.with_referee`.
        unknown: label of examples of no class, which choose the threshold; see
            :meth:`unbraid.Composition.with_threshold`. None for no such examples.
    """

    sample: str = Field(min_length=1)
    x: str | None = None
    y: str | None = None
    referee: bool = False
    unknown: str | None = Field(default=None, min_length=1)


class Recipe(_Entry):
    """The content of a recipe; see the docstring of this file."""

    modules: list[Part] = Field(min_length=1, max_length=FOLDERS)
    vote: Vote = "margin"
    title: str | None = None
    description: str | None = None
    license: str | None = None
    calibration: Calibration | None = None
    domain: bool = True


def is_recipe(path: str | os.PathLike[str]) -> bool:
    """Return whether a path has the suffix of a recipe."""
    return Path(path).suffix in ENDINGS


def read_recipe(path: str | os.PathLike[str]) -> Recipe:
    """Read a recipe, without opening its folders.

    Raises:
        FormatError: the file is missing, too large or not YAML, or a field is unknown, missing or wrong.
    """
    return parse_recipe(read_text(path), quoted(path))


def parse_recipe(text: str, where: str) -> Recipe:
    """Parse the text of a recipe, with ``where`` for messages; raise FormatError if it is wrong."""
    data = parse_yaml(text, where)
    if not isinstance(data, dict):
        raise FormatError(f"{where}: found {_shown(data)}, expected keys and values, at least 'modules:'.")
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise FormatError(f"{where}: {_first(error)}") from None


def build_recipe(path: str | os.PathLike[str], progress: Progress = silent, beside: Beside = PLAIN) -> Composition:
    """Build the composition of a recipe. Its :meth:`~unbraid.Composition.save` stores the recipe.

    Args:
        path: path of the recipe.
        progress: factory of progress bars for calibration, see :mod:`unbraid.progress`.
        beside: further information about the folders.

    Raises:
        FormatError: the recipe, a folder or the sample cannot be read.
        IncompatibleModules: a label that a folder does not have, a repeated label, or modules of different inputs.
        DataError: a sample that does not fit.
    """
    text = read_text(path)
    recipe = parse_recipe(text, quoted(path))
    place = user_path(path).parent
    modules: dict[Label, ConcernModule] = {}
    calibrated: list[str] = []
    for number, part in enumerate(recipe.modules):
        with _Field(path, f"modules.{number}"):
            for label, module in _chosen(place, part, calibrated, beside).items():
                if label in modules:
                    raise IncompatibleModules(f"label {label!r} comes twice: rename one, as in {{new: old}}.")
                modules[label] = module
    with _Field(path, "modules"):
        composition = (
            Composition(modules, recipe.vote, domain=recipe.domain)
            if recipe.calibration
            else _plain(modules, recipe.vote, calibrated, recipe.domain)
        )
    if recipe.calibration is not None:
        with _Field(path, "calibration"):
            composition = _fair(composition, place, recipe.calibration, progress)
    composition.about = About(recipe.title, recipe.description, recipe.license, recipe=text)
    return composition


def compose_sources(
    sources: list[str],
    calibration: Calibration | None = None,
    progress: Progress = silent,
    beside: Beside = PLAIN,
    domain: bool = True,
) -> Composition | Translator:
    """Compose one recipe, or modules of several folders; see :func:`unbraid.cli.open_any.pick` for errors.

    Modules of languages are composed to a translator.

    Args:
        sources: a recipe, or folders.
        calibration: calibration for modules of folders; a recipe has its own.
        progress: factory of progress bars for calibration, see :mod:`unbraid.progress`.
        beside: further information about the folders.
        domain: whether modules of folders vote with domain evidence; a recipe has its own setting.
    """
    recipes = [source for source in sources if is_recipe(source)]
    if len(recipes) < len(sources) and recipes:
        raise FormatError(f"{recipes[0]} is a recipe, which lists all modules: pass it alone.")
    if recipes and calibration is not None:
        raise FormatError(f"{recipes[0]} is a recipe: name the sample in it, under 'calibration:'.")
    if recipes:
        composition = build_recipe(recipes[0], progress, beside)
        if not domain and composition.uses_domain:
            raise FormatError(f"{recipes[0]} is a recipe: write 'domain: false' in it instead of --no-domain.")
        return composition
    calibrated: list[str] = []
    modules = merged(sources, calibrated, beside)
    if not any(module.io is IOArchitecture.ENCODER_DECODER for module in modules.values()):
        if calibration is None:
            return _plain(modules, "margin", calibrated, domain)
        return _fair(Composition(modules, domain=domain), Path(), calibration, progress)
    if calibration is not None:
        raise IncompatibleModules("modules of languages do not vote, so a sample cannot calibrate them.")
    return Translator(modules)


def folders_of(sources: list[str]) -> list[str]:
    """List the folders that :func:`compose_sources` opens for sources; none for a recipe that cannot be read."""
    found = []
    for source in sources:
        if not is_recipe(source):
            found.append(split_source(source)[0])
            continue
        try:
            found += [str(user_path(source).parent / user_path(part.source)) for part in read_recipe(source).modules]
        except UnbraidError:  # build_recipe reports it
            continue
    return found


def _plain(modules: dict[Label, ConcernModule], vote: Vote, calibrated: list[str], domain: bool) -> Composition:
    """Compose without calibration, and warn about folders whose calibration is dropped."""
    warn(
        [
            f"the calibration of {folder}, and its referee if it has one, are dropped: name a sample"
            for folder in calibrated
        ]
    )
    return compose(modules, vote, domain=domain)


def _fair(composition: Composition, place: Path, wanted: Calibration, progress: Progress) -> Composition:
    """Calibrate the vote, and choose the threshold for unknown inputs, with the sample in the folder ``place``."""
    examples = read_examples(place / user_path(wanted.sample), wanted.x, wanted.y)
    y = examples.y_for(composition.labels, skip_others=True)  # examples of other classes get no label
    found = (composition.with_referee if wanted.referee else composition.with_calibration)(examples.x, y, progress)
    if wanted.unknown is None:
        return found
    check_unknown(wanted.unknown, composition.labels)
    names = np.asarray(examples.y_for([*composition.labels, wanted.unknown])).astype(str)
    known = np.isin(names, [str(label) for label in composition.labels])
    unknown = names == wanted.unknown
    if names.ndim != 1 or not known.any() or not unknown.any():
        raise DataError(
            f"unknown: the sample has {int(unknown.sum())} examples of {quoted(wanted.unknown, 40)!r} and "
            f"{int(known.sum())} of the classes, expected a few of both, by name."
        )
    return found.with_threshold(some_of(examples.x, known), some_of(examples.x, unknown))


def _chosen(place: Path, part: Part, calibrated: list[str], beside: Beside) -> dict[Label, ConcernModule]:
    folder = str(place / user_path(part.source))
    have = modules_in(folder, calibrated, beside)
    chosen = dict(have)
    if part.labels is not None:
        found = {new: find_label(list(have), old, folder) for new, old in part.labels.items()}
        chosen = {label if new == str(label) else new: have[label] for new, label in found.items()}
    return chosen if part.prefix is None else {f"{part.prefix}/{label}": one for label, one in chosen.items()}


@dataclasses.dataclass
class _Field:
    """Add the recipe and the field to errors of the block."""

    path: str | os.PathLike[str]
    name: str

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, UnbraidError):
            if isinstance(error, ModuleNeeded):
                raise error
            raise type(error)(f"{quoted(self.path)}: field {self.name}: {error}") from None


def _first(error: ValidationError) -> str:
    """Format the first error of pydantic as one line, with the most similar key for an unknown key."""
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")  # a misspelt key is also missing
    path = [str(part) for part in first["loc"] if not str(part).startswith("function-")]
    field = quoted(".".join(path), 80)
    found = _shown(first["input"])
    if first["type"] == "extra_forbidden":
        known = _keys(path[:-1])
        near = difflib.get_close_matches(path[-1][:80], known, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"field {field}: found an unknown key.{hint} Expected one of {', '.join(known)}."
    if first["type"] == "missing":
        return f"field {field}: found nothing, expected a value."
    problem = first["msg"].removeprefix("Value error, ").replace("Input should be ", "expected ")
    if " dictionary" in problem:
        problem = problem.split(" dictionary")[0] + " mapping of keys and values"
    return f"field {field}: found {found}; {problem}."


def _keys(path: list[str]) -> list[str]:
    inner: dict[str, type[_Entry]] = {"modules": Part, "calibration": Calibration}
    model = inner.get(path[0], Recipe) if path else Recipe
    return [field.alias or name for name, field in model.model_fields.items()]


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"{'a mapping' if isinstance(value, dict) else 'a list'} of {len(value)}"
    return "nothing" if value is None else repr(quoted(value, 60))

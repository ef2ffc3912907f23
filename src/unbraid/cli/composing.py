"""Commands that rearrange modules: ``compose``, ``replace``, ``drop``, ``add`` and ``fuse``.

Only ``fuse``, and ``compose`` with a sample, run networks. The others need no code of PyTorch modules.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unbraid.cli.options import AsJson, Data, Dtype, Modules, Out, Vocabularies, X, Y
from unbraid.cli.terminal import bar, emit, guarded, reading
from unbraid.cli.unused import refuse
from unbraid.errors import ConfigError, IncompatibleModules, UnbraidError

if TYPE_CHECKING:
    from unbraid.data.targets import Label
    from unbraid.modules.module import ConcernModule

Source = Annotated[str, typer.Argument(help="Folder of a composition, a decomposition or a translator.")]
NewModule = Annotated[str, typer.Argument(help="The new module: FOLDER:LABEL, or the folder of one module.")]


@guarded
@reading
def compose(
    sources: Annotated[list[str], typer.Argument(help="FOLDER, FOLDER:LABEL,NEW=LABEL, or one recipe.yaml.")],
    output: Out,
    sample: Annotated[
        Path | None,
        typer.Option(help="A data file with a few labelled examples of the later use, to calibrate the vote."),
    ] = None,
    referee: Annotated[
        bool, typer.Option("--referee", help="With --sample: fit a referee, for modules of different networks.")
    ] = False,
    unknown: Annotated[
        str | None, typer.Option(help="With --sample: label of inputs of no class in it, to choose their threshold.")
    ] = None,
    domain: Annotated[
        bool,
        typer.Option(
            "--domain/--no-domain",
            help="Modules of different networks vote with the stored evidence about the inputs of their networks.",
        ),
    ] = True,
    x: X = None,
    y: Y = None,
    module: Modules = None,
    vocabulary: Vocabularies = None,
    dtype: Dtype = "float32",
    as_json: AsJson = False,
) -> None:
    """Compose modules of one or several folders, directly or with a recipe.

    The calibration and the referee of a folder are dropped, because they belong to its own modules. Calibrate with
    --sample. Networks run only then, and PyTorch networks need --module.
    """
    from unbraid.cli.open_any import Beside, parse_vocabularies
    from unbraid.cli.own_code import own_modules
    from unbraid.cli.recipes import Calibration, compose_sources, folders_of
    from unbraid.storage.folders import bytes_on_disk
    from unbraid.storage.halving import check_stored
    from unbraid.translation.translator import Translator

    check_stored(dtype)
    if sample is None and (referee or x or y or unknown):
        raise UnbraidError("--referee, --unknown, --x and --y are options for a sample: set its file with --sample.")
    calibration = (
        None if sample is None else Calibration(sample=str(sample), x=x, y=y, referee=referee, unknown=unknown)
    )
    beside = Beside(
        own_modules(module or [], folders_of(sources)), vocabularies=parse_vocabularies(vocabulary or []), several=True
    )
    composition = compose_sources(sources, calibration, bar, beside, domain)
    if isinstance(composition, Translator):
        if dtype != "float32":
            raise ConfigError(f"dtype={dtype!r}: a translator is stored as 'float32'.")
        refuse({"--no-domain": not domain}, "is for modules that vote, and modules of languages do not: leave it out.")
        composition.save(output)
    else:
        composition.save(output, dtype=dtype)  # type: ignore[arg-type]  # it is checked there
    used = not isinstance(composition, Translator) and composition.uses_domain
    data = {"folder": str(output), "labels": composition.labels, "domain": used, "bytes_on_disk": bytes_on_disk(output)}
    how = "; they vote with the evidence about the inputs of their networks" if used else ""
    emit(as_json, data, f"{len(composition.labels)} modules in {output}{how}")


@guarded
@reading
def replace(
    source: Source,
    label: Annotated[str, typer.Argument(help="The module to replace.")],
    by: NewModule,
    output: Out,
    as_json: AsJson = False,
) -> None:
    """Replace one module by another, without retraining."""
    from unbraid.cli.open_any import find_label, open_any, open_classifier, pick
    from unbraid.translation.translator import Translator

    opened = open_any(source)
    new = pick(by)
    module = next(iter(new.values())) if len(new) == 1 else new[find_label(list(new), label, by)]
    if isinstance(opened, Translator):
        old: Label = label
        opened.replace(label, module).save(output)
    else:
        composition, _ = open_classifier(source)
        old = find_label(composition.labels, label, source)
        composition.replace(old, module).save(output)
    emit(as_json, {"folder": str(output), "replaced": old}, f"module {label} replaced; written to {output}")


@guarded
@reading
def drop(
    source: Source,
    label: Annotated[str, typer.Argument(help="The module to remove.")],
    output: Out,
    as_json: AsJson = False,
) -> None:
    """Remove one module, without retraining."""
    from unbraid.cli.open_any import find_label, open_any, open_classifier
    from unbraid.translation.translator import Translator

    opened = open_any(source)
    if isinstance(opened, Translator):
        old: Label = label
        smaller: Any = opened.drop(label)
    else:
        composition, _ = open_classifier(source)
        old = find_label(composition.labels, label, source)
        smaller = composition.drop(old)
    smaller.save(output)
    _emit_labels(as_json, output, {"dropped": old}, f"module {label} removed", smaller.labels)


@guarded
@reading
def add(source: Source, new: NewModule, output: Out, as_json: AsJson = False) -> None:
    """Add one module, without retraining; FOLDER:NEW=LABEL gives it another label."""
    from unbraid.cli.open_any import open_any, open_classifier
    from unbraid.translation.translator import Translator

    opened = open_any(source)
    label, module = _only(new)
    if isinstance(opened, Translator):
        larger: Any = opened.add(str(label), module)
    else:
        composition, _ = open_classifier(source)
        if str(label) in map(str, composition.labels):
            raise IncompatibleModules(
                f"{source} has a module {label!r} already: give another label, as in FOLDER:new={label}, or run "
                "'unbraid replace'."
            )
        larger = composition.add(module, label)
    larger.save(output)
    _emit_labels(as_json, output, {"added": label}, f"module {label} added", larger.labels)


@guarded
@reading
def fuse(
    source: Annotated[str, typer.Argument(help="Folder of a composition or a decomposition.")],
    data: Data,
    output: Out,
    keep: Annotated[
        float | None, typer.Option(help="Share of each parent's nodes to keep [default: by number of classes].")
    ] = None,
    x: X = None,
    module: Modules = None,
    vocabulary: Vocabularies = None,
    as_json: AsJson = False,
) -> None:
    """Build one compact network of all modules of a parent; needs inputs, but no labels."""
    from unbraid.cli import printing
    from unbraid.cli.open_any import Beside, open_classifier, parse_vocabularies
    from unbraid.cli.own_code import own_modules
    from unbraid.data.files import read_examples

    beside = Beside(own_modules(module or [], [source]), True, parse_vocabularies(vocabulary or []))
    composition, _ = open_classifier(source, beside)
    fused = composition.fuse(read_examples(data, x, need_labels=False).x, keep, progress=bar)
    fused.save(output)
    summary = printing.modules_summary(fused.modules_by_label)
    title = f"{len(fused.labels)} modules fused in {output}"
    emit(as_json, {"folder": str(output), **summary}, printing.modules_table(summary, title))


def _only(source: str) -> tuple[Label, ConcernModule]:
    """Return the module of ``FOLDER:LABEL``; raise IncompatibleModules for several modules."""
    from unbraid.cli.open_any import pick, split_source

    found = pick(source)
    if len(found) > 1:
        folder, _ = split_source(source)
        raise IncompatibleModules(f"{source} holds {len(found)} modules: name one, as {folder}:{next(iter(found))}.")
    return next(iter(found.items()))


def _emit_labels(as_json: bool, output: Path, data: dict[str, Any], text: str, labels: list[Label]) -> None:
    emit(as_json, {"folder": str(output), **data, "labels": labels}, f"{text}; {len(labels)} modules in {output}")

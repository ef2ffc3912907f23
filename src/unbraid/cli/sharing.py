"""Commands that share modules: ``push``, ``pull`` and ``export``; and ``demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from unbraid.cli.options import (
    AsJson,
    AsTask,
    KerasOutput,
    KerasWeights,
    Labels,
    Modules,
    Out,
    Vocabularies,
    X,
    read_labels,
)
from unbraid.cli.places import check_output
from unbraid.cli.terminal import bar, done, emit, guarded, reading
from unbraid.cli.unused import refuse
from unbraid.errors import UnbraidError

EXAMPLES = 8  # number of examples of a data file that export runs


@guarded
@reading
def push(
    folder: Annotated[Path, typer.Argument(help="A folder that Unbraid saved.")],
    repo: Annotated[str, typer.Argument(help="OWNER/NAME on the Hugging Face Hub; created if missing.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
) -> None:
    """Share a folder of modules on a hub; needs the extra [hub]."""
    from unbraid.storage import hub

    done(f"{folder} is at {hub.push(folder, repo, private=private)}")


@guarded
@reading
def pull(
    repo: Annotated[str, typer.Argument(help="OWNER/NAME on the Hugging Face Hub.")],
    output: Out,
    revision: Annotated[str | None, typer.Option(help="A branch, tag or commit.")] = None,
) -> None:
    """Download a folder of modules from a hub and check it; needs the extra [hub]."""
    from unbraid.storage import hub

    done(f"{repo} is in {hub.pull(repo, output, revision=revision, progress=bar)}")


@guarded
@reading
def export(
    source: Annotated[Path, typer.Argument(help="A model file, or a saved folder; of a decomposition all modules.")],
    output: Annotated[Path, typer.Option("--out", "-o", help="File to write; .keras for Keras, others for ONNX.")],
    example: Annotated[
        Path | None, typer.Option(help="A data file with a few inputs; needed for PyTorch networks.")
    ] = None,
    x: X = None,
    labels: Labels = None,
    module: Modules = None,
    vocabulary: Vocabularies = None,
    task: AsTask = None,
    keras_output: KerasOutput = None,
    weights: KerasWeights = None,
    as_json: AsJson = False,
) -> None:
    """Write a network, a module or a composition as an ONNX file (extra [onnx]) or as a .keras file.

    'unbraid predict FILE.onnx DATA' runs an ONNX file, without the code of the network. A .keras file has no labels.
    """
    from unbraid.cli.open_any import Beside, open_any, parse_vocabularies
    from unbraid.cli.own_code import own_modules
    from unbraid.cli.running import named
    from unbraid.data.files import read_examples, some_of
    from unbraid.decomposition.decomposition import Decomposition
    from unbraid.export.keras import export_keras
    from unbraid.export.onnx import export_onnx
    from unbraid.modules.compose import compose as compose_modules
    from unbraid.translation.translator import Translator

    check_output(output, source, example, weights)
    names = read_labels(labels)
    words = parse_vocabularies(vocabulary or [])
    beside = Beside(own_modules(module or [], [source]), True, words, names, task, keras_output, weights)
    opened = open_any(source, beside)
    if isinstance(opened, Translator):
        raise UnbraidError(f"{source} is a translator, which ONNX export does not support: expected modules of labels.")
    model = compose_modules(opened) if isinstance(opened, Decomposition) else opened
    if output.suffix == ".keras":
        refuse({"--example": example, "--x": x}, "is for ONNX files: leave it out.")
        export_keras(named(model, names), output)
    else:
        if example is None:
            refuse({"--x": x}, "is for the data file of --example: leave it out.")
        inputs = None if example is None else some_of(read_examples(example, x, need_labels=False).x, slice(EXAMPLES))
        export_onnx(named(model, names), output, inputs)
    data = {"file": str(output), "bytes": output.stat().st_size, "labels": model.labels}
    emit(as_json, data, f"{output}: {data['bytes']} bytes, {len(model.labels)} labels, the same answers as torch")


@guarded
def demo(
    output: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("unbraid-demo"),
    seed: Annotated[int, typer.Option(help="Seed of training and sampling.")] = 0,
    translation: Annotated[
        bool, typer.Option("--translation", help="A translator instead: add a language, repair one [translation].")
    ] = False,
) -> None:
    """Train a small LSTM on included data, decompose it, compose and replace modules: two minutes, offline."""
    from unbraid.demo.run import run_demo  # trains: only the demo needs it
    from unbraid.demo.run_translation import run_translation_demo

    (run_translation_demo if translation else run_demo)(output, seed, Console(soft_wrap=True))

"""The command line: the library's verbs. It parses, calls the API and prints."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from unbraid._version import __version__
from unbraid.cli import printing
from unbraid.cli.open_any import find_label, open_any, open_classifier, open_translator, pick
from unbraid.cli.recipes import Calibration, compose_sources
from unbraid.cli.shrinking import shrink
from unbraid.cli.terminal import emit, guarded, reading, show
from unbraid.config import DecompositionConfig, GateView, HeadKind, IOArchitecture, Mode, Words
from unbraid.data.files import read_examples, read_pair_columns
from unbraid.data.targets import Label
from unbraid.data.vocabulary import read_vocabulary
from unbraid.decomposition.decompose import decompose as run_decompose
from unbraid.decomposition.decomposition import Decomposition
from unbraid.errors import DataError, UnbraidError, printable
from unbraid.evaluation.evaluate import evaluate as run_evaluate
from unbraid.evaluation.tables import scores_table
from unbraid.export.onnx import export_onnx
from unbraid.modules.compose import compose as compose_modules
from unbraid.networks.keras.loss import Task
from unbraid.networks.network import Network
from unbraid.progress import bar
from unbraid.storage import hub
from unbraid.translation.pair_files import ready_for
from unbraid.translation.translator import Translator

app = typer.Typer(
    help="Take a trained recurrent network apart into modules, one per class; reuse and replace them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to write; replaced whole if Unbraid wrote it.")]
Data = Annotated[
    Path, typer.Argument(help="Examples: .npz with arrays x, y (and labels), or .csv/.jsonl with text and labels.")
]
AsTask = Annotated[
    Task | None,
    typer.Option("--task", help="Of a model file: classification, for outputs that are scores [default: by its loss]."),
]
X = Annotated[str | None, typer.Option("--x", help="Name of the inputs in the data file [default: x, text].")]
Y = Annotated[str | None, typer.Option("--y", help="Name of the labels in the data file [default: y, label].")]
PairX = Annotated[
    str | None, typer.Option("--x", help="Name of the inputs in the data file [default: x, text; of pairs source].")
]
PairY = Annotated[
    str | None, typer.Option("--y", help="Name of the labels in the data file [default: y, label; of pairs language].")
]


def _open_network(path: Path, labels: list[str] | None = None, task: Task | None = None) -> Network:
    opened = open_any(path, labels, task)
    if not isinstance(opened, Network):
        raise UnbraidError(f"{path} holds modules already, expected a trained .h5 or .keras model.")
    return opened


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def main(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False) -> None:
    """Take a trained recurrent network apart into modules, one per class; reuse and replace them."""


@app.command(epilog="Example: `unbraid inspect intent-lstm.h5`")
@guarded
@reading
def inspect(path: Annotated[Path, typer.Argument(help="A .h5 or .keras model, or a saved folder.")],
            task: AsTask = None, as_json: AsJson = False) -> None:  # fmt: skip
    """Describe a model file or a saved folder."""
    data = printing.description(open_any(path, task=task))
    emit(as_json, data, printing.description_text(data))


@app.command(
    epilog="Examples: `unbraid decompose intent-lstm.h5 train.npz -o parts --mode unrolled --head softmax`, "
    "`unbraid decompose nmt.h5 pairs.csv -o parts --vocabulary en.json --target-vocabulary words.json`"
)
@guarded
@reading
def decompose(
    model: Annotated[Path, typer.Argument(help="A trained .h5 or .keras model.")],
    data: Annotated[
        Path,
        typer.Argument(
            help="Examples: .npz with arrays x, y (and labels), or .csv/.jsonl with text and labels; "
            "of a translator sentence pairs: source, target and language."
        ),
    ],
    output: Out,
    mode: Annotated[Mode, typer.Option(help="One set of nodes for all timesteps, or one per timestep.")] = Mode.ROLLED,
    strategy: Annotated[
        str | None,
        typer.Option(help="How nodes are chosen [default: reconstruct; paper where a setting needs it]."),
    ] = None,
    gates: Annotated[GateView, typer.Option(help="Judge units by hidden state, or each gate.")] = GateView.HIDDEN,
    head: Annotated[
        HeadKind | None,
        typer.Option(help="softmax, fitted: modules usable alone; mean: the paper's vote [default: by strategy]."),
    ] = None,
    max_removed: Annotated[float | None, typer.Option(help="Cap on removed nodes, 0 to 1 [default: 0.2].")] = None,
    keep: Annotated[
        float | None, typer.Option(help="Share of the nodes to keep [default: 0.5 with reconstruct].")
    ] = None,
    max_loss: Annotated[float | None, typer.Option(help="With reconstruct: smallest modules within this loss.")] = None,
    refine: Annotated[
        int | None, typer.Option(help="With reconstruct: gradient steps from the parent's own answers [default: 0].")
    ] = None,
    samples_per_class: Annotated[int | None, typer.Option(help="Examples per class [default: 500].")] = None,
    padding_label: Annotated[int | None, typer.Option(help="A class that only marks padding.")] = None,
    vocabulary: Annotated[
        Path | None, typer.Option(help="word_index JSON of a Keras Tokenizer, or a tokenizer.json: text can be read.")
    ] = None,
    target_vocabulary: Annotated[
        Path | None,
        typer.Option(help="Of a translator: the same of what it says, with tags like \\[startfr] and \\[endfr]."),
    ] = None,
    words: Annotated[
        Words | None, typer.Option(help="Of a translator: output words a module keeps [default: all].")
    ] = None,
    release: Annotated[bool, typer.Option("--release", help="The settings of the authors' release.")] = False,
    seed: Annotated[int, typer.Option(help="Of the sampling.")] = 0,
    x: PairX = None,
    target: Annotated[
        str | None, typer.Option(help="Name of the targets in a file of pairs [default: target].")
    ] = None,
    y: PairY = None,
    task: AsTask = None,
    as_json: AsJson = False,
) -> None:
    """Take a trained network apart into one module per class, a translator into one per target language."""
    network = _open_network(model, task=task)
    own = None if vocabulary is None else read_vocabulary(vocabulary, network.spec.steps)
    if network.io is IOArchitecture.ENCODER_DECODER:
        said = None if target_vocabulary is None else read_vocabulary(target_vocabulary)
        columns = read_pair_columns(data, x, target, y)
        network, examples = ready_for(network.with_vocabulary(own, said), columns)
    else:
        if target is not None or target_vocabulary is not None or words is not None:
            raise UnbraidError(
                f"--target, --target-vocabulary and --words are of translators; {model} is {network.io}."
            )
        found = read_examples(data, x, y)
        network = _open_network(model, found.labels, task).with_vocabulary(own)
        examples = found.x, found.y_for(network.labels)
    given = {
        "strategy": strategy,
        "head": head,
        "max_removed": max_removed,
        "keep": keep,
        "max_loss": max_loss,
        "refine": refine,
        "samples_per_class": samples_per_class,
        "padding_label": padding_label,
        "words": words,
    }
    settings = {k: v for k, v in given.items() if v is not None}
    make = DecompositionConfig.release if release else DecompositionConfig.of
    config = make(mode=mode, gates=gates, seed=seed, **settings)
    parts = run_decompose(network, examples, config=config, progress=bar)
    parts.save(output)
    summary = printing.modules_summary(parts)
    emit(
        as_json,
        {"folder": str(output), **summary},
        printing.modules_table(summary, f"{len(parts)} modules in {output}"),
    )


@app.command(
    epilog="Examples: `unbraid compose parts:travel,home other:money=banking -o faq --sample few.csv --referee`, "
    "`unbraid compose faq.yaml -o faq`"
)
@guarded
@reading
def compose(
    sources: Annotated[list[str], typer.Argument(help="FOLDER, FOLDER:LABEL,NEW=LABEL, or one recipe.yaml.")],
    output: Out,
    sample: Annotated[
        Path | None, typer.Option(help="A data file with a few labelled examples as they come in use: a fair vote.")
    ] = None,
    referee: Annotated[
        bool, typer.Option("--referee", help="With --sample: for modules of different networks, once per example.")
    ] = False,
    x: X = None,
    y: Y = None,
    as_json: AsJson = False,
) -> None:
    """Put modules of one or several folders together, or as a recipe says.

    What a folder's vote was calibrated with, and its referee, stay behind: they knew its own modules. Name a sample.
    """
    if sample is None and (referee or x or y):
        raise UnbraidError("--referee, --x and --y speak of a sample: name its file with --sample.")
    calibration = None if sample is None else Calibration(sample=str(sample), x=x, y=y, referee=referee)
    composition = compose_sources(sources, calibration, bar)
    composition.save(output)
    emit(
        as_json, {"folder": str(output), "labels": composition.labels}, f"{len(composition.labels)} modules in {output}"
    )


@app.command(epilog="Example: `unbraid replace faq travel better:travel -o fixed`")
@guarded
@reading
def replace(
    source: Annotated[str, typer.Argument(help="A composition's or decomposition's folder.")],
    label: Annotated[str, typer.Argument(help="The module to exchange.")],
    by: Annotated[str, typer.Argument(help="The new one: FOLDER:LABEL, or the folder of one module.")],
    output: Out,
    as_json: AsJson = False,
) -> None:
    """Exchange one module for another, without retraining."""
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


@app.command(epilog="Example: `unbraid fuse faq questions.npz -o faq-fused --keep 0.4`")
@guarded
@reading
def fuse(
    source: Annotated[str, typer.Argument(help="A composition's or decomposition's folder.")],
    data: Data,
    output: Out,
    keep: Annotated[
        float | None, typer.Option(help="Share of each parent's nodes [default: grows with the classes in use].")
    ] = None,
    x: X = None,
    as_json: AsJson = False,
) -> None:
    """Make one compact network of all modules of a parent; needs inputs, no labels."""
    composition, _ = open_classifier(source)
    fused = composition.fuse(read_examples(data, x, need_labels=False).x, keep, progress=bar)
    fused.save(output)
    summary = printing.modules_summary(fused.modules_by_label)
    title = f"{len(fused.labels)} modules fused in {output}"
    emit(as_json, {"folder": str(output), **summary}, printing.modules_table(summary, title))


@app.command(epilog="Example: `unbraid evaluate parts test.npz --json`")
@guarded
@reading
def evaluate(
    source: Annotated[Path, typer.Argument(help="A folder of modules.")],
    data: Data,
    against: Annotated[Path | None, typer.Option(help="Model to compare with [default: the modules' own].")] = None,
    x: X = None,
    y: Y = None,
    task: AsTask = None,
    as_json: AsJson = False,
) -> None:
    """Measure a composition and each of its modules."""
    composition, network = open_classifier(source)
    examples = read_examples(data, x, y)
    if against is not None:
        opened = open_any(against, examples.labels, task)
        if not isinstance(opened, Network):
            raise UnbraidError(f"--against {against}: expected a .h5 or .keras model.")
        network = opened
    classes = composition.labels if network is None else network.labels
    result = run_evaluate(composition, (examples.x, examples.y_for(classes)), against=network)
    if as_json:
        return print(json.dumps(result.to_dict()))
    show(str(result))
    show(scores_table(result))


@app.command(epilog="Example: `unbraid predict faq questions.npz > labels.txt`")
@guarded
@reading
def predict(
    source: Annotated[Path, typer.Argument(help="A model file, or a folder of modules.")],
    data: Data,
    x: X = None,
    task: AsTask = None,
    as_json: AsJson = False,
) -> None:
    """Label examples: one line each (with many outputs, tab-separated)."""
    opened = open_any(source, task=task)
    model = opened if isinstance(opened, Network) else open_classifier(source)[0]
    examples = read_examples(data, x, need_labels=False)
    probabilities = model.predict_proba(examples.x)
    labels = model.predict(examples.x)
    if as_json:
        print(
            json.dumps({"labels": model.labels, "predicted": labels.tolist(), "probabilities": probabilities.tolist()})
        )
        return
    for row in np.atleast_2d(labels.T).T:
        print("\t".join(printable(str(label)) for label in row))


@app.command(epilog="Example: `unbraid translate translator --to fr < lines.txt`")
@guarded
@reading
def translate(
    source: Annotated[Path, typer.Argument(help="A translator's folder, or one of languages' modules.")],
    to: Annotated[str, typer.Option(help="The language to translate into.")],
    beam: Annotated[int, typer.Option(help="Hypotheses a sentence; 1 takes the likeliest word at each step.")] = 1,
    longest: Annotated[int | None, typer.Option(help="Most words of a translation [default: 50].")] = None,
    as_json: AsJson = False,
) -> None:
    """Translate the lines of standard input: one line each."""
    try:
        lines = sys.stdin.read().splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"standard input is not text in {error.encoding}: convert it first.") from None
    said = open_translator(source).translate(lines, to, beam=beam, longest=longest)
    print(json.dumps({"to": to, "translations": said}) if as_json else "\n".join(map(printable, said)))


@app.command(epilog="Example: `unbraid push faq owner/faq`")
@guarded
@reading
def push(
    folder: Annotated[Path, typer.Argument(help="A folder that Unbraid saved.")],
    repo: Annotated[str, typer.Argument(help="OWNER/NAME on the Hugging Face Hub; made if it is not there.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
) -> None:
    """Share a folder of modules on a hub; needs the extra [hub]."""
    show(f"{folder} is at {hub.push(folder, repo, private=private)}")


@app.command(epilog="Example: `unbraid pull owner/faq -o faq`")
@guarded
@reading
def pull(
    repo: Annotated[str, typer.Argument(help="OWNER/NAME on the Hugging Face Hub.")],
    output: Out,
    revision: Annotated[str | None, typer.Option(help="A branch, tag or commit.")] = None,
) -> None:
    """Fetch a folder of modules from a hub, checked before it is put in place; needs the extra [hub]."""
    show(f"{repo} is in {hub.pull(repo, output, revision=revision, progress=bar)}")


@app.command(epilog="Example: `unbraid export parts -o parts.onnx`")
@guarded
@reading
def export(
    source: Annotated[Path, typer.Argument(help="A model file, or a saved folder; of a decomposition all modules.")],
    output: Annotated[Path, typer.Option("--out", "-o", help="ONNX file to write.")],
    task: AsTask = None,
    as_json: AsJson = False,
) -> None:
    """Write a network, a module or a composition as an ONNX file, checked against torch; needs the extra [onnx]."""
    opened = open_any(source, task=task)
    if isinstance(opened, Translator):
        raise UnbraidError(f"{source} is a translator, which ONNX export does not know: expected labels' modules.")
    model = compose_modules(opened) if isinstance(opened, Decomposition) else opened
    export_onnx(model, output)
    data = {"file": str(output), "bytes": output.stat().st_size, "labels": model.labels}
    emit(as_json, data, f"{output}: {data['bytes']} bytes, {len(model.labels)} labels, the same answers as torch")


@app.command(epilog="Example: `unbraid demo --out /tmp/demo`")
@guarded
def demo(
    output: Annotated[Path, typer.Option("--out", "-o", help="Where the results go.")] = Path("unbraid-demo"),
    seed: Annotated[int, typer.Option(help="Of training and sampling.")] = 0,
    translation: Annotated[
        bool, typer.Option("--translation", help="A translator instead: add a language, repair one [translation].")
    ] = False,
) -> None:
    """Train a small LSTM on embedded data, take it apart, compose, replace a module: under two minutes, no network."""
    from unbraid.demo.run import run_demo  # trains: only the demo needs it
    from unbraid.demo.run_translation import run_translation_demo

    (run_translation_demo if translation else run_demo)(output, seed, Console(soft_wrap=True))


app.command(epilog="Example: `unbraid shrink intent-lstm.h5 questions.npz -o small.onnx --max-loss 0.01`")(
    guarded(reading(shrink))
)


if __name__ == "__main__":
    sys.exit(app())

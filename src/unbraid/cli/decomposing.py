"""``unbraid decompose``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from unbraid.cli.flags import CODE
from unbraid.cli.options import AsJson, AsTask, Dtype, KerasOutput, KerasWeights, Labels, Out, read_labels
from unbraid.cli.terminal import bar, emit, guarded, notice, reading
from unbraid.cli.unused import refuse
from unbraid.config import DecompositionConfig, GateView, HeadKind, IOArchitecture, LayerChoice, Mode, Words
from unbraid.errors import ConfigError, UnbraidError

if TYPE_CHECKING:
    from unbraid.cli.open_any import Beside
    from unbraid.decomposition.decomposition import Decomposition
    from unbraid.networks.network import Network

CHECKED = 100  # examples on which half precision is compared

PairX = Annotated[
    str | None, typer.Option("--x", help="Name of the inputs in the data file [default: x, text; of pairs source].")
]
PairY = Annotated[
    str | None, typer.Option("--y", help="Name of the labels in the data file [default: y, label; of pairs language].")
]


@guarded
@reading
def decompose(
    model: Annotated[
        Path, typer.Argument(help="A trained .h5 or .keras model, or with --module a .pt state dict of PyTorch.")
    ],
    data: Annotated[
        Path,
        typer.Argument(
            help="Examples: .npz with arrays x, y (and labels), or .csv/.jsonl/.parquet with text and labels; "
            "of a translator sentence pairs: source, target and language."
        ),
    ],
    output: Out,
    mode: Annotated[Mode, typer.Option(help="One set of nodes for all timesteps, or one per timestep.")] = Mode.ROLLED,
    strategy: Annotated[
        str | None,
        typer.Option(help="Method to choose nodes [default: reconstruct; paper if a setting needs it]."),
    ] = None,
    gates: Annotated[GateView, typer.Option(help="Compare units by hidden state, or each gate.")] = GateView.HIDDEN,
    head: Annotated[
        HeadKind | None,
        typer.Option(help="softmax, fitted: modules usable alone; mean: as in the paper [default: by strategy]."),
    ] = None,
    max_removed: Annotated[float | None, typer.Option(help="Cap on removed nodes, 0 to 1 [default: 0.2].")] = None,
    keep: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE[,SHARE...]",
            help="Share of the nodes to keep [default: 0.5 with reconstruct]. Of several, as 0.5,0.3,0.15, a table "
            "compares the accuracy. Each is saved, as OUT-0.5, or with --max-loss the smallest within it.",
        ),
    ] = None,
    layers: Annotated[
        LayerChoice | None,
        typer.Option(help="Layers to prune: recurrent ones, or all hidden layers [default: by strategy]."),
    ] = None,
    max_loss: Annotated[
        float | None,
        typer.Option(help="Smallest modules with at most this loss: of those of --keep, or with reconstruct of all."),
    ] = None,
    refine: Annotated[
        int | None, typer.Option(help="With reconstruct: number of distillation steps [default: 0].")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="With reconstruct: memory for observations, as 2GB [default: 1/4 of the free].")
    ] = None,
    samples_per_class: Annotated[int | None, typer.Option(help="Examples per class [default: 500].")] = None,
    padding_label: Annotated[
        list[int] | None, typer.Option(help="Index of a class that only marks padding; may be repeated.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Labels of the classes that get a module, for example a,b [default: all].")
    ] = None,
    missing: Annotated[
        str | None, typer.Option(help="Classes with fewer than 2 examples: skip or error [default: skip].")
    ] = None,
    labels: Labels = None,
    vocabulary: Annotated[
        Path | None,
        typer.Option(help="Keras Tokenizer JSON, word_index JSON or tokenizer.json; needed for text."),
    ] = None,
    target_vocabulary: Annotated[
        Path | None,
        typer.Option(help="Of a translator: the same for the target words, with tags like \\[startfr] and \\[endfr]."),
    ] = None,
    words: Annotated[
        Words | None, typer.Option(help="Words that modules keep; own: those in the examples [default: all].")
    ] = None,
    module: Annotated[
        list[str] | None,
        typer.Option(
            "--module", metavar="PLACE:FACTORY", help=f"Code of a PyTorch state dict: package.file:Factory or {CODE}."
        ),
    ] = None,
    init: Annotated[
        str | None, typer.Option(help="With --module: arguments of the class as a JSON object; stored in the folder.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="With --module: a name for the network; stored in the folder.")
    ] = None,
    output_layer: Annotated[
        str | None, typer.Option(help="With --module: path of the output nn.Linear [default: searched automatically].")
    ] = None,
    activation: Annotated[
        Literal["softmax", "sigmoid"] | None,
        typer.Option(
            help="With --module: softmax for classes, sigmoid for independent labels [default: by the result]."
        ),
    ] = None,
    concern: Annotated[
        Literal["column", "output"] | None,
        typer.Option(help="Of numbers: a body for each column, or one for the whole output [default: column]."),
    ] = None,
    bins: Annotated[
        int | None, typer.Option(help="Of one number: make this many classes of its targets, by quantiles.")
    ] = None,
    sample_weight: Annotated[
        str | None, typer.Option(help="Of numbers: name of the weights of the examples in the data file.")
    ] = None,
    domain: Annotated[
        bool,
        typer.Option(
            "--domain/--no-domain",
            help="Store word counts and statistics of the inputs, to vote between networks and reject unknown inputs.",
        ),
    ] = True,
    jobs: Annotated[int, typer.Option(help="With reconstruct: number of processes; -1 for one a core.")] = 1,
    dtype: Dtype = "float32",
    release: Annotated[bool, typer.Option("--release", help="The settings of the authors' release.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    x: PairX = None,
    target: Annotated[
        str | None, typer.Option(help="Name of the targets in a file of pairs [default: target].")
    ] = None,
    y: PairY = None,
    task: AsTask = None,
    keras_output: KerasOutput = None,
    weights: KerasWeights = None,
    as_json: AsJson = False,
) -> None:
    """Decompose a trained network into one module per class or predicted number; a translator into one per language.

    Networks that predict numbers need no labels.
    """
    from unbraid.cli import printing
    from unbraid.cli.open_any import Beside
    from unbraid.cli.own_code import own_modules, read_init
    from unbraid.cli.sizes import check_choice, parse_keep, save_sizes
    from unbraid.cli.torch_file import torch_network
    from unbraid.cli.vocabularies import shown_vocabulary
    from unbraid.data.files import read_examples, read_pair_columns, read_weight_column, some_of
    from unbraid.decomposition.decompose import decompose as run_decompose
    from unbraid.decomposition.size_table import decompose_sizes
    from unbraid.storage.folders import bytes_on_disk
    from unbraid.storage.halving import check_stored, half_precision_change
    from unbraid.translation.pair_files import ready_for

    check_stored(dtype)
    shares = parse_keep(keep)
    sizes = check_choice(shares, max_loss, output)
    names, found = read_labels(labels), None
    beside = Beside(labels=names, task=task, output=keras_output, weights=weights)
    if module:
        if keras_output is not None or weights is not None:
            raise ConfigError("--output and --weights are for Keras models, not for code given with --module.")
        found = read_examples(data, x, y, need_labels=task != "regression")
        own = None if vocabulary is None else shown_vocabulary(vocabulary)
        network = torch_network(
            model, own_modules(module, []), found.x, names or found.labels, own, name, read_init(init), output_layer,
            activation, task,
        )  # fmt: skip
    else:
        _need_module({"--init": init, "--name": name, "--output-layer": output_layer, "--activation": activation})
        network = _open_network(model, beside)
        own = None if vocabulary is None else shown_vocabulary(vocabulary, network.spec.steps)
    if network.io is IOArchitecture.ENCODER_DECODER:
        refuse({"--task": task}, "is for classes and numbers, and a translator predicts words: leave it out.")
        target_words = None if target_vocabulary is None else shown_vocabulary(target_vocabulary)
        columns = read_pair_columns(data, x, target, y)
        network, pairs = ready_for(network.with_vocabulary(own, target_words), columns)
        examples: tuple[Any, Any] = pairs
    else:
        if target is not None or target_vocabulary is not None:
            raise ConfigError(f"--target and --target-vocabulary are options for translators; {model} is {network.io}.")
        found = found or read_examples(data, x, y, need_labels=network.task != "regression" or bins is not None)
        if not module:
            network = _open_network(model, replace(beside, labels=names or found.labels))
            network = network if own is None else network.with_vocabulary(own)
        numbers = network.task == "regression"
        read_targets = y is not None or bins is not None  # without them, a column of another kind may be called y
        examples = found.x, (found.y if read_targets else None) if numbers else found.y_for(network.labels)
    given = {
        "strategy": strategy,
        "head": head,
        "max_removed": max_removed,
        "keep": None if sizes else shares,
        "layers": layers,
        "max_loss": None if sizes else max_loss,
        "refine": refine,
        "memory": memory,
        "samples_per_class": samples_per_class,
        "padding_label": padding_label or None,
        "classes": None if classes is None else classes.split(","),
        "missing": missing,
        "words": words,
        "concern": concern,
        "bins": bins,
    }
    settings: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
    make = DecompositionConfig.release if release else DecompositionConfig.of
    config = make(mode=mode, gates=gates, seed=seed, **settings)
    weight = None if sample_weight is None else read_weight_column(data, x, sample_weight)

    def save(parts: Decomposition, folder: Path) -> dict[str, Any]:
        parts.save(folder, dtype=dtype)  # type: ignore[arg-type]  # it is checked there
        summary = printing.modules_summary(parts) | {"bytes_on_disk": bytes_on_disk(folder)}
        if dtype == "float16" and found is not None:
            summary["half_precision_change"] = half_precision_change(parts, some_of(found.x, slice(CHECKED)))
            notice(
                f"margins change by up to {summary['half_precision_change']:.2g}, on at most {CHECKED} examples",
                "float16",
            )
        return {"folder": str(folder), **summary, "skipped": parts.skipped}

    if sizes:
        table = decompose_sizes(
            network, examples, sizes, config=config, sample_weight=weight, domain=domain, jobs=jobs, progress=bar
        )
        return save_sizes(table, output, max_loss, save, as_json)
    parts = run_decompose(
        network, examples, config=config, sample_weight=weight, domain=domain, jobs=jobs, progress=bar
    )
    summary = save(parts, output)
    emit(as_json, summary, printing.modules_table(summary, f"{len(parts)} modules in {output}"))


def _need_module(given: dict[str, object]) -> None:
    wrong = [option for option, value in given.items() if value is not None]
    if wrong:
        raise ConfigError(f"{wrong[0]} is for PyTorch state dicts: give their code with --module {CODE}.")


def _open_network(path: Path, beside: Beside) -> Network:
    from unbraid.cli.open_any import open_any
    from unbraid.networks.network import Network

    opened = open_any(path, beside)
    if not isinstance(opened, Network):
        raise UnbraidError(f"{path} already holds modules, expected a trained .h5 or .keras model.")
    return opened

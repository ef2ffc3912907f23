"""``unbraid shrink``: a smaller network of a model file, without labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from unbraid.cli.options import KerasOutput, KerasWeights
from unbraid.cli.places import check_output
from unbraid.cli.terminal import bar, emit, guarded, reading
from unbraid.config import LayerChoice
from unbraid.errors import UnbraidError
from unbraid.networks.outputs import GivenTask


@guarded
@reading
def shrink(
    model: Annotated[Path, typer.Argument(help="A trained .h5 or .keras model.")],
    data: Annotated[
        Path, typer.Argument(help="Inputs: .npz with an array x, or .csv/.jsonl with text; labels are not read.")
    ],
    output: Annotated[Path, typer.Option("--out", "-o", help="File to write, ending in .onnx or .keras.")],
    keep: Annotated[float | None, typer.Option(help="Share of the hidden units to keep [default: 0.3].")] = None,
    max_loss: Annotated[
        float | None,
        typer.Option(
            help="Instead of --keep: find the smallest size that changes at most this share of decisions, or of the "
            "variance of numbers."
        ),
    ] = None,
    refine: Annotated[int, typer.Option(help="Gradient steps towards the scores of the model.")] = 0,
    layers: Annotated[
        LayerChoice, typer.Option(help="Layers that lose units: recurrent ones, or all hidden layers.")
    ] = LayerChoice.ALL,
    vocabulary: Annotated[
        Path | None, typer.Option(help="word_index JSON of a Keras Tokenizer, or a tokenizer.json: text can be read.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the choice of examples.")] = 0,
    x: Annotated[
        str | None, typer.Option("--x", help="Name of the inputs in the data file [default: x, text].")
    ] = None,
    task: Annotated[
        GivenTask | None,
        typer.Option("--task", help="classification, for outputs that are scores [default: by the loss of the file]."),
    ] = None,
    keras_output: KerasOutput = None,
    weights: KerasWeights = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Write a smaller network with the same inputs and outputs as an ONNX file (extra [onnx]) or a .keras file."""
    from unbraid.cli.open_any import Beside, open_any
    from unbraid.cli.vocabularies import shown_vocabulary
    from unbraid.data.files import read_examples
    from unbraid.decomposition.shrinking.networks import change
    from unbraid.decomposition.shrinking.shrink import shrink as run_shrink
    from unbraid.export.keras import export_keras
    from unbraid.export.onnx import export_onnx
    from unbraid.networks.network import Network

    writers: dict[str, Callable[[Network, Path], None]] = {".onnx": export_onnx, ".keras": export_keras}
    if output.suffix not in writers:
        raise UnbraidError(f"--out {output}: expected a name that ends in .onnx or .keras.")
    check_output(output, model, data, vocabulary, weights)
    network = open_any(model, Beside(task=task, output=keras_output, weights=weights))
    if not isinstance(network, Network):
        raise UnbraidError(f"{model} already holds modules, expected a trained .h5 or .keras model.")
    if vocabulary is not None:
        network.with_vocabulary(shown_vocabulary(vocabulary, network.spec.steps))
    inputs = read_examples(data, x, need_labels=False).x
    small = run_shrink(
        network, inputs, keep, max_loss=max_loss, refine=refine, layers=layers.value, seed=seed, progress=bar
    )
    assert isinstance(small, Network)
    writers[output.suffix](small, output)
    counts = {name: (layer.units, small.layers[name].units) for name, layer in network.layers.items()}
    counts = {n: pair for n, pair in counts.items() if n in network.recurrent_layers() or pair[1] < pair[0]}
    units = [{name: pair[side] for name, pair in counts.items()} for side in (0, 1)]
    changed = change(network, small, network.check(inputs))
    numbers = network.task == "regression"
    found = {
        "file": str(output),
        "bytes": output.stat().st_size,
        "units": units[0],
        "kept_units": units[1],
        **({"squared_change": changed} if numbers else {"same_decisions": 1 - changed}),
    }
    sizes = ", ".join(f"{name} {units[0][name]} to {units[1][name]}" for name in units[0])
    effect = (
        f"the numbers change by {changed:.3g} of their variance"
        if numbers
        else f"{1 - changed:.1%} of the decisions are equal"
    )
    emit(as_json, found, f"{output}: {found['bytes']} bytes, hidden units {sizes}; {effect}")

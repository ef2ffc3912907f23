"""Commands that describe and run models: ``inspect``, ``evaluate``, ``predict`` and ``translate``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unbraid.cli.options import (
    AsJson,
    AsTask,
    Data,
    KerasOutput,
    KerasWeights,
    Labels,
    Modules,
    Transitions,
    Vocabularies,
    X,
    Y,
    read_labels,
    read_transitions,
)
from unbraid.cli.terminal import emit, guarded, out, reading, show
from unbraid.cli.unused import refuse
from unbraid.errors import ConfigError, DataError, UnbraidError, printable, quoted
from unbraid.networks.outputs import GivenTask

if TYPE_CHECKING:
    from unbraid.cli.answers import Answers, Numbers, Paths
    from unbraid.cli.open_any import Beside
    from unbraid.data.files import Examples
    from unbraid.data.targets import Label
    from unbraid.evaluation.evaluate import Evaluation, RegressionEvaluation
    from unbraid.export.onnx_model import OnnxModel
    from unbraid.modules.composition import Composition
    from unbraid.networks.network import Network


@dataclass(frozen=True)
class Trial:
    """Examples to evaluate folders on.

    Attributes:
        examples: what the data file holds.
        names: names for classes that are numbers; None keeps them.
        against: path of the model to compare with; None for the own network of the modules.
        task: task of that model.
    """

    examples: Examples
    names: list[str] | None
    against: Path | None
    task: GivenTask | None

    def evaluate(
        self, source: Path, beside: Beside, intervals: float | None, seed: int = 0, **decisions: Any
    ) -> Evaluation | RegressionEvaluation:
        """Open a folder and evaluate its modules.

        Args:
            source: the folder.
            beside: further information about it.
            intervals: level of intervals, see :func:`unbraid.evaluate`.
            seed: seed of the intervals.
            decisions: settings of :func:`unbraid.evaluate` that change the decisions: ``unknown``, ``viterbi``,
                ``transitions``, ``start``, ``end``, and ``allowed`` as a list of labels.

        Raises:
            UnbraidError: the folder cannot be opened or does not fit the examples.
        """
        from unbraid.cli.answers import allowed_mask
        from unbraid.cli.open_any import Beside, open_any, open_classifier
        from unbraid.data.targets import written_label
        from unbraid.evaluation.evaluate import evaluate as run_evaluate
        from unbraid.networks.network import Network

        composition, network = open_classifier(source, beside)
        if self.against is not None:
            labels = self.names or self.examples.labels
            other = Beside(
                vocabularies=beside.vocabularies, labels=labels, task=self.task, output=beside.output,
                weights=beside.weights,
            )  # fmt: skip
            opened = open_any(self.against, other)
            if not isinstance(opened, Network):
                raise UnbraidError(f"--against {quoted(self.against)}: expected a .h5 or .keras model.")
            network = opened
        composition, network = named(composition, self.names), named(network, self.names)
        classes = composition.labels if network is None else network.labels
        examples = replace(self.examples, labels=self.examples.labels or self.names)  # names of numbers in the file
        y = examples.y if composition.task == "regression" else examples.y_for(classes)
        if (unknown := decisions.get("unknown")) is not None:
            decisions["unknown"] = written_label(unknown, composition.labels)
        if (few := decisions.get("allowed")) is not None:
            decisions["allowed"] = allowed_mask(few, composition.labels)
        return run_evaluate(
            composition, (self.examples.x, y), against=network, intervals=intervals, seed=seed, **decisions
        )


@guarded
@reading
def inspect(
    path: Annotated[Path, typer.Argument(help="A .h5 or .keras model, or a saved folder.")],
    labels: Labels = None,
    task: AsTask = None,
    output: KerasOutput = None,
    weights: KerasWeights = None,
    as_json: AsJson = False,
) -> None:
    """Describe a model file or a saved folder.

    All layers are listed, except those that change nothing in a prediction and are not stored, such as Dropout.
    """
    from unbraid.cli import printing
    from unbraid.cli.open_any import Beside, open_any
    from unbraid.networks.network import Network
    from unbraid.storage.folders import bytes_on_disk

    opened = open_any(path, Beside(labels=read_labels(labels), task=task, output=output, weights=weights))
    if labels is not None and not isinstance(opened, Network):
        raise ConfigError(f"--labels is for model files; {path} stores its labels.")
    data = printing.description(opened)
    if not isinstance(opened, Network):
        data["bytes_on_disk"] = bytes_on_disk(path)
    emit(as_json, data, printing.description_text(data), result=True)


@guarded
@reading
def evaluate(
    source: Annotated[Path, typer.Argument(help="A folder of modules.")],
    data: Data,
    against: Annotated[Path | None, typer.Option(help="Model to compare with [default: their own network].")] = None,
    x: X = None,
    y: Y = None,
    labels: Labels = None,
    module: Modules = None,
    vocabulary: Vocabularies = None,
    task: AsTask = None,
    keras_output: KerasOutput = None,
    weights: KerasWeights = None,
    intervals: Annotated[
        float | None, typer.Option(help="Level of intervals of the scores by bootstrap over examples, such as 0.95.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    unknown: Annotated[
        str | None, typer.Option(help="Label in the data of inputs of no class: score how well they are rejected.")
    ] = None,
    allowed: Annotated[
        str | None, typer.Option(help="Labels that may be predicted, for example a,b [default: all].")
    ] = None,
    viterbi: Annotated[
        bool, typer.Option("--viterbi", help="Of taggers with a CRF: decide by the best sequence of labels.")
    ] = False,
    transitions: Transitions = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a composition and each of its modules.

    --labels sets names for classes that are numbers, in the folder, in the file of --against and in DATA. --task and
    --weights belong to the file of --against.
    """
    from unbraid.cli.open_any import Beside, parse_vocabularies
    from unbraid.cli.own_code import own_modules
    from unbraid.data.files import read_examples
    from unbraid.evaluation.tables import scores_table

    if viterbi and (allowed is not None or unknown is not None):
        raise ConfigError("--viterbi gives whole sequences: leave out --allowed and --unknown.")
    if against is None:
        refuse({"--task": task, "--weights": weights}, "is for the model of --against: leave it out.")
    words = parse_vocabularies(vocabulary or [])
    beside = Beside(
        own_modules(module or [], [source]), True, words, output=keras_output, weights=weights,
        several=against is not None,
    )  # fmt: skip
    test = Trial(read_examples(data, x, y), read_labels(labels), against, task)
    few, scores = None if allowed is None else allowed.split(","), read_transitions(transitions, viterbi)
    result = test.evaluate(source, beside, intervals, seed, unknown=unknown, allowed=few, viterbi=viterbi, **scores)
    if as_json:
        return print(json.dumps(result.to_dict()))
    show(str(result))
    show(scores_table(result, out.width))


@guarded
@reading
def predict(
    source: Annotated[Path, typer.Argument(help="A model file, a folder of modules, or an exported .onnx file.")],
    data: Annotated[
        str,
        typer.Argument(help="Inputs: .npz with an array x, or .csv/.jsonl with text; - reads texts, one a line."),
    ],
    x: X = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Print the probability after each label.")
    ] = False,
    threshold: Annotated[
        float | None, typer.Option(help="Print an empty label if the probability is lower, 0 to 1.")
    ] = None,
    unknown: Annotated[
        str | None, typer.Option(help="Of modules: print this label for inputs that are not typical of the network.")
    ] = None,
    typicality: Annotated[
        float | None,
        typer.Option(help="With --unknown: typicality below which an input is unknown, 0 to 1 [default: the stored]."),
    ] = None,
    labels: Labels = None,
    module: Modules = None,
    vocabulary: Vocabularies = None,
    task: AsTask = None,
    keras_output: KerasOutput = None,
    weights: KerasWeights = None,
    allowed: Annotated[
        str | None, typer.Option(help="Labels that may be predicted, for example a,b [default: all].")
    ] = None,
    viterbi: Annotated[
        bool, typer.Option("--viterbi", help="Of taggers with a CRF: the best sequence of labels of each example.")
    ] = False,
    transitions: Transitions = None,
    as_json: AsJson = False,
) -> None:
    """Predict the labels or the numbers of examples: one line each (several outputs are tab-separated).

    An .onnx file runs with ONNX Runtime. It stores its labels and its vocabulary; no code is needed.
    """
    from unbraid.cli.answers import answers, paths, read_lines, rejecting_answers
    from unbraid.data.files import read_examples
    from unbraid.data.targets import written_label

    if viterbi and (allowed is not None or threshold is not None or probabilities):
        raise ConfigError("--viterbi gives whole sequences: leave out --allowed, --threshold and --probabilities.")
    names, scores = read_labels(labels), read_transitions(transitions, viterbi)
    model = _model(source, names, module or [], vocabulary or [], task, keras_output, weights)
    inputs = read_lines() if data == "-" else read_examples(data, x, need_labels=False).x
    if data == "-" and not inputs:
        raise DataError("standard input is empty: expected texts, one a line.")
    if typicality is not None and unknown is None:
        raise ConfigError(f"--typicality {typicality} needs a label for unknown inputs: add --unknown LABEL.")
    if unknown is not None and (allowed or viterbi):
        raise ConfigError("--unknown does not go with --allowed and --viterbi: leave one of them out.")
    if viterbi:
        found: Paths | Answers | Numbers = paths(model, inputs, scores)
    elif unknown is not None:
        found = rejecting_answers(model, inputs, written_label(unknown, model.labels), typicality)
    else:
        found = answers(model, inputs, allowed and allowed.split(","))
    found = found.above(threshold)
    if as_json:
        return print(json.dumps(found.to_dict()))
    for line in found.lines(probabilities):
        print(line)


@guarded
@reading
def translate(
    source: Annotated[Path, typer.Argument(help="Folder of a translator, or of modules of languages.")],
    to: Annotated[str, typer.Option(help="The language to translate into.")],
    beam: Annotated[int, typer.Option(help="Hypotheses per sentence; 1 uses the most probable word at each step.")] = 1,
    longest: Annotated[int | None, typer.Option(help="Largest number of words of a translation [default: 50].")] = None,
    as_json: AsJson = False,
) -> None:
    """Translate the lines of standard input: one line each."""
    from unbraid.cli.answers import read_lines
    from unbraid.cli.open_any import open_translator

    lines = read_lines()
    found = open_translator(source).translate(lines, to, beam=beam, longest=longest)
    print(json.dumps({"to": to, "translations": found}) if as_json else "\n".join(map(printable, found)))


def _model(
    source: Path,
    names: list[str] | None,
    module: list[str],
    vocabulary: list[str],
    task: Any,
    output: str | None,
    weights: Path | None,
) -> Network | Composition | OnnxModel:
    from unbraid.cli.open_any import Beside, open_any, open_classifier, parse_vocabularies
    from unbraid.cli.own_code import own_modules
    from unbraid.networks.network import Network

    vocabularies = parse_vocabularies(vocabulary)
    if source.suffix == ".onnx" and not os.path.isdir(source):
        given = {"--module": module, "--task": task, "--output": output, "--weights": weights}
        refuse(given, f"is not for .onnx files, and {quoted(source)} is one: leave it out.")
        return named(_onnx_model(source, vocabularies), names)
    beside = Beside(own_modules(module, [source]), True, vocabularies, names, task, output, weights)
    opened = open_any(source, beside)
    return opened if isinstance(opened, Network) else named(open_classifier(source, beside)[0], names)


def _onnx_model(source: Path, vocabularies: Mapping[str | None, Path]) -> OnnxModel:
    """Open an ONNX file, with vocabularies in place of stored ones."""
    from unbraid.cli.vocabularies import shown_vocabulary
    from unbraid.export.onnx_model import OnnxModel

    read = {key: shown_vocabulary(file) for key, file in vocabularies.items()}
    if None not in read:
        return OnnxModel(source, {str(key): words for key, words in read.items()} or None)
    if len(read) > 1:
        raise ConfigError("--vocabulary is given with and without NAME=: name the vocabulary of each option.")
    return OnnxModel(source, read[None])


def named(model: Any, names: list[str] | None) -> Any:
    """Replace labels that are numbers by names; return other models unchanged."""
    from unbraid.modules.composition import Composition
    from unbraid.networks.checking import check_labels
    from unbraid.networks.network import Network

    if names is None or model is None:
        return model
    numbers = [label for label in model.labels if type(label) is int]
    if len(numbers) < len(model.labels):
        if set(map(str, model.labels)) <= set(names):
            return model
        raise ConfigError(f"--labels: the labels are stored, as {model.labels[0]!r}, and differ from the given names.")
    if not all(0 <= label < len(names) for label in numbers):
        raise ConfigError(
            f"--labels: found {len(names)} names, expected one for each class, up to number {max(numbers)}."
        )
    if isinstance(model, Composition):
        new: dict[Label, Label] = {label: names[label] for label in numbers}
        scales = {new[label]: scale for label, scale in model.calibration.items()}
        modules = {new[label]: module for label, module in model.modules_by_label.items()}
        return Composition(modules, model.vote, scales, model.referee, model.domain, model.threshold)
    if isinstance(model, Network):
        model.labels = check_labels(names, model.spec)
    else:
        model.labels = [names[label] for label in numbers]
    return model

"""The demonstration: train, decompose, compose, replace, on data from the standard library of Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console

from unbraid.data.targets import Label
from unbraid.decomposition.decompose import decompose
from unbraid.decomposition.decomposition import Decomposition
from unbraid.demo.names import NameExamples, load_names
from unbraid.demo.training import train_names
from unbraid.evaluation.evaluate import Evaluation, evaluate_classes
from unbraid.evaluation.tables import scores_table
from unbraid.modules.compose import compose
from unbraid.networks.network import Network
from unbraid.progress import bar

EPOCHS_FIRST, EPOCHS_BETTER = 1, 6
KEEP = 0.5  # keep ratio of the modules
STEP = 20  # every 20th training example is in the calibration sample; the examples are sorted by class


def run_demo(folder: Path, seed: int, console: Console) -> None:
    """Run the demonstration and save the results in ``folder``.

    Args:
        folder: folder of modules, compositions and examples.
        seed: seed of training and sampling.
        console: console for the output.
    """
    data = load_names(seed=seed)
    test = (data.x_test, data.y_test)
    console.print(
        f"[bold]1. Train[/bold] a small LSTM on {len(data.x_train):,} Unicode character names "
        f"({len(data.labels)} classes: {', '.join(data.labels)})"
    )
    network = train_names(data, EPOCHS_FIRST, seed, bar)
    console.print(f"\n[bold]2. Decompose[/bold] it into one module per class, each with {KEEP:.0%} of the nodes")
    parts = _modules(network, data, seed)
    parts.save(folder / "parts")
    result = evaluate_classes(compose(parts), test, against=network)
    console.print(str(result))
    console.print(scores_table(result, console.width))

    worst = min(result.modules, key=lambda label: result.modules[label].detection.f1)
    others: list[Label] = [label for label in parts if label != worst][:2]
    console.print(f"\n[bold]3. Reuse[/bold] three of the modules as a classifier: {[worst, *others]}")
    few = compose([parts[label] for label in (worst, *others)])
    few.save(folder / "few")
    _tell(console, evaluate_classes(few, test, against=network))

    console.print(f"\n[bold]4. Replace[/bold] the weakest module, {worst!r}, by the module of a better network")
    better = _modules(train_names(data, EPOCHS_BETTER, seed + 1, bar), data, seed)
    better.save(folder / "better-parts")
    sample = (data.x_train[::STEP], data.y_train[::STEP])  # margins of two networks need a calibration
    fixed = compose({**parts, worst: better[worst]}, sample=sample)
    fixed.save(folder / "fixed")
    _compare(console, result, evaluate_classes(fixed, test, against=network), worst)
    np.savez(folder / "test.npz", x=data.x_test, y=data.y_test, labels=np.asarray(data.labels))
    np.savez(folder / "train.npz", x=data.x_train, y=data.y_train, labels=np.asarray(data.labels))
    console.print(
        f"\nThe results are in {folder}: parts, few, better-parts, fixed, train.npz, test.npz. Next step:\n"
        f"  unbraid evaluate {folder / 'fixed'} {folder / 'test.npz'}",
        markup=False,
    )


def _modules(network: Network, data: NameExamples, seed: int) -> Decomposition:
    return decompose(network, (data.x_train, data.y_train), keep=KEEP, seed=seed, progress=bar)


def _tell(console: Console, result: Evaluation) -> None:
    console.print(
        f"accuracy {result.accuracy:.4f} on their {result.decisions:,} examples; the network restricted to these "
        f"classes has {result.restricted_accuracy:.4f}, with all its classes {result.monolithic_accuracy:.4f}"
    )


def _compare(console: Console, before: Evaluation, after: Evaluation, label: Label) -> None:
    old, new = before.modules[label].detection, after.modules[label].detection
    console.print(
        f"accuracy {before.accuracy:.4f} -> {after.accuracy:.4f}; {label!r} alone: F1 {old.f1:.3f} -> {new.f1:.3f}"
    )

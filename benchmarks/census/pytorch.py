"""Which recurrent PyTorch classes work from end to end.

``python -m benchmarks.census.pytorch [--fast] [words of names]``: each class of :mod:`benchmarks.census.torch_patterns`
goes through every step that a user would take; ``--fast`` leaves ONNX files out. Results are stored
as they are made: a full run that was interrupted goes on where it stopped. ``--again`` runs all classes anew.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks import files
from benchmarks.census.torch_patterns import ENTRIES
from benchmarks.census.torch_patterns.entry import Entry
from unbraid import Network, UnbraidError, compose, decompose, load_decomposition, shrink
from unbraid.decomposition.decomposition import Decomposition
from unbraid.export.onnx import export_onnx
from unbraid.modules.composition import Composition

UNSEEN, EXAMPLES, SAMPLES = 1000, 90, 20
STEPS = ("from_torch", "decisions", "reconstruct", "paper", "save", "compose", "edit", "fuse", "shrink", "onnx", "load")
BATCH = 20  # classes whose modules are loaded by one fresh process
OPTIONAL = ("shrink", "onnx")  # steps that may be refused with a sentence
AGREEMENT = 0.5  # share of the decisions that a module of half the hidden units keeps; by chance it is a third
RESULT = files.RESULTS / "census_pytorch.json"


def measure(entry: Entry, folder: Path, unseen: int = UNSEEN) -> dict[str, str]:
    """Run one class from end to end, without ONNX.

    Args:
        entry: the class.
        folder: gets the saved modules, for :func:`loaded`.
        unseen: examples on which decisions are compared.

    Returns:
        step -> "ok", or what went wrong; steps behind a failure are missing.
    """
    found: dict[str, str] = {}
    module, state = entry.module(), {}
    x, y = entry.make(np.random.default_rng(0), EXAMPLES)
    example, _ = entry.make(np.random.default_rng(1), entry.examples)
    new, labels = entry.make(np.random.default_rng(2), unseen)

    def step(name: str, run: Callable[[], Any]) -> bool:
        found[name], state[name] = tried(name, run)
        return found[name] == "ok"

    if not step("from_torch", lambda: Network.from_torch(module, example, **(entry.settings or {}))):
        return found
    network = state["from_torch"]
    step("decisions", lambda: _equal(network.predict_index(new), entry.decisions(module, new), labels))
    settings = {"samples_per_class": SAMPLES}
    if not step("reconstruct", lambda: decompose(network, (x, y), keep=0.5, **settings)):
        return found
    step("paper", lambda: decompose(network, (x, y), strategy="paper", max_removed=0.3, **settings))
    parts = state["reconstruct"]
    step("save", lambda: parts.save(folder / "parts"))
    if step("compose", lambda: compose(parts)):
        composition = state["compose"]
        np.save(folder / "expected.npy", composition.margins(x))
        step("edit", lambda: _edited(composition, parts).predict(x))
        step("fuse", lambda: compose(_used(network, parts, x)).fuse(x).predict(new))
    step("shrink", lambda: _alike(entry, module, shrink(network, x, keep=0.5), new))
    return found


def tried(name: str, run: Callable[[], Any]) -> tuple[str, Any]:
    """Run one step: "ok" or what went wrong, and its result."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return "ok", run()
    except UnbraidError as error:
        refused = "refused: " if name in OPTIONAL else f"{type(error).__name__}: "
        return refused + " ".join(str(error).split()), None
    except Exception as error:  # a fault: it is shown as such
        return f"CRASH {type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}", None


def exported(entry: Entry) -> str:
    """The step of the ONNX file: a composition of all modules."""
    example, _ = entry.make(np.random.default_rng(1), entry.examples)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = Network.from_torch(entry.module(), example, **(entry.settings or {}))
        parts = decompose(network, entry.make(np.random.default_rng(0), EXAMPLES), keep=0.5, samples_per_class=SAMPLES)
    with tempfile.TemporaryDirectory() as folder:
        return tried("onnx", lambda: export_onnx(compose(parts), Path(folder) / "model.onnx", example))[0]


def loaded(folders: dict[str, Path]) -> dict[str, str]:
    """Load saved modules of all classes in one fresh process; entry name -> "ok" or what went wrong."""
    given = json.dumps({name: str(folder) for name, folder in folders.items()})
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.census.pytorch", "--load"], input=given, capture_output=True, text=True
    )
    return (
        dict(json.loads(done.stdout.splitlines()[-1]))
        if done.returncode == 0
        else {n: done.stderr[-300:] for n in folders}
    )


def _load(folders: dict[str, str]) -> dict[str, str]:
    found = {}
    for entry in ENTRIES:
        if entry.name not in folders:
            continue
        folder = Path(folders[entry.name])
        try:
            parts = load_decomposition(folder / "parts", module=entry.build())
            x, _ = entry.make(np.random.default_rng(0), EXAMPLES)
            np.testing.assert_array_equal(compose(parts).margins(x), np.load(folder / "expected.npy"))
            found[entry.name] = "ok"
        except Exception as error:  # quoted in the table
            found[entry.name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return found


def _used(network: Network, parts: Decomposition, x: Any) -> dict[Any, Any]:
    """The modules of classes that the network decides for at least twice; fusing needs examples of each."""
    found = network.predict_index(x)
    counts = found.sum(0) if found.dtype == bool else np.bincount(found[found >= 0], minlength=network.classes)
    used = {label: part for label, part in parts.items() if counts[network.labels.index(label)] >= 2}
    return used if len(used) > 1 else dict(parts.items())


def _edited(composition: Composition, parts: Decomposition) -> Composition:
    """The composition with a module replaced by itself and, if there are more than two, one dropped."""
    first = next(iter(parts))
    edited = composition.replace(first, parts[first])
    return edited.drop(first) if len(parts) > 2 else edited


def _alike(entry: Entry, module: nn.Module, small: nn.Module, x: Any) -> None:
    """Check that a smaller module is of the same class and decides most inputs in the same way."""
    assert type(small) is type(module)
    found, own = entry.decisions(small, x), entry.decisions(module, x)
    if found.shape != own.shape or (share := (found == own).mean()) < AGREEMENT:
        raise AssertionError(f"shapes {found.shape} and {own.shape}, or {share:.4f} of the decisions are equal")


def _equal(found: np.ndarray, own: np.ndarray, labels: np.ndarray) -> None:
    if found.shape != own.shape:
        own = own.reshape(found.shape)
    real = (labels >= 0) if labels.shape == found.shape else np.ones(found.shape, bool)
    if found.dtype != bool and labels.ndim == found.ndim:
        real &= found >= 0
    share = (found == own)[real].mean()
    if share < 1:
        raise AssertionError(f"{share:.4f} of the decisions are equal")


def passed(entry: Entry, steps: dict[str, str], onnx: bool = True) -> bool:
    """Whether a class works from end to end, or is refused as it must be when the network is made."""
    if entry.refused is not None:
        return entry.refused in steps["from_torch"]
    return all(steps.get(step) == "ok" for step in STEPS if onnx or step != "onnx")


def refusals(steps: dict[str, str]) -> dict[str, str]:
    """Optional steps that were refused, if all other steps work; step -> sentence."""
    bad = {step: text for step, text in steps.items() if text != "ok"}
    told = {step: text.removeprefix("refused: ") for step, text in bad.items() if text.startswith("refused: ")}
    return told if len(told) == len(bad) else {}


def run(wanted: list[str], onnx: bool = True, again: bool = False) -> None:
    """Measure classes and print the table; a run of all classes with all steps is stored."""
    chosen = [
        entry for entry in ENTRIES if not wanted or any(word in f"{entry.pattern} {entry.name}" for word in wanted)
    ]
    stored = onnx and not wanted
    known = json.loads(RESULT.read_text())["classes"] if stored and not again and RESULT.exists() else {}
    table = {entry.name: known[entry.name] for entry in chosen if entry.name in known}

    def keep() -> None:
        for entry in chosen:
            if entry.name in table:
                table[entry.name]["passed"] = passed(entry, table[entry.name]["steps"], onnx)
        if stored:
            rows = {entry.name: table[entry.name] for entry in ENTRIES if entry.name in table}
            files.write(RESULT, {"steps": list(STEPS), "unseen": UNSEEN, "classes": rows})

    left = [entry for entry in chosen if entry.name not in table]
    for first in range(0, len(left), BATCH):
        with tempfile.TemporaryDirectory() as name:
            _measured(left[first : first + BATCH], Path(name), table)
        keep()
    for entry in _patterns_first(chosen) if onnx else []:
        steps = table[entry.name]["steps"]
        if steps.get("compose") == "ok" and "onnx" not in steps:
            steps["onnx"] = exported(entry)
            print(f"onnx {entry.name}: {steps['onnx']}", flush=True)
            keep()
    print(summary(table))


def _patterns_first(entries: list[Entry]) -> list[Entry]:
    """The first class of each pattern, then the second ones, and so on."""
    seen: Counter[str] = Counter()
    places = {}
    for entry in entries:
        places[entry.name] = seen[entry.pattern]
        seen[entry.pattern] += 1
    return sorted(entries, key=lambda entry: places[entry.name])


def _measured(entries: list[Entry], folder: Path, table: dict[str, dict[str, Any]]) -> None:
    """All steps but ONNX of some classes; their modules are loaded by one fresh process."""
    folders = {}
    for place, entry in enumerate(entries):
        start, own = time.perf_counter(), folder / str(place)
        own.mkdir()
        steps = measure(entry, own)
        table[entry.name] = {"pattern": entry.pattern, "refused": entry.refused is not None, "steps": steps}
        if steps.get("save") == steps.get("compose") == "ok":
            folders[entry.name] = own
        bad = {step: text for step, text in steps.items() if text != "ok"}
        print(f"{entry.pattern:32} {entry.name:34} {time.perf_counter() - start:5.1f} s  {bad or 'ok'}", flush=True)
    for name, text in loaded(folders).items():
        table[name]["steps"]["load"] = text
        if text != "ok":
            print(f"load {name}: {text}")


def summary(table: dict[str, dict[str, Any]]) -> str:
    """One line for each pattern: classes that work from end to end, of all; and of refused ones the sentence."""
    lines = []
    for pattern in dict.fromkeys(row["pattern"] for row in table.values()):
        rows = {name: row for name, row in table.items() if row["pattern"] == pattern}
        lines.append(f"{pattern:34} {sum(row['passed'] for row in rows.values())} of {len(rows)}")
        lines += [f"    {name}: {row['steps']['from_torch']}" for name, row in rows.items() if row["refused"]]
    works = [row for row in table.values() if not row["refused"]]
    refused = sum(bool(refusals(row["steps"])) for row in works)
    lines.append(
        f"{sum(row['passed'] for row in works)} of {len(works)} work, {refused} more but for a refused step; "
        f"{len(table) - len(works)} are refused"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:] == ["--load"]:
        print(json.dumps(_load(json.load(sys.stdin))))
    else:
        words = [word for word in sys.argv[1:] if not word.startswith("--")]
        run(words, onnx="--fast" not in sys.argv, again="--again" in sys.argv)

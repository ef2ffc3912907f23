"""The sections about Keras files and recurrent PyTorch classes that work from end to end."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from benchmarks import files
from benchmarks.report.tables import table

CAPTION = """\
Each class is written for this census in the way that a pattern is used in public code, with random weights. *classes*:
number of classes of the pattern that are meant to work. *work*: of these, how many pass all steps but the last two:
`from_torch`, decisions equal to those of the module on {unseen:,} unseen examples, `decompose` with both strategies,
saved, loaded in a fresh process with equal margins, composed, edited, fused. *shrink*: how many are shrunk to half of
the hidden units and keep at least half of their decisions (by chance it is a third). *ONNX*: how many compositions are
exported and give the margins of torch on batches of several sizes, of as many as were tried if fewer.
*refused*: classes that are not supported, where `from_torch` raises an error. The table behind quotes every refusal.
"""
LAST = ("shrink", "onnx")


KERAS = """\
Files that Keras 3 and tf-keras (Keras 2) wrote, each with one construction and random weights: {constructions}
constructions in {files} files, of which {whole} (`.keras`) run through all steps and the others are compared
with Keras only. *passed*: how many files passed the step. *predict*: predictions equal to those of Keras to
1e-4. *reconstruct*, *paper*: decomposed with this strategy, composed, saved, and loaded with equal predictions.
*shrink*: a smaller network with half of the hidden units. *back to Keras*: the network, the smaller network and
the fused composition are written as `.keras` files, which Keras 3 loads and which give equal predictions to
1e-4. *ONNX*: the network and the composition are exported, and the files give equal outputs. The table behind quotes
every refusal.
"""
HABITS = """\
As above, for constructions of public repositories: operators between layers, functions of `tf` and `keras.ops`,
layers that are called several times, nested models. Others are layers through which Keras 2 and 3 pass masks in
different ways (*masked*). Their code is written anew, in sizes of a few units.
{constructions} constructions in {files} files; {whole} (`.keras`) run through all steps.
"""


def sections() -> Iterable[str]:
    """The tables, where there is a result."""
    yield from _keras("census_keras.json", "Keras files that work from end to end", KERAS)
    yield from _keras("census_keras_habits.json", "Keras files as people write them", HABITS)
    yield from _pytorch()


def _keras(name: str, title: str, caption: str) -> Iterable[str]:
    path = files.RESULTS / name
    if not path.exists():
        return
    found = json.loads(path.read_text())
    counts = dict(found["summary"])
    total, whole = counts.pop("files"), counts.pop("files with all steps")
    yield f"\n## {title}\n"
    yield caption.format(constructions=counts.pop("constructions"), files=total, whole=whole)
    last = {
        "pass": "all steps of the file",
        "pass of those with all steps": "all steps",
        "pass of these without ONNX": "all steps but ONNX",
    }
    rows = [
        [last.get(step, step), str(passed), str(total if step in ("predict", "pass") else whole)]
        for step, passed in counts.items()
        if step != "ONNX" or passed  # it was not tried
    ]
    yield table(["step", "passed", "files"], rows)
    yield ""
    told: dict[tuple[str, str], list[str]] = {}
    for name, steps in found["not passed"].items():
        for step, text in steps.items():
            told.setdefault((step, text.replace("|", "\\|")), []).append(name.rsplit("-", 1)[0])
    yield table(["step", "refusal or failure", "models"], [[s, text, ", ".join(n)] for (s, text), n in told.items()])


def _pytorch() -> Iterable[str]:
    path = files.RESULTS / "census_pytorch.json"
    if not path.exists():
        return
    found = json.loads(path.read_text())
    classes: dict[str, dict[str, Any]] = found["classes"]
    refused = {row["pattern"] for row in classes.values() if row["refused"]}
    patterns = sorted({row["pattern"] for row in classes.values()}, key=lambda pattern: (pattern in refused, pattern))
    yield "\n## PyTorch classes that work from end to end\n"
    yield CAPTION.format(unseen=found["unseen"])
    rows = [_row(p, [row for row in classes.values() if row["pattern"] == p], found["steps"]) for p in patterns]
    rows.append(_row("all", list(classes.values()), found["steps"]))
    yield table(["pattern", "classes", "work", "shrink", "ONNX", "refused"], rows)
    yield ""
    yield table(["step", "refusal or failure", "classes"], _quoted(classes))


def _row(pattern: str, rows: list[dict[str, Any]], steps: list[str]) -> list[str]:
    meant = [row["steps"] for row in rows if not row["refused"]]
    work = [own for own in meant if all(own.get(step) == "ok" for step in steps if step not in LAST)]
    exported = [own["onnx"] for own in meant if "onnx" in own]
    onnx = str(exported.count("ok")) + ("" if len(exported) == len(meant) else f" of {len(exported)}")
    shrunk = sum(own.get("shrink") == "ok" for own in meant)
    return [pattern, str(len(meant)), str(len(work)), str(shrunk), onnx, str(len(rows) - len(meant))]


def _quoted(classes: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Sentences, each with the classes that it was raised for."""
    told: dict[tuple[str, str], list[str]] = {}
    for name, row in classes.items():
        for step, text in row["steps"].items():
            if text != "ok":
                told.setdefault((step, text.removeprefix("refused: ").replace("|", "\\|")), []).append(name)
    return [[step, text, ", ".join(names)] for (step, text), names in told.items()]

"""Tables fit the terminal: headers and figures are never cut."""

import dataclasses
import io

import pytest
from rich.console import Console

from tests import factory
from unbraid import compose, decompose, evaluate
from unbraid.cli.printing import modules_summary, modules_table
from unbraid.evaluation.tables import COLUMNS, MOST_ROWS, scores_table

LONG = "a label of forty characters, with spaces"
NAMES = [["a", "b"], ["lowercase letter", "math symbol"], ["x" * 55, "b"], [LONG, "漢字" * 20]]


def shown(table, width):
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue()


def case(labels, **settings):
    network = factory.network(("lstm",), "M:1", classes=2, labels=labels)
    x, y = factory.examples(network, 40)
    parts = decompose(network, (x, y), samples_per_class=5, **settings)
    return parts, evaluate(compose(parts), (x, y), against=network)


@pytest.mark.parametrize("width", [60, 80, 100, 140])
@pytest.mark.parametrize("labels", NAMES, ids=["short", "demo", "long", "wide"])
@pytest.mark.parametrize("settings", [{}, {"max_removed": 0.2}], ids=["reconstruct", "paper"])
def test_scores_fit_the_width(labels, width, settings):
    _, result = case(labels, **settings)
    text = shown(scores_table(result, width), width)
    assert "…" not in text
    header = text.splitlines()[2]
    found = [name for name in COLUMNS if name in header]
    assert header.replace("┃", " ").split() == " ".join(["module", *found]).split()
    assert {"precision", "recall", "F1"} <= set(found)
    score = result.modules[labels[0]]
    assert all(COLUMNS[name](score) in text for name in found)
    if width == 140:
        assert set(COLUMNS) - set(found) <= {"Jaccard"}
        assert ("Jaccard" in found) == (score.jaccard is not None)


@pytest.mark.parametrize("labels", NAMES, ids=["short", "demo", "long", "wide"])
def test_kept_shares_fit_80_columns(labels):
    parts, _ = case(labels)
    text = shown(modules_table(modules_summary(parts), "modules"), 80)
    assert "…" not in text
    words = ["module", "mode", "nodes", "recurrent", "weights", "all", "weights", "bytes", "FLOPs", "rolled"]
    assert all(word in text for word in words)


def test_a_thousand_modules_stay_readable():
    _, result = case(["a", "b"])
    first = result.modules["a"]
    scores = {}
    for n in range(1_000):
        detection = dataclasses.replace(first.detection, f1=(n * 37 % 1_000) / 1_000)
        scores[f"class {n}"] = dataclasses.replace(first, detection=detection)
    many = dataclasses.replace(result, modules=scores)
    text = shown(scores_table(many, 80), 80)
    assert f"{MOST_ROWS} of 1,000 modules, with the lowest F1" in " ".join(text.split())
    lowest = sorted(scores, key=lambda name: scores[name].detection.f1)[:MOST_ROWS]
    assert scores_table(many, 80).row_count == MOST_ROWS and all(f"{name} " in text for name in lowest)
    one = modules_summary(case(["a", "b"])[0])["modules"][0]
    table = modules_table({"modules": [one | {"label": f"class {n}"} for n in range(1_000)]}, "modules")
    assert table.row_count == 50 and "and 950 more: see --json" in shown(table, 80)

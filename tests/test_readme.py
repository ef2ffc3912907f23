"""The code of the README runs as it is printed, and its text is short."""

import re
import shutil

import numpy as np
import pytest
import torch

import unbraid
from tests.locations import ROOT
from tests.scripts import blocks, long_sentences, printed_by_page, without_figures
from unbraid.demo.small import small_examples, small_forecaster, small_network, small_translator

README = ROOT / "README.md"
TASKS = [
    (task.strip(), re.findall(r"`([^`]+)`", code))
    for task, code in re.findall(r"^\| ([^|]+) \| (`[^|]+`) \| \[", README.read_text(encoding="utf-8"), re.MULTILINE)
]


class Classifier(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.out = torch.nn.LSTM(2, 10, batch_first=True), torch.nn.Linear(10, 3)

    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1])


@pytest.fixture
def names(tmp_path, monkeypatch):
    """Return the objects that the table names, and change to a folder with its Keras file."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "docs" / "tutorials" / "intents.keras", tmp_path)
    torch.manual_seed(0)
    net = small_network(seed=10)  # it predicts every class for some of the inputs, as fuse() needs
    x, y = small_examples(net)
    cards = small_network(["card", "balance"], seed=2)
    forecaster, x_numbers, _ = small_forecaster()
    translator, pairs = small_translator()
    languages = unbraid.decompose(translator, (pairs.x, pairs.languages))
    return {
        "unbraid": unbraid,
        "module": Classifier().eval(),
        "batch": torch.randn(60, 5, 2),
        "names": ["a", "b", "c"],
        "words": {"good": 1, "morning": 2},
        "net": net,
        "x": x,
        "y": y,
        "forecaster": forecaster,
        "x_numbers": x_numbers,
        "parts": unbraid.decompose(net, (x, y)),
        "better": unbraid.decompose(small_network(seed=3), (x, y)),
        "other": unbraid.decompose(cards, small_examples(cards)),
        "sample": (x, np.asarray(["travel", "card"])[np.arange(len(x)) % 2]),
        "languages": [languages["fr"]],
        "german": languages["de"],
    }


def test_the_quickstart_runs(tmp_path):
    assert len(blocks(README, "python")) == 1 and len(blocks(README, "python")[0].splitlines()) <= 16
    text = printed_by_page(README, tmp_path)
    assert without_figures(text) == without_figures("".join(blocks(README, "text")))
    assert [path.name for path in tmp_path.iterdir()] == ["names-parts"]
    assert unbraid.load_decomposition(tmp_path / "names-parts").labels[0] == "lowercase letter"


@pytest.mark.parametrize(("task", "code"), TASKS, ids=[task for task, _ in TASKS])
@pytest.mark.filterwarnings("ignore:modules of several parent")
def test_every_task_of_the_table_runs(task, code, names):
    if task == "replace a module":
        names["sample"] = (names["x"], names["y"])
    if task == "write a report in HTML":
        for package in ("jinja2", "matplotlib"):
            pytest.importorskip(package, reason=f"{package} is not installed: pip install '.[report]'")
    exec("\n".join(code), names)


def test_the_table_is_complete():
    assert len(TASKS) == 15 and all(1 <= len(code) <= 3 for _, code in TASKS)


def test_it_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 120
    assert not long_sentences(README)


def test_its_files_exist():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text(encoding="utf-8"))
    assert len(targets) > 15 and not [target for target in targets if not (ROOT / target).exists()]


def test_its_table_of_results_is_that_of_the_benchmarks():
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [^|]+ \| 12 \| (.*) \|$", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) == 5 and all(row in results for row in rows)

"""The command ``report``: with and without data, several folders, names of classes, and wrong arguments."""

import json

import numpy as np
import pytest

import unbraid
from tests.cli.shell import run
from tests.report.pages import Page
from unbraid.demo.small import small_examples, small_network, small_translator

pytest.importorskip("jinja2", reason="jinja2 is not installed: pip install '.[report]'")
pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install '.[report]'")

CODE = """
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.lstm, self.out = nn.Embedding(50, 8), nn.LSTM(8, 12, batch_first=True), nn.Linear(12, 3)
    def forward(self, x):
        return self.out(self.lstm(self.words(x))[0][:, -1])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("reports")
    network = small_network([0, 1, 2])
    x, y = small_examples(network, 90)
    for name, keep in (("small", 0.3), ("large", 0.8)):
        unbraid.decompose(network, (x, y), keep=keep).save(place / name)
    np.savez(place / "test.npz", x=x, y=y)
    (place / "names.txt").write_text("travel\n<b>bank\nweather\n")
    return place


def page_of(folder):
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_the_numbers_are_those_of_the_command_evaluate(folder):
    done = run("report", "small", "test.npz", "-o", "report.html", "--labels", "names.txt", cwd=folder)
    assert done.exit_code == 0 and done.output == "wrote report.html\n"
    found = json.loads(
        run(
            "evaluate", "small", "test.npz", "--labels", "names.txt", "--intervals", "0.95", "--json", cwd=folder
        ).output
    )
    page = page_of(folder)
    low, high = found["intervals"]["scores"]["accuracy"]
    assert page.facts["accuracy"] == f"{found['accuracy']:.4f}95 % interval {low:.4f} to {high:.4f}"
    rows = {row["module"]: row for row in page.table("module")}
    assert list(rows) == ["travel", "<b>bank", "weather"] == list(found["modules"])
    assert all(rows[label]["F1"] == f"{score['detection']['f1']:.3f}" for label, score in found["modules"].items())
    text = (folder / "report.html").read_text()
    assert f"Unbraid {unbraid.__version__}, folder format" in text and "decomposition" in text


def test_several_folders(folder):
    assert run("report", "small", "large", "test.npz", "-o", "report.html", cwd=folder).exit_code == 0
    assert [row["folder"] for row in page_of(folder).table("folder")] == ["small", "large"]
    assert run("report", "small", "large", "-o", "report.html", cwd=folder).exit_code == 0
    assert all("accuracy" not in row for row in page_of(folder).table("folder"))


def test_code_is_needed_for_scores_only(folder, tmp_path):
    (tmp_path / "net.py").write_text(CODE)
    scope = {}
    exec(CODE, scope)
    x, y = np.random.default_rng(0).integers(0, 50, (60, 5)), np.arange(60) % 3
    network = unbraid.Network.from_torch(scope["Net"](), example=x[:4], labels=["a", "b", "c"])
    unbraid.decompose(network, (x, y), keep=0.5).save(tmp_path / "own")
    np.savez(tmp_path / "test.npz", x=x, y=y)
    assert run("report", "own", "-o", "report.html", cwd=tmp_path).exit_code == 0
    assert "LSTM 12 in Net" in (tmp_path / "report.html").read_text()
    done = run("report", "own", "test.npz", "-o", "report.html", cwd=tmp_path)
    assert done.exit_code == 2 and "--module" in done.output
    done = run("report", "own", "test.npz", "-o", "report.html", "--module", "net.py:Net", cwd=tmp_path)
    assert done.exit_code == 0, done.output
    assert "accuracy" in page_of(tmp_path).facts


def test_a_translator_has_a_report_without_data(tmp_path):
    network, pairs = small_translator()
    parts = unbraid.decompose(network, (pairs.x, pairs.languages))
    unbraid.Translator(parts).save(tmp_path / "translator")
    assert run("report", "translator", "-o", "report.html", cwd=tmp_path).exit_code == 0
    assert [row["module"] for row in page_of(tmp_path).table("module")] == ["fr", "de"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "is not a folder"),
        (["test.npz", "small"], "is not a folder; expected folders, and one file of examples last"),
        (["small", "test.npz", "test.npz"], "one file of examples last"),
        (["small", "--labels", "names.txt"], "needs DATA"),
        (["small", "nowhere.npz"], "nowhere.npz"),
        (["."], "unbraid.json"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, message, folder):
    (folder / "report.html").unlink(missing_ok=True)
    done = run("report", *arguments, "-o", "report.html", cwd=folder)
    assert done.exit_code == 2 and message in done.output and len(done.output.splitlines()) == 1
    assert not (folder / "report.html").exists()

"""Options of ``unbraid predict`` that restrict or decode the predictions."""

import itertools
import json

import numpy as np
import pytest
import torch

import unbraid
from tests.cli.shell import run
from tests.locations import DATA

MODEL = DATA / "keras" / "k3-lstm.keras"
TAGGER = """
import torch
from torch import nn

class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.out = nn.GRU(4, 8, batch_first=True), nn.Linear(8, 3)
        self.transitions = nn.Parameter(torch.full((3, 3), 0.0).fill_diagonal_(-1000.0))
        self.start_transitions = nn.Parameter(torch.zeros(3))
        self.end_transitions = nn.Parameter(torch.zeros(3))

    def forward(self, x):
        return self.out(self.gru(x)[0])
"""


@pytest.fixture
def features(tmp_path):
    """Inputs of a Keras model."""
    np.savez(tmp_path / "data.npz", x=np.load(MODEL.with_suffix(".npz"))["x"])
    return tmp_path / "data.npz"


@pytest.fixture
def tagger(tmp_path, monkeypatch):
    """A folder with the modules of a tagger, and its inputs."""
    (tmp_path / "tagging.py").write_text(TAGGER)
    names: dict = {}
    exec(TAGGER, names)
    torch.manual_seed(0)
    x = 4 * torch.randn(60, 5, 4)
    network = unbraid.Network.from_torch(names["Tagger"](), x[:6])
    parts = unbraid.decompose(network, (x, torch.arange(300).view(60, 5) % 3))
    unbraid.compose(parts).save(tmp_path / "tags")
    np.savez(tmp_path / "data.npz", x=x.numpy())
    return unbraid.compose(parts), x


@pytest.mark.parametrize("folder", [False, True])
def test_only_allowed_labels_are_predicted(features, tmp_path, folder):
    network = unbraid.load(MODEL)
    x = np.load(features)["x"]
    model = network
    if folder:
        many = np.tile(x, (8, *[1] * (x.ndim - 1)))
        model = unbraid.compose(unbraid.decompose(network, (many, np.arange(len(many)) % network.classes)))
        model.save(tmp_path / "parts")
    done = run("predict", tmp_path / "parts" if folder else MODEL, features, "--allowed", "0,2", "--probabilities")
    assert done.exit_code == 0, done.output
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    mask = np.isin(model.labels, [0, 2])
    assert [row[0] for row in rows] == [str(label) for label in model.predict(x, mask)]
    expected = model.predict_proba(x, mask).max(-1)
    np.testing.assert_allclose([float(row[1]) for row in rows], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--allowed", "0,nine"], "has no module 'nine'"),
        (["--viterbi"], "--viterbi decodes modules of a tagger"),
        (["--viterbi", "--allowed", "0"], "leave out --allowed"),
    ],
)
def test_refused(features, arguments, message):
    done = run("predict", MODEL, features, *arguments)
    assert done.exit_code == 2 and message in done.stderr


def test_numbers_have_no_allowed_labels(tmp_path):
    path = DATA / "keras" / "losses" / "k3-regressor.keras"
    np.savez(tmp_path / "data.npz", x=np.load(path.with_suffix(".npz"))["x"])
    done = run("predict", path, tmp_path / "data.npz", "--allowed", "0")
    assert done.exit_code == 2 and "--allowed restricts classes" in done.stderr


def test_sequences_of_a_tagger(tagger, tmp_path):
    composition, x = tagger
    code = ["--module", "tagging.py:Tagger"]
    done = run("predict", "tags", "data.npz", *code, "--viterbi", cwd=tmp_path)
    assert done.exit_code == 0, done.output
    found = [line.split("\t") for line in done.stdout.splitlines()]
    assert found == [[str(label) for label in row] for row in composition.viterbi(x)]
    assert all(a != b for row in found for a, b in itertools.pairwise(row))
    plain = run("predict", "tags", "data.npz", *code, cwd=tmp_path).stdout
    assert plain != done.stdout


def test_sequences_with_given_scores(tagger, tmp_path):
    composition, x = tagger
    y = (np.arange(300).reshape(60, 5) * 7) % 3
    np.savez(tmp_path / "data.npz", x=x.numpy(), y=y)
    code = ["--module", "tagging.py:Tagger"]
    rng = np.random.default_rng(0)
    every = {"transitions": 9 * rng.normal(size=(3, 3)), "start": rng.normal(size=3), "end": rng.normal(size=3)}
    for names in (["transitions"], list(every)):
        scores = {name: every[name] for name in names}
        np.savez(tmp_path / "scores.npz", **scores)
        path = composition.viterbi(x, **scores)
        given = ["--viterbi", "--transitions", "scores.npz"]
        done = run("predict", "tags", "data.npz", *code, *given, cwd=tmp_path)
        assert [line.split("\t") for line in done.stdout.splitlines()] == [[str(c) for c in row] for row in path]
        done = run("evaluate", "tags", "data.npz", *code, *given, "--json", cwd=tmp_path)
        assert json.loads(done.stdout)["accuracy"] == pytest.approx((path == y).mean())
        assert unbraid.evaluate(composition, (x, y), viterbi=True, **scores).accuracy == (path == y).mean()
    np.savez(tmp_path / "other.npz", transitions=np.zeros((2, 2)))
    for arguments, message in (
        (["--transitions", "scores.npz"], "add --viterbi"),
        (["--viterbi", "--transitions", "data.npz"], "no array 'transitions'; it holds ['x', 'y']"),
        (["--viterbi", "--transitions", "other.npz"], "expected numbers of shape (3, 3)"),
        (["--viterbi", "--transitions", "nowhere.npz"], "no such file"),
    ):
        for verb in ("predict", "evaluate"):
            done = run(verb, "tags", "data.npz", *code, *arguments, cwd=tmp_path)
            assert done.exit_code == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.output
    with pytest.raises(unbraid.UnbraidError, match="without viterbi=True"):
        unbraid.evaluate(composition, (x, y), transitions=every["transitions"])
    with pytest.raises(unbraid.UnbraidError, match="start is given without transitions="):
        unbraid.evaluate(composition, (x, y), viterbi=True, start=every["start"])


def test_evaluations_of_sequences_and_of_allowed_labels(tagger, tmp_path):
    composition, x = tagger
    y = (np.arange(300).reshape(60, 5) * 7) % 3
    np.savez(tmp_path / "data.npz", x=x.numpy(), y=y)
    code = ["--module", "tagging.py:Tagger", "--json"]
    for arguments, found in (
        (["--viterbi"], composition.viterbi(x)),
        (["--allowed", "0,2"], composition.predict(x, np.array([True, False, True]))),
    ):
        done = run("evaluate", "tags", "data.npz", *code, *arguments, cwd=tmp_path)
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["accuracy"] == pytest.approx((found == y).mean())
    done = run("evaluate", "tags", "data.npz", *code, "--allowed", "0,nine", cwd=tmp_path)
    assert done.exit_code == 2 and "has no module 'nine'" in done.stderr
    done = run("evaluate", "tags", "data.npz", *code, "--allowed", "0", "--viterbi", cwd=tmp_path)
    assert done.exit_code == 2 and "leave out --allowed" in done.stderr

"""Networks with several inputs on the command line."""

import json

import numpy as np
import pytest
import torch

from tests.cli.shell import run
from unbraid.data.files import read_examples, some_of
from unbraid.errors import DataError

CODE = """
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.gru, self.out = nn.Embedding(9, 4), nn.GRU(4, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, words, lengths):
        packed = pack_padded_sequence(self.embedding(words), lengths, batch_first=True, enforce_sorted=False)
        return self.out(pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=words.shape[1])[0])

class OfBatch(Tagger):
    def forward(self, batch):
        return super().forward(batch["words"], batch["lengths"])
"""


@pytest.fixture
def folder(tmp_path):
    names: dict = {}
    exec(CODE, names)
    (tmp_path / "tagging.py").write_text(CODE)
    torch.manual_seed(0)
    torch.save(names["Tagger"]().state_dict(), tmp_path / "tagger.pt")
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 6, 60)
    real = np.arange(5) < lengths[:, None]
    words, tags = rng.integers(1, 9, (60, 5)) * real, np.where(real, rng.integers(0, 3, (60, 5)), -1)
    np.savez(tmp_path / "d.npz", words=words, lengths=lengths, y=tags, labels=np.array(["a", "b", "c"]))
    return tmp_path


@pytest.mark.parametrize(("kind", "x"), [("Tagger", "words,lengths"), ("OfBatch", "words=words,lengths=lengths")])
def test_inputs_of_an_npz_file(folder, kind, x):
    code = ["--module", f"tagging.py:{kind}", "--x", x]
    made = run("decompose", "tagger.pt", "d.npz", "-o", "tags", "--init", "{}", "--no-domain", *code, cwd=folder)
    assert made.exit_code == 0, made.output
    done = run("evaluate", "tags", "d.npz", "--json", *code, cwd=folder)
    assert done.exit_code == 0, done.output
    data = dict(np.load(folder / "d.npz"))
    assert json.loads(done.stdout)["decisions"] == int((data["y"] >= 0).sum())


def test_forms_of_inputs(tmp_path):
    path = tmp_path / "d.npz"
    np.savez(path, a=np.ones((3, 2)), n=np.arange(3), m=np.arange(3))
    found = read_examples(path, "a,n", need_labels=False).x
    assert [part.shape for part in found] == [(3, 2), (3,)]
    assert [part.shape for part in some_of(found, slice(2))] == [(2, 2), (2,)]
    named = read_examples(path, "k=a,l=n", need_labels=False).x
    assert {key: part.shape for key, part in named.items()} == {"k": (3, 2), "l": (3,)}
    assert [*some_of(named, np.array([True, False, True]))["l"]] == [0, 2]
    assert list(read_examples(path, "k=a", need_labels=False).x) == ["k"]
    assert read_examples(path, "n,m", need_labels=False).x.shape == (3, 2, 1)
    assert some_of(["a", "b", "c"], np.array([False, True, True])) == ["b", "c"]
    for wrong in ("a,q", "k=q,l=n", "k=a,n"):
        with pytest.raises(DataError, match="no array"):
            read_examples(path, wrong, need_labels=False)

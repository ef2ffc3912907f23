"""The examples run and print the expected results. Bounds leave room for rounding: see tests/jitter.py."""

import re
import subprocess
import sys

import numpy as np
import pytest

import unbraid
from tests import factory, scripts
from tests.locations import ROOT

EXAMPLES = ROOT / "examples"


def printed(name, folder):
    """Run an example in an empty folder, which stays empty; return its output."""
    text = scripts.printed(EXAMPLES / f"{name}.py", folder)
    assert not list(folder.iterdir())
    return text


def numbers(pattern, text):
    return [float(n) for n in re.findall(pattern, text)]


def test_every_example_is_short_and_tested():
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {name.removeprefix("test_") for name in globals() if name.removeprefix("test_") in names}
    assert all(len(path.read_text().splitlines()) < 60 for path in EXAMPLES.glob("*.py"))


def test_tagger(tmp_path):
    text = printed("tagger", tmp_path)
    composed, better = numbers(r"accuracy ([\d.]+)", text)
    assert better > composed + 0.1 and better > 0.85
    assert text.splitlines()[-1] == "DET NOUN VERB ADV"


def test_attention_gru(tmp_path):
    text = printed("attention_gru", tmp_path)
    composed, few = numbers(r"accuracy ([\d.]+)", text)
    assert min(composed, few) > 0.95
    assert text.splitlines()[-1] == "travel money"


def test_intent_bot(tmp_path):
    lines = printed("intent_bot", tmp_path).splitlines()
    (without,), (accuracy,) = (numbers(r"accuracy ([\d.]+)", line) for line in lines[:2])
    assert accuracy > 0.97
    assert without <= accuracy
    (auroc,), (rejected,) = numbers(r"AUROC ([\d.]+)", lines[2]), numbers(r"([\d.]+)% of 60 are rejected", lines[2])
    assert auroc > 0.97
    assert rejected > 95
    assert [line.split(": ")[1] for line in lines[3:]] == ["travel", "transfer", "none of these"]


def test_sensors(tmp_path):
    text = printed("sensors", tmp_path)
    without, accuracy = numbers(r"evidence: accuracy ([\d.]+)", text)
    assert accuracy > 0.95 and accuracy > without + 0.03
    assert numbers(r"AUROC ([\d.]+)", text)[0] > 0.95


def test_keras_file(tmp_path):
    text = printed("keras_file", tmp_path)
    pruned, whole, few = numbers(r"accuracy ([\d.]+)", text)
    assert 0.6 < pruned < whole == few == 1
    assert "equal after loading: True" in text


BLOCKED = """
import runpy, sys
sys.modules.update(dict.fromkeys(["torch", "unbraid"]))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    ("side", "truncation", "steps", "unknown"),
    [("left", None, None, None), ("right", "left", 3, 1), ("left", "right", 4, None), ("right", None, None, 1)],
)
def test_serve_onnx(tmp_path, side, truncation, steps, unknown):
    """It makes and serves a file of two vocabularies; it serves one of each padding without torch and unbraid."""
    pytest.importorskip("onnxruntime")
    if side == "left" and steps is None:
        assert printed("serve_onnx", tmp_path) == "same labels as torch: True\n"
    words = {"<oov>": 1, **{f"w{n}": n for n in range(2, 20)}}
    vocabulary = unbraid.Vocabulary.from_word_index(
        words, side=side, truncation=truncation, steps=steps, unknown=unknown
    )
    network = factory.network(("gru",), labels=["a", "b", "c"]).with_vocabulary(vocabulary)
    unbraid.export_onnx(network, tmp_path / "x.onnx")
    texts = ["w2 W3, w4 w5 w6", "w9", "", "nothing w3", "w7 w7 w2 other w8 w4 w19"]
    command = [sys.executable, "-c", BLOCKED, str(EXAMPLES / "serve_onnx.py"), str(tmp_path / "x.onnx")]
    done = subprocess.run(command, input="\n".join(texts), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cells = [line.split("\t") for line in done.stdout.splitlines()]
    shares = network.predict_proba(texts)
    assert [label for label, _ in cells] == network.predict(texts).tolist()
    np.testing.assert_allclose([float(share) for _, share in cells], shares.max(axis=1), rtol=0, atol=1e-5)

"""The examples run and print the expected results. Bounds leave room for rounding: see tests/jitter.py."""

import re

from tests import scripts
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


def test_sensors(tmp_path):
    text = printed("sensors", tmp_path)
    before, after = numbers(r"accuracy ([\d.]+)", text)
    f1_before, f1_after = (float(f) for f in re.search(r"([\d.]+) -> ([\d.]+)", text).groups())
    assert after > before + 0.1
    assert f1_after > 0.8 > 0.5 > f1_before


def test_keras_file(tmp_path):
    text = printed("keras_file", tmp_path)
    pruned, whole, few = numbers(r"accuracy ([\d.]+)", text)
    assert 0.6 < pruned < whole == few == 1
    assert "equal after loading: True" in text

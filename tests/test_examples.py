import os
import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def printed(name, folder):
    """What an example prints, started by itself in an empty folder, warnings being errors."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py")]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not list(folder.iterdir())
    return done.stdout


def numbers(pattern, text):
    return [float(n) for n in re.findall(pattern, text)]


def test_every_example_is_short_and_tested():
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {name.removeprefix("test_") for name in globals() if name.removeprefix("test_") in names}
    assert all(len(path.read_text().splitlines()) < 60 for path in EXAMPLES.glob("*.py"))


def test_tagger(tmp_path):
    text = printed("tagger", tmp_path)
    composed, better = numbers(r"accuracy ([\d.]+)", text)
    assert better > 0.9 > composed > 0.8
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
    assert after > before > 0.5
    assert f1_after > f1_before


def test_keras_file(tmp_path):
    text = printed("keras_file", tmp_path)
    _, untouched, few = numbers(r"accuracy ([\d.]+)", text)
    assert untouched == few == 1
    assert "loaded alike: True" in text

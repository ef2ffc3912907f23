"""The fuzzer finds nothing in 600 inputs, and detects each kind of finding."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.locations import ROOT

INPUTS, SHARDS, SEED = 600, 2, 1

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits memory and time as Linux does")


@pytest.mark.parametrize("shard", range(SHARDS))
def test_mutated_inputs_are_used_or_refused(shard):
    count = INPUTS // SHARDS
    options = ["--seed", str(SEED), "--inputs", str(count), "--first", str(shard * count)]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *options], cwd=ROOT, capture_output=True, text=True, timeout=900
    )
    assert ended.returncode == 0, ended.stdout[-6_000:] + ended.stderr[-3_000:]
    assert f"{count} inputs of seed {SEED}, 0 different findings" in ended.stdout


DIGESTS = """
import sys
from pathlib import Path
from tests.test_fuzz import digests
print(digests(Path(sys.argv[1])))
"""


def digests(place):
    """A digest of every path and content of some inputs, made in another order in every process."""
    from tests.fuzz import running

    found = {}
    for index in sorted(range(200), key=lambda n: hash(str(n))):
        folder = place / str(index)
        folder.mkdir()
        kind, path = running.written(SEED, index, folder)
        digest = hashlib.sha256(f"{kind.name} {path.relative_to(folder)}".encode())
        for file in sorted(folder.rglob("*")):
            content = file.read_bytes() if file.is_file() and not file.is_symlink() else b""
            digest.update(f"{file.relative_to(folder)}".encode("utf-8", "surrogateescape") + content)
        found[index] = digest.hexdigest()
    return "\n".join(f"{index} {found[index]}" for index in sorted(found))


def test_a_seed_gives_the_same_inputs_in_every_process(tmp_path):
    found = []
    for seed in ("1", "2"):
        (tmp_path / seed).mkdir()
        command = [sys.executable, "-c", DIGESTS, str(tmp_path / seed)]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
        assert ended.returncode == 0, ended.stderr[-3_000:]
        found.append(ended.stdout.splitlines())
    assert len(set(found[0])) == 200
    assert found[0] == found[1]


def wait(path):
    with open(path.parent / "pipe") as pipe:
        return pipe


def compute(path):
    while True:
        hashlib.sha256(bytes(2**16)).digest()


def refuse_late(opened):
    from unbraid.errors import FormatError

    raise FormatError("the file is not what it seemed to be.")


def refuse_loudly(path):
    from unbraid.errors import FormatError

    error = FormatError("a")
    error.args = ("a" * 5_000,)  # errors shorten their messages, so a longer one is a fault
    raise error


def fail(path):
    raise KeyError("left")


def caught(path):
    from unbraid.errors import FormatError

    try:
        return bytes(2**40)
    except MemoryError:
        raise FormatError("too large.") from None


FINDINGS = {
    "used": ("used", "", lambda path: None, lambda opened: None),
    "a foreign exception": ("foreign exception", "KeyError", fail, None),
    "an exception in use": ("use failed", "KeyError", lambda path: None, fail),
    "a late refusal": ("refused too late", "FormatError", lambda path: None, refuse_late),
    "a long message": ("bad message", "FormatError", refuse_loudly, None),
    "a file elsewhere": ("outside", "open to write", lambda path: Path("/nowhere/x").write_text(""), None),
    "a program": ("outside", "os.system", lambda path: os.system("true"), None),
    "memory that is asked for": ("memory", "FormatError", caught, None),
    "memory that is used": ("memory", "peak", lambda path: b"a" * (600 * 2**20), lambda opened: None),
    "waiting": ("hang", "waits", wait, None),
    "computing": ("hang", "SIGXCPU", compute, None),
    "a crash": ("crash", "SIGSEGV", lambda path: os.kill(os.getpid(), signal.SIGSEGV), None),
}


def test_every_kind_of_finding_is_noticed_and_is_of_the_right_input(monkeypatch):
    from tests.fuzz import bounds, kinds, report, running, workers

    names = list(FINDINGS)

    def make(rng, place):
        os.mkfifo(place / "pipe")
        path = place / place.name
        path.touch()
        return path

    def load(path):
        return FINDINGS[names[int(path.name) % len(names)]][2](path) or path

    def use(opened, place):
        FINDINGS[names[int(place.name) % len(names)]][3](opened)

    monkeypatch.setattr(running, "KINDS", [kinds.Kind("made up", 1, make, load, use)])
    monkeypatch.setattr(bounds, "SECONDS", 1)
    monkeypatch.setattr(bounds, "IDLE", 2)
    found = sorted(workers.run_all(0, range(len(names)), processes=2), key=lambda o: o.index)
    assert [(o.outcome, o.what) for o in found] == [FINDINGS[name][:2] for name in names]
    table = report.summary(0, found)
    assert table["inputs"] == len(names) and len(table["findings"]) == len(names) - 1
    assert "--seed 0 --only 1" in report.text(table)

"""A save that is killed (SIGKILL) at any point leaves the old folder or the new one."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import unbraid
from tests.modules.test_saving import decomposed
from unbraid.errors import FormatError
from unbraid.modules import folders

# One process that forks for every point: a fork is killed at its k-th call into the operating system.
SCRIPT = """
import os, shutil, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from unbraid import load_decomposition
from unbraid.modules import folders

work = Path(sys.argv[1])
old, new = load_decomposition(work / "old"), load_decomposition(work / "new")
left = [0]

def deadly(function):
    def call(*arguments, **keywords):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments, **keywords)
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call

point = 0
while True:
    point += 1
    target = work / "target"
    if point % 2:
        old.save(target)  # on every second point what the last kill left is still there
    child = os.fork()
    if child == 0:
        left[0] = point
        for module, name in ((os, "rename"), (os, "fsync"), (os, "chmod"), (folders.tempfile, "mkdtemp"),
                             (folders.shutil, "rmtree"), (folders, "_write_synced")):
            setattr(module, name, deadly(getattr(module, name)))
        new.save(target)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    there = target.exists()
    found = load_decomposition(target).network.sha256()
    which = {old.network.sha256(): "old", new.network.sha256(): "new"}[found]
    print(point, "killed" if os.WIFSIGNALED(status) else "done", "there" if there else "aside", which, flush=True)
    if not os.WIFSIGNALED(status):
        break
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_killed_save_leaves_the_old_folder_or_the_new_one(tmp_path):
    decomposed()[2].save(tmp_path / "old")
    decomposed(seed=5)[2].save(tmp_path / "new")
    source = str(Path(unbraid.__file__).parents[1])
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path)],
        capture_output=True, text=True, timeout=600, env={"PYTHONPATH": source, "PATH": ""},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    lines = [line.split() for line in ran.stdout.splitlines()]
    assert len(lines) > 15 and all(line[1] == "killed" for line in lines[:-1])
    assert {line[3] for line in lines} == {"old", "new"}
    assert any(line[2] == "aside" for line in lines), "no kill fell between the two renames"
    assert all(line[3] == "old" for line in lines if line[2] == "aside")
    assert lines[-1][1:] == ["done", "there", "new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old", "target"], "leftovers"


def test_a_failing_rename_brings_the_old_folder_back(tmp_path, monkeypatch):
    _, x, old = decomposed()
    old.save(tmp_path / "parts")
    rename, calls = folders.os.rename, []

    def fails(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return rename(*arguments)

    monkeypatch.setattr(folders.os, "rename", fails)
    with pytest.raises(FormatError, match="No space left"):
        decomposed(seed=5)[2].save(tmp_path / "parts")
    assert len(calls) == 3
    np.testing.assert_array_equal(unbraid.load_decomposition(tmp_path / "parts")[0].margins(x), old[0].margins(x))
    assert [path.name for path in tmp_path.iterdir()] == ["parts"]


def test_a_failing_write_leaves_no_trace(tmp_path, monkeypatch):
    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders.os, "fsync", fails)
    with pytest.raises(FormatError, match="No space left"):
        decomposed()[2].save(tmp_path / "parts")
    assert list(tmp_path.iterdir()) == []

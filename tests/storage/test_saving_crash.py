"""After a save is killed (SIGKILL) at any point, the folder has the complete old version or the complete new one."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import unbraid
from tests.storage.test_saving import decomposed, files
from unbraid.cli.app import app
from unbraid.cli.open_any import open_any, pick
from unbraid.errors import FormatError
from unbraid.storage import commit, folders
from unbraid.storage.loading import check_folder

# One process that forks for every point: a fork is killed at its k-th call into the operating system.
SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from unbraid import load_decomposition

work = Path(sys.argv[1])
old, new = load_decomposition(work / "old"), load_decomposition(work / "new")
left = [0]

def deadly(function):
    def call(*arguments, **keywords):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **keywords)
    return call

point = 0
while True:
    point += 1
    target = work / "target"
    if point % 2:
        old.save(target)  # on every second point what the last kill left is still there
        assert sorted(os.listdir(target)) == sorted(os.listdir(work / "old"))
    child = os.fork()
    if child == 0:
        left[0] = point
        for name in ("rename", "replace", "unlink", "rmdir", "mkdir", "fsync", "chmod", "open"):
            setattr(os, name, deadly(getattr(os, name)))
        new.save(target)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    whole = not any(name.startswith(".unbraid-") for name in os.listdir(target))
    found = load_decomposition(target).network.sha256()
    which = {old.network.sha256(): "old", new.network.sha256(): "new"}[found]
    print(point, "killed" if os.WIFSIGNALED(status) else "done", "whole" if whole else "mixed", which, flush=True)
    if not os.WIFSIGNALED(status):
        break
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_killed_save_leaves_the_old_version_or_the_new_one(tmp_path):
    decomposed()[2].save(tmp_path / "old")
    decomposed(seed=5)[2].save(tmp_path / "new")
    source = str(Path(unbraid.__file__).parents[1])
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path)],
        capture_output=True, text=True, timeout=600, env={"PYTHONPATH": source, "PATH": ""},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    lines = [line.split() for line in ran.stdout.splitlines()]
    assert len(lines) > 30 and all(line[1] == "killed" for line in lines[:-1])
    assert {line[3] for line in lines} == {"old", "new"}
    assert {line[3] for line in lines if line[2] == "mixed"} == {"old", "new"}, "no kill fell after the commit"
    assert lines[-1][1:] == ["done", "whole", "new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old", "target"], "left-overs"
    assert files(tmp_path / "target") == files(tmp_path / "new")


@pytest.fixture(scope="module")
def versions():
    return decomposed()[2], decomposed(seed=5)[2]


def killed_after_commit(parts, target, monkeypatch, moved):
    """Put ``target`` into the state after a kill, with ``moved`` of the files moved into place."""

    class Killed(BaseException):
        pass

    replace, done = os.replace, []

    def dies(*arguments):
        if len(done) == moved:
            raise Killed
        done.append(replace(*arguments))

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(commit.os, "replace", dies)
        parts.save(target)
    assert any(name.startswith(".unbraid-") for name in os.listdir(target))


@pytest.mark.parametrize("moved", range(4))
def test_a_committed_version_is_found_by_every_entry(tmp_path, monkeypatch, versions, moved):
    old, new = versions
    new.save(tmp_path / "new")
    entries = {
        "load": unbraid.load_decomposition,
        "open": open_any,
        "pick": lambda place: pick(f"{place}:0,1"),
        "check": check_folder,
        "inspect": lambda place: CliRunner().invoke(app, ["inspect", str(place)], catch_exceptions=False).exit_code,
        "save": lambda place: old.save(place),
    }
    for name, entry in entries.items():
        old.save(tmp_path / name)
        killed_after_commit(new, tmp_path / name, monkeypatch, moved)
        assert not entry(tmp_path / name) or name not in ("inspect", "save")
        if name != "save":
            assert files(tmp_path / name) == files(tmp_path / "new")
        assert not any(found.startswith(".unbraid-") for found in os.listdir(tmp_path / name))


def test_a_first_save_is_found_after_a_kill_too(tmp_path, monkeypatch, versions):
    for kind, saved in (("composition", unbraid.compose(versions[0])), ("module", versions[0][1])):
        killed_after_commit(saved, tmp_path / kind, monkeypatch, 1)
        loaded = {"composition": unbraid.load_composition, "module": unbraid.load_module}[kind](tmp_path / kind)
        assert loaded.labels == saved.labels


def test_a_killed_save_moves_and_is_deleted_with_its_folder(tmp_path, monkeypatch, versions):
    """No older version is restored in a folder that the user emptied."""
    old, new = versions
    new.save(tmp_path / "new")
    old.save(tmp_path / "parts")
    killed_after_commit(new, tmp_path / "parts", monkeypatch, 1)
    (tmp_path / "parts").rename(tmp_path / "published")
    with pytest.raises(FormatError):
        unbraid.load_decomposition(tmp_path / "parts")
    assert not (tmp_path / "parts").exists()
    shutil.copytree(tmp_path / "published", tmp_path / "copy")
    for name in ("published", "copy"):
        assert unbraid.load_decomposition(tmp_path / name).network.sha256() == new.network.sha256()
        assert files(tmp_path / name) == files(tmp_path / "new")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_recovery_needs_no_permission_to_write(monkeypatch, versions):
    old, new = versions
    place = Path(tempfile.mkdtemp())  # others may enter it, unlike pytest's folders
    try:
        place.chmod(0o755)
        old.save(place / "parts")
        killed_after_commit(new, place / "parts", monkeypatch, 1)
        before = sorted(os.listdir(place / "parts"))
        (place / "parts").chmod(0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)  # root may write everywhere
        try:
            assert unbraid.load_decomposition(place / "parts").network.sha256() == new.network.sha256()
            assert check_folder(place / "parts")
            with pytest.raises(FormatError, match=r"cannot be written \(Permission denied\)"):
                old.save(place / "parts")
        finally:
            if root:
                os.seteuid(0)
        assert sorted(os.listdir(place / "parts")) == before
        (place / "parts").chmod(0o755)
        unbraid.load_decomposition(place / "parts")
        assert not any(name.startswith(".unbraid-") for name in os.listdir(place / "parts"))
    finally:
        shutil.rmtree(place)


def test_left_overs_from_before_the_commit_are_deleted_by_the_next_save(tmp_path, monkeypatch, versions):
    old, new = versions
    old.save(tmp_path / "parts")

    class Killed(BaseException):
        pass

    def dies(*_):
        raise Killed

    for target in ("parts", "first"):
        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr(folders, "commit", dies)
            patched.setattr("unbraid.storage.workfolder.remove", lambda _: None)
            new.save(tmp_path / target)
        assert [name for name in os.listdir(tmp_path / target) if name.startswith(".unbraid-")]
    assert unbraid.load_decomposition(tmp_path / "parts").network.sha256() == old.network.sha256()
    new.save(tmp_path / "reference")
    for target in ("parts", "first"):
        new.save(tmp_path / target)
        assert files(tmp_path / target) == files(tmp_path / "reference")


@pytest.mark.parametrize(
    "record", ["", "{}", '{"token": "0", "files": ["unbraid.json"], "removed": []}', None, "../mine.txt"]
)
def test_a_commit_record_that_no_save_wrote_is_not_followed(tmp_path, versions, record):
    versions[0].save(tmp_path / "parts")
    (tmp_path / "mine.txt").write_text("precious")
    token = "0" * 32
    work = tmp_path / "parts" / f".unbraid-{token}"
    work.mkdir()
    (work / token).touch()
    (work / "unbraid.json").write_text("{}")
    if record is None:
        (work / "commit").mkdir()
    elif record.startswith(".."):
        (work / "commit").write_text(f'{{"token": "{token}", "files": ["unbraid.json"], "removed": ["{record}"]}}')
    else:
        (work / "commit").write_text(record)
    assert unbraid.load_decomposition(tmp_path / "parts").labels == versions[0].labels
    with pytest.raises(FormatError, match=work.name):
        versions[1].save(tmp_path / "parts")
    assert (tmp_path / "mine.txt").read_text() == "precious" and len(os.listdir(work)) == 3


def test_a_failing_rename_before_the_commit_leaves_the_old_version(tmp_path, monkeypatch):
    _, x, old = decomposed()
    old.save(tmp_path / "parts")

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(commit.os, "rename", fails)
    with pytest.raises(FormatError, match="No space left"):
        decomposed(seed=5)[2].save(tmp_path / "parts")
    np.testing.assert_array_equal(unbraid.load_decomposition(tmp_path / "parts")[0].margins(x), old[0].margins(x))
    assert [path.name for path in tmp_path.iterdir()] == ["parts"]
    assert not any(name.startswith(".unbraid-") for name in os.listdir(tmp_path / "parts"))


def test_a_failing_rename_after_the_commit_leaves_the_new_version(tmp_path, monkeypatch, versions):
    old, new = versions
    old.save(tmp_path / "parts")

    def fails(*_):
        raise OSError(1, "Operation not permitted")

    with monkeypatch.context() as patched:
        patched.setattr(commit.os, "replace", fails)
        with pytest.raises(FormatError, match="saved, but its files cannot be moved into place"):
            new.save(tmp_path / "parts")
        assert unbraid.load_decomposition(tmp_path / "parts").network.sha256() == new.network.sha256()
    new.save(tmp_path / "reference")
    assert unbraid.load_decomposition(tmp_path / "parts").labels == new.labels
    assert files(tmp_path / "parts") == files(tmp_path / "reference")


def test_a_failing_write_leaves_no_trace(tmp_path, monkeypatch):
    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders.os, "fsync", fails)
    for name in ("parts", "a/b/c"):
        with pytest.raises(FormatError, match="No space left"):
            decomposed()[2].save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []

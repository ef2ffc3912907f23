"""Writes of single files are atomic, and replace regular files only."""

import os
import signal
import stat
import subprocess
import sys

import pytest

from unbraid.demo.small import small_modules
from unbraid.errors import DataError, FormatError
from unbraid.storage import folders
from unbraid.storage.folders import write_file

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX files")


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def test_a_new_file_and_an_old_one(tmp_path):
    for content in (b"one", b"two", b""):
        write_file(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content
    assert os.listdir(tmp_path) == ["file"]


@posix
def test_modes_are_kept_and_new_files_follow_the_umask(tmp_path):
    (tmp_path / "private").write_bytes(b"old")
    (tmp_path / "private").chmod(0o600)
    (tmp_path / "open").write_bytes(b"old")
    (tmp_path / "open").chmod(0o666)
    before = os.umask(0o077)
    try:
        for name in ("private", "open", "new"):
            write_file(tmp_path / name, b"new")
    finally:
        os.umask(before)
    assert [mode(tmp_path / name) for name in ("private", "open", "new")] == [0o600, 0o666, 0o600]


@posix
def test_only_regular_files_are_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "null").symlink_to("/dev/null")
    (tmp_path / "loop").symlink_to("loop")
    before = {name: os.lstat(tmp_path / name).st_mode for name in os.listdir(tmp_path)}
    for name in [*before, "../" + tmp_path.name, "/dev/null"]:
        with pytest.raises(DataError, match="not a regular file"):
            write_file(tmp_path / name, b"new", DataError)
    assert {name: os.lstat(tmp_path / name).st_mode for name in os.listdir(tmp_path)} == before
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root makes devices")
def test_a_device_of_any_name_stays_a_device(tmp_path):
    try:
        os.mknod(tmp_path / "mynull", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except OSError:
        pytest.skip("no devices here")
    with pytest.raises(FormatError, match="not a regular file"):
        write_file(tmp_path / "mynull", b"new")
    assert stat.S_ISCHR(os.stat(tmp_path / "mynull").st_mode)


@posix
def test_a_link_to_a_file_stays_a_link(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("file")
    write_file(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize("name", ["missing/file", "file/inside", "a\0b", "n" * 300])
def test_impossible_names_are_refused(tmp_path, name):
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(FormatError, match="cannot be written"):
        write_file(tmp_path / name, b"new")
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_keeps_the_old_file(tmp_path, monkeypatch):
    write_file(tmp_path / "file", b"old")

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders.os, "fsync", fails)
    with pytest.raises(FormatError, match="No space left"):
        write_file(tmp_path / "file", b"new")
    assert os.listdir(tmp_path) == ["file"] and (tmp_path / "file").read_bytes() == b"old"


KILLED = """
import os, signal, sys
from unbraid.storage import folders
folders.os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
folders.write_file(sys.argv[1], b"new")
"""


@posix
def test_what_a_kill_left_is_deleted_by_the_next_write(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    # Names of a user's that look alike: no marker, another token, letters that are no hexadecimal digits.
    users = [".unbraid-" + "0" * 32, ".unbraid-backup", ".unbraid-" + "g" * 32, ".file.old"]
    for name in users:
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.txt").write_text("precious")
    (tmp_path / (".unbraid-" + "1" * 32)).write_text("a file")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for name in ("file", "other"):
        ran = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / name)], env=environment, timeout=120)
        assert ran.returncode == -signal.SIGKILL
        assert len(os.listdir(tmp_path)) == 7, "the second kill removed what the first left"
    write_file(tmp_path / "another", b"new")
    assert sorted(os.listdir(tmp_path)) == sorted([*users, ".unbraid-" + "1" * 32, "another", "file"])
    assert (tmp_path / "file").read_bytes() == b"old"
    assert all((tmp_path / name / "mine.txt").read_text() == "precious" for name in users)


KINDS = {"onnx": b"\x08\x08rest", "keras": b"PK\x03\x04rest", "html": b"<!doctype html>rest", "text": b"a,b\n1,2\n"}


@pytest.mark.parametrize("new", ["onnx", "keras", "html"])
@pytest.mark.parametrize("old", list(KINDS))
def test_a_file_of_another_kind_is_not_replaced(tmp_path, new, old):
    place = tmp_path / "file"
    place.write_bytes(KINDS[old])
    if new == old:
        write_file(place, KINDS[new] + b"2")
    else:
        with pytest.raises(DataError, match="exists and is not"):
            write_file(place, KINDS[new], DataError)
    assert place.read_bytes() == (KINDS[new] + b"2" if new == old else KINDS[old])


def test_nothing_is_written_into_a_folder_of_saved_modules(tmp_path):
    parts = small_modules()[0]
    parts.save(tmp_path / "parts")
    before = {path.name: path.read_bytes() for path in (tmp_path / "parts").iterdir()}
    for name in ("unbraid.json", "new.onnx"):
        with pytest.raises(FormatError, match="folder of saved modules"):
            write_file(tmp_path / "parts" / name, KINDS["onnx"])
    assert {path.name: path.read_bytes() for path in (tmp_path / "parts").iterdir()} == before

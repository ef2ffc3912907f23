"""Readers during a save get one complete version, and writers wait for each other."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import unbraid
from tests.storage.test_saving import decomposed, files
from unbraid import compose
from unbraid.cli.open_any import open_any
from unbraid.errors import FormatError
from unbraid.storage import folders, loading
from unbraid.storage.loading import check_folder


@pytest.fixture(scope="module")
def versions():
    return decomposed()[2], decomposed(seed=5)[2]


READERS = {
    "load": unbraid.load_composition,
    "open": open_any,
    "check": check_folder,
}


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("reader", READERS)
def test_a_save_between_two_reads_goes_unnoticed(tmp_path, monkeypatch, versions, reader, at):
    """Another version is saved after the reader has read ``at`` files."""
    old, new = (compose(parts) for parts in versions)
    old.save(tmp_path / "parts")
    read, count = loading.read_file, []

    def reads(*arguments):
        count.append(arguments)
        if len(count) == at + 1:
            new.save(tmp_path / "parts")
        return read(*arguments)

    monkeypatch.setattr(loading, "read_file", reads)
    # The save checks what it writes by the same functions, so what it reads counts as well: it runs once all the same.
    found = READERS[reader](tmp_path / "parts")
    monkeypatch.undo()
    if reader != "check":
        digests = {module.parent_sha256 for module in found.modules_by_label.values()}
        assert digests in ({m.parent_sha256 for m in c.modules_by_label.values()} for c in (old, new))
    assert files(tmp_path / "parts")


def test_a_damaged_file_is_still_refused(tmp_path, versions):
    versions[0].save(tmp_path / "parts")
    content = bytearray((tmp_path / "parts" / "parent.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "parts" / "parent.safetensors").write_bytes(content)
    with pytest.raises(FormatError, match="damaged"):
        unbraid.load_decomposition(tmp_path / "parts")


def test_a_reader_does_not_wait_for_ever(tmp_path, monkeypatch, versions):
    """A writer that hangs holds the lock; the reader then reads without it."""
    versions[0].save(tmp_path / "parts")
    (tmp_path / "parts" / "modules.safetensors").write_bytes(b"damaged")
    monkeypatch.setattr(folders, "LONGEST_WAIT", 0.05)
    with folders.locked(tmp_path / "parts"), pytest.raises(FormatError, match="damaged"):
        unbraid.load_decomposition(tmp_path / "parts")


def test_readers_during_saves_get_one_of_the_versions(tmp_path, versions):
    versions[0].save(tmp_path / "parts")
    known = {parts.network.sha256() for parts in versions}
    done = threading.Event()

    def write():
        try:
            for number in range(20):
                versions[number % 2].save(tmp_path / "parts")
        finally:
            done.set()

    def read():
        found = [unbraid.load_decomposition(tmp_path / "parts").network.sha256()]
        while not done.is_set():
            found.append(unbraid.load_decomposition(tmp_path / "parts").network.sha256())
        return found

    with ThreadPoolExecutor(3) as pool:
        writer, readers = pool.submit(write), [pool.submit(read) for _ in range(2)]
        writer.result()
        for reader in readers:
            assert set(reader.result()) <= known
    assert not [path for path in (tmp_path / "parts").iterdir() if path.name.startswith(".")]


def test_writers_of_a_new_folder_do_not_disturb_one_that_fails(tmp_path, monkeypatch, versions):
    """The failing writer deletes the folder that it made; the others make it again."""
    verify = folders.commit
    calls = []

    def sometimes(*arguments):
        calls.append(arguments)
        if len(calls) % 2:
            raise OSError(28, "No space left on device")
        return verify(*arguments)

    monkeypatch.setattr(folders, "commit", sometimes)
    with ThreadPoolExecutor(4) as pool:
        saves = [pool.submit(versions[0].save, tmp_path / "a" / "parts") for _ in range(8)]
        failed = [save.exception() for save in saves]
    assert sum(error is None for error in failed) == 4
    assert all("No space left" in str(error) for error in failed if error is not None)
    assert unbraid.load_decomposition(tmp_path / "a" / "parts").labels == versions[0].labels

"""Benchmarks find and download their data; the publisher is a server on 127.0.0.1."""

import gzip
import hashlib
import json
import threading
import zipfile
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks import files
from benchmarks.datasets import loading as datasets
from benchmarks.datasets import translation as translation_data
from benchmarks.datasets.downloading import SOURCES


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def publisher(tmp_path, monkeypatch):
    """Give ``put(name, file, content)``, which publishes a file for the source of this name; nothing is stored yet."""
    root = tmp_path / "published"
    root.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()

    def put(name, file, content, sha256=None):
        (root / file).write_bytes(content)
        url = f"http://127.0.0.1:{server.server_port}/{file}"
        known = {url: sha256 or hashlib.sha256(content).hexdigest()}
        monkeypatch.setitem(SOURCES, name, replace(SOURCES[name], files=known))
        return root / file

    monkeypatch.setenv("UNBRAID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UNBRAID_SHARED", str(tmp_path / "nowhere"))
    monkeypatch.setenv("UNBRAID_DATA", "")
    monkeypatch.setenv("UNBRAID_DOWNLOAD", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield put
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_downloaded_set_is_kept_and_its_licence_shown_once(publisher, tmp_path, monkeypatch, capsys):
    published = publisher("clinc", "domains.json", b"{}")
    folder = files.data_set("clinc")
    assert folder == tmp_path / "cache" / "data" / "clinc"
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {"domains.json": b"{}"}
    assert "Licence: CC BY 3.0." in capsys.readouterr().err
    published.unlink()
    monkeypatch.setenv("UNBRAID_DOWNLOAD", "")  # what is there already needs neither
    assert files.data_set("clinc") == folder
    assert not capsys.readouterr().err


def test_the_archive_of_mathqa_becomes_lines(publisher, tmp_path):
    rows = [("é = 1 ?", "physics"), ("second", "gain"), ("third", "physics"), ("fourth", "gain")]
    parts = [{"Problem": problem, "Rationale": "", "category": category} for problem, category in rows]
    with zipfile.ZipFile(tmp_path / "made.zip", "w") as archive:
        for part in ("train", "dev", "test"):
            archive.writestr(f"{part}.json", json.dumps(parts))
    publisher("mathqa", "MathQA.zip", (tmp_path / "made.zip").read_bytes())
    folder = files.data_set("mathqa")
    assert {p.name for p in folder.iterdir()} == {"train.jsonl.gz", "dev.jsonl.gz", "test.jsonl.gz"}
    read = {
        part: [
            tuple(json.loads(line).values())
            for line in gzip.decompress((folder / f"{part}.jsonl.gz").read_bytes()).decode("utf-8").splitlines()
        ]
        for part in ("train", "dev", "test")
    }
    assert read == {"train": [rows[1], rows[3], rows[0], rows[2]], "dev": rows, "test": rows}
    assert datasets._mathqa().labels == ["gain", "physics"]


@pytest.mark.parametrize(
    ("sha256", "gone", "message"),
    [("0" * 64, False, "is not the file it was: its sha256 differs"), (None, True, "cannot be downloaded: 404")],
    ids=["another file", "no file"],
)
def test_nothing_is_kept_of_a_download_that_failed(publisher, tmp_path, sha256, gone, message):
    published = publisher("clinc", "domains.json", b"{}", sha256)
    if gone:
        published.unlink()
    with pytest.raises(SystemExit, match=message):
        files.data_set("clinc")
    assert not list((tmp_path / "cache" / "data").iterdir())


def test_nothing_is_downloaded_unasked(publisher, tmp_path, monkeypatch):
    publisher("brown", "brown.zip", b"")
    monkeypatch.setenv("UNBRAID_DOWNLOAD", "0")
    monkeypatch.setenv("UNBRAID_DATA", str(tmp_path / "mine"))
    with pytest.raises(SystemExit) as stopped:
        files.data_set("brown")
    for part in (
        f"no data set brown in {tmp_path / 'mine'}, {tmp_path / 'nowhere' / 'data'}, {tmp_path / 'cache' / 'data'}.",
        "Set UNBRAID_DATA to a folder with brown/: brown.zip and universal_tagset.zip.",
        "Or set UNBRAID_DOWNLOAD=1 to download it from NLTK",
        "non-commercial",
    ):
        assert part in str(stopped.value)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["toxic", *translation_data.FOLDERS.values()])
def test_sets_made_by_hand_are_not_downloaded(publisher, name):
    with pytest.raises(SystemExit, match=f"no data set {name} in .* There are no such files to download"):
        files.data_set(name)


def test_ones_own_folder_comes_first(publisher, tmp_path, monkeypatch):
    monkeypatch.setenv("UNBRAID_DATA", str(tmp_path / "mine"))
    monkeypatch.setenv("UNBRAID_SHARED", str(tmp_path / "shared"))
    (tmp_path / "shared" / "data" / "brown").mkdir(parents=True)
    assert files.data_set("brown") == tmp_path / "shared" / "data" / "brown"
    (tmp_path / "mine" / "brown").mkdir(parents=True)
    assert files.data_set("brown") == tmp_path / "mine" / "brown"


def test_every_set_has_a_source_with_pinned_files():
    assert set(SOURCES) == {*datasets.READERS, *translation_data.FOLDERS.values()}
    for source in SOURCES.values():
        assert all(url.startswith("https://") and len(sha256) == 64 for url, sha256 in source.files.items())


@pytest.mark.parametrize("name", ["brown", "clinc"])
def test_the_pinned_files_are_those_that_were_measured(shared, name):
    for url, sha256 in SOURCES[name].files.items():
        content = (shared / "data" / name / url.rpartition("/")[2]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == sha256

"""A save deletes only files written by a save, and keeps permissions."""

import dataclasses
import json
import os
import stat
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import unbraid
from tests.storage.test_saving import decomposed, files
from tests.storage.test_saving_crash import killed_after_commit
from unbraid.cli.app import app
from unbraid.errors import FormatError
from unbraid.modules.about import NOTHING
from unbraid.storage.loading import check_folder
from unbraid.storage.saving import save_decomposition

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")


@pytest.fixture(scope="module")
def versions():
    return decomposed()[2], decomposed(seed=5)[2]


def tree(folder):
    """Return path -> content of all files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


STRANGERS = {
    "code": lambda place: (place / "train.py").write_text("import unbraid"),
    "a hidden file": lambda place: (place / ".env").write_text("KEY=1"),
    "a repository": lambda place: (place / ".git").mkdir() or (place / ".git" / "config").write_text("x"),
    "an empty folder": lambda place: (place / "notes").mkdir(),
    "a link": lambda place: (place / "data").symlink_to(place.parent),
    "a known name that this version has not": lambda place: (place / "recipe.yaml").write_text("data: [x.csv]"),
    "a folder of a known name": lambda place: (place / "README.md").unlink() or (place / "README.md").mkdir(),
    "a link of a known name": lambda place: (
        (place / "README.md").unlink() or (place / "README.md").symlink_to(place / "unbraid.json")
    ),
    "a folder named like a working folder": lambda place: (
        (place / (".unbraid-" + "a" * 32)).mkdir()
        or (place / (".unbraid-" + "a" * 32) / "thesis.txt").write_text("precious")
    ),
    "an older save's name": lambda place: (place / ".parts.old").mkdir(),
}


@pytest.mark.skipif(sys.platform == "win32", reason="links")
@pytest.mark.parametrize("stranger", STRANGERS)
def test_a_folder_with_anything_else_in_it_is_refused_by_name(tmp_path, monkeypatch, versions, stranger):
    place = tmp_path / "parts"
    versions[0].save(place)
    known = set(os.listdir(place))
    STRANGERS[stranger](place)
    names = set(os.listdir(place)) - known or {"README.md"}
    before = tree(place)
    for target in (place, tmp_path / "parts" / "..", tmp_path):
        with pytest.raises(FormatError) as refused:
            versions[1].save(target)
        assert target != place or all(name in str(refused.value) for name in names)
    monkeypatch.chdir(place)
    ran = CliRunner().invoke(app, ["compose", f"{place}:0,1", "-o", "."])
    assert ran.exit_code == 2, ran.output
    assert tree(place) == before
    unbraid.load_decomposition(place)  # strangers are no obstacle to reading


def test_a_refusal_names_a_few_of_many_files(tmp_path, versions):
    versions[0].save(tmp_path / "parts")
    for number in range(50):
        (tmp_path / "parts" / f"file{number:02}\x1b[31m").write_text("x")
    with pytest.raises(FormatError, match=r"file00.*file01.*file02.* and 47 more") as refused:
        versions[0].save(tmp_path / "parts")
    assert len(str(refused.value)) < 600 and "\x1b" not in str(refused.value)


MANIFESTS = {
    "truncated": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "of another program": lambda text: '{"name": "unbraid", "version": 2}',
    "of a newer format": lambda text: json.dumps({**json.loads(text), "format": 999}),
    "no JSON": lambda text: "\x00\xff",
}


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_a_folder_without_a_valid_manifest_is_refused(tmp_path, versions, manifest):
    place = tmp_path / "parts"
    versions[0].save(place)
    text = (place / "unbraid.json").read_text()
    (place / "unbraid.json").write_text(MANIFESTS[manifest](text), encoding="latin-1")
    before = tree(place)
    with pytest.raises(FormatError, match="is not an Unbraid folder"):
        versions[1].save(place)
    assert tree(place) == before


@pytest.mark.parametrize("name", ["train.py", "../outside.txt", "notes/a.txt", ".git", "vocabulary-x.json"])
def test_a_manifest_cannot_make_a_users_file_ours(tmp_path, versions, name):
    """A manifest of another author may name any file."""
    place = tmp_path / "parts"
    versions[0].save(place)
    (place / "notes").mkdir()
    (place / name).write_text("precious")
    manifest = json.loads((place / "unbraid.json").read_text())
    manifest["files"][name] = "0" * 64
    (place / "unbraid.json").write_text(json.dumps(manifest))
    before = tree(tmp_path)
    with pytest.raises(FormatError):
        versions[1].save(place)
    assert tree(tmp_path) == before


def test_what_lies_beside_the_folder_is_not_touched(tmp_path, versions):
    names = [".parts.old", ".parts.new-backup", ".parts.new-abc_1", ".unbraid-x", ".unbraid-" + "0" * 32]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.txt").write_text("precious")
    versions[1].save(tmp_path / ".parts.new-folder")
    before = tree(tmp_path)
    with pytest.raises(FormatError):
        unbraid.load_decomposition(tmp_path / "parts")
    assert tree(tmp_path) == before
    for _ in range(2):
        versions[0].save(tmp_path / "parts")
        unbraid.load_decomposition(tmp_path / "parts")
    assert {n: c for n, c in tree(tmp_path).items() if n.split(os.sep)[0] != "parts"} == before


def test_an_older_version_beside_the_folder_does_not_come_back(tmp_path, versions):
    """A kill of an earlier release left one under this name; a user may have made it as well."""
    versions[0].save(tmp_path / ".parts.old")
    versions[1].save(tmp_path / "parts")
    (tmp_path / "parts").rename(tmp_path / "published")
    for load in (unbraid.load_decomposition, check_folder):
        with pytest.raises(FormatError):
            load(tmp_path / "parts")
    ran = CliRunner().invoke(app, ["inspect", str(tmp_path / "parts")])
    assert ran.exit_code == 2
    assert sorted(os.listdir(tmp_path)) == [".parts.old", "published"]


def test_the_current_folder_can_be_replaced_and_stays_current(tmp_path, monkeypatch, versions):
    place = tmp_path / "parts"
    versions[0].save(place)
    versions[1].save(tmp_path / "reference")
    monkeypatch.chdir(place)
    before = place.stat().st_ino
    versions[1].save(".")
    assert set(os.listdir(".")) == set(files(tmp_path / "reference")) and Path.cwd() == place
    assert place.stat().st_ino == before and files(place) == files(tmp_path / "reference")
    ran = CliRunner().invoke(app, ["compose", f"{tmp_path / 'reference'}:0,1", "-o", "."])
    assert ran.exit_code == 0, ran.output
    assert unbraid.load_composition(".").labels == [0, 1]


def test_files_that_the_new_version_has_not_are_deleted(tmp_path, monkeypatch, versions):
    """The recipe of an old version belongs to it; also when the save is killed before it is deleted."""
    about = dataclasses.replace(NOTHING, recipe="output: parts")
    old = versions[0]
    versions[1].save(tmp_path / "reference")
    for name, kill in (("plain", False), ("killed", True)):
        place = tmp_path / name
        save_decomposition(place, old.network, list(old.values()), old.config, about)
        assert "recipe.yaml" in os.listdir(place)
        if kill:
            killed_after_commit(versions[1], place, monkeypatch, 2)
            unbraid.load_decomposition(place)
        else:
            versions[1].save(place)
        assert files(place) == files(tmp_path / "reference")


@posix
def test_permissions_stay_and_new_folders_follow_the_umask(tmp_path, versions):
    def modes(place):
        return {name: stat.S_IMODE((place / name).stat().st_mode) for name in ("", *os.listdir(place))}

    before = os.umask(0o027)
    try:
        versions[0].save(tmp_path / "new")
        assert modes(tmp_path / "new").pop("") == 0o750 and set(modes(tmp_path / "new").values()) == {0o640, 0o750}
        (tmp_path / "private").mkdir(mode=0o700)
        versions[0].save(tmp_path / "private")
        assert modes(tmp_path / "private")[""] == 0o700
        for name in os.listdir(tmp_path / "private"):
            (tmp_path / "private" / name).chmod(0o600)
        (tmp_path / "private" / "README.md").chmod(0o644)
        (tmp_path / "new").chmod(0o755)
        expected = {name: modes(tmp_path / name) for name in ("new", "private")}
        os.umask(0o000)
        for name in ("new", "private"):
            versions[1].save(tmp_path / name)
            assert modes(tmp_path / name) == expected[name]
        (tmp_path / "private" / "README.md").unlink()
        versions[1].save(tmp_path / "private")
        assert set(modes(tmp_path / "private").values()) == {0o700, 0o600}, "a new file of a private folder is private"
    finally:
        os.umask(before)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder in which nothing can be made")
def test_places_where_nothing_can_be_made_are_refused(tmp_path, versions):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("precious")
    for place in ("/proc/parts", "/proc/a/b", tmp_path / "loop", tmp_path / "file", tmp_path / "file" / "parts", "/"):
        with pytest.raises(FormatError):
            versions[0].save(place)
    assert sorted(os.listdir(tmp_path)) == ["file", "loop"]


@posix
def test_a_parent_that_cannot_be_written_is_no_obstacle(tmp_path, versions):
    """A folder on a mount point, or one that was made for the user."""
    versions[0].save(tmp_path / "above" / "parts")
    (tmp_path / "above").chmod(0o555)
    try:
        versions[1].save(tmp_path / "above" / "parts")
        assert unbraid.load_decomposition(tmp_path / "above" / "parts").labels == versions[1].labels
        assert os.listdir(tmp_path / "above") == ["parts"]
    finally:
        (tmp_path / "above").chmod(0o755)


def test_a_damaged_folder_can_be_saved_again(tmp_path, versions):
    versions[0].save(tmp_path / "parts")
    versions[0].save(tmp_path / "reference")
    (tmp_path / "parts" / "parent.safetensors").write_bytes(b"damaged")
    (tmp_path / "parts" / "modules.safetensors").unlink()
    with pytest.raises(FormatError):
        unbraid.load_decomposition(tmp_path / "parts")
    versions[0].save(tmp_path / "parts")
    assert files(tmp_path / "parts") == files(tmp_path / "reference")

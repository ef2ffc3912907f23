"""push does not change other files in the repository, and does not upload files outside the folder."""

import json
import os
from contextlib import suppress

import pytest

import unbraid
from tests.hub_server import TOKEN
from unbraid.errors import FormatError, UnbraidWarning
from unbraid.storage import hub as sharing
from unbraid.storage.hub import HubError, push

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def push_to(hub):
    return lambda folder, repo="owner/faq": push(folder, repo, token=TOKEN, endpoint=hub.url)


OTHERS = {
    "a model in one file": {"model.safetensors": b"x", "config.json": b"{}"},
    "files with our names": {"recipe.yaml": b"x", "vocabulary-7.json": b"x"},
    "folders": {"sub/dir/model-1.safetensors": b"x", "vocabulary-a/b.json": b"x"},
    "weights of ours without a manifest": {"modules.safetensors": b"x"},
    "a manifest in a folder": {"sub/unbraid.json": b"{}"},
    "a manifest that is not valid": {"unbraid.json": b"{}"},
    "a manifest that is not JSON": {"unbraid.json": b"\xff\x00"},
    "a readme beside other files": {"README.md": b"theirs", "train.py": b"x"},
}


@pytest.mark.parametrize("others", OTHERS)
def test_a_repository_of_others_is_refused_as_it_is(hub, saved, push_to, others):
    hub.put("owner/bert", OTHERS[others])
    with pytest.raises(HubError, match="push to another repository") as error:
        push_to(saved[0] / "faq", "owner/bert")
    assert any(name in str(error.value) for name in OTHERS[others])
    assert len(hub.repos["owner/bert"]) == 2 and hub.repos["owner/bert"][-1] == OTHERS[others]
    assert "\n" not in str(error.value)


def test_an_empty_repository_is_filled(hub, saved, push_to):
    hub.put("owner/new", {".gitattributes": b"*.safetensors filter=lfs"})
    push_to(saved[0] / "faq", "owner/new")
    assert hub.repos["owner/new"][-1] == {
        **files_of(saved[0] / "faq"),
        ".gitattributes": b"*.safetensors filter=lfs",
    }
    assert "POST /api/repos/create" not in hub.asked


def test_pushing_again_replaces_what_the_old_manifest_names_and_nothing_else(hub, saved, push_to):
    push_to(saved[0] / "parts")
    theirs = {
        "logo.png": b"x", "model.safetensors": b"x", "vocabulary-7.json": b"x", "sub/recipe.yaml": b"x",
        ".gitattributes": b"x",
    }  # fmt: skip
    hub.put("owner/faq", {**hub.repos["owner/faq"][-1], **theirs})
    push_to(saved[0] / "faq")
    assert hub.repos["owner/faq"][-1] == {**files_of(saved[0] / "faq"), **theirs}


def test_files_that_the_new_folder_does_not_have_are_deleted(hub, saved, tmp_path, push_to):
    composition = unbraid.load_composition(saved[0] / "faq")
    composition.about = composition.about.__class__(recipe="modules: []")
    composition.save(tmp_path / "faq")
    push_to(tmp_path / "faq")
    assert "recipe.yaml" in hub.repos["owner/faq"][-1]
    push_to(saved[0] / "faq")
    assert hub.repos["owner/faq"][-1] == files_of(saved[0] / "faq")


def test_a_file_of_others_in_the_way_is_not_overwritten(hub, saved, tmp_path, push_to):
    push_to(saved[0] / "faq")
    hub.put("owner/faq", {**hub.repos["owner/faq"][-1], "recipe.yaml": b"theirs"})
    composition = unbraid.load_composition(saved[0] / "faq")
    composition.about = composition.about.__class__(recipe="modules: []")
    composition.save(tmp_path / "faq")
    with pytest.raises(HubError, match=r"holds 'recipe.yaml', which its unbraid.json does not list"):
        push_to(tmp_path / "faq")
    assert hub.repos["owner/faq"][-1]["recipe.yaml"] == b"theirs"


def test_a_manifest_that_names_files_of_others_gives_no_right_to_them(hub, saved, push_to):
    push_to(saved[0] / "faq")
    manifest = json.loads(hub.repos["owner/faq"][-1]["unbraid.json"])
    manifest["files"] |= {"train.py": "0" * 64, "sub/recipe.yaml": "0" * 64}
    theirs = {"train.py": b"x", "sub/recipe.yaml": b"x"}
    hub.put("owner/faq", {**hub.repos["owner/faq"][-1], **theirs, "unbraid.json": json.dumps(manifest).encode()})
    with suppress(HubError):  # where a manifest has a checksum, this one is wrong
        push_to(saved[0] / "faq")
    assert {name: hub.repos["owner/faq"][-1][name] for name in theirs} == theirs


@pytest.mark.parametrize("readme", [b"theirs", b"---\nlicense: mit\n---\n# Theirs", b"\xff", b""])
def test_a_readme_of_others_is_kept(hub, saved, push_to, readme):
    hub.put("owner/faq", {"README.md": readme, ".gitattributes": b"x"})
    with pytest.warns(UnbraidWarning, match="did not write: it is kept"):
        push_to(saved[0] / "faq")
    assert hub.repos["owner/faq"][-1] == {
        **files_of(saved[0] / "faq"), "README.md": readme, ".gitattributes": b"x",
    }  # fmt: skip


def test_a_model_card_of_unbraid_is_replaced_also_where_it_was_edited(hub, saved, push_to):
    push_to(saved[0] / "parts")
    card = hub.repos["owner/faq"][-1]["README.md"]
    hub.put("owner/faq", {**hub.repos["owner/faq"][-1], "README.md": card.replace(b"# ", b"# Edited: ", 1)})
    push_to(saved[0] / "faq")
    assert hub.repos["owner/faq"][-1]["README.md"] == (saved[0] / "faq" / "README.md").read_bytes()


@pytest.mark.parametrize("name", ["README.md", "modules.safetensors", "unbraid.json"])
def test_what_a_link_points_to_is_not_uploaded(hub, saved, tmp_path, push_to, name):
    unbraid.load_composition(saved[0] / "faq").save(tmp_path / "faq")
    (tmp_path / "faq" / name).rename(tmp_path / "secret")
    (tmp_path / "faq" / name).symlink_to(tmp_path / "secret")
    with pytest.raises(FormatError, match="symbolic link"):
        push_to(tmp_path / "faq")
    assert not hub.asked


def test_a_broken_link_and_a_pipe_are_not_uploaded(hub, saved, tmp_path, push_to):
    unbraid.load_composition(saved[0] / "faq").save(tmp_path / "faq")
    (tmp_path / "faq" / "README.md").unlink()
    (tmp_path / "faq" / "README.md").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FormatError, match="symbolic link"):
        push_to(tmp_path / "faq")
    (tmp_path / "faq" / "README.md").unlink()
    os.mkfifo(tmp_path / "faq" / "README.md")
    with pytest.raises(FormatError, match="not a regular file"):
        push_to(tmp_path / "faq")
    assert not hub.asked


def test_a_change_by_others_meanwhile_is_not_overwritten(hub, saved, push_to, monkeypatch):
    push_to(saved[0] / "faq")
    theirs = {**hub.repos["owner/faq"][-1], "README.md": b"theirs"}
    prepare = sharing._operations

    def slower(*arguments):
        hub.put("owner/faq", theirs)
        return prepare(*arguments)

    monkeypatch.setattr(sharing, "_operations", slower)
    with pytest.raises(HubError, match="changed at the same time"):
        push_to(saved[0] / "parts")
    assert hub.repos["owner/faq"][-1] == theirs

"""Paths that begin with ``~``: the home folder of the user, everywhere."""

import os

import numpy as np
import pytest
import torch

import unbraid
from tests import factory
from tests.cli.shell import run
from unbraid.data.vocabulary import read_vocabulary
from unbraid.demo.small import small_translator
from unbraid.paths import user_path
from unbraid.storage import hub


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Make a home folder with parts, examples and a network; the current folder is another one."""
    folder, here = tmp_path / "home", tmp_path / "here"
    folder.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    monkeypatch.chdir(here)
    net = factory.network(("lstm",), "M:1", labels=["a", "b", "c"])
    x, y = factory.examples(net, 30)
    np.savez(folder / "few.npz", x=x, y=np.asarray(["a", "b", "c"])[y])
    unbraid.decompose(net, (x, y), keep=0.5).save("~/parts")
    assert (folder / "parts" / "unbraid.json").is_file()
    yield folder
    assert os.listdir(here) == []  # no folder is called ~


def test_all_that_is_saved_is_loaded(home):
    parts = unbraid.load_decomposition("~/parts")
    parts["a"].save("~/deep/er/a")
    unbraid.compose(parts).save(user_path("~") / "faq")
    assert unbraid.load_module("~/deep/er/a").label == "a"
    assert unbraid.load_composition("~/faq").labels == ["a", "b", "c"]
    heads = unbraid.HeadsComposition({"one": unbraid.compose(parts)})
    heads.save("~/heads")
    assert list(unbraid.load_heads("~/heads").modules) == list(heads.modules)
    net, pairs = small_translator()
    unbraid.Translator(unbraid.decompose(net, (pairs.x, pairs.languages))).save("~/languages")
    assert unbraid.load_translator("~/languages").languages == ["fr", "de"]


def test_files_of_all_kinds(home):
    layer = torch.nn.Linear(2, 3)
    torch.save(layer.state_dict(), home / "weights.pt")
    assert torch.equal(unbraid.load_weights(torch.nn.Linear(2, 3), "~/weights.pt").weight, layer.weight)
    parts = unbraid.load_decomposition("~/parts")
    unbraid.export_keras(parts.network, "~/net.keras")
    assert unbraid.load("~/net.keras").labels == [0, 1, 2]
    (home / "words.json").write_text('{"one": 1, "two": 2}')
    assert read_vocabulary("~/words.json").to_json() == read_vocabulary(home / "words.json").to_json()
    unbraid.evaluate(unbraid.compose(parts), (np.load(home / "few.npz")["x"], ["a"] * 30)).report("~/report.html")
    assert (home / "report.html").is_file()


def test_a_hub_reads_and_writes_there(home):
    assert set(hub._content("~/parts")) == {entry.name for entry in (home / "parts").iterdir()}


def test_names_that_are_no_home():
    for name in ("~no-such-user-here/x", "a~", "a/~", ""):
        assert user_path(name) == type(user_path(name))(name)


def test_the_command_line(home):
    def done(*arguments, **more):
        found = run(*arguments, **more)
        assert found.exit_code == 0, found.output
        return found.stdout

    (home / "names.txt").write_text("a\nb\nc\n")
    both = "~/net.keras", home / "net.keras"
    done("compose", "~/parts:a,new=b", "-o", "~/faq")
    done("compose", "~/parts:a,b", "--out=~/fair", "--sample", "~/few.npz")
    done("drop", "~/parts", "a", "-o", "~/small")
    done("replace", "~/parts", "a", "~/parts:b", "-o", "~/other")
    unbraid.export_keras(unbraid.load_decomposition("~/parts").network, "~/net.keras")
    done("export", "~/net.keras", "-o", "~/copy.keras")
    assert unbraid.load(home / "copy.keras").spec == unbraid.load(home / "net.keras").spec
    done("report", "~/faq", "~/small", "-o", "~/sizes.html")
    done("compare", "~/parts:a", "~/other:a", "~/few.npz")
    assert unbraid.load_composition("~/faq").labels == ["a", "new"]
    assert "2 modules" in done("inspect", "~/faq")
    assert done("predict", "~/parts", "~/few.npz") == done("predict", home / "parts", home / "few.npz")
    assert done("evaluate", "~/parts", "~/few.npz") == done("evaluate", home / "parts", home / "few.npz")
    against = [done("evaluate", "~/parts", "~/few.npz", "--labels=~/names.txt", f"--against={net}") for net in both]
    assert against[0] == against[1] and (home / "sizes.html").is_file()


def test_an_input_is_not_overwritten_by_another_name(home):
    found = run("report", "~/parts", "~/few.npz", "-o", home / "few.npz")
    assert found.exit_code == 2 and "is an input of this command" in found.stderr


def test_code_of_an_opened_folder_is_not_run(home):
    (home / "parts" / "models.py").write_text("raise SystemExit('run')\n")
    found = run("evaluate", "~/parts", "~/few.npz", "--module", "~/parts/models.py:Net")
    assert found.exit_code == 2 and "no code of an opened folder is run" in found.stderr


def test_options_with_a_name_before_the_file(home):
    (home / "words.json").write_text('{"one": 1, "two": 2}')
    (home / "models.py").write_text("def make(facts): return None\n")
    named = run("evaluate", "~/parts", "~/few.npz", "--vocabulary", "0=~/words.json", "--module", "~/models.py:make")
    plain = run(
        "evaluate", home / "parts", home / "few.npz", "--vocabulary", f"0={home}/words.json",
        "--module", f"{home}/models.py:make",
    )  # fmt: skip
    assert named.exit_code == plain.exit_code and named.output == plain.output.replace(f"{home}/words", "~/words")


@factory.UNCALIBRATED
def test_a_recipe_names_folders_and_its_sample(home, tmp_path):
    (home / "faq.yaml").write_text(
        "modules:\n  - from: ~/parts\n    labels: [a, b]\ncalibration:\n  sample: ~/few.npz\n"
    )
    found = run("compose", "~/faq.yaml", "-o", "~/made")
    assert found.exit_code == 0, found.output
    assert unbraid.load_composition("~/made").labels == ["a", "b"]

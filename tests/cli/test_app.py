"""The command line on real files: all commands, their JSON, and exit code 2 for errors."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from unbraid.cli.app import app
from unbraid.storage.loading import load_composition

runner = CliRunner()


@pytest.fixture(scope="module")
def work(shared, tmp_path_factory):
    """Make a folder with a decomposition of the authors' vanilla model, and small data files."""
    folder = tmp_path_factory.mktemp("cli")
    with np.load(shared / "reference" / "clinc_encoded.npz") as z:
        np.savez(folder / "train.npz", x=z["X"][::5], y=z["Y"][::5])
        np.savez(folder / "test.npz", x=z["x"][::10], y=z["y"][::10])
    model = shared / "reference" / "models" / "vanilla_rnn_many_to_one_model1.h5"
    done = runner.invoke(
        app, ["decompose", str(model), str(folder / "train.npz"), "-o", str(folder / "parts"), "--json"]
    )
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.stdout)["modules"]) == 10
    return folder, model


def test_evaluate_reports_the_cost_of_decomposition(work):
    folder, _ = work
    done = runner.invoke(app, ["evaluate", str(folder / "parts"), str(folder / "test.npz"), "--json"])
    result = json.loads(done.stdout)
    assert result["delta"] == pytest.approx(result["accuracy"] - result["monolithic_accuracy"])
    assert result["decisions"] == 450 and len(result["modules"]) == 10
    text = runner.invoke(app, ["evaluate", str(folder / "parts"), str(folder / "test.npz")]).stdout
    assert f"{result['accuracy']:.4f}" in text


def test_evaluate_reads_labels_by_the_names_that_the_file_gives(work, tmp_path):
    folder, _ = work
    with np.load(folder / "test.npz") as z:
        x, y = z["x"], z["y"]
    names = np.asarray([str(9 - n) for n in range(10)])
    np.savez(tmp_path / "coded.npz", x=x, y=9 - y, labels=names)
    plain = runner.invoke(app, ["evaluate", str(folder / "parts"), str(folder / "test.npz"), "--json"])
    coded = runner.invoke(app, ["evaluate", str(folder / "parts"), str(tmp_path / "coded.npz"), "--json"])
    assert json.loads(coded.stdout) == json.loads(plain.stdout)
    few = tmp_path / "few"
    assert runner.invoke(app, ["compose", f"{folder / 'parts'}:7,2", "-o", str(few)]).exit_code == 0
    done = runner.invoke(app, ["evaluate", str(few), str(tmp_path / "coded.npz"), "--json"])
    assert json.loads(done.stdout)["decisions"] == np.isin(y, (2, 7)).sum()


def test_replacing_says_what_is_no_longer_fair(work, tmp_path):
    folder, _ = work
    sources = [f"{folder / 'parts'}:2,3", "--sample", str(folder / "train.npz")]
    assert runner.invoke(app, ["compose", *sources, "-o", str(tmp_path / "fair")]).exit_code == 0
    done = runner.invoke(
        app, ["replace", str(tmp_path / "fair"), "3", f"{folder / 'parts'}:3", "-o", str(tmp_path / "x")]
    )
    assert done.exit_code == 0 and done.stderr.startswith("warning: '3' is not calibrated as the other modules are.")
    assert done.stderr.count("\n") == 1


def test_compose_replace_and_predict(work):
    folder, _ = work
    parts = folder / "parts"
    done = runner.invoke(app, ["compose", f"{parts}:2,money=0", "-o", str(folder / "few")])
    assert done.exit_code == 0, done.output
    assert load_composition(folder / "few").labels == [2, "money"]
    done = runner.invoke(app, ["replace", str(folder / "few"), "money", f"{parts}:1", "-o", str(folder / "new")])
    assert done.exit_code == 0, done.output
    assert load_composition(folder / "new")["money"].index == 1
    lines = runner.invoke(app, ["predict", str(folder / "new"), str(folder / "test.npz")]).stdout.split()
    assert len(lines) == 450 and set(lines) == {"2", "money"}


def test_predict_of_a_whole_network_matches_the_api(work):
    import unbraid

    folder, model = work
    done = runner.invoke(app, ["predict", str(model), str(folder / "test.npz"), "--json"])
    with np.load(folder / "test.npz") as z:
        expected = unbraid.load(model).predict(z["x"])
    assert json.loads(done.stdout)["predicted"] == expected.tolist()


def test_inspect_says_what_it_is(work):
    folder, model = work
    assert json.loads(runner.invoke(app, ["inspect", str(model), "--json"]).stdout)["io"] == "M:1"
    assert (
        json.loads(runner.invoke(app, ["inspect", str(folder / "parts"), "--json"]).stdout)["kind"] == "decomposition"
    )
    assert "M:1 network" in runner.invoke(app, ["inspect", str(model)]).stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["inspect", "nowhere.h5"], "nowhere.h5"),
        (["inspect", "nowhere"], "no such file or folder"),
        (["evaluate", "{parts}", "nowhere.npz"], "no such file"),
        (["evaluate", "{parts}", "{model}"], "expected an .npz"),
        (["evaluate", "{parts}", "{test}", "--y", "z"], "no array 'z'; it holds ['x', 'y']"),
        (["evaluate", "{model}", "{test}"], "unbraid decompose"),
        (["compose", "{parts}:99", "-o", "{folder}/x"], "has no module '99'"),
        (["compose", "{parts}:1", "{parts}:1", "-o", "{folder}/x"], "comes twice"),
        (["compose", "{parts}:a=1,a=2", "-o", "{folder}/x"], "'a' comes twice"),
        (["compose", "{parts}:1", "{parts}:1=2", "-o", "{folder}/x"], "comes twice"),
        (["decompose", "{parts}", "{test}", "-o", "{folder}/x"], "already holds modules"),
        (["decompose", "{model}", "{test}", "-o", "{folder}/x", "--max-removed", "1.5"], "--max-removed 1.5"),
        (["decompose", "{model}", "{test}", "-o", "{folder}"], "not an Unbraid folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(work, arguments, says):
    folder, model = work
    names = {"parts": folder / "parts", "model": model, "test": folder / "test.npz", "folder": folder}
    done = runner.invoke(app, [a.format(**names) for a in arguments])
    assert done.exit_code == 2
    assert says in done.stderr and done.stderr.count("\n") == 1
    assert not (folder / "x").exists()


def test_every_verb_has_an_example():
    for verb in (command.callback.__name__ for command in app.registered_commands):
        text = runner.invoke(app, [verb, "--help"]).stdout
        assert "Example" in text and f"unbraid {verb}" in text


def test_fuse_makes_one_network_of_a_parents_modules(work):
    folder, _ = work
    few, fused = folder / "few-to-fuse", folder / "fused"
    assert runner.invoke(app, ["compose", f"{folder / 'parts'}:2,money=0", "-o", str(few)]).exit_code == 0
    command = ["fuse", str(few), str(folder / "train.npz"), "-o", str(fused)]
    done = runner.invoke(app, [*command, "--keep", "0.4", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [m["label"] for m in found["modules"]] == [2, "money"]
    assert found["modules"][0]["nodes"] == pytest.approx(0.4, abs=0.01)
    assert "2 modules fused" in runner.invoke(app, command).stdout
    again = load_composition(fused)
    assert again.labels == [2, "money"] and again["money"].weights is again[2].weights
    refused = runner.invoke(app, [*command, "--keep", "2"])
    assert refused.exit_code == 2 and "keep" in refused.stderr

"""Domain evidence and unknown inputs on the command line and in recipes."""

import csv
import json

import numpy as np
import pytest

import unbraid
from tests import strangers
from tests.cli.shell import run
from unbraid.cli.recipes import build_recipe
from unbraid.errors import FormatError

pytestmark = pytest.mark.filterwarnings("ignore:.*accuracy on this sample:unbraid.UnbraidWarning")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("domains")
    for seed, name in enumerate(strangers.SUBJECTS):
        strangers.parts(name, seed=seed).save(folder / name)
    rows = [
        (text, f"{name} {n % 3}") for name in strangers.SUBJECTS for n, text in enumerate(strangers.texts(name, 60, 7))
    ]
    rows += [(text, "other") for text in ["zebras graze", "quantum lattice gauge"] * 5]
    with (folder / "sample.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return folder


def done(*arguments, **settings):
    found = run(*arguments, **settings)
    assert found.exit_code == 0, found.output
    return found.output


def test_composing_states_that_the_evidence_is_used(place):
    assert "evidence" in done("compose", place / "travel", place / "court", "-o", place / "mixed")
    data = json.loads(done("compose", place / "travel", place / "court", "-o", place / "mixed", "--json"))
    assert data["domain"] is True
    found = done("predict", place / "mixed", "-", input="\n".join(strangers.texts("court", 5, 3))).split("\n")[:5]
    assert {line.split()[0] for line in found} == {"court"}
    assert json.loads(done("inspect", place / "mixed", "--json"))["domain"] is True


def test_classes_that_are_numbers_have_a_number_for_unknown_inputs(tmp_path):
    parts, x, y = strangers.numbered()
    parts.save(tmp_path / "parts")
    y[100:] = 9
    np.savez(tmp_path / "data.npz", x=x, y=y)
    found = json.loads(done("evaluate", "parts", "data.npz", "--unknown", 9, "--json", cwd=tmp_path))["unknown"]
    expected = unbraid.evaluate(unbraid.compose(parts), (x, y), unknown=9).unknown
    assert (found["known"], found["unknown"], found["auroc"]) == (100, 100, pytest.approx(expected.auroc))
    data = json.loads(done("predict", "parts", "data.npz", "--unknown", 9, "--json", cwd=tmp_path))
    assert data["labels"] == [0, 1, 2, 9]
    assert data["predicted"] == unbraid.compose(parts).predict(x, unknown=9).tolist()
    for label in ("--9", "9" * 40, "9.0"):  # text, as these are no whole numbers of 64 bits
        data = json.loads(done("predict", "parts", "data.npz", f"--unknown={label}", "--json", cwd=tmp_path))
        assert data["labels"] == [0, 1, 2, label]
    refused = run("predict", "parts", "data.npz", "--unknown", 0, cwd=tmp_path)
    assert refused.exit_code == 2 and "no module has" in refused.stderr


@pytest.mark.filterwarnings("ignore:.*not comparable:unbraid.UnbraidWarning")
def test_it_can_be_switched_off(place):
    out = done("compose", place / "travel", place / "court", "--no-domain", "-o", place / "off")
    assert "not comparable" in out
    assert "evidence about" not in out
    assert not unbraid.load_composition(place / "off").uses_domain


def test_unknown_inputs_get_a_label(place):
    done("compose", place / "travel", place / "court", "-o", place / "mixed")
    lines = done("predict", place / "mixed", "-", "--unknown", "other", input="zebras graze\n").splitlines()
    assert lines == ["other"]
    data = json.loads(done("predict", place / "mixed", "-", "--unknown", "other", "--json", input="zebras graze\n"))
    assert data["labels"][-1] == "other"
    assert data["probabilities"][0][-1] > 0.5
    accepted = done("predict", place / "mixed", "-", "--unknown", "other", "--typicality", 0, input="zebras graze\n")
    assert accepted.strip() != "other"


def test_evaluation_scores_the_rejection(place):
    done("compose", place / "travel", place / "court", "-o", place / "mixed")
    text = done("evaluate", place / "mixed", place / "sample.csv", "--unknown", "other")
    assert "AUROC" in text
    data = json.loads(done("evaluate", place / "mixed", place / "sample.csv", "--unknown", "other", "--json"))
    assert data["unknown"]["unknown"] == 10


def test_a_sample_chooses_the_threshold(place):
    done("compose", place / "travel", place / "court", "--sample", place / "sample.csv", "--unknown", "other", "-o",
         place / "fitted")  # fmt: skip
    fitted = unbraid.load_composition(place / "fitted")
    assert fitted.threshold != 0.05
    assert (fitted.predict(["zebras graze"], unknown="other") == "other").all()


def test_recipes_have_both_settings(place):
    recipe = place / "bot.yaml"
    modules = "modules:\n  - from: travel\n  - from: court\n"
    recipe.write_text(modules)
    assert build_recipe(recipe).uses_domain
    recipe.write_text(modules + "calibration:\n  sample: sample.csv\n  unknown: other\n")
    assert build_recipe(recipe).threshold != 0.05
    recipe.write_text(modules + "domain: 'false'\ncalibration:\n  sample: sample.csv\n")
    assert not build_recipe(recipe).uses_domain
    recipe.write_text(modules + "domain: perhaps\n")
    with pytest.raises(FormatError, match="domain"):
        build_recipe(recipe)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("predict", "travel", "-", "--typicality", "0.1"), "--unknown"),
        (("predict", "travel", "-", "--unknown", "travel 0"), "no module has"),
        (("compose", "travel", "-o", "x", "--unknown", "other"), "--sample"),
        (("compose", "travel", "court", "--sample", "sample.csv", "--unknown", "none", "-o", "x"), "0 examples"),
        (("evaluate", "travel", "sample.csv", "--unknown", "none"), "none"),
    ],
)
def test_wrong_options_are_one_line(place, arguments, message):
    found = run(*arguments, cwd=place, input="a text\n")
    assert found.exit_code != 0
    assert message in found.output
    assert "Traceback" not in found.output


def test_nothing_is_stored_on_request(place):
    parts = strangers.parts("travel", domain=False)
    parts.save(place / "plain")
    found = run("predict", "plain", "-", "--unknown", "other", cwd=place, input="a text\n")
    assert found.exit_code != 0
    assert "domain=True" in found.output

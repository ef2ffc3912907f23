"""Recipes: the compositions that they build, the copy in a folder, and errors in one line."""

import json

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import unbraid
from tests import factory
from unbraid.cli.app import app
from unbraid.cli.recipes import build_recipe, is_recipe, parse_recipe, read_recipe
from unbraid.demo.architectures import sequence_spec
from unbraid.demo.initial import initial_weights
from unbraid.errors import DataError, FormatError, IncompatibleModules, UnbraidError

EXAMPLE = """\
title: FAQ intents
description: |
  What people ask.
license: cc-by-4.0
vote: margin
modules:
  - from: ../intent-parts
    labels: [travel, home]
  - from: ../bank-parts
    labels: {money: banking}      # new name: old name
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Make folders of modules, and data files next to recipes/."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "recipes").mkdir()
    names = {"intent-parts": ["travel", "home", "no"], "bank-parts": ["banking", "cards", "loans"]}
    for seed, (name, labels) in enumerate(names.items()):
        net = factory.network(("lstm",), "M:1", labels=labels, seed=seed)
        x, y = factory.examples(net, 60)
        unbraid.decompose(net, (x, y), samples_per_class=10).save(folder / name)
    net = factory.network(("gru",), "M:1", seed=7)
    unbraid.decompose(net, (x, y), samples_per_class=10).save(folder / "numbers")
    labels = np.array(["travel", "home", "money"])
    np.savez(folder / "recipes" / "dev.npz", x=x, y=labels[y])
    np.savez(folder / "recipes" / "coded.npz", x=x, y=y + 1, labels=["unused", *labels])
    np.savez(folder / "recipes" / "named.npz", inputs=x, kind=np.where(np.arange(60) < 5, "unused", labels[y]))
    return folder


def written(place, text, name="faq.yaml"):
    (place / "recipes" / name).write_text(text)
    return place / "recipes" / name


@factory.UNCALIBRATED
def test_a_recipe_is_built(place):
    composition = build_recipe(written(place, EXAMPLE))
    assert composition.labels == ["travel", "home", "money"] and composition.vote == "margin"
    intents = unbraid.load_decomposition(place / "intent-parts")
    bank = unbraid.load_decomposition(place / "bank-parts")
    x, _ = factory.examples(bank.network, 9, seed=3)
    wanted = unbraid.compose({"travel": intents["travel"], "home": intents["home"], "money": bank["banking"]})
    np.testing.assert_array_equal(composition.margins(x), wanted.margins(x))


@factory.UNCALIBRATED
def test_a_prefix_comes_before_the_labels_of_a_folder(place):
    text = """\
modules:
  - from: ../numbers
    prefix: first
  - from: ../numbers
    labels: {last: "2"}
    prefix: second
"""
    composition = build_recipe(written(place, text, "prefixed.yaml"))
    assert composition.labels == ["first/0", "first/1", "first/2", "second/last"]
    x, _ = factory.examples(unbraid.load_decomposition(place / "numbers").network, 9, seed=3)
    np.testing.assert_array_equal(composition.margins(x)[:, 2], composition.margins(x)[:, 3])


@factory.UNCALIBRATED
def test_the_folder_keeps_the_recipe_and_its_card_says_what_it_says(place, tmp_path):
    path = written(place, EXAMPLE)
    done = CliRunner().invoke(app, ["compose", str(path), "-o", str(tmp_path / "faq")])
    assert done.exit_code == 0 and "3 modules" in done.stdout, done.output
    assert (tmp_path / "faq" / "recipe.yaml").read_text() == EXAMPLE
    card = (tmp_path / "faq" / "README.md").read_text()
    assert "\n# FAQ intents\n\nWhat people ask\\.\n" in card and "license: cc-by-4.0" in card
    assert unbraid.load_composition(tmp_path / "faq").labels == ["travel", "home", "money"]
    build_recipe(path).save(tmp_path / "again", license="mit", scores={"accuracy": 1.0})
    card = (tmp_path / "again" / "README.md").read_text()
    assert "license: mit" in card and "| accuracy | 1 |" in card and "FAQ intents" in card
    (tmp_path / "faq" / "recipe.yaml").unlink()
    build_recipe(path).drop("home").save(tmp_path / "changed")
    assert not (tmp_path / "changed" / "recipe.yaml").exists()


@factory.UNCALIBRATED
def test_a_whole_folder_a_composition_and_one_module(place, tmp_path):
    numbers = unbraid.load_decomposition(place / "numbers")
    numbers[1].save(place / "one")
    build_recipe(written(place, EXAMPLE)).save(place / "faq")
    path = written(place, "modules: [{from: ../one}, {from: ../faq}, {from: ../numbers, labels: [2]}]")
    composition = build_recipe(path)
    assert composition.labels == [1, "travel", "home", "money", 2]
    assert composition["money"].index == 0 and composition[2].index == 2
    path = written(place, f"modules: [{{from: '{place / 'numbers'}', labels: {{zero: 0, 1: 1}}}}]\nvote: probability")
    composition = build_recipe(path)
    assert composition.labels == ["zero", 1] and composition.vote == "probability"


def test_labels_are_text_as_they_are_written(place):
    path = written(place, "modules: [{from: ../intent-parts, labels: [no]}]")
    assert build_recipe(path).labels == ["no"]
    recipe = parse_recipe("modules: [{from: a, labels: {on: 1_0, 2024-01-01: 0x1f, ~: .5}}]\ntitle: 1e3", "r")
    assert recipe.modules[0].labels == {"on": "1_0", "2024-01-01": "0x1f", "~": ".5"} and recipe.title == "1e3"


@factory.UNCALIBRATED
@pytest.mark.parametrize(
    "sample", ["{sample: dev.npz}", "{sample: coded.npz}", "{sample: named.npz, x: inputs, y: kind}"]
)
def test_a_recipe_calibrates(place, tmp_path, sample):
    plain = build_recipe(written(place, EXAMPLE))
    path = written(place, EXAMPLE + f"calibration: {sample}\n")
    composition = build_recipe(path)
    with np.load(place / "recipes" / "dev.npz") as data:
        x, y = data["x"], data["y"]
    used = slice(5 if "named" in sample else 0, None)
    wanted = plain.with_calibration(x[used], y[used]).calibration
    assert composition.calibration == wanted != plain.calibration
    composition.save(tmp_path / "x")
    assert unbraid.load_composition(tmp_path / "x").calibration == wanted


@factory.UNCALIBRATED
def test_a_recipe_asks_for_a_referee(place):
    plain = build_recipe(written(place, EXAMPLE))
    path = written(place, EXAMPLE + "calibration: {sample: dev.npz, referee: true}\n")
    with np.load(place / "recipes" / "dev.npz") as data:
        x, y = data["x"], data["y"]
    np.testing.assert_array_equal(build_recipe(path).margins(x), plain.with_referee(x, y).margins(x))


def test_the_command_line_calibrates_without_a_recipe(place, tmp_path):
    sources = [f"{place}/intent-parts:travel,home", f"{place}/bank-parts:money=banking"]
    sample = ["--sample", f"{place}/recipes/dev.npz"]
    wanted = build_recipe(written(place, EXAMPLE + "calibration: {sample: dev.npz}\n"))
    for more in ([], ["--referee"]):
        done = CliRunner().invoke(app, ["compose", *sources, *sample, *more, "-o", str(tmp_path / "x")])
        assert done.exit_code == 0, done.stderr
        made = unbraid.load_composition(tmp_path / "x")
        assert made.calibration == wanted.calibration and (made.referee is not None) == bool(more)


def test_numbers_of_other_classes_do_not_count(place, tmp_path):
    parts = unbraid.load_decomposition(place / "numbers")
    x, y = factory.examples(parts.network, 60)
    np.savez(tmp_path / "few.npz", x=x, y=y)
    sources = [f"{place}/numbers:{label}" for label in parts.labels[1:]]
    done = CliRunner().invoke(
        app, ["compose", *sources, "--sample", str(tmp_path / "few.npz"), "-o", str(tmp_path / "x")]
    )
    assert done.exit_code == 0, done.stderr
    used = np.isin(y, parts.labels[1:])
    wanted = unbraid.compose([parts[label] for label in parts.labels[1:]]).with_calibration(x[used], y[used])
    assert unbraid.load_composition(tmp_path / "x").calibration == wanted.calibration


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{numbers}", "--referee"], "set its file with --sample"),
        (["{recipe}", "--sample", "{dev}"], "under 'calibration:'"),
        (["{numbers}", "--sample", "{numbers}/no.npz"], "o such file"),
    ],
)
def test_a_sample_that_makes_no_sense_is_refused(place, tmp_path, arguments, message):
    names = {"numbers": place / "numbers", "recipe": written(place, EXAMPLE), "dev": place / "recipes" / "dev.npz"}
    done = CliRunner().invoke(app, ["compose", *(a.format(**names) for a in arguments), "-o", str(tmp_path / "x")])
    assert done.exit_code == 2 and message in done.stderr and not (tmp_path / "x").exists()


TEXTS = [(["red", "cat"], ["colour", "animal"]), (["dog", "blue", "cat"], ["animal", "colour", "other"])]


@pytest.mark.parametrize("tagger", [False, True])
def test_a_sample_of_texts_and_columns_found_by_their_usual_names(tmp_path, tagger):
    spec = sequence_spec("lstm", 1, 7, 6, 8, 2, "M:N" if tagger else "M:1", 4)
    net = unbraid.Network(spec, initial_weights(spec, 0), ["colour", "animal"])
    net = net.with_vocabulary(unbraid.Vocabulary.from_words(["red", "blue", "cat", "dog"], steps=4))
    x = [words for words, _ in TEXTS * 6]
    y = [labels[: len(words)] for words, labels in TEXTS * 6] if tagger else [labels[0] for _, labels in TEXTS * 6]
    inside = [["" if v == "other" else v for v in row] for row in y] if tagger else y
    parts = unbraid.decompose(net, (x, inside), samples_per_class=5)
    parts.save(tmp_path / "parts")
    rows = [json.dumps({"text": a, "label": b}) for a, b in zip(x, y, strict=True)]
    (tmp_path / "few.jsonl").write_text("\n".join(rows))
    sample = ["--sample", str(tmp_path / "few.jsonl")]
    done = CliRunner().invoke(app, ["compose", str(tmp_path / "parts"), *sample, "-o", str(tmp_path / "x")])
    assert done.exit_code == 0, done.stderr
    assert (
        unbraid.load_composition(tmp_path / "x").calibration
        == unbraid.compose(parts).with_calibration(x, inside).calibration
    )


def test_one_recipe_and_no_folders_beside_it(place, tmp_path):
    path = written(place, EXAMPLE, "faq.yml")
    assert is_recipe(path) and not is_recipe(place / "intent-parts")
    done = CliRunner().invoke(app, ["compose", str(path), str(place / "numbers"), "-o", str(tmp_path / "x")])
    assert done.exit_code == 2 and "pass it alone" in done.stderr
    assert not (tmp_path / "x").exists()


ONE = "modules: [{from: ../intent-parts}]\n"
REFUSED = {
    "an empty file": ("", "at least 'modules:'"),
    "a list": ("- a", "a list of 1"),
    "no modules": ("title: x", "field modules: found nothing"),
    "empty modules": ("modules: []", "field modules: found a list of 0"),
    "modules of another kind": ("modules: x", "field modules: found 'x'"),
    "a misspelt key": (ONE + "licence: mit", r"field licence: found an unknown key\. Did you mean 'license'\?"),
    "the one key misspelt": ("modles: [{from: a}]", "Did you mean 'modules'"),
    "a misspelt key of a part": ("modules: [{from: a, label: [b]}]", r"modules\.0\.label: .*Did you mean 'labels'\?"),
    "a misspelt key of a calibration": (ONE + "calibration: {sampel: a}", r"\.sampel: .*Did you mean 'sample'\?"),
    "a strange key": (ONE + "zzz: 1", "Expected one of modules, vote, title, description, license, calibration"),
    "a part without a folder": ("modules: [{labels: [a]}]", "field modules.0.from: found nothing"),
    "a part that is none": ("modules: [x]", "field modules.0: found 'x'"),
    "no labels": ("modules: [{from: a, labels: []}]", "modules.0.labels: found a list of 0; expected a list of labels"),
    "labels that are none": ("modules: [{from: a, labels: x}]", "modules.0.labels: found 'x'; expected a list"),
    "a label twice": ("modules: [{from: a, labels: [b, b]}]", "a label comes twice"),
    "a label of another kind": ("modules: [{from: a, labels: {b: [c]}}]", "modules.0.labels.b: found a list of 1"),
    "another vote": (ONE + "vote: mean", "field vote: found 'mean'; .*'margin' or 'probability'"),
    "a calibration without a sample": (ONE + "calibration: {}", "field calibration.sample: found nothing"),
    "a sample that is missing": (ONE + "calibration: {sample: no.npz}", "field calibration: .*no.npz: .*o such file"),
    "a folder that is missing": ("modules: [{from: nowhere}]", "field modules.0: .*nowhere: no such file or folder"),
    "a label that is missing": ("modules: [{from: ../intent-parts, labels: [x]}]", "field modules.0: .*no module 'x'"),
    "a class twice": ("modules: [{from: ../numbers}, {from: ../numbers}]", "field modules.1: label 0 comes twice"),
    "a key twice": ("modules: []\nmodules: []", "line 2: found key 'modules' twice"),
    "no YAML": ("a: [", "line 1"),
    "tabs": ("a:\n\t- b", "line 2"),
    "two documents": ("a: b\n---\na: b", "line 2"),
    "control characters": ("a: \x00", "special characters are not allowed"),
    "a key that is none": ("? [a]\n: b", "line 1"),
    "an alias": ("a: &a [x]\nb: *a", "line 2: found an alias"),
    "a merge": ("a: &a {x: y}\nb: {<<: *a}", "found an alias"),
    "an alias to itself": ("&a [*a]", "found an alias"),
    "many aliases": ("a0: &a0 x\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40)), "alias"),
    "a tag that runs code": ("a: !!python/object/apply:os.system [id]", "found a tag .*os.system"),
    "a tag of an object": ("!!python/object:unbraid.Network {}", "line 1: found a tag"),
    "a tag of our own": ("title: !x y", "found a tag '!x'"),
    "binary": ("title: !!binary aGk=", "found a tag"),
    "deep lists": ("modules: " + "[" * 5000, "nested too deeply"),
    "deep mappings": ("\n".join(" " * n + f"k{n}:" for n in range(600)), "nested too deeply"),
    "deep lists over lines": ("modules:\n" + "".join(" " * n + "-\n" for n in range(300)), "nested too deeply"),
    "deep lists in one line": ("modules: \n" + "- " * 5000, "nested too deeply"),
    "brackets in brackets": ("modules: " + "[{a: " * 20000, "nested too deeply"),
    "half a character": ('title: "\\uD800"\n' + ONE, "half of a surrogate pair"),
    "no character": ('title: "\\UFFFFFFFF"\n' + ONE, "not YAML that can be read"),
    "a long folder": ("modules: [{from: " + "x" * 3000 + "}]", "field modules.0: .*no such file or folder"),
    "a long path": ("modules: [{from: " + "x/" * 3000 + "}]", "field modules.0: .*no such file or folder"),
    "a long file": ("modules: [{from: " + "x" * 3000 + ".h5}]", "field modules.0: "),
    "a long sample": (ONE + "calibration: {sample: " + "x" * 3000 + ".npz}", "field calibration: "),
    "a long label": ("modules: [{from: ../intent-parts, labels: [" + "x" * 3000 + "]}]", "modules.0: .*no module"),
    "a NUL in a folder": ('modules: [{from: "a\\0b"}]', r"field modules.0: .*a\\x00b.*no such file or folder"),
    "a NUL in a sample": (ONE + 'calibration: {sample: "a\\0b.npz"}', "field calibration: "),
    "a huge number": (ONE + "vote: " + "9" * 10000, "field vote"),
    "a long key": ("k" * 300 + ": 1\n" + ONE, "found an unknown key"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_recipe_is_one_clear_line(place, what):
    text, says = REFUSED[what]
    path = written(place, text, "wrong.yaml")
    with pytest.raises((FormatError, DataError, IncompatibleModules), match=says) as error:
        build_recipe(path)
    message = str(error.value)
    assert message.startswith(str(path)) and "\n" not in message and len(message) - 3 * len(str(path)) < 350


def test_files_that_are_none(place, tmp_path):
    for content, says in (
        (b"# " + b"x" * 2**20, "more than 262144 bytes"),
        (b"title: \xff", "not UTF-8"),
        (None, "no such file"),
    ):
        path = tmp_path / "x.yaml"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(FormatError, match=says):
            read_recipe(path)
    with pytest.raises(FormatError, match="cannot be read"):
        read_recipe(tmp_path)
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfmodules: [{from: a}]")
    assert read_recipe(tmp_path / "bom.yaml").modules[0].source == "a"


def test_a_whole_network_is_no_module(place):
    path = written(place, "modules: [{from: ../../x.h5}]")
    with pytest.raises(UnbraidError, match=r"field modules\.0"):
        build_recipe(path)


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


values = st.recursive(names, lambda v: st.lists(v, max_size=3) | st.dictionaries(names, v, max_size=3))


@given(st.text(max_size=200) | values.map(yaml.safe_dump))
def test_any_text_is_a_recipe_or_refused(text):
    try:
        parse_recipe(text, "r.yaml")
    except FormatError as error:
        assert "\n" not in str(error)


@given(st.dictionaries(names, names, min_size=1, max_size=4), names, st.none() | names)
def test_whatever_yaml_writes_comes_back(labels, source, title):
    data = {"modules": [{"from": source, "labels": labels}], **({"title": title} if title else {})}
    found = parse_recipe(yaml.safe_dump(data, default_style='"', allow_unicode=True), "r.yaml")
    assert found.modules[0].labels == labels and found.modules[0].source == source and found.title == title


@pytest.mark.parametrize(("folders", "labels"), [(1, 4_001), (501, 1), (20_000, 1)])
def test_recipes_that_would_take_too_long_to_compose_are_refused(folders, labels):
    part = "{from: a, labels: [" + ", ".join(map(str, range(labels))) + "]}"
    with pytest.raises(FormatError, match="at most"):
        parse_recipe("modules: [" + ", ".join([part] * folders) + "]", "r.yaml")

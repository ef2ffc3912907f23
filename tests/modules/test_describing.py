"""`repr` of modules, decompositions and compositions: short, one line for each of a few modules."""

import copy

import pytest

import unbraid
from tests import factory
from unbraid.demo.small import small_translator


def parts_of(labels, cell="gru", **settings):
    network = factory.network((cell,), "M:1", classes=len(labels), labels=labels, seed=len(cell))
    return unbraid.decompose(network, factory.examples(network, 10 * len(labels)), samples_per_class=5, **settings)


def test_a_module_names_its_class_and_size():
    parts = parts_of(["a", "b"], keep=0.3)
    kept = f"{parts['a'].retention().nodes:.1%}"
    assert repr(parts["a"]) == f"ConcernModule('a', M:1, rolled, {kept} of the hidden units)"
    assert repr(copy.deepcopy(parts["a"])) == repr(parts["a"])


def test_a_decomposition_shows_five_modules():
    lines = repr(parts_of([f"intent {n}" for n in range(8)], mode="unrolled")).splitlines()
    assert lines[0] == "Decomposition(8 modules, strategy='paper')"
    assert len(lines) == 7 and lines[-1] == "  ... 3 more" and "'intent 4': ConcernModule(" in lines[5]
    assert "unrolled" in lines[1]


@factory.UNCALIBRATED
def test_a_composition_names_its_vote_and_parents():
    first, second = parts_of(["a", "b"]), parts_of(["c", "d"], "lstm")
    assert repr(unbraid.compose(first)).splitlines()[0] == "Composition(2 modules, 1 parent network, vote='margin')"
    mixed = unbraid.compose([first["a"], second["d"]], vote="probability")
    assert repr(mixed).splitlines()[0] == "Composition(2 modules, 2 parent networks, vote='probability')"
    calibrated = unbraid.Composition({"a": first["a"], "x": first["b"]}, calibration={"x": (2.0, 0.0)})
    assert repr(calibrated).splitlines()[0].endswith("vote='margin', calibrated)") and "  'x': " in repr(calibrated)


@pytest.mark.parametrize("label", ["\x1b[31mred", "line\nbreak", "x" * 500])
def test_labels_cannot_change_the_terminal(label):
    text = repr(parts_of([label, "b"]))
    assert len(text.splitlines()) == 3 and "\x1b" not in text and max(map(len, text.splitlines())) < 160


def test_a_translator_shows_its_languages():
    network, pairs = small_translator()
    lines = repr(unbraid.Translator(unbraid.decompose(network, (pairs.x, pairs.languages)))).splitlines()
    assert lines[0] == "Translator(2 modules)" and lines[1].startswith("  'fr': ConcernModule('fr', encoder-decoder, ")


@pytest.mark.parametrize("made", ["module", "decomposition", "composition"])
def test_tables_for_notebooks_are_escaped_and_short(made):
    parts = parts_of(["<b>bold & 'x'", *(f"intent {n}" for n in range(29))])
    shown = {"module": parts["<b>bold & 'x'"], "decomposition": parts, "composition": unbraid.compose(parts)}[made]
    text = shown._repr_html_()
    assert "<b>" not in text and "&lt;b&gt;bold &amp; &#x27;x&#x27;" in text
    assert text.startswith("<table>") and text.count("<tr>") == (2 if made == "module" else 22)
    assert ("... 10 more" in text) == (made != "module")
    assert f"<td>{parts['<b>bold & ' + chr(39) + 'x' + chr(39)].retention().nodes:.1%}</td>" in text

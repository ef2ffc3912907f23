"""Messages of errors and warnings are short and printable, whatever the names in them are."""

import pytest
import yaml

import unbraid
from tests import factory
from unbraid.errors import LONGEST, ConfigError, DataError, UnbraidError, UnbraidWarning, UnknownLabel
from unbraid.networks.layers import sliced
from unbraid.storage import rebuilding

NAMES = {
    "long": "l" * 9_000,
    "long words": "many words " * 900,
    "escape codes": "a\x1b[31m" * 900,
    "surrogates": "\ud800" * 900,
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("kind", [UnbraidError, ConfigError, UnknownLabel, UnbraidWarning])
def test_every_message_is_bounded(name, kind):
    shown = str(kind(f"module {name!s}: not found, found {[name] * 3}."))
    assert shown.isprintable() and len(shown) <= LONGEST and shown.startswith("module ")


def test_lines_and_short_messages_stay_as_they_are():
    text = "first line: 'é' and 语\nsecond line " + "x" * 300
    assert str(UnbraidError(text)) == text
    assert str(UnbraidError()) == ""


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_languages_with_long_names(name):
    for languages in (factory.LANGUAGES, (name, "de", "it")):
        network = factory.translator(languages=factory.LANGUAGES)
        names = [
            tag.model_copy(update={"name": own}) for tag, own in zip(network.spec.languages, languages, strict=True)
        ]
        spec = network.spec.model_copy(update={"languages": names})
        with pytest.raises(DataError) as error:
            unbraid.Network(spec, network.state_dict(), labels=[name, "b", "c"])
        assert len(str(error.value)) <= LONGEST and str(error.value).isprintable()


@pytest.mark.filterwarnings("ignore::unbraid.UnbraidWarning")
def test_labels_with_long_names():
    labels = [NAMES["long words"] + str(n) for n in range(3)]
    network = factory.network(("lstm",), "M:1", classes=3)
    network.labels = labels
    x, y = factory.examples(network, 60)
    parts = unbraid.decompose(network, (x, y), keep=0.5)
    for wrong in (
        lambda: unbraid.decompose(network, (x, ["unknown"] * len(x))),
        lambda: unbraid.evaluate(unbraid.compose(parts), (x, ["unknown"] * len(x))),
        lambda: parts["unknown"],
        lambda: unbraid.compose([parts[labels[0]], parts[labels[0]]]),
        lambda: unbraid.compose(parts).drop(labels[0] + "x"),
    ):
        with pytest.raises(UnbraidError) as error:
            wrong()
        assert len(str(error.value)) <= LONGEST


@pytest.mark.parametrize("label", ["a\0b", "\ud800", "x" * 10_001, 2**70])
def test_labels_that_cannot_be_saved_are_refused_when_they_are_given(label):
    network = factory.network(("lstm",), "M:1", classes=3)
    parts = unbraid.decompose(network, factory.examples(network, 60), keep=0.5)
    module = next(iter(parts.values()))
    composition = unbraid.compose(parts)
    for use in (
        lambda: unbraid.compose({label: module}),
        lambda: composition.add(module, label=label),
        lambda: unbraid.compose({label: parts}) if isinstance(label, str) else unbraid.compose({label: module}),
    ):
        with pytest.raises(DataError) as error:
            use()
        assert str(error.value).isprintable() and len(str(error.value)) <= LONGEST


def test_settings_and_kept_units_of_equal_modules_are_read_once(tmp_path, monkeypatch):
    network = factory.network(("lstm",), "M:1", classes=3)
    module = next(iter(unbraid.decompose(network, factory.examples(network, 60), keep=0.5).values()))
    calls = []
    monkeypatch.setattr(rebuilding, "sliced", lambda *given: calls.append("sliced") or sliced(*given))
    monkeypatch.setattr(yaml, "safe_dump", lambda *given, **named: calls.append("yaml") or "a: 1\n")
    unbraid.compose({f"module {n}": module for n in range(60)}).save(tmp_path / "x")
    assert calls.count("yaml") <= 2 and calls.count("sliced") <= 2

"""Messages of errors and warnings are short and printable, whatever the names in them are."""

import pytest

import unbraid
from tests import factory
from unbraid.errors import LONGEST, ConfigError, DataError, UnbraidError, UnbraidWarning, UnknownLabel

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

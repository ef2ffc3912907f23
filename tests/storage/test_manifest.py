"""The checksum of unbraid.json, and the consistency of its fields."""

import json
import shutil

import numpy as np
import pytest

import unbraid
from tests import factory
from tests.locations import DATA
from tests.manifests import edit, sealed
from tests.storage.test_saving import decomposed
from tests.translation.talking import modules as language_modules
from unbraid import Composition, Translator, compose
from unbraid.cli.open_any import open_any
from unbraid.data.vocabulary import Vocabulary
from unbraid.errors import DataError, FormatError
from unbraid.storage.loading import check_folder, load_modules
from unbraid.storage.manifest import checksum

KEPT = DATA / "format2"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders of all kinds, by name."""
    place = tmp_path_factory.mktemp("saved")
    network, _, parts = decomposed()
    network.with_vocabulary(Vocabulary.from_words([f"w{n}" for n in range(40)], steps=factory.WORDS))
    parts.save(place / "decomposition")
    parts[0].save(place / "module")
    _, _, tags = decomposed(names=("gru",), seed=3)
    mixed = Composition({"a": parts[0], "b": parts[1], "c": tags[2]})
    mixed.with_referee(np.ones((30, 4), int) * np.arange(30)[:, None], np.arange(30) % 3).save(place / "composition")
    shutil.copytree(KEPT / "fused", place / "fused")
    Translator(language_modules()).save(place / "translator")
    return place


@pytest.fixture
def copy(saved, tmp_path):
    return lambda kind: shutil.copytree(saved / kind, tmp_path / kind)


KINDS = ("decomposition", "module", "composition", "fused", "translator")


def refused(folder, message):
    for read in (load_modules, check_folder, open_any):
        with pytest.raises(FormatError, match=message) as error:
            read(folder)
        assert str(folder) in str(error.value) and len(str(error.value)) < 700


@pytest.mark.parametrize("kind", KINDS)
def test_a_manifest_has_the_checksum_of_its_other_fields(kind, saved):
    manifest = json.loads((saved / kind / "unbraid.json").read_text())
    assert manifest["format"] == 2 and manifest["checksum"] == checksum(manifest)
    again = json.dumps({**manifest, "checksum": "0" * 64}, indent=7, sort_keys=True)
    assert checksum(json.loads(again)) == manifest["checksum"]  # neither spaces nor the order of fields count


def edited(kind, change):
    return pytest.param(kind, change, id=f"{kind}: {change.__doc__}")


def labels_swapped(m):
    "labels swapped"
    m["modules"][0]["label"], m["modules"][1]["label"] = m["modules"][1]["label"], m["modules"][0]["label"]


def parent_labels(m):
    "the parent's labels reversed"
    m["parents"][0]["labels"].reverse()


def calibration(m):
    "another temperature"
    m["modules"][0]["temperature"] = 3.0


def offset(m):
    "another offset"
    m["modules"][1]["offset"] = 2.5


def not_compact(m):
    "no weights of its own"
    m["modules"][0]["compact"] = False


def idle(m):
    "idle columns"
    m["modules"][0]["idle"] = 2


def padding(m):
    "text padded at the other side"
    m["parents"][0]["vocabulary"]["side"] = "left"


def unknown(m):
    "unknown words left out"
    m["parents"][0]["vocabulary"]["unknown"] = None


def vote(m):
    "another vote"
    m["vote"] = "probability"


def no_shares(m):
    "weights of another module"
    m["modules"][1]["shares"] = None


def scores(m):
    "other scores"
    m["scores"] = {"accuracy": 1.0}


def a_default_less(m):
    "a field with a default left out"
    del m["modules"][0]["offset"]


def version(m):
    "another version of the library"
    m["unbraid"] = "9.9"


CHANGES = (
    labels_swapped,
    parent_labels,
    calibration,
    offset,
    idle,
    padding,
    unknown,
    vote,
    scores,
    a_default_less,
    version,
)


@pytest.mark.parametrize(
    ("kind", "change"),
    [edited("composition", change) for change in CHANGES]
    + [edited("fused", change) for change in (not_compact, no_shares)],
)
def test_an_edited_manifest_is_refused(kind, change, copy):
    """F07: these load without the checksum and decide otherwise, all but the last."""
    folder = copy(kind)
    manifest = json.loads((folder / "unbraid.json").read_text())
    change(manifest)
    (folder / "unbraid.json").write_text(json.dumps(manifest))
    refused(folder, "field checksum: it does not match the other fields")


@pytest.mark.parametrize("kind", KINDS)
def test_a_checksum_that_is_taken_out_is_noticed(kind, copy):
    folder = copy(kind)
    manifest = json.loads((folder / "unbraid.json").read_text())
    for other in ({}, {"checksum": None}, {"checksum": ""}, {"checksum": "0" * 64}, {"checksum": 5}):
        (folder / "unbraid.json").write_text(json.dumps({**without(manifest, "checksum"), **other}))
        refused(folder, "field checksum")
    (folder / "unbraid.json").write_text(json.dumps({**manifest, "format": 1}))
    refused(folder, "format 1 has none")


def without(manifest, name):
    return {key: value for key, value in manifest.items() if key != name}


@pytest.mark.parametrize("kind", KINDS)
def test_no_flipped_bit_of_a_manifest_is_accepted(kind, copy):
    folder = copy(kind)
    content = (folder / "unbraid.json").read_bytes()
    for place in np.random.default_rng(0).integers(0, len(content) * 8, 150):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << (place % 8)
        (folder / "unbraid.json").write_bytes(damaged)
        with pytest.raises(FormatError):
            load_modules(folder)


JSON = {
    "a field twice": ('"vote"', '"vote": "margin", "vote"', "'vote' occurs twice"),
    "a field twice, spelt otherwise": ('"vote"', '"\\u0076ote": "margin", "vote"', "'vote' occurs twice"),
    "a field twice, inside": ('"idle"', '"idle": 0, "idle"', "'idle' occurs twice"),
    "NaN": ('"scores": {', '"scores": {"x": NaN', "NaN is no JSON number"),
    "infinity": ('"scores": {', '"scores": {"x": 1e999', "not valid JSON"),
    "a number of 5,000 digits": ('"scores": {', '"scores": {"x": ' + "9" * 5000, "4300"),
    "half a surrogate": ('"scores": {', '"scores": {"x": "\\ud800"', "not valid JSON"),
    "deep lists": ('"scores": {', '"scores": {"x": ' + "[" * 200 + "]" * 200, "levels deep"),
    "very deep lists": ('"scores": {', '"scores": {"x": ' + "[" * 10**5 + "]" * 10**5, "levels deep"),
    "text that is not UTF-8": ('"scores": {', '"scores": {"x": "\udcff"', "not UTF-8"),
}


@pytest.mark.parametrize("what", JSON)
def test_json_that_can_be_read_in_two_ways_is_refused(what, copy):
    old, new, message = JSON[what]
    folder = copy("module")
    text = (folder / "unbraid.json").read_text()
    (folder / "unbraid.json").write_bytes(text.replace(old, new, 1).encode("utf-8", "surrogateescape"))
    refused(folder, message)


REFERENCES = {
    "a parent without modules": (
        "decomposition",
        lambda m: m["parents"].append(m["parents"][0]),
        "this network has no module",
    ),
    "two modules in a module's folder": (
        "module",
        lambda m: m["modules"].append({**m["modules"][0], "label": "x"}),
        "sliced_by: found 0|expected one in a folder",
    ),
    "a network in slices": ("decomposition", lambda m: m["parents"][0].update(sliced_by=0), "expected whole networks"),
    "slices of a later module": (
        "decomposition",
        lambda m: m["parents"][0].update(sliced_by=1),
        "expected the first of its modules",
    ),
    "slices of an unrolled module": (
        "module",
        lambda m: m["modules"][0].update(mode="unrolled", config={**m["modules"][0]["config"], "mode": "unrolled"}),
        "all rolled",
    ),
    "a number that is no whole one": ("module", lambda m: m["parents"][0].update(sliced_by=-0.0), "valid integer"),
    "a number as a text": ("module", lambda m: m["modules"][0].update(index="1"), "valid integer"),
    "a truth value as a number": ("module", lambda m: m["modules"][0].update(index=True), "valid integer"),
    "words for classes": ("decomposition", lambda m: m["modules"][0].update(words=3), "field modules.0.words"),
    "a translator without words": ("translator", lambda m: m["modules"][0].update(words=None), "field modules.0.words"),
    "more words than there are": ("translator", lambda m: m["modules"][0].update(words=2**40), "modules.0.words"),
    "bridges of a classifier": ("decomposition", lambda m: m["modules"][0].update(bridged=True), "bridged"),
    "the parent's head": ("decomposition", lambda m: m["modules"][0].update(shares_head=True), "shares_head"),
    "a module that only says it is compact": (
        "decomposition",
        lambda m: m["modules"][0].update(compact=True),
        "missing",
    ),
    "compact and by gates": (
        "decomposition",
        lambda m: m["modules"][0].update(
            compact=True, by_gates=True, config={**m["modules"][0]["config"], "gates": "each"}
        ),
        "tensor '0/mask/rnn0'",
    ),
    "an original of another class": (
        "fused",
        lambda m: m["modules"][0].update(original=m["modules"][1]["original"]),
        "original of the same class",
    ),
    "an original of nothing": ("fused", lambda m: m["modules"][0].update(original=None), "originals: entry 2 is not"),
    "a composition that translates": ("translator", lambda m: m.update(kind="composition"), "expected 'translator'"),
    "a translator of classifiers": ("composition", lambda m: m.update(kind="translator"), "expected encoder-decoders"),
    "a decomposition of two networks": (
        "composition",
        lambda m: m.update(kind="decomposition"),
        "whole networks of one structure",
    ),
    "a file more": (
        "module",
        lambda m: m["files"].update({"vocabulary-7.json": "0" * 64}),
        "does not belong to these fields",
    ),
    "a referee of a decomposition": (
        "decomposition",
        lambda m: m["files"].update({"referee.safetensors": "0" * 64}),
        "does not belong to these fields",
    ),
    "no words for its padding": ("decomposition", lambda m: m["files"].pop("vocabulary-0.json"), "is missing"),
    "padding for no words": (
        "decomposition",
        lambda m: m["parents"][0].update(vocabulary=None),
        "does not belong to these fields",
    ),
    "target words of a classifier": (
        "decomposition",
        lambda m: m["parents"][0].update(target_vocabulary=m["parents"][0]["vocabulary"]),
        "target_vocabulary",
    ),
    "settings that contradict each other": (
        "decomposition",
        lambda m: m["modules"][0]["config"].update(strategy="reconstruct", gates="each"),
        "modules.0.config",
    ),
    "two sizes at once": (
        "decomposition",
        lambda m: m["modules"][0]["config"].update(strategy="reconstruct", keep=0.5, max_loss=0.1),
        "config",
    ),
    "settings of another mode": (
        "decomposition",
        lambda m: m["modules"][0]["config"].update(mode="unrolled"),
        "config",
    ),
    "gates that are not in its settings": ("module", lambda m: m["modules"][0].update(by_gates=True), "config"),
}


@pytest.mark.parametrize("what", REFERENCES)
def test_fields_that_contradict_each_other_are_refused(what, copy):
    kind, change, message = REFERENCES[what]
    folder = copy(kind)
    edit(folder, change)
    refused(folder, message)


BAD_LABELS = {
    "half a surrogate": "a\ud800",
    "a NUL": "a\0",
    "too long": "a" * 10_001,
    "too large": 2**63,
}


@pytest.mark.parametrize("what", BAD_LABELS)
def test_labels_that_cannot_be_saved_are_refused_before_the_work(what, copy):
    """F36: a network with such a label is refused, as is a module that is renamed to it, and a folder that has it."""
    label = BAD_LABELS[what]
    with pytest.raises(DataError, match="label"):
        factory.network(labels=[label, "b", "c"])
    _, _, parts = decomposed()
    with pytest.raises(DataError, match="label"):
        compose({label: parts[0], "b": parts[1]})
    folder = copy("decomposition")
    with pytest.raises(FormatError, match="label"):
        parts[0].renamed(label).save(folder)
    assert load_modules(folder)[0].kind == "decomposition"  # nothing was written
    for change in (
        lambda m: m["modules"][0].update(label=label),
        lambda m: m["parents"][0]["labels"].__setitem__(0, label),
    ):
        edit(again := copy_again(folder), change)
        refused(again, "label|not valid JSON")


def copy_again(folder):
    shutil.rmtree(folder.parent / "again", ignore_errors=True)
    return shutil.copytree(folder, folder.parent / "again")


@pytest.mark.parametrize(
    "label", ["é", "a\nb", "\x1b[31mred", "a" * 10_000, "\U0001d54f", " ", "[bold]", -(2**63), 2**63 - 1]
)
def test_all_other_labels_come_back(label, tmp_path):
    _, _, parts = decomposed()
    compose({label: parts[0], "b": parts[1]}).save(tmp_path / "x")
    assert unbraid.load_composition(tmp_path / "x").labels == [label, "b"]


def test_sealed_gives_a_manifest_that_loads(copy):
    folder = copy("composition")
    manifest = json.loads((folder / "unbraid.json").read_text())
    (folder / "unbraid.json").write_text(sealed(manifest))
    check_folder(folder)

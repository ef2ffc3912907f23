"""Domain evidence in folders: what is loaded equals what was saved, and hostile files are refused."""

import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import unbraid
from tests import factory, strangers
from tests.factory import UNCALIBRATED
from tests.manifests import edit
from unbraid import compose
from unbraid.errors import FormatError, UnbraidError
from unbraid.storage.loading import check_folder

pytestmark = pytest.mark.filterwarnings("ignore:.*accuracy on this sample:unbraid.UnbraidWarning")
TEXTS = [*strangers.texts("travel", 40, 7), *strangers.texts("court", 40, 8), "zebras graze", ""]


@pytest.fixture(scope="module")
def mixed():
    parts = [strangers.parts(name, seed=n) for n, name in enumerate(strangers.SUBJECTS)]
    return compose([module for own in parts for module in own.values()])


@pytest.fixture(scope="module")
def folder(mixed, tmp_path_factory):
    place = tmp_path_factory.mktemp("saved") / "mixed"
    mixed.save(place)
    return place


def test_a_composition_votes_and_rejects_as_before(mixed, folder):
    again = unbraid.load_composition(folder)
    np.testing.assert_array_equal(again.margins(TEXTS), mixed.margins(TEXTS))
    np.testing.assert_array_equal(again.typicality(TEXTS), mixed.typicality(TEXTS))
    assert again.uses_domain
    assert {"domain-0.json", "domain-1.json", "domain.safetensors"} <= set(check_folder(folder))


def test_settings_of_a_composition_are_kept(mixed, tmp_path):
    mixed.with_threshold(TEXTS[:80], rejected=0.3).save(tmp_path / "fitted")
    again = unbraid.load_composition(tmp_path / "fitted")
    assert again.threshold == mixed.with_threshold(TEXTS[:80], rejected=0.3).threshold
    mixed.without_domain().save(tmp_path / "off")
    assert not unbraid.load_composition(tmp_path / "off").uses_domain
    labels = [f"{name} {n % 3}" for name in strangers.SUBJECTS for n in range(40)]
    calibrated = mixed.with_calibration(TEXTS[:80], labels)
    calibrated.save(tmp_path / "fair")
    np.testing.assert_array_equal(unbraid.load_composition(tmp_path / "fair").margins(TEXTS), calibrated.margins(TEXTS))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_single_modules_and_decompositions_keep_their_evidence(tmp_path, dtype):
    first, second = strangers.parts("travel"), strangers.parts("court", seed=1)
    first["travel 1"].save(tmp_path / "one", dtype=dtype)
    second.save(tmp_path / "all", dtype=dtype)
    one, parts = unbraid.load_module(tmp_path / "one"), unbraid.load_decomposition(tmp_path / "all")
    again = compose([one, *parts.values()])
    assert again.uses_domain
    plain = compose([first["travel 1"], *second.values()])
    assert again.predict(TEXTS).tolist() == plain.predict(TEXTS).tolist()
    if dtype == "float32":
        np.testing.assert_allclose(again.typicality(TEXTS), plain.typicality(TEXTS), atol=1e-5)


def test_fused_and_trained_modules_keep_their_evidence(mixed, tmp_path):
    mixed.fuse().save(tmp_path / "fused")
    fused = unbraid.load_composition(tmp_path / "fused")
    assert fused.uses_domain
    winners = mixed.predict_index(TEXTS)
    np.testing.assert_allclose(fused.typicality(TEXTS, winners), mixed.typicality(TEXTS, winners), rtol=1e-6)
    assert fused.unfuse().uses_domain
    trained = compose(strangers.parts("travel"))
    with torch.no_grad():
        next(trained["travel 0"].body.parameters()).add_(0.01)  # an inherited weight, so that it gets another parent
    trained.save(tmp_path / "trained")
    again = unbraid.load_composition(tmp_path / "trained")
    assert not again.uses_domain  # both parents have the same evidence
    np.testing.assert_array_equal(again.margins(TEXTS), trained.margins(TEXTS))
    np.testing.assert_allclose(again.typicality(TEXTS), trained.typicality(TEXTS))


def test_numbers_are_stored_too(tmp_path):
    network = factory.network(inputs="features", seed=3)
    x = np.random.default_rng(0).normal(size=(200, 5, 3)).astype(np.float32)
    y = network.predict_index(x)
    y[:6] = [0, 0, 1, 1, 2, 2]
    parts = unbraid.decompose(network, (x, y))
    parts.save(tmp_path / "numbers")
    again = unbraid.load_decomposition(tmp_path / "numbers")
    assert again[0].domain.key == parts[0].domain.key
    np.testing.assert_array_equal(compose(again).typicality(x), compose(parts).typicality(x))
    assert "mean and covariance of its inputs" in (tmp_path / "numbers" / "README.md").read_text()


@UNCALIBRATED
def test_nothing_is_stored_on_request(tmp_path):
    strangers.parts("travel", domain=False).save(tmp_path / "parts")
    assert not any("domain" in path.name for path in (tmp_path / "parts").iterdir())
    everything = "".join(path.read_text() for path in (tmp_path / "parts").glob("*.json") if "voc" not in path.name)
    assert "harbour" not in everything
    assert "stored about the examples" not in (tmp_path / "parts" / "README.md").read_text()


def test_rare_words_are_not_stored(tmp_path):
    network = strangers.network("travel")
    texts = [*strangers.texts("travel"), "secretname flies", "secretname again"]
    y = network.predict_index(texts)
    y[:6] = [0, 0, 1, 1, 2, 2]
    unbraid.decompose(network, (texts, y)).save(tmp_path / "parts")
    assert "harbour" in (tmp_path / "parts" / "domain-0.json").read_text()
    for path in (tmp_path / "parts").iterdir():
        assert b"secretname" not in path.read_bytes()


def test_the_card_states_what_is_stored(folder, mixed, tmp_path):
    text = (folder / "README.md").read_text()
    assert "What is stored about the examples" in text
    assert "the counts of" in text
    assert "does not use it" not in text
    mixed.without_domain().save(tmp_path / "off")
    assert "does not use it" in (tmp_path / "off" / "README.md").read_text()


def test_folders_without_these_files_load(folder, tmp_path):
    place = tmp_path / "old"
    shutil.copytree(folder, place)
    for name in ("domain-0.json", "domain-1.json", "domain.safetensors"):
        (place / name).unlink()
    edit_without(place)
    again = unbraid.load_composition(place)
    assert not again.uses_domain
    assert {module.domain for module in again.modules_by_label.values()} == {None}


def test_a_folder_without_words_of_classes_rejects_by_the_other_scores(folder, tmp_path):
    def change(content):
        del content["words"]["by_class"], content["typicality"]["scales"]["words"]

    again = unbraid.load_composition(changed(folder, tmp_path, change))
    assert again.predict(TEXTS, unknown="other").shape == (len(TEXTS),)
    winners = again.predict_index(TEXTS)
    assert "words" not in again.typicality_scores(TEXTS, winners)


@pytest.mark.parametrize("score", ["words", "discriminant"])
def test_a_typicality_without_its_evidence_is_an_error(folder, tmp_path, score):
    def change(content):
        if score == "words":
            content["words"]["by_class"] = []
        else:
            content["typicality"]["scales"]["words"] = [0, 1]
            content["words"] = None

    again = unbraid.load_composition(changed(folder, tmp_path, change))
    with pytest.raises(UnbraidError, match="no evidence for the score"):
        again.without_domain().predict(TEXTS, unknown="other")


def edit_without(place):
    manifest = json.loads((place / "unbraid.json").read_text())
    manifest["files"] = {name: digest for name, digest in manifest["files"].items() if "domain" not in name}
    (place / "unbraid.json").write_text(json.dumps(manifest))
    edit(place)


def changed(folder, tmp_path, change):
    place = tmp_path / "changed"
    shutil.copytree(folder, place)
    path = place / "domain-0.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    edit(place)
    return place


CHANGES = {
    "a count below the least": lambda c: c["words"]["counts"].update(harbour=2),
    "a count of another type": lambda c: c["words"]["counts"].update(harbour="3"),
    "a count that is not whole": lambda c: c["words"]["counts"].update(harbour=3.5),
    "two words as one": lambda c: c["words"]["counts"].update({"two words": 3}),
    "an upper-case word": lambda c: c["words"]["counts"].update(Harbour=3),
    "too many words": lambda c: c["words"]["counts"].update({f"w{n}": 3 for n in range(6000)}),
    "a total below the counts": lambda c: c["words"].update(total=1),
    "a huge total": lambda c: c["words"].update(total=2**70),
    "words of fewer classes": lambda c: c["words"]["by_class"].pop(),
    "a class with a word of no text": lambda c: c["words"]["by_class"][0].update(zebra=3),
    "a word with more occurrences in a class": lambda c: c["words"]["by_class"][0].update(harbour=10**6),
    "a class that is no table": lambda c: c["words"]["by_class"].__setitem__(0, [3]),
    "a dispersion below 1": lambda c: c["words"].update(dispersion=0.5),
    "no words field": lambda c: c.pop("words"),
    "an unknown field": lambda c: c.update(more=1),
    "an unknown score": lambda c: c["typicality"]["scales"].update(other=[0, 1]),
    "a deviation of 0": lambda c: c["typicality"]["scales"].update(margin=[0, 0]),
    "a pair of three": lambda c: c["typicality"]["scales"].update(margin=[0, 1, 2]),
    "quantiles that fall": lambda c: c["typicality"]["quantiles"].reverse(),
    "few quantiles": lambda c: c["typicality"]["quantiles"].pop(),
    "a nested quantile": lambda c: c["typicality"]["quantiles"].__setitem__(0, [1]),
    "an array that is missing": lambda c: c.update(arrays=["inputs", "features"]),
    "an array that is not named": lambda c: c.update(arrays=[]),
    "an unknown array": lambda c: c.update(arrays=["features", "other"]),
}


def test_a_folder_with_the_former_score_votes_as_before_without_its_typicality(mixed, folder, tmp_path):
    scales = {"margin": [0, 1], "distance": [0, 1]}
    again = unbraid.load_composition(changed(folder, tmp_path, lambda c: c["typicality"].update(scales=scales)))
    assert sum(module.domain.typicality is None for module in again.modules_by_label.values()) == 3
    x = strangers.texts("travel", 10, 7)
    np.testing.assert_array_equal(again.margins(x), mixed.margins(x))


@pytest.mark.parametrize("name", CHANGES)
def test_hostile_evidence_is_refused(folder, tmp_path, name):
    with pytest.raises(FormatError):
        unbraid.load_composition(changed(folder, tmp_path, CHANGES[name]))


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"null", b'{"words": NaN}', b"[" * 10_000, b"\xff\xfe"])
def test_a_file_that_is_no_evidence_is_refused(folder, tmp_path, content):
    place = tmp_path / "changed"
    shutil.copytree(folder, place)
    (place / "domain-1.json").write_bytes(content)
    edit(place)
    with pytest.raises(FormatError):
        unbraid.load_composition(place)


def test_a_changed_byte_is_detected(folder, tmp_path):
    for name in ("domain-0.json", "domain.safetensors"):
        place = tmp_path / name
        shutil.copytree(folder, place)
        content = bytearray((place / name).read_bytes())
        content[len(content) // 2] ^= 1
        (place / name).write_bytes(content)
        with pytest.raises(FormatError, match="sha256"):
            unbraid.load_composition(place)


ARRAYS = {
    "NaN": lambda t: t["0/features.means"].fill_(torch.nan),
    "not positive": lambda t: t["0/features.covariance"].fill_(0.0),
    "not symmetric": lambda t: t["0/features.covariance"][0].mul_(3),
    "missing": lambda t: t.pop("0/features.means"),
    "another shape": lambda t: t.update({"0/features.means": torch.zeros(3, 5)}),
    "another type": lambda t: t.update({"0/features.means": t["0/features.means"].double()}),
    "unknown": lambda t: t.update({"0/other": torch.zeros(1)}),
    "another parent": lambda t: t.update({"7/features.means": torch.zeros(1)}),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_hostile_arrays_are_refused(folder, tmp_path, name):
    place = tmp_path / "changed"
    shutil.copytree(folder, place)
    tensors = load_file(place / "domain.safetensors")
    ARRAYS[name](tensors)
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, place / "domain.safetensors")
    edit(place)
    with pytest.raises(FormatError):
        unbraid.load_composition(place)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(threshold=1.5),
        lambda m: m.update(threshold=-1),
        lambda m: m.update(threshold="low"),
        lambda m: m.update(domain="yes"),
        lambda m: m["files"].update({"domain-7.json": "0" * 64}),
    ],
)
def test_hostile_settings_are_refused(folder, tmp_path, change):
    place = tmp_path / "changed"
    shutil.copytree(folder, place)
    edit(place, change)
    with pytest.raises(FormatError):
        unbraid.load_composition(place)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_change_loads_or_is_refused(folder, tmp_path_factory, data):
    content = json.loads((folder / "domain-0.json").read_text())
    path = []
    value = content
    while isinstance(value, dict | list) and value and data.draw(st.booleans() if path else st.just(True)):
        key = data.draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
        path.append(key)
        value = value[key]
    new = data.draw(
        st.none() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.just([]) | st.just({})
    )
    target = content
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = new
    place = tmp_path_factory.mktemp("any") / "changed"
    shutil.copytree(folder, place)
    (place / "domain-0.json").write_text(json.dumps(content))
    edit(place)
    try:
        loaded = unbraid.load_composition(place)
        loaded.predict(TEXTS[:3], unknown="other")
    except UnbraidError:
        pass

"""Changed files are refused with FormatError; none of them stops the process."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.manifests import sealed
from tests.storage.test_saving import decomposed
from unbraid import compose, load_composition, load_decomposition, load_module
from unbraid.errors import FormatError, UnbraidError
from unbraid.storage.loading import load_modules

NAMES = ("unbraid.json", "parent.safetensors", "modules.safetensors")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    for settings in ("rolled", "unrolled", "rolled gates"):
        _, _, parts = decomposed("hidden dense", settings)
        parts.save(folder / f"{settings} decomposition")
        parts[0].save(folder / f"{settings} module")
        compose(parts).save(folder / f"{settings} composition")
    return folder


KINDS = [
    f"{settings} {kind}"
    for settings in ("rolled", "unrolled", "rolled gates")
    for kind in ("decomposition", "module", "composition")
]
LOADERS = {"decomposition": load_decomposition, "module": load_module, "composition": load_composition}


def load(folder):
    return LOADERS[folder.name.rpartition(" ")[2]](folder)


@pytest.fixture
def copy(saved, tmp_path):
    def copied(kind):
        shutil.copytree(saved / kind, tmp_path / kind, dirs_exist_ok=True)
        return tmp_path / kind

    return copied


def edit(folder, change, tensors=None):
    """Change the manifest (and tensors) and correct the digests, as an attacker could."""
    for name in NAMES[1:]:
        if tensors is not None:
            stored = load_file(folder / name)
            tensors(name, stored)
            save_file(stored, folder / name)
    manifest = json.loads((folder / NAMES[0]).read_text())
    manifest["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in NAMES[1:]}
    change(manifest)
    (folder / NAMES[0]).write_text(sealed(manifest))


def refused(folder, message=None):
    with pytest.raises(FormatError, match=message) as caught:
        load(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_the_copies_load_before_they_are_damaged(kind, copy):
    folder = copy(kind)
    edit(folder, lambda m: None, lambda name, stored: None)
    assert load(folder) is not None


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_or_missing_file_is_refused(kind, name, copy):
    folder = copy(kind)
    content = (folder / name).read_bytes()
    for size in {0, 1, 7, 8, 9, len(content) // 2, len(content) - 1}:
        (folder / name).write_bytes(content[:size])
        refused(folder, name)
    (folder / name).unlink()
    refused(folder, name)
    (folder / name).mkdir()
    refused(folder, name)


@pytest.mark.parametrize("name", NAMES[1:])
@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_in_the_numbers_is_refused(kind, name, copy):
    folder = copy(kind)
    content = (folder / name).read_bytes()
    for place in np.random.default_rng(0).integers(0, len(content) * 8, 20):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << (place % 8)
        (folder / name).write_bytes(damaged)
        refused(folder, "sha256")


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_in_the_manifest_never_raises_anything_else(kind, copy):
    folder = copy(kind)
    content = (folder / NAMES[0]).read_bytes()
    outcomes = []
    for place in np.random.default_rng(0).integers(0, len(content) * 8, 150):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << (place % 8)
        (folder / NAMES[0]).write_bytes(damaged)
        try:
            load(folder)
            outcomes.append("loads")  # a letter of a label, say
        except UnbraidError:
            outcomes.append("refused")
    assert outcomes.count("refused") > 75


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_another_folder_is_refused(name, copy, tmp_path):
    folder = copy("rolled decomposition")
    _, _, other = decomposed("hidden dense", seed=5)
    other.save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / name, folder / name)
    refused(folder)


@pytest.mark.parametrize("name", NAMES[1:])
def test_even_with_the_digest_corrected(name, copy, tmp_path):
    folder = copy("unrolled decomposition")
    _, _, other = decomposed("plain", "unrolled", seed=5)
    other.save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / name, folder / name)
    edit(folder, lambda m: None)
    refused(folder)


def test_a_newer_format_is_refused_whatever_else_changed(copy):
    folder = copy("rolled module")
    for change in ({"format": 99}, {"format": 99, "parents": "elsewhere", "hyperbraid": True}, {"format": 0}):
        edit(folder, lambda m, change=change: m.update(change))
        refused(folder, "field format: found (99|0)")


def stage(manifest, kind):
    return next(s for s in manifest["parents"][0]["spec"]["stages"] if s["type"] == kind)


CHANGES = {
    "an extra field": lambda m: m.update(extra=1),
    "an extra field inside": lambda m: m["modules"][0].update(extra=1),
    "an extra field in a layer": lambda m: stage(m, "recurrent").update(extra=1),
    "a field less": lambda m: m.pop("modules"),
    "no modules": lambda m: m.update(modules=[]),
    "no parents": lambda m: m.update(parents=[]),
    "a parent that is not there": lambda m: m["modules"][0].update(parent=9),
    "a negative parent": lambda m: m["modules"][0].update(parent=-1),
    "a class that is not there": lambda m: m["modules"][0].update(index=9),
    "a negative class": lambda m: m["modules"][0].update(index=-1),
    "one label less": lambda m: m["parents"][0]["labels"].pop(),
    "labels that repeat": lambda m: m["parents"][0].update(labels=["a", "a", "b"]),
    "a label that is no label": lambda m: m["modules"][0].update(label=[1]),
    "steps of another layer": lambda m: m["modules"][0].update(steps={"other": 4}),
    "no steps": lambda m: m["modules"][0]["steps"].update(rnn0=0),
    "negative steps": lambda m: m["modules"][0]["steps"].update(rnn0=-4),
    "steps without end": lambda m: m["modules"][0]["steps"].update(rnn0=2**62),
    "another mode": lambda m: m["modules"][0].update(mode="sideways"),
    "other edges": lambda m: m["modules"][0].update(edges="some"),
    "negative units": lambda m: stage(m, "recurrent").update(units=-3),
    "no units": lambda m: stage(m, "recurrent").update(units=0),
    "more units": lambda m: stage(m, "recurrent").update(units=4),
    "huge units": lambda m: stage(m, "recurrent").update(units=2**31),
    "units past any integer": lambda m: stage(m, "recurrent").update(units=10**30),
    "a huge vocabulary": lambda m: stage(m, "embedding").update(vocabulary=2**31),
    "a huge table": lambda m: stage(m, "embedding").update(vocabulary=2**31, dimension=2**31),
    "huge inputs": lambda m: stage(m, "recurrent").update(inputs=2**31),
    "huge dense": lambda m: stage(m, "dense").update(units=2**31, inputs=2**31),
    "huge classes": lambda m: m["parents"][0]["spec"].update(classes=2**31),
    "huge features": lambda m: m["parents"][0]["spec"].update(features=2**31),
    "no stages": lambda m: m["parents"][0]["spec"].update(stages=[]),
    "a stage of no known type": lambda m: stage(m, "dense").update(type="attention"),
    "another cell": lambda m: stage(m, "recurrent")["cell"].update(kind="gru"),
    "no known cell": lambda m: stage(m, "recurrent")["cell"].update(kind="qrnn"),
    "no known activation": lambda m: stage(m, "recurrent")["cell"].update(activation="__import__"),
    "no known gate activation": lambda m: stage(m, "recurrent")["cell"].update(gate_activation="nope"),
    "no known dense activation": lambda m: stage(m, "dense").update(activation="nope"),
    "no known output": lambda m: m["parents"][0]["spec"].update(output="max"),
    "layers of one name": lambda m: stage(m, "dense").update(name="rnn0"),
    "negative idle columns": lambda m: m["modules"][0].update(idle=-1),
    "more idle columns than classes": lambda m: m["modules"][0].update(idle=4),
    "idle columns without end": lambda m: m["modules"][0].update(idle=2**62),
    "another digest": lambda m: m["parents"][0].update(sha256="0" * 64),
    "no digest": lambda m: m["parents"][0].update(sha256="xyz"),
    "slices of no module": lambda m: m["parents"][0].update(sliced_by=7),
    "slices of a negative module": lambda m: m["parents"][0].update(sliced_by=-1),
    "weights of no module": lambda m: m["modules"][0].update(shares=7),
    "weights of itself": lambda m: m["modules"][0].update(shares=0),
    "weights of a module without its own": lambda m: m["modules"][-1].update(compact=True, shares=0),
    "a negative lender": lambda m: m["modules"][-1].update(shares=-1),
    "an original that is not there": lambda m: m["modules"][0].update(original=7),
    "an original that is a module": lambda m: m["modules"][0].update(original=0),
    "an original of a negative number": lambda m: m["modules"][0].update(original=-1),
    "an original without tensors": lambda m: m.update(originals=m["modules"][:1]),
    "an original with an original": lambda m: m.update(originals=[{**m["modules"][0], "original": 9}]),
    "no files": lambda m: m.update(files={}),
    "a vote that is none": lambda m: m.update(vote="loudest"),
    "a setting out of range": lambda m: m["modules"][0]["config"].update(max_removed=7),
    "a setting that is none": lambda m: m["modules"][0]["config"].update(mod="rolled"),
    "a kind that is none": lambda m: m.update(kind="soup"),
    "a format that is no number": lambda m: m.update(format="one"),
}
ONLY_WHOLE = {"another digest"}  # of a module alone the digest names a network that is not there


@pytest.mark.parametrize("change", CHANGES)
def test_a_manifest_that_says_otherwise_is_refused(change, copy):
    for kind in KINDS:
        if change in ONLY_WHOLE and kind in ("rolled module", "rolled gates module"):
            continue
        folder = copy(kind)
        edit(folder, CHANGES[change])
        refused(folder)


@pytest.mark.parametrize("kind", ["unrolled decomposition", "rolled composition"])
def test_modules_of_one_label_are_refused(kind, copy):
    folder = copy(kind)
    edit(folder, lambda m: m["modules"][1].update(label=m["modules"][0]["label"]))
    refused(folder, "label")


def changed(name, change):
    """Change one tensor in the file that contains it."""
    return lambda _, tensors: tensors.update({name: change(tensors[name])}) if name in tensors else None


def recurrent(change):
    return lambda _, tensors: tensors.update({k: change(v) for k, v in tensors.items() if "weight_hh" in k})


def without(part):
    def edit(_, tensors):
        for name in [name for name in tensors if part in name]:
            del tensors[name]

    return edit


TENSORS = {
    "a head of NaN": changed("0/head.weight", lambda v: v * np.nan),
    "an infinite head": changed("0/head.bias", lambda v: v + np.inf),
    "no head": without("0/head.weight"),
    "no bias": without("0/head.bias"),
    "a head of one axis": changed("0/head.weight", lambda v: v[0]),
    "a head of other features": changed("0/head.weight", lambda v: np.zeros((2, 9), np.float32)),
    "a head without rows": changed("0/head.weight", lambda v: v[:0]),
    "a head of doubles": changed("0/head.weight", lambda v: v.astype(np.float64)),
    "masks too short": changed("0/mask/rnn0", lambda v: v[:-1]),
    "masks too long": changed("0/mask/rnn0", lambda v: np.append(v, np.uint8(0))),
    "masks that are no bits": changed("0/mask/rnn0", lambda v: v.astype(np.float32)),
    "no masks": without("0/mask/rnn0"),
    "weights of another shape": recurrent(np.ravel),
    "weights of another type": recurrent(lambda v: v.astype(np.float16)),
    "weights of NaN": recurrent(lambda v: v * np.nan),
    "weights too few": without("weight_hh"),
    "weights too many": lambda name, t: (
        t.update({"0/body.stages.9.weight": np.zeros(3, np.float32)}) if name == NAMES[1] else None
    ),
}


@pytest.mark.parametrize("change", TENSORS)
def test_tensors_that_do_not_fit_are_refused(change, copy):
    for kind in KINDS:
        folder = copy(kind)
        edit(folder, lambda m: None, TENSORS[change])
        refused(folder)


def test_other_bits_in_a_modules_masks_are_refused_where_its_slices_are_stored(copy):
    """They would decide where each stored weight belongs."""
    folder = copy("rolled module")
    edit(folder, lambda m: None, lambda name, t: t.update({k: ~v for k, v in t.items() if "mask" in k}))
    refused(folder)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"1", b"\xff\xfe\x00", b'{"format": 1}', b"[" * 100_000, b'{"format": 1e999}'],
)
def test_a_manifest_that_is_none_is_refused(content, copy):
    folder = copy("rolled module")
    (folder / NAMES[0]).write_bytes(content)
    refused(folder, "unbraid.json")


def test_nothing_at_all_is_refused(tmp_path):
    (tmp_path / "a file").write_text("x")
    (tmp_path / "empty").mkdir()
    for name in ("nothing", "a file", "empty"):
        with pytest.raises(FormatError, match=name):
            load_modules(tmp_path / name)


def test_loading_runs_no_code_and_needs_no_pickle(copy, monkeypatch):
    import pickle

    def never(*_, **__):
        raise AssertionError("pickle was used")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, never)
    for kind in KINDS:
        assert load(copy(kind)) is not None

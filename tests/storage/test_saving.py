import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import unbraid
from tests import factory
from tests.factory import IO
from tests.manifests import edit
from tests.modules.test_module import WAYS, architectures, build, cells, module_of
from unbraid import ConcernModule, compose, load_composition, load_decomposition, load_module
from unbraid.errors import FormatError
from unbraid.storage.loading import load_modules

ARCHITECTURES = {
    "plain": {},
    "two directions": {"bidirectional": True},
    "sum": {"bidirectional": True, "merge": "sum"},
    "mul": {"bidirectional": True, "merge": "mul"},
    "ave": {"bidirectional": True, "merge": "ave"},
    "hidden dense": {"hidden": ((4, "relu"), (3, "tanh"))},
    "masked": {"mask": True},
    "features": {"inputs": "features", "mask": True},
    "flat": {"flat": True},
    "sigmoid": {"output": "sigmoid"},
    "binary": {"output": "sigmoid", "classes": 1},
    "labels": {"labels": ["a", "2", "c d/é"]},
}
SETTINGS = {
    "rolled": {},
    "unrolled": {"mode": "unrolled"},
    "rolled gates": {"gates": "each"},
    "unrolled gates": {"mode": "unrolled", "gates": "each"},
    "softmax": {"head": "softmax"},
    "idle": {"idle_columns": True, "mode": "unrolled"},
}


def decomposed(architecture="plain", settings="rolled", io="M:1", names=("lstm", "gru"), seed=0, **changes):
    net = factory.network(names, io, seed=seed, **{**ARCHITECTURES[architecture], **changes})
    x, y = factory.examples(net, 30)
    return net, x, unbraid.decompose(net, (x, y), max_removed=0.4, **SETTINGS[settings])


def assert_same_module(found, module, x):
    assert (found.label, type(found.label)) == (module.label, type(module.label))
    assert found.index == module.index and found.config == module.config
    assert found.parent_sha256 == module.parent_sha256
    assert found.concern.mode == module.concern.mode and found.concern.edges == module.concern.edges
    assert dict(found.concern.steps) == dict(module.concern.steps)
    assert list(found.concern.kept) == list(module.concern.kept)
    for name, kept in module.concern.kept.items():
        np.testing.assert_array_equal(found.concern.kept[name], kept)
    np.testing.assert_array_equal(found.margins(x), module.margins(x))  # bit for bit


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_everything_comes_back_bit_for_bit(architecture, settings, tmp_path):
    net, x, parts = decomposed(architecture, settings)
    parts.save(tmp_path / "parts")
    loaded = load_decomposition(tmp_path / "parts")
    assert loaded.labels == parts.labels and [type(v) for v in loaded.labels] == [type(v) for v in parts.labels]
    assert loaded.config == parts.config and loaded.network.sha256() == net.sha256()
    assert loaded.network.labels == net.labels and loaded.network.spec == net.spec
    np.testing.assert_array_equal(loaded.network.logits(x), net.logits(x))
    for number, (label, module) in enumerate(parts.items()):
        assert_same_module(loaded[label], module, x)
        module.save(tmp_path / f"alone{number}")
        assert_same_module(load_module(tmp_path / f"alone{number}"), module, x)
    compose(parts).save(tmp_path / "composed")
    composed = load_composition(tmp_path / "composed")
    assert composed.labels == parts.labels
    np.testing.assert_array_equal(composed.margins(x), compose(parts).margins(x))


@pytest.mark.parametrize("io", IO)
@pytest.mark.parametrize("settings", SETTINGS)
def test_every_architecture_comes_back(io, settings, tmp_path):
    _, x, parts = decomposed("two directions", settings, io)
    parts.save(tmp_path / "parts")
    parts[1].save(tmp_path / "alone")
    assert_same_module(load_decomposition(tmp_path / "parts")[1], parts[1], x)
    assert_same_module(load_module(tmp_path / "alone"), parts[1], x)


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=12)
@given(names=cells, architecture=architectures, seed=st.integers(0, 999))
def test_any_module_comes_back(tmp_path_factory, way, names, architecture, seed):
    """Also layers without nodes."""
    net, x, _ = build(names, architecture)
    module = module_of(net, factory.random_concern(net, x, seed=seed, **WAYS[way]))
    folder = tmp_path_factory.mktemp("any")
    module.save(folder / "alone")
    found = load_module(folder / "alone")
    assert_same_module(found, module, x)
    compose([module]).save(folder / "composed")
    np.testing.assert_array_equal(load_composition(folder / "composed").margins(x), compose([module]).margins(x))
    found.save(folder / "again")
    assert files(folder / "alone") == files(folder / "again")


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_nodes_without_gates_that_still_speak_come_back(kind, tmp_path):
    """With an activation that is not 0 at 0, such nodes stay in the slices."""
    net = factory.network((factory.Cell(kind=kind, activation="sigmoid"),) * 2)
    x, _ = factory.examples(net, 4)
    module = module_of(net, factory.random_concern(net, x, by_gates=True, kept=0.3, seed=1))
    module.save(tmp_path / "alone")
    assert_same_module(load_module(tmp_path / "alone"), module, x)


def test_saving_what_was_loaded_writes_the_same_bytes(tmp_path):
    for way in ("rolled", "unrolled"):
        _, _, parts = decomposed("hidden dense", way)
        parts.save(tmp_path / "one")
        load_decomposition(tmp_path / "one").save(tmp_path / "two")
        assert files(tmp_path / "one") == files(tmp_path / "two")
        compose(parts).save(tmp_path / "three")
        load_composition(tmp_path / "three").save(tmp_path / "four")
        assert files(tmp_path / "three") == files(tmp_path / "four")


def test_a_rolled_module_alone_stores_only_its_slices(tmp_path):
    net, _, parts = decomposed(units=12)
    module = parts[0]
    module.save(tmp_path / "alone")
    stored = load_file(tmp_path / "alone" / "parent.safetensors")
    held = {f"0/body.{name}": tuple(p.shape) for name, p in module.body.named_parameters()}
    assert {name: value.shape for name, value in stored.items()} == held
    kept = int(module.kept_nodes["rnn0"].sum())
    assert kept < 12 and stored["0/body.stages.1.forward_layer.weight_hh"].shape == (4 * kept, kept)
    assert sum(v.size for v in stored.values()) < sum(p.numel() for p in net.parameters())
    head = load_file(tmp_path / "alone" / "modules.safetensors")["0/head.weight"]
    assert head.shape == (2, int(module.kept_nodes["rnn1"].sum()))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_one_sliced_module_under_several_labels_is_stored_once(dtype, tmp_path):
    _, x, parts = decomposed()
    one, other = list(parts)[:2]
    for number, label in enumerate((one, other)):
        parts[label].save(tmp_path / str(number), dtype=dtype)
    sliced, last = load_module(tmp_path / "0"), load_module(tmp_path / "1")
    both = compose({"first": sliced, "second": sliced.renamed("x"), "third": last, "fourth": sliced})
    both.save(tmp_path / "both", dtype=dtype)
    manifest = json.loads((tmp_path / "both/unbraid.json").read_text())
    assert [(p["sliced_by"], p["sha256"]) for p in manifest["parents"]] == [
        (0, sliced.parent_sha256), (2, sliced.parent_sha256)
    ]  # fmt: skip
    assert [module["parent"] for module in manifest["modules"]] == [0, 0, 1, 0]
    found = load_composition(tmp_path / "both")
    assert np.array_equal(found.predict_proba(x), both.predict_proba(x))
    assert found["first"].body is found["fourth"].body  # they share it in memory too
    found.save(tmp_path / "again", dtype=dtype)
    assert (tmp_path / "again/parent.safetensors").read_bytes() == (tmp_path / "both/parent.safetensors").read_bytes()


MESSAGES = {"other nodes": "it keeps other nodes", "unrolled": "expected the first of its modules, all rolled"}


@pytest.mark.parametrize("change", MESSAGES)
def test_modules_of_one_sliced_parent_must_keep_its_nodes(change, tmp_path):
    _, _, parts = decomposed(names=("lstm",))
    parts[next(iter(parts))].save(tmp_path / "one")
    sliced = load_module(tmp_path / "one")
    compose({"first": sliced, "second": sliced}).save(tmp_path / "both")
    if change == "unrolled":
        as_config = {"config": {**parts.config.model_dump(mode="json"), "mode": "unrolled"}, "mode": "unrolled"}
        edit(tmp_path / "both", lambda m: m["modules"][1].update(as_config))
    else:
        tensors = load_file(tmp_path / "both/modules.safetensors")
        name = next(name for name in tensors if name.startswith("1/mask"))
        tensors[name] = np.bitwise_not(tensors[name])
        save_file(tensors, tmp_path / "both/modules.safetensors")
        edit(tmp_path / "both")
    with pytest.raises(FormatError, match=MESSAGES[change]):
        load_composition(tmp_path / "both")


def test_modules_of_one_parent_cost_a_bit_per_node_and_step(tmp_path):
    net, _, parts = decomposed(settings="unrolled", units=40)
    parts.save(tmp_path / "parts")
    parent = (tmp_path / "parts" / "parent.safetensors").stat().st_size
    assert parent < 4 * sum(p.numel() for p in net.parameters()) + 2000
    masks = load_file(tmp_path / "parts" / "modules.safetensors")
    assert masks["0/mask/rnn0"].nbytes == 4 * 40 / 8 and masks["0/mask/rnn1"].nbytes == -(-4 * 41 // 8)


@factory.UNCALIBRATED
def test_a_composition_of_several_parents_stores_each_once(tmp_path):
    _, x, first = decomposed(settings="unrolled", labels=["a", "b", "c"])
    _, _, second = decomposed(settings="rolled", labels=["d", "e", "f"], seed=3, names=("gru",))
    _, _, third = decomposed(settings="rolled gates", labels=["g", "h", "i"], seed=4, names=("vanilla", "lstm"))
    third["g"].save(tmp_path / "alone")
    lone = load_module(tmp_path / "alone")
    whole = compose({**first, **second, "g": lone, "h": third["h"]}, vote="probability")
    whole.save(tmp_path / "whole")
    found = load_composition(tmp_path / "whole")
    assert found.labels == whole.labels and found.vote == "probability"
    np.testing.assert_array_equal(found.margins(x), whole.margins(x))
    assert len(json.loads((tmp_path / "whole" / "unbraid.json").read_text())["parents"]) == 4
    again = found.replace("a", second["d"]).drop("b")
    again.save(tmp_path / "whole")
    np.testing.assert_array_equal(load_composition(tmp_path / "whole").margins(x), again.margins(x))


@factory.UNCALIBRATED
def test_labels_keep_their_types_and_new_names(tmp_path):
    _, x, numbered = decomposed()
    _, _, named = decomposed(labels=["0", "1", "x"], seed=3)
    mixed = compose({**numbered, **named, "new": numbered[0]})
    assert mixed.labels == [0, 1, 2, "0", "1", "x", "new"]
    mixed.save(tmp_path / "mixed")
    found = load_composition(tmp_path / "mixed")
    assert found.labels == mixed.labels and [type(v) for v in found.labels] == [type(v) for v in mixed.labels]
    np.testing.assert_array_equal(found.margins(x), mixed.margins(x))
    assert found["0"].label == "0" and found[0].label == 0


@factory.UNCALIBRATED
def test_labels_from_numpy_are_saved_as_plain_ones(tmp_path):
    _, x, parts = decomposed()
    _, _, named = decomposed(labels=list(np.array(["p", "q", "r"])), seed=3)
    chosen = {label: parts[label] for label in np.unique([0, 2])} | {
        label: named[label] for label in np.array(["p", "q"])
    }
    mixed = compose(chosen).add(parts[1], label=np.int64(1))
    mixed.save(tmp_path / "mixed")
    found = load_composition(tmp_path / "mixed")
    assert found.labels == [0, 2, "p", "q", 1] and [type(v) for v in found.labels] == [int, int, str, str, int]
    np.testing.assert_array_equal(found.margins(x), mixed.margins(x))


def test_saving_over_an_older_folder_replaces_it(tmp_path):
    _, x, old = decomposed()
    _, _, new = decomposed(settings="unrolled", seed=2)
    old.save(tmp_path / "parts")
    new.save(tmp_path / "parts")
    np.testing.assert_array_equal(load_decomposition(tmp_path / "parts")[0].margins(x), new[0].margins(x))
    assert [path.name for path in tmp_path.iterdir()] == ["parts"]
    (tmp_path / "empty").mkdir()
    new.save(tmp_path / "empty")
    new.save(tmp_path / "a" / "b")
    for name in ("empty", "a/b"):
        assert set(files(tmp_path / name)) >= {"unbraid.json", "parent.safetensors", "modules.safetensors"}


def test_what_is_no_unbraid_folder_is_left_alone(tmp_path):
    _, _, parts = decomposed()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for name in ("mine", "file", "file/inside"):
        with pytest.raises(FormatError):
            parts.save(tmp_path / name)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious" and (
        tmp_path / "file"
    ).read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine"]


def test_each_loader_reads_its_own_kind(tmp_path):
    _, _, parts = decomposed()
    parts.save(tmp_path / "decomposition")
    parts[0].save(tmp_path / "module")
    compose(parts).save(tmp_path / "composition")
    loaders = {"decomposition": load_decomposition, "module": load_module, "composition": load_composition}
    for kind in loaders:
        assert load_modules(tmp_path / kind)[0].kind == kind
        for name, load in loaders.items():
            if name != kind:
                with pytest.raises(FormatError, match=f"use load_{kind}"):
                    load(tmp_path / kind)


def test_a_loaded_module_works_like_any_other(tmp_path):
    net, x, parts = decomposed()
    parts[1].save(tmp_path / "alone")
    found = load_module(tmp_path / "alone")
    assert isinstance(found, ConcernModule)
    replaced = compose(parts).replace(1, found)
    np.testing.assert_allclose(replaced.margins(x), compose(parts).margins(x), atol=1e-6)
    assert found.retention() == parts[1].retention()
    assert found.parent.labels == net.labels


def test_a_link_is_followed_every_time(tmp_path):
    _, _, parts = decomposed()
    parts.save(tmp_path / "run1")
    (tmp_path / "latest").symlink_to("run1")
    for _ in range(3):
        parts.save(tmp_path / "latest")
    assert load_decomposition(tmp_path / "latest").labels == parts.labels
    assert (tmp_path / "latest").is_symlink() and sorted(p.name for p in tmp_path.iterdir()) == ["latest", "run1"]
    with pytest.raises(FormatError, match="cannot be written"):
        parts.save("a\0b")


def test_writers_beside_each_other_take_turns(tmp_path):
    _, _, parts = decomposed()
    names = ["parts", "parts", "parts.new-x"]
    with ThreadPoolExecutor(3) as pool:
        done = [pool.submit(parts.save, tmp_path / name) for name in names * 8]
        read = [pool.submit(load_decomposition, tmp_path / "parts") for _ in range(3) if done[0].result() is None]
    assert [d.result() for d in done] == [None] * 24 and len([r.result() for r in read]) == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["parts", "parts.new-x"]

"""What folders store: each weight once, only columns in use, and weights in half precision where that is asked for."""

import copy
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import unbraid
from tests import factory, own_intents
from tests.cli.shell import run
from tests.export.test_onnx import module_of
from tests.locations import DATA
from tests.manifests import edit
from unbraid.demo.small import small_translator
from unbraid.errors import ConfigError, FormatError
from unbraid.networks.snapshot import address
from unbraid.storage.layout import MODULES, PARENTS
from unbraid.storage.loading import load_modules

KERAS = DATA / "keras" / "k3-any_length.keras"
WAYS = {
    "reconstruct": {"keep": 0.5},
    "rolled": {"max_removed": 0.5, "strategy": "paper"},
    "unrolled": {"max_removed": 0.5, "mode": "unrolled"},
    "gates": {"max_removed": 0.5, "gates": "each"},
}


def decomposed(way="reconstruct", **settings):
    net = factory.network(("lstm", "gru"), classes=6, **settings)
    x, _ = factory.examples(net, 60)
    return unbraid.decompose(net, (x, np.arange(60) % 6), samples_per_class=10, **WAYS[way]), x


def rounded(module):
    """The oracle: a copy whose weights are those that float16 holds."""
    found = copy.deepcopy(module)
    for weight in [*found.parameters(), *(b for b in found.buffers() if b.is_floating_point())]:
        weight.data = weight.data.half().float()
    return found


def tensors(folder, name=MODULES):
    return load_file(folder / name)


@pytest.mark.parametrize("way", WAYS)
def test_output_layers_are_stored_over_the_features_in_use(tmp_path, way):
    parts, x = decomposed(way, bidirectional=True)
    parts.save(tmp_path / "parts")
    stored = tensors(tmp_path / "parts")
    found = unbraid.load_decomposition(tmp_path / "parts")
    for number, (label, module) in enumerate(parts.items()):
        assert stored[f"{number}/head.weight"].shape == module.head.weight.shape
        np.testing.assert_array_equal(found[label].margins(x), module.margins(x))
        assert found[label].whole_head.weight.shape == (len(module.head.bias), parts.network.spec.features)
    found.save(tmp_path / "again")
    assert (tmp_path / "again" / MODULES).read_bytes() == (tmp_path / "parts" / MODULES).read_bytes()


def test_whole_output_layers_of_earlier_folders_still_load(tmp_path, monkeypatch):
    parts, x = decomposed()
    with monkeypatch.context() as earlier:
        earlier.setattr("unbraid.storage.saving._stored_narrow", lambda module: False)
        parts.save(tmp_path / "whole")
    parts.save(tmp_path / "narrow")
    sizes = [sum(t.nbytes for t in tensors(tmp_path / name).values()) for name in ("whole", "narrow")]
    assert sizes[1] < sizes[0]
    whole, narrow = (unbraid.load_decomposition(tmp_path / name) for name in ("whole", "narrow"))
    for label in parts:
        np.testing.assert_array_equal(whole[label].margins(x), narrow[label].margins(x))


def test_modules_of_one_parent_share_one_embedding_on_disk_and_in_memory(tmp_path):
    parts, x = decomposed()
    unbraid.compose(parts).save(tmp_path / "all")
    assert not any("embedding" in name or "body.stages.0" in name for name in tensors(tmp_path / "all"))
    assert sum(t.shape[:1] == (120,) for t in tensors(tmp_path / "all", PARENTS).values()) == 1
    found = unbraid.load_composition(tmp_path / "all")
    found.margins(x)
    tables = [next(p for p in m.body.parameters() if p.shape[0] == 120) for m in found.modules_by_label.values()]
    assert len({address(table) for table in tables}) == 1


@pytest.mark.parametrize("way", WAYS)
def test_half_precision_is_that_of_rounded_weights(tmp_path, way):
    parts, x = decomposed(way, hidden=((5, "relu"),))
    parts.save(tmp_path / "full")
    parts.save(tmp_path / "half", dtype="float16")
    for name in (PARENTS, MODULES):
        full, half = tensors(tmp_path / "full", name), tensors(tmp_path / "half", name)
        floats = [key for key, value in full.items() if value.is_floating_point()]
        assert floats and all(half[key].dtype == torch.float16 for key in floats)
    found = unbraid.load_decomposition(tmp_path / "half")
    for label, module in parts.items():
        assert all(p.dtype == torch.float32 for p in found[label].parameters())
        np.testing.assert_array_equal(found[label].margins(x), rounded(module).margins(x))
    change = max(np.abs(found[label].margins(x) - parts[label].margins(x)).max() for label in parts)
    assert unbraid.half_precision_change(parts, x) == pytest.approx(float(change), abs=0) and change > 0
    found.save(tmp_path / "again")
    again = unbraid.load_decomposition(tmp_path / "again")
    for label in parts:
        np.testing.assert_array_equal(again[label].margins(x), found[label].margins(x))
    found.save(tmp_path / "same", dtype="float16")
    assert (tmp_path / "same" / MODULES).read_bytes() == (tmp_path / "half" / MODULES).read_bytes()


@pytest.mark.parametrize("way", WAYS)
def test_a_module_alone_in_half_precision(tmp_path, way):
    parts, x = decomposed(way)
    parts[2].save(tmp_path / "half", dtype="float16")
    found = unbraid.load_module(tmp_path / "half")
    np.testing.assert_array_equal(found.margins(x), rounded(parts[2]).margins(x))
    found.save(tmp_path / "again", dtype="float16")
    np.testing.assert_array_equal(unbraid.load_module(tmp_path / "again").margins(x), found.margins(x))


def test_trained_and_fused_modules_in_half_precision(tmp_path):
    parts, x = decomposed()
    trained = copy.deepcopy(parts[1])
    with torch.no_grad():
        for weight in trained.parameters():
            weight.add_(torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)) / 10)
    composition = unbraid.Composition({"a": parts[0], "trained": trained, "b": parts[4]})
    fused = unbraid.Composition({"a": parts[0], "b": parts[4]}).fuse()
    for number, model in enumerate((composition, fused)):
        model.save(tmp_path / str(number), dtype="float16")
        found = unbraid.load_composition(tmp_path / str(number))
        for label in model:
            np.testing.assert_array_equal(found[label].margins(x), rounded(model[label]).margins(x))
    assert found["a"].body is found["b"].body
    np.testing.assert_array_equal(found.unfuse()["a"].margins(x), rounded(parts[0]).margins(x))


def test_pytorch_networks_in_half_precision(tmp_path):
    composition, x = own_intents.composed()
    composition.save(tmp_path / "half", dtype="float16")
    found = unbraid.load_composition(tmp_path / "half", module=own_intents.Intents)
    assert found.calibration == composition.calibration
    for label in composition:
        np.testing.assert_array_equal(found[label].margins(x), rounded(composition[label]).margins(x))


def test_what_half_precision_does_not_hold_is_refused(tmp_path):
    parts, _ = decomposed()
    with pytest.raises(ConfigError, match=r"dtype='int8': expected 'float32' or 'float16'"):
        parts.save(tmp_path / "x", dtype="int8")
    large = copy.deepcopy(parts[0])
    with torch.no_grad():
        large.head.bias[0] = 1e6
    with pytest.raises(FormatError, match="above 65504"):
        large.save(tmp_path / "x", dtype="float16")
    own = own_intents.trained("bank").double()
    rows = torch.from_numpy(own_intents.vocabulary("bank").encode(own_intents.texts("bank")[0][:30])[0])
    double = unbraid.decompose(unbraid.Network.from_torch(own, rows), (rows, np.arange(30) % 3), samples_per_class=10)
    with pytest.raises(FormatError, match="float64"):
        double.save(tmp_path / "x", dtype="float16")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("value", ["float32", "float8", 1, ["float16"]])
def test_a_manifest_with_another_type_is_refused(tmp_path, value):
    parts, _ = decomposed()
    parts.save(tmp_path / "half", dtype="float16")
    edit(tmp_path / "half", lambda manifest: manifest.update(stored_as=value))
    with pytest.raises(FormatError, match="stored_as"):
        load_modules(tmp_path / "half")


def test_half_precision_and_bytes_in_the_shell(tmp_path):
    net = factory.network(("gru",), labels=["a", "b", "c"])
    x, _ = factory.examples(net, 60)
    parts = unbraid.decompose(net, (x, np.arange(60) % 3), samples_per_class=10)
    parts.save(tmp_path / "full")
    done = run("compose", tmp_path / "full", "-o", tmp_path / "half", "--dtype", "float16", "--json")
    assert done.exit_code == 0, done.output
    found = unbraid.load_composition(tmp_path / "half")
    for label in parts:
        np.testing.assert_array_equal(found[label].margins(x), rounded(parts[label]).margins(x))
    for folder in ("full", "half"):
        sizes = json.loads(run("inspect", tmp_path / folder, "--json").stdout)["bytes_on_disk"]
        assert sizes == {
            "parents": (tmp_path / folder / PARENTS).stat().st_size,
            "modules": (tmp_path / folder / MODULES).stat().st_size,
            "folder": sum(path.stat().st_size for path in (tmp_path / folder).iterdir()),
        }
        assert f"{sizes['modules']:,} bytes of modules" in run("inspect", tmp_path / folder).stdout
    np.savez(tmp_path / "x.npz", x=x % 8, y=np.arange(60) % 3)
    done = run(
        "decompose",
        KERAS,
        tmp_path / "x.npz",
        "-o",
        tmp_path / "parts",
        "--dtype",
        "float16",
        "--samples-per-class",
        "5",
    )
    assert done.exit_code == 0 and "float16: margins change by up to" in done.stderr, done.output
    assert "bytes of modules" in done.stdout
    done = run("compose", tmp_path / "full", "-o", tmp_path / "x", "--dtype", "int8")
    assert done.exit_code == 2 and "--dtype" in done.stderr and not (tmp_path / "x").exists()


def test_modules_of_languages_in_half_precision(tmp_path):
    network, pairs = small_translator()
    parts = unbraid.decompose(network, (pairs.x, pairs.languages))
    parts.save(tmp_path / "half", dtype="float16")
    found = unbraid.load_decomposition(tmp_path / "half")
    for label in parts:
        wanted = rounded(parts[label]).state_dict()
        assert all(torch.equal(value, wanted[name]) for name, value in found[label].state_dict().items())
    parts["fr"].save(tmp_path / "fr", dtype="float16")
    assert unbraid.load_module(tmp_path / "fr").head.weight.equal(wanted_head := rounded(parts["fr"]).head.weight)
    assert wanted_head.dtype == torch.float32


def test_a_narrow_output_layer_of_very_many_rows_is_refused(tmp_path):
    """In memory it has all features, so a few stored columns must not declare a large table."""
    net = factory.network(("gru",), units=400)
    module = module_of(net, "rolled", seed=1, kept=0)
    unbraid.Composition({"a": module}).save(tmp_path / "x")
    stored, rows = tensors(tmp_path / "x"), 50_000
    width = stored["0/head.weight"].shape[1]
    stored |= {"0/head.weight": torch.zeros(rows, width), "0/head.bias": torch.zeros(rows)}
    save_file(stored, tmp_path / "x" / MODULES)
    edit(tmp_path / "x")
    assert width == 0
    assert load_modules(tmp_path / "x")
    with unbraid.limits.override(free_bytes=1_000_000, expansion=20), pytest.raises(FormatError, match="20 times"):
        load_modules(tmp_path / "x")

"""Folders with parents that are PyTorch modules of the user: `module=` in all its forms, and opening without code."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import unbraid
from tests import own_intents
from tests.locations import ROOT
from tests.own_intents import SIZES, Intents, make, network, trained
from unbraid.errors import ArgumentError, DataError, FormatError, ModuleNeeded, UnbraidError
from unbraid.networks.pytorch.codeless import codeless
from unbraid.storage.loading import composition_of, load_modules

BANK, TRAVEL = SIZES["bank"], SIZES["travel"]


@pytest.fixture(scope="module")
def both():
    return own_intents.composed()


@pytest.fixture(scope="module")
def folder(both, tmp_path_factory):
    place = tmp_path_factory.mktemp("own") / "faq"
    both[0].save(place)
    return place


FORMS = {
    "the class": Intents,
    "a function": make,
    "a list of instances": [Intents(**BANK), Intents(**TRAVEL)],
    "a tuple of both kinds": (Intents, Intents(**TRAVEL)),
    "by number": {0: Intents(**BANK), 1: Intents(**TRAVEL)},
    "by name": {"travel": Intents(**TRAVEL), "bank": Intents},
    "by number and name": {1: make, "bank": Intents(**BANK)},
    "a factory by class name": {"Intents": Intents},
}


@pytest.mark.parametrize("form", FORMS)
def test_a_composition_of_two_networks_of_one_class_is_loaded_again(both, folder, form):
    composition, x = both
    again = unbraid.load_composition(folder, module=FORMS[form])
    np.testing.assert_array_equal(again.margins(x), composition.margins(x))
    assert [module.parent.name for module in again.modules_by_label.values()] == ["bank", "bank", "travel"]


def raising(facts):
    raise ValueError("no such file")


WRONG = {
    "nothing": (None, "its parent networks are PyTorch modules, whose code is not stored"),
    "one instance for two sizes": (Intents(**BANK), r"parent 1: .*recurrent layers .*6\).* expected .*10\)"),
    "an instance by an ambiguous class name": ({"Intents": Intents(**BANK)}, "several parents have this name"),
    "a key is missing": ({0: Intents}, r"no instance for parent 1; its keys are \[0\]"),
    "a list that is too short": ([Intents], "holds 1 modules for 2 parents"),
    "another class": (nn.Linear, "module=Linear raised TypeError"),
    "a function that raises": (raising, r"module=raising raised ValueError \(no such file\) for parent 0"),
    "a function that returns something else": (lambda facts: 3, "returned int for parent 0, expected an nn.Module"),
    "another table": ([Intents(8, 6), Intents(**TRAVEL)], r"'body.module.embed.weight' has shape \(9, 5\), .*\(8, 5\)"),
}


@pytest.mark.parametrize("case", WRONG)
def test_the_error_shows_the_needed_call_and_the_facts(folder, case):
    given, says = WRONG[case]
    with pytest.raises(ModuleNeeded, match=says) as error:
        unbraid.load_composition(folder, module=given)
    text = str(error.value)
    assert text.isprintable() and len(text) < 1500
    assert "parent 0 'bank' (Intents)" in text and "embed 12 rows" in text and "10 units" in text
    call = re.search(r"Call (unbraid\.load_composition\(.*?\))\.", text)[1]
    assert eval(call, {"unbraid": unbraid, "Intents": Intents}).labels == ["balance", "transfer", "rent"]


@pytest.mark.parametrize("given", [3, "Intents", {0: 3}, [1, 2]])
def test_other_objects_are_refused(folder, given):
    with pytest.raises(ArgumentError, match=r"module: expected an nn\.Module"):
        unbraid.load_composition(folder, module=given)


def test_without_stored_arguments_the_error_lists_the_parents_by_number(tmp_path):
    composition, x = own_intents.composed(stored=False)
    composition.save(tmp_path / "faq")
    with pytest.raises(ModuleNeeded, match=r"module=\{0: Intents\(\.\.\.\), 1: Intents\(\.\.\.\)\}"):
        unbraid.load_composition(tmp_path / "faq")
    with pytest.raises(ModuleNeeded, match="stores no arguments of its constructor"):
        unbraid.load_composition(tmp_path / "faq", module=Intents)
    again = unbraid.load_composition(tmp_path / "faq", module=make)
    np.testing.assert_array_equal(again.margins(x), composition.margins(x))


def test_a_fresh_process_runs_the_snippet_of_the_card(both, folder, tmp_path):
    composition, x = both
    snippet = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)[1]
    assert "module=Intents)" in snippet
    code = "from tests.own_intents import Intents\nimport json, sys\nx = json.load(open(sys.argv[1]))\n"
    code += snippet.replace("path/to/this/folder", str(folder)) + "\nprint(json.dumps(composition.margins(x).tolist()))"
    (tmp_path / "x.json").write_text(json.dumps(x))
    command = [sys.executable, "-c", code, tmp_path / "x.json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout), composition.margins(x), rtol=0, atol=1e-6)


def test_one_network_is_loaded_with_an_instance_a_class_or_a_function(tmp_path):
    parts = own_intents.parts("bank")
    parts.save(tmp_path / "parts")
    parts["freeze"].save(tmp_path / "one")
    x, _ = own_intents.texts("bank", 20)
    for given in (Intents(**BANK), Intents, make, {"bank": Intents}, {"Intents": Intents(**BANK)}):
        again = unbraid.load_decomposition(tmp_path / "parts", module=given)
        np.testing.assert_array_equal(again["freeze"].margins(x), parts["freeze"].margins(x))
        one = unbraid.load_module(tmp_path / "one", module=given)
        np.testing.assert_array_equal(one.margins(x), parts["freeze"].margins(x))
    snippet = re.search(r"```python\n(.*?)```", (tmp_path / "parts" / "README.md").read_text(), re.DOTALL)[1]
    names = {"Intents": Intents, "x": x}
    exec(snippet.replace("path/to/this/folder", str(tmp_path / "parts")), names)
    assert names["parts"].labels == parts.labels


def test_without_code_a_folder_keeps_every_byte(folder, tmp_path):
    manifest, parents, modules = load_modules(folder, codeless=True)
    composition = composition_of(folder, manifest, modules)
    composition.save(tmp_path / "again")
    for file in sorted(p.name for p in folder.iterdir()):
        assert (tmp_path / "again" / file).read_bytes() == (folder / file).read_bytes(), file
    with_code = load_modules(folder, module=Intents)[2]
    assert [m.retention() for m in modules] == [m.retention() for m in with_code]
    assert [p.sha256() for p in parents] == [m.sha256 for m in manifest.parents]


def test_without_code_nothing_runs(both, folder, tmp_path):
    manifest, parents, modules = load_modules(folder, codeless=True)
    composition, x = composition_of(folder, manifest, modules), both[1]
    for call in (composition.predict, composition.fuse, modules[0].margins, parents[1].predict):
        with pytest.raises(UnbraidError, match=r"opened without its code, .*module="):
            call(x)
    with pytest.raises(UnbraidError, match="opened without its code"):
        unbraid.export_onnx(composition.modules_by_label["rent"], tmp_path / "x.onnx", example=np.ones((2, 4), int))


def test_modules_of_folders_without_code_are_composed_and_run_with_code_later(both, folder, tmp_path):
    composition, x = both
    modules = {m.label: m for m in load_modules(folder, codeless=True)[2]}
    other = unbraid.Composition({"pay": modules["transfer"], "rent": modules["rent"]}, calibration={"pay": (2.0, 0.5)})
    other.drop("rent").replace("pay", modules["balance"]).save(tmp_path / "x")
    again = unbraid.load_composition(tmp_path / "x", module=Intents)
    np.testing.assert_array_equal(again.margins(x)[:, 0], composition["balance"].margins(x))


class Many(nn.Module):
    """Several recurrent layers, a tied table, a list of layers, buffers of several types, one level inside another."""

    def __init__(self):
        super().__init__()
        self.inner = nn.ModuleDict({"words": nn.EmbeddingBag(7, 3), "layers": nn.ModuleList([nn.Linear(3, 3)])})
        self.rnns = nn.ModuleList([nn.GRU(2, 4, 2, batch_first=True), nn.RNN(4, 3, bias=False)])
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("steps", torch.arange(3))
        self.register_buffer("shift", torch.ones(3))
        self.head = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2, bias=False))

    def forward(self, x):
        first, _ = self.rnns[0](x)
        second, _ = self.rnns[1](first.transpose(0, 1))
        words = self.inner["layers"][0](self.inner["words"](torch.arange(7).unsqueeze(0)))
        return self.head(second[-1] * self.scale + self.shift + words)


@pytest.mark.parametrize("mode", ["rolled", "unrolled"])
@pytest.mark.parametrize("alone", [False, True])
def test_modules_of_any_structure_keep_every_byte_without_code(tmp_path, mode, alone):
    torch.manual_seed(0)
    x = torch.randn(40, 5, 2)
    made = unbraid.Network.from_torch(Many(), x[:4], labels=["a", "b"])
    parts = unbraid.decompose(made, (x, np.arange(40) % 2), mode=mode, strategy="paper")
    (parts["a"] if alone else unbraid.compose(parts)).save(tmp_path / "x")
    manifest, _, modules = load_modules(tmp_path / "x", codeless=True)
    (modules[0] if alone else composition_of(tmp_path / "x", manifest, modules)).save(tmp_path / "y")
    for file in sorted(p.name for p in (tmp_path / "x").iterdir()):
        assert (tmp_path / "x" / file).read_bytes() == (tmp_path / "y" / file).read_bytes(), file
    np.testing.assert_array_equal(load_modules(tmp_path / "y", module=Many())[2][0].margins(x), parts["a"].margins(x))


def test_folders_without_the_new_fields_still_load(folder, both, tmp_path):
    """A folder of an earlier version: no facts, so no names and no arguments."""
    place = rewritten(folder, tmp_path / "old", lambda parent: parent.pop("facts"))
    again = unbraid.load_composition(place, module=[Intents(**BANK), Intents(**TRAVEL)])
    np.testing.assert_array_equal(again.margins(both[1]), both[0].margins(both[1]))
    manifest, _, modules = load_modules(place, codeless=True)
    composition_of(place, manifest, modules).save(tmp_path / "again")
    assert (tmp_path / "again" / "unbraid.json").read_bytes() == (place / "unbraid.json").read_bytes()
    with pytest.raises(ModuleNeeded, match=r"module=\{0: Intents\(\.\.\.\), 1: Intents\(\.\.\.\)\}"):
        unbraid.load_composition(place)


def test_keras_folders_have_no_new_field(tmp_path):
    from unbraid.demo.small import small_examples, small_network

    made = small_network()
    unbraid.decompose(made, small_examples(made)).save(tmp_path / "parts")
    assert "facts" not in json.loads((tmp_path / "parts" / "unbraid.json").read_text())["parents"][0]


def rewritten(folder, place, change):
    """A copy of a folder whose parents' entries are changed, with a right checksum."""
    from unbraid.storage.manifest import checksum

    place.mkdir()
    for file in folder.iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    content = json.loads((place / "unbraid.json").read_text())
    for parent in content["parents"]:
        change(parent)
    content["checksum"] = checksum(content)
    # as the library writes it, so that files can be compared
    (place / "unbraid.json").write_text(json.dumps(content, indent=1, ensure_ascii=False))
    return place


def facts(**changes):
    return lambda parent: parent["facts"].update(changes)


def layer(**changes):
    return lambda parent: parent["spec"]["layers"][0].update(changes)


HOSTILE = {
    "an empty name": facts(name=""),
    "a name that is no text": facts(name=3),
    "arguments that are no mapping": facts(init=[1]),
    "an unknown field": facts(code="import os"),
    "a table that is not there": facts(embedding_rows={"words": 3}),
    "a table of another size": facts(embedding_rows={"embed": 10**9}),
    "a table in place of a layer": facts(embedding_rows={"out": 3}),
    "a head that is a method": lambda parent: parent["spec"].update(head="forward"),
    "a head without a name": lambda parent: parent["spec"].update(head="out."),
    "a site that is an attribute": layer(site="training"),
    "a site far down": layer(site=".".join("a" * 500)),
    "more units": layer(units=7),
    "another cell": layer(cell={"kind": "rnn", "activation": "softsign"}),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_facts_are_refused_without_code(folder, tmp_path, case):
    place = rewritten(folder, tmp_path / "x", HOSTILE[case])
    with pytest.raises(UnbraidError) as error:
        load_modules(place, codeless=True)
    assert str(error.value).isprintable() and len(str(error.value)) < 1500


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.uint8])
def test_a_table_without_floating_point_numbers_is_refused_without_code(folder, dtype):
    manifest, parents, _ = load_modules(folder, codeless=True)
    weights = parents[0].weights()
    weights["body.module.embed.weight"] = torch.zeros(weights["body.module.embed.weight"].shape, dtype=dtype)
    with pytest.raises(FormatError, match=f"is {dtype}, expected floating point"):
        codeless(parents[0].spec, weights, manifest.parents[0].facts)


@pytest.mark.parametrize("name", ["head.bias", "body.module.norm.weight", "body.module.lstm.layers.0.weight_hh"])
def test_a_weight_that_is_no_floating_point_number_is_refused(name):
    network = own_intents.network("bank")
    weights = network.weights()
    weights[name] = torch.zeros(weights[name].shape, dtype=torch.uint8)
    with pytest.raises(FormatError, match=f"weight '{name}' is torch.uint8, expected torch.float32"):
        unbraid.Network(network.spec, weights, network.labels, own_intents.trained("bank"))


@pytest.mark.parametrize(
    ("settings", "kind", "says"),
    [
        ({"name": ""}, DataError, "name='': expected 1 to 100"),
        ({"name": "a\nb"}, DataError, "printable"),
        ({"name": 3}, ArgumentError, "name: expected text, got int"),
        ({"init": [1]}, ArgumentError, "init: expected a dict"),
        ({"init": {"dtype": torch.float32}}, DataError, r"init\['dtype'\]: found torch.float32"),
        ({"init": {"a": {1: 2}}}, DataError, r"init\['a'\]: found \{1: 2\}"),
        ({"init": {"a": float("nan")}}, DataError, r"init\['a'\]: found nan"),
        ({"init": {"a": "\ud800"}}, DataError, r"init\['a'\]"),
    ],
)
def test_names_and_arguments_that_no_folder_can_hold_are_refused(settings, kind, says):
    with pytest.raises(kind, match=says):
        unbraid.Network.from_torch(trained("bank"), torch.randint(1, 9, (4, 4)), **settings)


def test_a_network_has_its_name_and_not_in_its_digest():
    named, plain = network("bank"), network("bank", stored=False)
    assert named.name == "bank" and plain.name is None and named.facts.init == BANK
    assert named.sha256() == plain.sha256()

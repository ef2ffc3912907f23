"""PyTorch modules with several output layers: decomposed, composed, saved, edited and evaluated."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import unbraid
from tests.manifests import edit
from unbraid.errors import ArgumentError, ConfigError, DataError, FormatError, IncompatibleModules, UnbraidWarning

N, T, D = 120, 5, 3
X = np.random.default_rng(0).normal(size=(N, T, D)).astype(np.float32)
KIND = np.array(list("abcd"))[np.arange(N) % 4]
TARGETS = {"kind": KIND, "amount": None, "state": np.array(["on", "off"])[np.arange(N) % 2]}


class Machine(nn.Module):
    """Two heads of classes and one of numbers, as a dict, a tuple or activated scores."""

    def __init__(self, form="dict"):
        super().__init__()
        self.rnn, self.form = nn.GRU(D, 8, batch_first=True), form
        self.kind, self.amount, self.state = nn.Linear(8, 4), nn.Linear(8, 2), nn.Linear(8, 2)

    def forward(self, x):
        last = self.rnn(x)[0][:, -1]
        scores = {"kind": self.kind(last), "amount": self.amount(last), "state": self.state(last)}
        if self.form == "activated":
            return {**scores, "kind": scores["kind"].log_softmax(-1), "state": scores["state"].softmax(-1)}
        return scores if self.form == "dict" else tuple(scores.values())


def made(form="dict", seed=0, **changes):
    torch.manual_seed(seed)
    module = Machine(form).eval()
    settings = {
        "labels": {"kind": list("abcd"), "amount": ["low", "high"], "state": ["on", "off"]},
        "task": {"amount": "regression"},
        **changes,
    }
    return module, unbraid.Heads.from_torch(module, torch.from_numpy(X[:9]), **settings)


def of_module(module, x=X):
    with torch.no_grad():
        last = module.rnn(torch.from_numpy(x))[0][:, -1]
        return {name: getattr(module, name)(last).numpy() for name in ("kind", "amount", "state")}


@pytest.mark.parametrize("form", ["dict", "tuple", "activated"])
def test_all_heads_of_a_module_are_found(form):
    module, heads = made(form)
    assert list(heads) == ["kind", "amount", "state"]
    assert [network.task for network in heads.values()] == ["classification", "regression", "classification"]
    expected, found = of_module(module), heads.predict(X)
    assert list(found["kind"]) == [list("abcd")[k] for k in expected["kind"].argmax(1)]
    assert list(found["state"]) == [["on", "off"][k] for k in expected["state"].argmax(1)]
    np.testing.assert_allclose(found["amount"], expected["amount"], atol=1e-5)


def test_heads_can_be_named_and_chosen():
    _, heads = made(
        heads={"what": "kind", "much": "amount"}, labels={"what": list("abcd")}, task={"much": "regression"}
    )
    assert list(heads) == ["what", "much"] and heads["what"].spec.head == "kind"
    fewer = unbraid.Heads({"what": heads["what"]})
    assert list(fewer.decompose((X, {"what": KIND}))) == ["what/a", "what/b", "what/c", "what/d"]


def test_modules_of_all_heads_decide_as_the_module():
    module, heads = made()
    parts = heads.decompose((X, TARGETS), keep=1.0)
    assert list(parts) == ["kind/a", "kind/b", "kind/c", "kind/d", "amount/low", "amount/high", "state/on", "state/off"]
    assert len(parts) == 8 and parts["amount/high"].label == "high"
    found, expected = parts.compose().predict(X), of_module(module)
    np.testing.assert_allclose(found["amount"], expected["amount"], atol=1e-4)
    assert (found["kind"] == heads["kind"].predict(X)).mean() > 0.99
    proba = parts.compose().predict_proba(X)
    assert set(proba) == {"kind", "state"} and proba["kind"].shape == (N, 4)
    np.testing.assert_allclose(proba["kind"].sum(1), 1, atol=1e-5)


def test_each_head_has_settings_of_its_own():
    _, heads = made()
    parts = heads.decompose((X, TARGETS), keep=0.5, each={"state": {"keep": 0.25}})
    assert parts["kind/a"].retention().nodes == 0.5 and parts["state/on"].retention().nodes == 0.25
    paper = heads.decompose((X, tuple(TARGETS.values())), each={"state": {"strategy": "paper"}})
    assert {name: one.config.strategy for name, one in paper.heads.items()} == {
        "kind": "reconstruct", "amount": "reconstruct", "state": "paper"
    }  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_folder_holds_modules_of_all_heads(dtype, tmp_path):
    _, heads = made()
    parts = heads.decompose((X, TARGETS), keep=0.5)
    saved = parts.compose().changed("kind", parts.compose()["kind"].with_calibration(X, KIND))
    saved.save(tmp_path / "heads", license="mit", scores={"kind": {"accuracy": 0.5}}, dtype=dtype)
    found = unbraid.load_heads(tmp_path / "heads", module=Machine)
    assert list(found.modules) == list(parts) and found["kind"].is_calibrated and not found["state"].is_calibrated
    if dtype == "float32":
        for name, expected in saved.predict(X).items():
            np.testing.assert_array_equal(found.predict(X)[name], expected)
    text = (tmp_path / "heads/README.md").read_text()
    assert "load\\_heads" in text or "unbraid.load_heads(" in text
    assert "kind/a" in text and "amount/high" in text
    found.save(tmp_path / "again", dtype=dtype)
    assert (tmp_path / "again/modules.safetensors").read_bytes() == (
        tmp_path / "heads/modules.safetensors"
    ).read_bytes()


def test_modules_of_a_head_are_added_replaced_and_dropped():
    _, heads = made()
    _, others = made(seed=1)
    mine, theirs = (one.decompose((X, TARGETS), keep=0.5) for one in (heads, others))
    both = mine.compose()
    with pytest.warns(UnbraidWarning):  # margins of two networks are not calibrated
        changed = both.replace("kind/b", theirs["kind/b"]).drop("kind/d").add("kind", theirs["kind/a"], "new")
    assert changed["kind"].labels == ["a", "b", "c", "new"] and changed["kind"]["b"] is theirs["kind/b"]
    numbers = both.replace("amount/low", theirs["amount/low"]).predict(X)["amount"]
    np.testing.assert_allclose(numbers[:, :1], theirs.compose().predict(X)["amount"][:, :1], atol=1e-6)
    np.testing.assert_allclose(numbers[:, 1:], both.predict(X)["amount"][:, 1:], atol=1e-6)
    assert both.changed("twice", both["kind"]).predict(X)["twice"].shape == (N,)


def test_each_head_is_evaluated_by_its_own_task():
    module, heads = made()
    both = heads.decompose((X, TARGETS), keep=1.0).compose()
    numbers = of_module(module)["amount"]
    found = both.evaluate((X, {**TARGETS, "amount": numbers}), against=heads)
    assert isinstance(found["kind"], unbraid.Evaluation) and isinstance(found["amount"], unbraid.RegressionEvaluation)
    expected = (heads.predict(X)["kind"] == KIND).mean()
    assert found["kind"].monolithic_accuracy == pytest.approx(expected)
    assert found["amount"].modules["low"].agreement < 1e-3


WRONG = {
    "no mapping of labels": (lambda h, b: h.decompose((X, KIND)), ArgumentError, "y"),
    "a missing head": (lambda h, b: h.decompose((X, {"kind": KIND})), DataError, "nothing for the output layer"),
    "an unknown head": (lambda h, b: h.decompose((X, {**TARGETS, "x": 1})), ConfigError, "names the output layer 'x'"),
    "settings of an unknown head": (lambda h, b: h.decompose((X, TARGETS), each={"x": {}}), ConfigError, "each names"),
    "no pair": (lambda h, b: h.decompose(X), ArgumentError, "a pair"),
    "decompose of heads": (lambda h, b: unbraid.decompose(h, (X, TARGETS)), ArgumentError, "heads.decompose"),
    "no head": (lambda h, b: unbraid.Heads({}), ConfigError, "at least one"),
    "a slash": (lambda h, b: unbraid.HeadsComposition({"a/b": b["kind"]}), ConfigError, "without a slash"),
    "no networks": (lambda h, b: unbraid.Heads([h["kind"]]), ArgumentError, "a mapping"),
    "no compositions": (lambda h, b: unbraid.HeadsComposition({"a": h["kind"]}), ArgumentError, "unbraid.compose"),
    "an unknown module": (lambda h, b: b.drop("kind/e"), KeyError, "no module 'kind/e'"),
    "a module without its head": (lambda h, b: b.drop("a"), KeyError, "no module 'a'"),
    "numbers only": (
        lambda h, b: unbraid.HeadsComposition({"amount": b["amount"]}).predict_proba(X), IncompatibleModules, "numbers"
    ),
    "a module of another task": (lambda h, b: b.add("kind", b["amount"]["low"]), IncompatibleModules, "predicts a"),
}  # fmt: skip


@pytest.fixture(scope="module")
def ready():
    _, heads = made()
    return heads, heads.decompose((X, TARGETS), keep=0.5).compose()


@pytest.mark.parametrize("what", WRONG)
def test_wrong_calls_are_refused(what, ready):
    call, error, message = WRONG[what]
    with pytest.raises(error, match=message):
        call(*ready)


def test_referees_and_different_votes_are_not_saved_together(ready, tmp_path):
    _, both = ready
    refereed = both.changed("kind", both["kind"].with_referee(X, KIND))
    with pytest.raises(IncompatibleModules, match="has a referee"):
        refereed.save(tmp_path / "heads")
    other = unbraid.compose(both["kind"].modules_by_label, vote="probability")
    with pytest.raises(IncompatibleModules, match="one kind of vote"):
        both.changed("kind", other).save(tmp_path / "heads")
    assert not (tmp_path / "heads").exists()


CHANGES = {
    "a module without a head": (lambda m: m["modules"][0].pop("head"), "expected field head in each module"),
    "a head with a slash": (lambda m: m["modules"][0].update(head="a/b"), "head"),
    "a head that is a number": (lambda m: m["modules"][0].update(head=1), "head"),
    "two modules of one name": (lambda m: m["modules"][1].update(label="a"), "labels repeat"),
    "another kind": (lambda m: m.update(kind="composition"), "use load_composition"),
    "one head of classes and numbers": (
        lambda m: [e.update(head="one") for e in m["modules"]],
        "predicts|labels repeat",
    ),
    "calibrated numbers": (lambda m: m["modules"][4].update(temperature=2.0), "calibration|numbers"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_damaged_folders_are_refused(what, ready, tmp_path):
    ready[1].save(tmp_path / "heads")
    change, message = CHANGES[what]
    edit(tmp_path / "heads", change)
    with pytest.raises(FormatError, match=message):
        unbraid.load_heads(tmp_path / "heads", module=Machine)


def test_a_composition_has_no_heads(ready, tmp_path):
    ready[1]["kind"].save(tmp_path / "kind")
    edit(tmp_path / "kind", lambda m: m["modules"][0].update(head="kind"))
    with pytest.raises(FormatError, match="expected field head"):
        unbraid.load_composition(tmp_path / "kind", module=Machine)


def test_other_loaders_and_commands_name_the_way(ready, tmp_path):
    ready[1].save(tmp_path / "heads")
    with pytest.raises(FormatError, match="load_heads"):
        unbraid.load_composition(tmp_path / "heads", module=Machine)
    assert json.loads((tmp_path / "heads/unbraid.json").read_text())["kind"] == "heads"


def test_from_torch_names_other_results_of_the_module():
    class Agent(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out, self.value = nn.LSTM(D, 6, batch_first=True), nn.Linear(6, 3), nn.Linear(6, 1)

        def forward(self, x):
            last = self.rnn(x)[0][:, -1]
            return self.out(last).softmax(-1), self.value(last)

    with pytest.warns(UnbraidWarning, match=r"also returns the scores of value: .*Heads\.from_torch"):
        network = unbraid.Network.from_torch(Agent(), torch.from_numpy(X[:9]))
    assert network.spec.head == "out"
    assert unbraid.Network.from_torch(Agent(), torch.from_numpy(X[:9]), head="out").classes == 3  # no warning

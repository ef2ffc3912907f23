"""Changed weights belong to one module only, and saved weights equal the weights that predict."""

import copy
import threading

import numpy as np
import pytest
import torch
from torch import nn

from tests import factory
from unbraid import Network, compose, decompose, export_onnx, load_composition, load_decomposition, load_module
from unbraid.errors import IncompatibleModules

WAYS = {
    "compact": {},
    "rolled": {"strategy": "paper", "max_removed": 0.4},
    "by-gates": {"strategy": "paper", "max_removed": 0.4, "gates": "each"},
    "unrolled": {"strategy": "paper", "mode": "unrolled", "max_removed": 0.4},
}


@torch.no_grad()
def _in_place(module):
    for parameter in module.parameters():
        parameter.mul_(1.5)


def _data(module):
    for parameter in module.parameters():
        parameter.data.mul_(1.5)


def _inference(module):
    with torch.inference_mode():
        for parameter in module.parameters():
            parameter.mul_(1.5)


def _numpy(module):
    for parameter in module.parameters():
        parameter.detach().numpy()[...] *= 1.5


def _loaded(module):
    module.load_state_dict({name: 1.5 * value if value.is_floating_point() else value
                            for name, value in module.state_dict().items()})  # fmt: skip


def _assigned(module):
    state = {name: 1.5 * value if value.is_floating_point() else value for name, value in module.state_dict().items()}
    module.load_state_dict(state, assign=True)


def _trained(module):
    module.requires_grad_(True)
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    with torch.enable_grad():
        sum((parameter**2).sum() for parameter in module.parameters()).backward()
    optimizer.step()
    module.requires_grad_(False)


EDITS = {"in place": _in_place, ".data": _data, "inference": _inference, "numpy": _numpy, "load_state_dict": _loaded,
         "assign": _assigned, "optimizer": _trained}  # fmt: skip


def decomposed(way, seed=1, **changes):
    net = factory.network(("lstm", "gru"), seed=seed, labels=["a", "b", "c"], hidden=((4, "tanh"),), **changes)
    x, y = factory.examples(net, 60, 1)
    with torch.no_grad():
        net.head.bias -= torch.from_numpy(net.logits(x).mean(0))  # so that every class is decided for
    return net, x, y, decompose(net, (x, y), **WAYS[way])


@pytest.mark.parametrize("edit", EDITS)
def test_the_digest_is_that_of_the_weights_as_they_are(edit):
    net = factory.network(("lstm",), seed=1)
    before, x = net.sha256(), factory.examples(net, 6)[0]
    twin = copy.deepcopy(net)
    assert twin.sha256() == before
    EDITS[edit](twin)
    other = twin.sha256()
    assert other != before == net.sha256()
    assert Network(net.spec, twin.weights()).sha256() == other
    net.predict(x)  # kernels that read weights change no digest
    assert net.sha256() == before


def test_the_digest_follows_conversions_and_replaced_weights():
    net = factory.network(("gru",))
    digests = [net.sha256(), net.half().sha256(), net.float().sha256(), net.double().sha256()]
    assert len(set(digests)) == 4 or digests[0] != digests[1]
    net = factory.network(("gru",))
    before = net.sha256()
    net.head.bias = nn.Parameter(net.head.bias + 1)
    assert net.sha256() != before
    net.head.bias = nn.Parameter(net.head.bias - 1)
    assert net.sha256() == Network(net.spec, net.weights()).sha256()


def test_a_network_does_not_share_the_weights_that_it_is_made_of():
    net = factory.network(("lstm",))
    weights = net.weights()
    other, before = Network(net.spec, weights), net.sha256()
    _in_place(other)
    assert net.sha256() == before
    for tensor in weights.values():
        tensor.zero_()
    assert other.sha256() != net.sha256() and float(other.head.weight.abs().sum()) > 0


@factory.UNCALIBRATED
@pytest.mark.parametrize("way", WAYS)
def test_modules_of_a_retrained_copy_are_another_parents(way, tmp_path):
    net, x, y, parts = decomposed(way)
    twin = copy.deepcopy(net)
    twin.load_state_dict(factory.network(("lstm", "gru"), seed=2, hidden=((4, "tanh"),)).state_dict())
    others = decompose(twin, (x, y), **WAYS[way])
    mixed = compose({"a": parts["a"], "b": others["b"]})
    np.testing.assert_allclose(mixed.margins(x)[:, 1], others["b"].margins(x), atol=1e-6)
    assert parts["a"].parent_sha256 != others["b"].parent_sha256
    others.save(tmp_path / "others")
    again = load_decomposition(tmp_path / "others")
    assert again.network.sha256() == twin.sha256()
    for label, module in others.items():
        np.testing.assert_array_equal(again[label].margins(x), module.margins(x))


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("way", WAYS)
def test_changing_a_module_changes_no_other_and_is_saved(way, edit, tmp_path):
    net, x, _, parts = decomposed(way)
    before = {label: module.margins(x) for label, module in parts.items()}
    scores, digest, whole = net.logits(x), net.sha256(), compose(parts)
    assert not parts["a"].tuned
    EDITS[edit](parts["a"])
    own = parts["a"].margins(x)
    assert parts["a"].tuned and np.abs(own - before["a"]).max() > 1e-3
    for label in "bc":
        np.testing.assert_array_equal(parts[label].margins(x), before[label])
        assert not parts[label].tuned
    np.testing.assert_array_equal(net.logits(x), scores)
    assert net.sha256() == digest
    expected = np.stack([own, before["b"], before["c"]], 1)
    for composition in (whole, compose(parts)):  # made before and after
        np.testing.assert_allclose(composition.margins(x), expected, atol=1e-5)
    whole.save(tmp_path / "whole")
    np.testing.assert_array_equal(load_composition(tmp_path / "whole").margins(x), whole.margins(x))
    parts.save(tmp_path / "parts")
    again = load_decomposition(tmp_path / "parts")
    for label, module in parts.items():
        np.testing.assert_array_equal(again[label].margins(x), module.margins(x))
    parts["a"].save(tmp_path / "a")
    np.testing.assert_array_equal(load_module(tmp_path / "a").margins(x), own)


@pytest.mark.parametrize("part", ["head", "body.stages.0", "body.stages.1", "body.stages.3"])
@pytest.mark.parametrize("way", WAYS)
def test_one_part_of_a_module_may_be_changed_alone(way, part, tmp_path):
    _, x, _, parts = decomposed(way)
    _in_place(parts["b"].get_submodule(part))
    whole = compose(parts)
    np.testing.assert_allclose(whole.margins(x)[:, 1], parts["b"].margins(x), atol=1e-5)
    for where, again in (("whole", load_composition), ("b", load_module)):
        saved = whole if where == "whole" else parts["b"]
        saved.save(tmp_path / where)
        np.testing.assert_array_equal(again(tmp_path / where).margins(x), saved.margins(x))
    loaded = load_composition(tmp_path / "whole")
    loaded.save(tmp_path / "again")
    np.testing.assert_array_equal(load_composition(tmp_path / "again").margins(x), whole.margins(x))


@factory.UNCALIBRATED
@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("way", WAYS)
def test_training_the_network_further_changes_no_module(way, edit, tmp_path):
    net, x, y, parts = decomposed(way)
    before, whole, digest = {n: m.margins(x) for n, m in parts.items()}, compose(parts), net.sha256()
    EDITS[edit](net)
    for label, module in parts.items():
        np.testing.assert_array_equal(module.margins(x), before[label])
        assert module.parent_sha256 == digest and not module.tuned
    parts.save(tmp_path / "parts")
    again = load_decomposition(tmp_path / "parts")
    assert again.network.sha256() == digest
    for label in parts:
        np.testing.assert_array_equal(again[label].margins(x), before[label])
    np.testing.assert_array_equal(compose(parts).margins(x), whole.margins(x))
    fused = whole.fuse(keep=1)
    assert fused["a"].parent_sha256 == digest
    others = decompose(net, (x, y), **WAYS[way])
    assert others["a"].parent_sha256 == net.sha256() != digest
    mixed = compose({"a": parts["a"], "b": others["b"]})
    np.testing.assert_allclose(mixed.margins(x)[:, 0], before["a"], atol=1e-6)
    np.testing.assert_allclose(mixed.margins(x)[:, 1], others["b"].margins(x), atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_a_composition_is_trained_as_a_whole(way, tmp_path):
    _, x, y, parts = decomposed(way)
    whole, words = compose(parts), torch.from_numpy(x)
    target = torch.from_numpy(y)
    whole.requires_grad_(True)
    optimizer = torch.optim.Adam(whole.parameters(), 0.05)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(whole(words), target)
        loss.backward()
        assert all(p.grad is not None for name, p in parts["b"].named_parameters() if "head" in name)
        optimizer.step()
        losses.append(loss.item())
        with torch.no_grad():
            np.testing.assert_allclose(whole(words).numpy(), whole.margins(x), atol=1e-5)
    assert losses[-1] < losses[0]
    for place, module in enumerate(parts.values()):
        np.testing.assert_allclose(whole.margins(x)[:, place], module.margins(x), atol=1e-5)
    whole.save(tmp_path / "whole")
    np.testing.assert_array_equal(load_composition(tmp_path / "whole").margins(x), whole.margins(x))


@pytest.mark.parametrize("sample", [True, False])
def test_fused_modules_train_one_body(sample, tmp_path):
    net, x, _, parts = decomposed("rolled")
    scores, before = net.logits(x), compose(parts).margins(x)
    fused = compose(parts).fuse(*([x, 0.5] if sample else []))
    assert fused["a"].body is fused["b"].body
    words = torch.from_numpy(x)
    fused.requires_grad_(True)
    optimizer = torch.optim.SGD(fused.parameters(), 0.1)
    nn.functional.cross_entropy(fused(words), torch.from_numpy(net.predict_index(x))).backward()
    optimizer.step()
    np.testing.assert_allclose(fused(words).detach().numpy(), fused.margins(x), atol=1e-5)
    for place, label in enumerate("abc"):
        np.testing.assert_allclose(fused.margins(x)[:, place], fused[label].margins(x), atol=1e-5)
    fused.save(tmp_path / "fused")
    again = load_composition(tmp_path / "fused")
    np.testing.assert_array_equal(again.margins(x), fused.margins(x))
    assert len(again.groups) == len(again.groups[0].lanes) == 1
    np.testing.assert_array_equal(net.logits(x), scores)
    np.testing.assert_array_equal(fused.unfuse().margins(x), before)
    _data(fused["b"].head)
    np.testing.assert_allclose(fused.margins(x)[:, 1], fused["b"].margins(x), atol=1e-5)
    with pytest.raises(IncompatibleModules, match="trained after it was made"):
        fused.fuse()


@pytest.mark.parametrize("way", WAYS)
def test_fusing_does_not_lose_training_silently(way):
    _, x, _, parts = decomposed(way)
    _in_place(parts["c"].head)
    with pytest.raises(IncompatibleModules, match="module 'c' was trained after it was made"):
        compose(parts).fuse(x)
    assert compose({"a": parts["a"], "b": parts["b"]}).fuse().labels == ["a", "b"]


@pytest.mark.parametrize("way", WAYS)
def test_copies_and_moves_stay_equal_and_independent(way):
    net, x, _, parts = decomposed(way)
    whole = compose(parts)
    before = whole.margins(x)
    twin = copy.deepcopy(whole)
    np.testing.assert_array_equal(twin.margins(x), before)
    assert twin["a"].parent is net
    _in_place(twin["a"])
    assert np.abs(twin.margins(x) - before).max() > 1e-3
    np.testing.assert_array_equal(whole.margins(x), before)
    whole.double()
    np.testing.assert_allclose(whole.margins(x), before, atol=1e-5)
    np.testing.assert_array_equal(whole.float().margins(x), before)
    state = {name: value.clone() for name, value in whole.state_dict().items()}
    _in_place(whole)
    whole.load_state_dict(state)
    np.testing.assert_array_equal(whole.margins(x), before)


def test_whats_alike_shares_memory_until_it_is_changed():
    parts = decomposed("unrolled")[3]
    whole = compose(parts)

    def places(composition):
        return {torch._C._data_address(m.body.stages[0].weight) for m in composition.modules_by_label.values()}

    assert len(places(whole)) == len(places(copy.deepcopy(whole))) == len(places(whole.double())) == 1
    _data(parts["a"].body.stages[0])
    assert len(places(whole)) == 2
    assert len(whole.groups) == 2 and len(compose(decomposed("rolled")[3]).groups) == 1


def test_an_output_layer_is_held_once():
    """With thousands of classes the output layers are most of the memory of the modules."""
    for way in WAYS:
        for module in decomposed(way)[3].values():
            whole, (width, removed) = module.whole_head, module._removed
            assert whole.weight.shape[1] == width
            gone = np.setdiff1d(np.arange(width), np.arange(width) if module.features is None else module.features)
            assert (removed is None) == (not whole.weight[:, gone].any()), way
            if way == "compact":
                assert removed is None and len(gone)
            if module.features is not None:
                assert torch.equal(whole.weight[:, module.features], module.head.weight)


def test_reading_from_many_threads_is_safe():
    net, x, _, parts = decomposed("compact")
    whole, expected = compose(parts), compose(parts).margins(x)
    found = []

    def use():
        for _ in range(10):
            found.append(np.abs(whole.margins(x) - expected).max())
            net.logits(x), net.sha256(), parts["a"].margins(x)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [0] * 80


def test_modules_made_in_inference_mode_can_be_trained():
    net = factory.network(("lstm",), labels=["a", "b", "c"])
    x, y = factory.examples(net, 60, 1)
    for mode in (torch.inference_mode, torch.no_grad):
        with mode():
            parts = decompose(net, (x, y))
            whole = compose(parts)
            assert whole.fuse().labels == ["a", "b", "c"]
    whole.requires_grad_(True)
    whole(torch.from_numpy(x)).sum().backward()
    assert all(p.grad is not None for p in parts["a"].head.parameters())


def test_composing_many_modules_hashes_the_parent_once(monkeypatch):
    from unbraid.networks import snapshot

    net = factory.network(("gru",), classes=30)
    x, y = factory.examples(net, 120, 1)
    counted = []
    digest = snapshot._digest
    monkeypatch.setattr(snapshot, "_digest", lambda *given: counted.append(1) or digest(*given))
    parts = decompose(net, (x, y), strategy="paper", samples_per_class=2)
    compose(parts).margins(x)
    assert len(counted) == 1


@pytest.mark.parametrize("way", WAYS)
def test_a_trained_module_is_exported_as_it_is(way, tmp_path):
    pytest.importorskip("onnxruntime")
    import onnxruntime

    _, x, _, parts = decomposed(way)
    whole = compose(parts)
    _in_place(parts["a"])
    for name, model in (("module", parts["a"]), ("composition", whole)):
        export_onnx(model, tmp_path / f"{name}.onnx", example=x)
        session = onnxruntime.InferenceSession(tmp_path / f"{name}.onnx", providers=["CPUExecutionProvider"])
        found = session.run(None, {"x": x.astype(np.int64)})[0]
        expected = parts["a"].predict_proba(x) if name == "module" else whole.margins(x)
        np.testing.assert_allclose(found, expected, atol=1e-4)


class Own(nn.Module):
    """A PyTorch module with trainable parts of all kinds besides its recurrent layer."""

    def __init__(self):
        super().__init__()
        self.words, self.mix = nn.Embedding(20, 5), nn.Conv1d(5, 5, 1)
        self.norm, self.rnn = nn.BatchNorm1d(5), nn.LSTM(5, 6, batch_first=True)
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        values = self.norm(self.mix(self.words(x).transpose(1, 2))).transpose(1, 2)
        return self.out(self.rnn(values)[0][:, -1])


@pytest.mark.parametrize("part", [None, "body.module.words", "body.module.norm", "body.module.rnn", "head"])
@pytest.mark.parametrize("way", ["compact", "rolled", "unrolled"])
def test_modules_of_users_own_networks_are_saved_as_trained(way, part, tmp_path):
    torch.manual_seed(0)
    x = torch.randint(0, 20, (60, 4))
    net = Network.from_torch(Own().eval(), x[:5])
    parts = decompose(net, (x, np.arange(60) % 3), **WAYS[way])
    before, whole = compose(parts).margins(x), compose(parts)
    edited = parts[1] if part is None else parts[1].get_submodule(part)
    _in_place(edited)
    for buffer in edited.buffers():
        if buffer.is_floating_point() and "norm" in (part or ""):
            buffer += 0.25
    own = parts[1].margins(x)
    assert np.abs(own - before[:, 1]).max() > 1e-4
    expected = before.copy()
    expected[:, 1] = own
    np.testing.assert_allclose(whole.margins(x), expected, atol=1e-5)
    whole.save(tmp_path / "whole")
    again = load_composition(tmp_path / "whole", module=Own())
    np.testing.assert_allclose(again.margins(x), whole.margins(x), atol=1e-6)  # joined or one by one: other sums
    parts[1].save(tmp_path / "alone")
    np.testing.assert_array_equal(load_module(tmp_path / "alone", module=Own()).margins(x), own)


def test_trained_modules_of_a_translator_are_saved_as_trained(tmp_path):
    net = factory.translator()
    x, y = factory.sentence_pairs(net, 24)
    parts = decompose(net, (x, y), samples_per_class=4)
    before = parts["de"].margins(x)
    _in_place(parts["fr"])
    np.testing.assert_array_equal(parts["de"].margins(x), before)
    parts.save(tmp_path / "parts")
    again = load_decomposition(tmp_path / "parts")
    for label in parts:
        np.testing.assert_array_equal(again[label].margins(x), parts[label].margins(x))

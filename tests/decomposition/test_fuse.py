"""Fused compositions decide like the parent, support all operations of compositions, and can be unfused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import unbraid
from tests import factory
from tests.decomposition.reconstruction.test_reconstruct import Attention
from unbraid import compose, decompose
from unbraid.decomposition.fuse import default_keep
from unbraid.errors import ConfigError, DataError, IncompatibleModules

UNTOUCHED = {"max_removed": 0, "head": "softmax"}


def parts_of(cells=("lstm",), io="M:1", count=60, changes=None, **architecture):
    net = factory.network(cells, io, **architecture)
    x, y = factory.examples(net, count)
    net.head.bias -= torch.from_numpy(net.logits(x).reshape(-1, net.spec.classes).mean(0))  # so that every class occurs
    changes = changes or {}
    untouched = {"head": "softmax"} if changes.get("strategy") == "reconstruct" else UNTOUCHED
    return net, x, decompose(net, (x, y), samples_per_class=10, **{**untouched, **changes})


@settings(max_examples=12)
@given(
    cells=st.lists(st.sampled_from(list(factory.CELLS)), min_size=1, max_size=2).map(tuple),
    io=st.sampled_from(factory.IO),
    bidirectional=st.booleans(),
    merge=st.sampled_from(["concat", "sum"]),
    used=st.lists(st.sampled_from([0, 1, 2]), min_size=1, unique=True),
    seed=st.integers(0, 99),
)
def test_with_every_node_it_says_what_untouched_modules_say(cells, io, bidirectional, merge, used, seed):
    net, x, parts = parts_of(cells, io, bidirectional=bidirectional, merge=merge, seed=seed)
    decided = net.predict_index(x)
    plain = compose([parts[j] for j in used])
    if min((decided == j).sum() for j in used) < 2:
        with pytest.raises(DataError, match="at least 2"):
            plain.fuse(x, keep=1.0)
        return
    fused = plain.fuse(x, keep=1.0)
    np.testing.assert_allclose(fused.margins(x), plain.margins(x), atol=1e-4, rtol=1e-4)
    assert fused.labels == plain.labels and len(fused.groups) == len(fused.groups[0].lanes) == 1


@pytest.mark.parametrize("io", factory.IO)
@pytest.mark.parametrize("changes", [{"mode": "unrolled"}, {"head": "mean"}, {"gates": "each", "max_removed": 0.3}])
def test_smaller_than_the_parent_and_near_it(io, changes):
    net, x, parts = parts_of(("lstm", "gru"), io, units=8, changes=changes)
    fused = compose(parts).fuse(x)
    for label, module in fused.modules_by_label.items():
        assert 0 < module.retention().nodes < 1
        np.testing.assert_array_equal(module.margins(x).shape, parts[label].margins(x).shape)
        np.testing.assert_allclose(fused.margins(x)[..., label], module.margins(x), atol=1e-5, rtol=1e-5)
    assert (fused.predict_index(x) == net.predict_index(x)).mean() > 0.6


@pytest.mark.parametrize(("output", "classes"), [("softmax", 3), ("sigmoid", 3), ("sigmoid", 1)])
def test_independent_and_binary_columns(output, classes):
    net, x, parts = parts_of(("gru",), classes=classes, output=output)
    fused = compose(parts).fuse(x, keep=1.0)
    np.testing.assert_allclose(fused.predict_proba(x), compose(parts).predict_proba(x), atol=1e-4)
    np.testing.assert_array_equal(fused.predict(x), net.predict(x))


@factory.UNCALIBRATED
def test_several_parents_are_fused_apart():
    _, x, one = parts_of(("lstm",), labels=["a", "b", "c"])
    _, _, two = parts_of(("gru", "lstm"), labels=["d", "e", "f"], seed=5, changes={"head": "mean", "mode": "unrolled"})
    plain = compose([two["f"], one["a"], two["d"], one["c"]]).with_calibration(x[:4], [0, 1, 2, 3])
    fused = plain.fuse(x, keep=1.0)
    assert fused.labels == ["f", "a", "d", "c"] and fused.calibration == plain.calibration
    assert len(fused.groups) == 2 and all(len(group.lanes) == 1 for group in fused.groups)
    np.testing.assert_allclose(fused.margins(x), plain.margins(x), atol=1e-4, rtol=1e-4)


@factory.UNCALIBRATED
def test_it_is_a_composition_like_any_other():
    net, x, parts = parts_of(("lstm",), labels=["a", "b", "c"], units=6)
    _, _, other = parts_of(("gru",), labels=["a", "b", "c"], seed=7)
    fused = compose(parts, vote="probability").fuse(x, keep=0.5)
    margins = fused.margins(x)
    replaced = fused.replace("b", other["b"])
    np.testing.assert_allclose(replaced.margins(x)[:, [0, 2]], margins[:, [0, 2]], atol=1e-5)
    np.testing.assert_allclose(replaced.margins(x)[:, 1], other["b"].margins(x), atol=1e-6)
    np.testing.assert_allclose(fused.drop("a").margins(x), margins[:, 1:], atol=1e-5)
    assert fused.vote == replaced.vote == fused.unfuse().vote == "probability"
    assert unbraid.evaluate(fused, (x, net.predict(x)), against=net).accuracy > 0.6


def test_taken_apart_it_is_what_it_was():
    _, x, parts = parts_of(("lstm",), units=6, changes={"max_removed": 0.3})
    plain = compose(parts)
    fused = plain.fuse(x)
    for again in (fused.unfuse(), fused.fuse(x, keep=0.3).unfuse(), plain.unfuse()):
        np.testing.assert_array_equal(again.margins(x), plain.margins(x))
    np.testing.assert_array_equal(fused.drop(0).unfuse().margins(x), plain.drop(0).margins(x))


@factory.UNCALIBRATED
@pytest.mark.parametrize("strategy", ["paper", "reconstruct"])
def test_a_saved_one_comes_back_with_its_recipe_and_shares_weights(strategy, tmp_path):
    _, x, parts = parts_of(("lstm", "gru"), units=6, labels=["a", "b", "c"], changes={"strategy": strategy})
    _, _, other = parts_of(("gru",), labels=["d", "e", "f"], seed=7)
    plain = compose(parts)
    fused = plain.fuse(x, keep=0.5).add(other["d"]).add(parts["a"], label="a2")
    fused.save(tmp_path / "fused")
    again = unbraid.load_composition(tmp_path / "fused")
    np.testing.assert_array_equal(again.margins(x), fused.margins(x))
    np.testing.assert_array_equal(again.unfuse().margins(x), fused.unfuse().margins(x))
    assert again["a"].weights is again["b"].weights is again["c"].weights
    again.save(tmp_path / "again")
    for name in ("modules.safetensors", "parent.safetensors", "unbraid.json"):
        assert (tmp_path / "fused" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_shared_weights_are_stored_once(tmp_path):
    _, x, parts = parts_of(("lstm",), units=40, labels=["a", "b", "c"])
    fused = compose(parts).fuse(x, keep=0.5)
    sizes = []
    for composition in (fused, fused.drop("a").drop("b")):
        composition.save(tmp_path / "f")
        sizes.append((tmp_path / "f" / "modules.safetensors").stat().st_size)
    body = sum(4 * t.numel() for own in fused["a"].weights.values() for t in own.values())
    assert sizes[0] - sizes[1] < body


def test_one_fused_module_alone_stands_for_itself(tmp_path):
    _, x, parts = parts_of(("lstm",), units=6)
    module = compose(parts).fuse(x, keep=0.5)[1]
    module.save(tmp_path / "m")
    alone = unbraid.load_module(tmp_path / "m")
    np.testing.assert_array_equal(alone.margins(x), module.margins(x))
    assert alone.original is None
    with pytest.raises(IncompatibleModules, match=r"module 1 was saved alone.*whole parent"):
        compose([alone]).fuse(x)


def test_a_users_own_module(tmp_path):
    torch.manual_seed(0)
    net = unbraid.Network.from_torch(Attention(), example=torch.randint(0, 30, (4, 5)), head="out")
    x = np.random.default_rng(0).integers(0, 30, (200, 5))
    y = net.predict_index(x)
    y[:6] = [0, 1, 2, 0, 1, 2]
    used = [j for j in range(3) if (net.predict_index(x) == j).sum() > 2]
    plain = compose({j: m for j, m in decompose(net, (x, y), **UNTOUCHED).items() if j in used})
    fused = plain.fuse(x, keep=1.0)
    np.testing.assert_allclose(fused.margins(x), plain.margins(x), atol=1e-3)
    fused = plain.fuse(x, keep=0.5)
    fused.save(tmp_path / "f")
    again = unbraid.load_composition(tmp_path / "f", module=Attention())
    np.testing.assert_array_equal(again.margins(x), fused.margins(x))
    np.testing.assert_array_equal(again.unfuse().margins(x), plain.margins(x))


def test_what_cannot_be_is_said():
    _, x, parts = parts_of(("lstm",))
    plain = compose(parts)
    for keep in (0, 1.1):
        with pytest.raises(ConfigError, match="keep"):
            plain.fuse(x, keep=keep)
    with pytest.raises(DataError, match="shape"):
        plain.fuse(x[0])
    with pytest.raises(DataError, match=r"predicts class \d for \d+ of the sample inputs, expected at least 2"):
        plain.fuse(x[:1])


def test_the_default_size_grows_with_the_classes_and_stays_below_the_parents():
    sizes = [default_keep(used, 10) for used in range(1, 11)]
    assert sizes == sorted(sizes) and sizes[0] > 0 and sizes[-1] < 1


def test_without_inputs_it_is_the_parent_with_these_classes_alone(tmp_path):
    net, x, parts = parts_of(("lstm", "gru"), "M:N", units=6, changes={"max_removed": 0.4})
    fused = compose([parts[0], parts[2]]).fuse()
    whole = net.predict_proba(x)
    for label in (0, 2):
        np.testing.assert_allclose(fused[label].predict_proba(x), whole[..., label], atol=1e-5)
    assert len(fused.groups) == len(fused.groups[0].lanes) == 1
    fused.save(tmp_path / "fused")
    again = unbraid.load_composition(tmp_path / "fused")
    np.testing.assert_array_equal(again.margins(x), fused.margins(x))
    np.testing.assert_array_equal(again.unfuse().margins(x), compose([parts[0], parts[2]]).margins(x))
    with pytest.raises(ConfigError, match="needs inputs"):
        compose(parts).fuse(keep=0.5)

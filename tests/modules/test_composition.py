import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import unbraid
from tests import factory, reference
from tests.factory import CELLS, IO
from tests.modules.test_module import WAYS, architectures, build, cells, module_of, wanted
from unbraid import Composition, compose
from unbraid.errors import DataError, IncompatibleModules, UnbraidError


def parts_of(*arguments, count=40, settings=None, **architecture):
    net = factory.network(*arguments, **architecture)
    x, y = factory.examples(net, count)
    return net, x, y, unbraid.decompose(net, (x, y), **{"samples_per_class": 10, **(settings or {})})


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=15)
@given(names=cells, architecture=architectures, seed=st.integers(0, 999))
def test_modules_say_together_what_each_says_alone(way, names, architecture, seed):
    net, x, _ = build(names, architecture, count=4)
    modules = [
        module_of(net, factory.random_concern(net, x, seed=seed + j, **WAYS[way]), j).renamed(f"m{j}") for j in range(3)
    ]
    together = compose(modules)
    assert together.margins(x).shape == (*modules[0].margins(x).shape, 3)
    for j, module in enumerate(modules):
        np.testing.assert_allclose(together.margins(x)[..., j], module.margins(x), atol=1e-5, rtol=1e-5)
        oracle = wanted(net, x[:1], module.concern, j)
        np.testing.assert_allclose(1 / (1 + np.exp(-together.margins(x)[:1, ..., j])), oracle, atol=2e-6, rtol=1e-5)
    assert len(together.groups) == 1


@pytest.mark.parametrize("mode", ["rolled", "unrolled"])
@pytest.mark.parametrize("head", ["mean", "softmax"])
@pytest.mark.parametrize("cell", CELLS)
def test_untouched_modules_vote_as_the_whole_network_decides(cell, head, mode):
    for io in IO:
        changes = {"mode": mode, "head": head, "max_removed": 0, "gates": "each" if cell == "gru" else "hidden"}
        net, x, _, parts = parts_of((cell, cell), io, classes=4, bidirectional=io == "M:N", settings=changes)
        composed = compose(parts)
        np.testing.assert_array_equal(composed.predict_index(x), net.predict_index(x))
        np.testing.assert_array_equal(composed.predict(x), net.predict(x))
        if head == "softmax":
            np.testing.assert_allclose(composed.predict_proba(x), net.predict_proba(x), atol=1e-6)
            for j, module in parts.items():
                np.testing.assert_allclose(module.predict_proba(x), net.predict_proba(x)[..., j], atol=1e-6)


def test_the_vote_is_the_oracles():
    net, x, _, parts = parts_of(("lstm",), "M:N", settings={"mode": "unrolled", "max_removed": 0.4})
    found = compose(parts).predict_index(x[:5])
    plain = reference.plain(net)
    for example, row in zip(x[:5], found, strict=True):
        p = [reference.run_module(plain, j, example, factory.as_removed(m.concern)) for j, m in parts.items()]
        assert row.tolist() == [reference.vote([q[t] for q in p]) for t in range(len(row))]


def test_the_released_vote_saturates_and_ties_go_to_the_first():
    _, _, _, parts = parts_of(("lstm",), "M:1")
    margins = np.array([[40, 60, 0], [30, 31, 0], [1, 2, 3]], np.float32)
    assert compose(parts).decide(margins).tolist() == [1, 1, 2]
    assert compose(parts, vote="probability").decide(margins).tolist() == [0, 1, 2]


def test_a_binary_column_composes_to_its_own_decision():
    net, x, _, parts = parts_of(("gru",), "M:1", classes=1, output="sigmoid", settings={"max_removed": 0})
    composed = compose(parts)
    np.testing.assert_array_equal(composed.predict(x), net.predict(x))
    p = net.predict_proba(x)
    np.testing.assert_allclose(composed.predict_proba(x), np.concatenate([1 - p, p], 1), atol=1e-6)


def test_probabilities_sum_to_one():
    for io in IO:
        _, x, _, parts = parts_of(("lstm",), io, settings={"mode": "unrolled"})
        np.testing.assert_allclose(compose(parts).predict_proba(x).sum(-1), 1, atol=1e-6)


def test_one_module_alone_names_its_class_always():
    _, x, _, parts = parts_of(("lstm",), "M:1", labels=["a", "b", "c"])
    one = compose([parts["b"]])
    assert one.labels == ["b"] and set(one.predict(x)) == {"b"}
    np.testing.assert_array_equal(one.predict_proba(x), np.ones((len(x), 1)))
    np.testing.assert_array_equal(one.margins(x)[:, 0], parts["b"].margins(x))


@factory.UNCALIBRATED
@pytest.mark.parametrize("mode", ["rolled", "unrolled"])
def test_add_drop_and_replace_change_only_what_they_name(mode):
    _, x, _, parts = parts_of(("lstm",), "M:1", labels=["a", "b", "c"], settings={"mode": mode})
    _, _, _, other = parts_of(("gru", "lstm"), "M:1", labels=["a", "b", "c"], seed=5, settings={"mode": mode})
    whole = compose(parts)
    margins = whole.margins(x)
    dropped = whole.drop("b")
    assert dropped.labels == ["a", "c"] and whole.labels == ["a", "b", "c"]
    np.testing.assert_allclose(dropped.margins(x), margins[:, [0, 2]], atol=1e-6)
    back = dropped.add(parts["b"])
    assert back.labels == ["a", "c", "b"]
    np.testing.assert_allclose(back.margins(x), margins[:, [0, 2, 1]], atol=1e-6)
    replaced = whole.replace("b", other["b"])
    assert replaced.labels == ["a", "b", "c"]
    np.testing.assert_allclose(replaced.margins(x)[:, [0, 2]], margins[:, [0, 2]], atol=1e-6)
    np.testing.assert_allclose(replaced.margins(x)[:, 1], other["b"].margins(x), atol=1e-6)
    assert whole.add(other["a"], label="a2").labels == ["a", "b", "c", "a2"]
    assert whole["a"] is parts["a"]


def test_the_vote_stays_through_changes():
    _, _, _, parts = parts_of(("lstm",), "M:1")
    whole = compose(parts, vote="probability")
    assert {whole.drop(0).vote, whole.replace(0, parts[0]).vote, whole.drop(0).add(parts[0]).vote} == {"probability"}


@factory.UNCALIBRATED
def test_many_outputs_beside_one_count_at_their_best_timestep():
    _, x, _, one = parts_of(("lstm",), "M:1", labels=["a", "b", "c"])
    _, _, _, many = parts_of(("gru",), "M:N", labels=["d", "e", "f"], settings={"mode": "unrolled"})
    mixed = compose({**one, **many})
    assert not mixed.many_outputs and mixed.io.value == "M:1"
    margins = mixed.margins(x)
    assert margins.shape == (len(x), 6)
    for place, label in enumerate("def"):
        np.testing.assert_allclose(margins[:, 3 + place], many[label].margins(x).max(1), atol=1e-6)


@factory.UNCALIBRATED
def test_modules_of_several_parents_and_modes_run_side_by_side():
    label_sets = (["a", "b", "c"], ["d", "e", "f"], ["g", "h", "i"])
    ways = ({"mode": "unrolled"}, {"mode": "unrolled", "gates": "each"}, {"mode": "rolled"})
    modules, x = {}, None
    for number, (labels, way) in enumerate(zip(label_sets, ways, strict=True)):
        _, x, _, parts = parts_of(("lstm", "gru"), "M:1", labels=labels, seed=number, settings=way)
        modules |= parts
    modules = {label: modules[label] for label in "gdabefihc"}
    composed = compose(modules)
    assert len(composed.groups) == 3
    for place, (_, module) in enumerate(modules.items()):
        np.testing.assert_allclose(composed.margins(x)[:, place], module.margins(x), atol=1e-5)


@factory.UNCALIBRATED
def test_labels_of_two_kinds_stay_what_they_are():
    _, x, _, numbered = parts_of(("lstm",), "M:1")
    _, _, _, named = parts_of(("gru",), "M:1", labels=["a", "b", "c"], seed=3)
    mixed = compose({**numbered, **named})
    found = mixed.predict(x)
    assert set(found.tolist()) <= {0, 1, 2, "a", "b", "c"}
    assert found.tolist() == [mixed.labels[i] for i in mixed.predict_index(x)]


def test_batches_do_not_change_the_margins():
    _, x, _, parts = parts_of(("lstm",), "M:N", count=1100, settings={"mode": "unrolled"})
    composed = compose(parts)
    apart = [composed.margins(x[i : i + 7]) for i in range(0, 35, 7)]
    np.testing.assert_allclose(np.concatenate(apart), composed.margins(x)[:35], atol=1e-5)


def test_what_cannot_be_composed_is_refused():
    _, _, _, parts = parts_of(("lstm",), "M:1", labels=["a", "b", "c"])
    _, _, _, features = parts_of(("lstm",), "M:1", inputs="features", labels=["d", "e", "f"])
    with pytest.raises(IncompatibleModules, match="at least one"):
        compose([])
    with pytest.raises(IncompatibleModules, match="two modules have the label 'a'"):
        compose([parts["a"], parts["a"]])
    with pytest.raises(IncompatibleModules, match=r"word indices.*features"):
        compose([parts["a"], features["d"]])
    whole = compose(parts)
    with pytest.raises(IncompatibleModules, match="taken"):
        whole.add(parts["a"])
    for change in (lambda: whole.replace("z", parts["a"]), lambda: whole.drop("z")):
        with pytest.raises(IncompatibleModules, match="no module 'z'"):
            change()
    with pytest.raises(IncompatibleModules, match="at least one"):
        whole.drop("a").drop("b").drop("c")
    with pytest.raises(DataError, match="vocabulary"):
        whole.predict(np.full((2, 4), factory.VOCABULARY))


@factory.UNCALIBRATED
def test_names_of_networks_become_part_of_their_labels():
    _, x, _, first = parts_of(("lstm",), "M:1")
    _, _, _, second = parts_of(("gru",), "M:1", seed=3)
    both = compose({"a": first, "b": list(second.values()), "c": first[1], "d": {7: second[2]}})
    assert both.labels == ["a/0", "a/1", "a/2", "b/0", "b/1", "b/2", "c", "d/7"]
    alone = np.stack([m.margins(x) for m in [*first.values(), *second.values(), first[1], second[2]]], -1)
    np.testing.assert_allclose(both.margins(x), alone, atol=1e-5)
    with pytest.raises(IncompatibleModules, match="names to the modules of each network"):
        compose([*first.values(), *second.values()])
    with pytest.raises(IncompatibleModules, match="two modules have the label 'a/1'"):
        compose({"a": first, "a/1": second[1]})
    for wrong in ({"a": [1]}, {"a": [[first[0]], 3]}, {None: first}, {"a": "text"}):
        with pytest.raises(UnbraidError):
            compose(wrong)
    assert compose({"a": {}, "b": second}).labels == ["b/0", "b/1", "b/2"]


def test_another_vocabulary_is_refused():
    spec = factory.network().spec
    table = spec.stages[0].model_copy(update={"vocabulary": 50})
    small = unbraid.Network(
        other := spec.model_copy(update={"stages": [table, *spec.stages[1:]]}),
        factory.random_weights(other, 0),
        list("def"),
    )
    rng = np.random.default_rng(0)
    theirs = unbraid.decompose(small, (rng.integers(1, 50, (30, 4)), np.arange(30) % 3))
    _, _, _, parts = parts_of(("lstm",), "M:1", labels=["a", "b", "c"])
    with pytest.raises(IncompatibleModules, match=r"120.*50"):
        Composition({**parts, **theirs})


def test_an_unrolled_member_holds_the_others_to_its_timesteps():
    _, x, _, parts = parts_of(("lstm",), "M:1", labels=["a", "b", "c"], settings={"mode": "unrolled"})
    _, _, _, rolled = parts_of(("lstm",), "M:1", labels=["d", "e", "f"])
    assert compose(rolled).predict(x[:, :3]).shape == (40,)
    with pytest.raises(DataError, match="made for 4"):
        compose({**rolled, **parts}).predict(x[:, :3])

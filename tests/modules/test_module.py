import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import unbraid
from tests import factory, reference
from tests.factory import CELLS, IO
from unbraid import ConcernModule, DecompositionConfig
from unbraid.decomposition.channeling import channel
from unbraid.errors import DataError, UnsupportedLayer
from unbraid.networks.stage_spec import ActivationSpec, DenseSpec, FlattenSpec, RecurrentSpec, RepeatSpec

WAYS = {
    "rolled": {"mode": "rolled"},
    "rolled gates": {"mode": "rolled", "by_gates": True},
    "unrolled": {"mode": "unrolled"},
    "unrolled gates": {"mode": "unrolled", "by_gates": True},
    "released edges": {"mode": "unrolled", "edges": "release"},
    "released edges and gates": {"mode": "unrolled", "by_gates": True, "edges": "release"},
}
cells = st.lists(st.sampled_from(sorted(CELLS)), min_size=1, max_size=3).map(tuple)
architectures = st.fixed_dictionaries(
    {
        "io": st.sampled_from(IO),
        "bidirectional": st.booleans(),
        "merge": st.sampled_from(["concat", "concat", "sum", "mul", "ave"]),
        "reverse": st.booleans(),
        "mask": st.booleans(),
        "hidden": st.sampled_from([(), (), ((4, "tanh"),), ((4, "relu"), (3, "sigmoid"))]),
        "front": st.sampled_from([(), (), ((4, "relu"),), ((3, "tanh"), (4, "sigmoid"), (3, "linear"))]),
        "between": st.sampled_from([None, None, (3, "relu")]),
        "inputs": st.sampled_from(["words", "features"]),
        "flat": st.booleans(),
        "seed": st.integers(0, 99),
    }
)


def build(names, architecture, count=3):
    architecture = {**architecture, "flat": architecture["flat"] and architecture["io"] == "M:1"}
    net = factory.network(names, **architecture)
    return net, *factory.examples(net, count, seed=architecture["seed"], padded=architecture["mask"])


def module_of(net, concern, index=1, **changes):
    config = DecompositionConfig.of(
        strategy="paper", mode=concern.mode, gates="each" if concern.by_gates else "hidden", **changes
    )
    return ConcernModule(net, index, concern, channel(net, index, config), config)


def wanted(net, x, concern, index=1, **channeling):
    plain, removed = reference.plain(net), factory.as_removed(concern)
    return np.array([reference.run_module(plain, index, example, removed, **channeling) for example in x])


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=40)
@given(names=cells, architecture=architectures, seed=st.integers(0, 999))
def test_a_module_equals_the_network_with_its_removed_edges_at_zero(way, names, architecture, seed):
    net, x, _ = build(names, architecture)
    concern = factory.random_concern(net, x, seed=seed, **WAYS[way])
    found = module_of(net, concern).predict_proba(x)
    np.testing.assert_allclose(found, wanted(net, x, concern), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("way", WAYS)
def test_every_cell_in_every_way(way, cell):
    for io in IO:
        net = factory.network((cell, cell), io, bidirectional=True)
        x, _ = factory.examples(net, 3)
        concern = factory.random_concern(net, x, seed=3, **WAYS[way])
        found = module_of(net, concern).predict_proba(x)
        np.testing.assert_allclose(found, wanted(net, x, concern), atol=2e-6, rtol=1e-5)


@given(names=cells, architecture=architectures, seed=st.integers(0, 999))
def test_a_rolled_module_equals_an_unrolled_one_with_the_same_nodes_at_every_step(names, architecture, seed):
    net, x, _ = build(names, architecture)
    rolled = factory.random_concern(net, x, seed=seed)
    kept = {}
    for name, layer in net.layers.items():
        steps = rolled.steps[name]
        one = layer.cell is None and steps == 1
        kept[name] = rolled.kept[name] if one else np.tile(rolled.kept[name], (steps, 1))
    unrolled = factory.Concern(kept, rolled.steps, factory.Mode.UNROLLED)
    both = [module_of(net, concern).margins(x) for concern in (rolled, unrolled)]
    np.testing.assert_allclose(both[0], both[1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("names", [("lstm",), ("gru", "gru"), ("vanilla", "lstm"), ("relu",), ("gru-before",)])
@pytest.mark.parametrize("io", IO)
def test_a_network_without_any_node_left_still_answers(names, io):
    """Only the bias of the output layer remains."""
    for options in ({}, {"bidirectional": True}, {"bidirectional": True, "merge": "sum"}, {"mask": True}):
        net = factory.network(names, io, **options)
        x, _ = factory.examples(net, 4, padded="mask" in options)
        for mode in ("rolled", "unrolled"):
            concern = factory.random_concern(net, x, mode=mode)
            for kept in concern.kept.values():
                kept[:] = False
            module = module_of(net, concern)
            b = net.head.bias
            np.testing.assert_allclose(module.margins(x), b[1] - (b[0] + b[2]) / 2, atol=1e-6)


@pytest.mark.parametrize("mode", ["rolled", "unrolled"])
def test_layers_that_lose_nearly_all_nodes_by_decomposing(mode):
    for io in IO:
        net = factory.network(("lstm", "gru"), io, hidden=((3, "tanh"),))
        x, y = factory.examples(net, 40)
        parts = unbraid.decompose(net, (x, y), mode=mode, max_removed=0.99, samples_per_class=8)
        for j, module in parts.items():
            np.testing.assert_allclose(
                module.predict_proba(x[:3]), wanted(net, x[:3], module.concern, j), atol=2e-6, rtol=1e-5
            )


@pytest.mark.parametrize("name", ["sigmoid", "hard_sigmoid", "linear"])
@pytest.mark.parametrize("way", WAYS)
def test_cells_whose_activation_is_not_zero_at_zero(way, name):
    for kind in ("lstm", "gru", "rnn"):
        net = factory.network((factory.Cell(kind=kind, activation=name),) * 2, "M:1")
        x, _ = factory.examples(net, 3)
        concern = factory.random_concern(net, x, seed=1, **WAYS[way])
        found = module_of(net, concern).predict_proba(x)
        np.testing.assert_allclose(found, wanted(net, x, concern), atol=2e-6, rtol=1e-5)


def behind(*extra, features):
    """Make a network with more stages after its LSTM."""
    spec = factory.network().spec
    spec = spec.model_copy(update={"stages": [*spec.stages, *extra], "features": features})
    net = unbraid.Network(spec, factory.random_weights(spec, 0))
    return net, factory.examples(net, 4)[0]


STAGES = {
    "activation": (ActivationSpec(name="a", activation="tanh"),),
    "dense and activation": (
        DenseSpec(name="d", inputs=3, units=3),
        ActivationSpec(name="a", activation="relu"),
    ),
    "repeat": (
        RepeatSpec(name="r", times=4),
        RecurrentSpec(name="again", cell=CELLS["gru"], inputs=3, units=3, sequences=True),
    ),
    "repeat and flatten": (
        RepeatSpec(name="r", times=2),
        RecurrentSpec(name="again", cell=CELLS["lstm"], inputs=3, units=3, sequences=True),
        FlattenSpec(name="f"),
        DenseSpec(name="d", inputs=6, units=3, activation="tanh"),
    ),
}


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("way", WAYS)
def test_other_stages_behind_removed_nodes(way, name):
    net, x = behind(*STAGES[name], features=3)
    for seed in range(4):
        concern = factory.random_concern(net, x, seed=seed, **WAYS[way])
        found = module_of(net, concern).predict_proba(x)
        np.testing.assert_allclose(found, wanted(net, x, concern), atol=2e-6, rtol=1e-5)


def test_an_activation_stage_that_is_not_zero_at_zero_is_refused():
    with pytest.raises(UnsupportedLayer, match="behind the recurrence"):
        behind(ActivationSpec(name="a", activation="sigmoid"), features=3)


@pytest.mark.parametrize("changes", [{"head": "softmax"}, {"idle_columns": True}, {"padding_label": 0}])
def test_other_heads_over_removed_nodes(changes):
    net = factory.network(("lstm", "gru"), "M:N", classes=4)
    x, _ = factory.examples(net, 4)
    for mode in ("rolled", "unrolled"):
        concern = factory.random_concern(net, x, mode=mode, seed=2)
        found = module_of(net, concern, **changes).predict_proba(x)
        config = {"head": changes.get("head", "mean"), "padding": changes.get("padding_label")}
        oracle = wanted(net, x, concern, idle="idle_columns" in changes, **config)
        np.testing.assert_allclose(found, oracle, atol=2e-6, rtol=1e-5)


def rolled_and_unrolled(**changes):
    net = factory.network(("lstm", "gru"), "M:1", **changes)
    x, y = factory.examples(net, 30)
    return net, x, [unbraid.decompose(net, (x, y), mode=mode, max_removed=0.4) for mode in ("rolled", "unrolled")]


def test_probabilities_claims_and_labels_say_the_same():
    _, x, both = rolled_and_unrolled(labels=["a", "b", "c"])
    for parts in both:
        for label, module in parts.items():
            p, margins = module.predict_proba(x), module.margins(x)
            np.testing.assert_allclose(p, 1 / (1 + np.exp(-margins)), rtol=1e-5)
            assert (module.claims(x) == (p > 0.5)).all() and module.labels == [label]
            assert [v == label for v in module.predict(x)] == module.claims(x).tolist()
            assert {v for v in module.predict(x)} <= {label, None}


def address(tensor):
    """Return the address of the memory; data_ptr() would first copy shared memory."""
    return torch._C._data_address(tensor)


def test_a_rolled_module_holds_only_its_slices_and_an_unrolled_one_no_copy():
    net, _, (rolled, unrolled) = rolled_and_unrolled(units=20)
    for module in rolled.values():
        kept = int(module.kept_nodes["rnn0"].sum())
        assert kept < 20 and module.body.stages[1].forward_layer.weight_hh.shape == (4 * kept, kept)
    for module in unrolled.values():
        inner = module.body.stages[1].forward_layer.layer
        assert address(inner.weight_hh) == address(net.snapshot().weights["body.stages.1.forward_layer.weight_hh"])


def test_modules_are_independent_of_each_others_moves():
    net, x, both = rolled_and_unrolled()
    for parts in both:
        first, second = parts[0], parts[1]
        before = second.margins(x)
        first.double()
        assert first.head.weight.dtype == torch.float64
        np.testing.assert_array_equal(second.margins(x), before)
        assert net.head.weight.dtype == torch.float32 and net.body.stages[0].weight.dtype == torch.float32


def test_kept_nodes_have_the_shapes_they_promise():
    _, _, (rolled, unrolled) = rolled_and_unrolled(bidirectional=True, hidden=((4, "tanh"),))
    assert {n: k.shape for n, k in rolled[0].kept_nodes.items()} == {
        "rnn0.forward": (3,), "rnn0.backward": (3,), "rnn1.forward": (4,), "rnn1.backward": (4,), "dense0": (4,),
    }  # fmt: skip
    assert {k.shape for k in unrolled[0].kept_nodes.values()} == {(4, 3), (4, 4), (4,)}


def test_a_node_counts_as_kept_while_one_of_its_gates_is():
    net = factory.network(("lstm",))
    x, _ = factory.examples(net, 3)
    for mode in ("rolled", "unrolled"):
        concern = factory.random_concern(net, x, mode=mode, by_gates=True, seed=4)
        module = module_of(net, concern)
        np.testing.assert_array_equal(module.kept_nodes["rnn0"], concern.kept["rnn0"].any(-2))


def test_an_unrolled_module_refuses_another_number_of_timesteps():
    _, x, (rolled, unrolled) = rolled_and_unrolled()
    with pytest.raises(DataError, match="made for 4"):
        unrolled[0].predict_proba(x[:, :3])
    assert rolled[0].predict_proba(x[:, :3]).shape == (30,)


def test_inputs_that_do_not_fit_are_refused():
    _, _, both = rolled_and_unrolled()
    for parts in both:
        with pytest.raises(DataError, match="vocabulary"):
            parts[0].predict(np.full((2, 4), factory.VOCABULARY))


def test_a_renamed_module_is_the_same_module():
    _, x, (rolled, _) = rolled_and_unrolled()
    other = rolled[1].renamed("one")
    assert (other.label, rolled[1].label) == ("one", 1)
    np.testing.assert_array_equal(other.margins(x), rolled[1].margins(x))

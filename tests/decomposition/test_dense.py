"""Dense layers in front of, between and behind recurrent layers, and networks of dense layers alone."""

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import unbraid
from tests import factory, reference
from unbraid import DecompositionConfig
from unbraid.errors import ConfigError, DataError, FormatError
from unbraid.networks.cells import ACTIVATIONS
from unbraid.networks.network import Network
from unbraid.networks.prunable import zero_at_zero
from unbraid.networks.spec import NetworkSpec
from unbraid.networks.stage_spec import ActivationSpec, DenseSpec, MaskingSpec, RecurrentSpec

PLACES = {
    "front": {"front": ((6, "relu"),), "inputs": "features"},
    "front of words": {"front": ((6, "relu"), (5, "tanh"))},
    "front, masked": {"front": ((6, "relu"),), "mask": True},
    "between": {"between": (6, "relu")},
    "behind": {"hidden": ((7, "relu"), (5, "gelu"))},
    "everywhere": {"front": ((6, "relu"),), "between": (6, "tanh"), "hidden": ((7, "relu"),), "bidirectional": True},
    "summed": {"front": ((6, "relu"),), "hidden": ((7, "relu"),), "bidirectional": True, "merge": "sum"},
    "flat": {"front": ((6, "relu"),), "flat": True, "hidden": ((7, "relu"), (5, "relu"))},
    "one input": {"front": ((6, "relu"),), "io": "1:N", "hidden": ((5, "relu"),)},
    "tags": {"front": ((6, "relu"),), "io": "M:N", "hidden": ((5, "relu"),), "between": (4, "relu")},
}
ALONE = {
    "vector": {"hidden": ((8, "relu"),), "shape": (5,)},
    "images": {"hidden": ((8, "relu"), (6, "tanh"), (5, "silu")), "shape": (3, 2, 2)},
    "rows": {"hidden": ((8, "relu"), (6, "relu")), "shape": (3, 4)},
}


def network(place):
    return (
        factory.network(("lstm", "gru"), **PLACES[place]) if place in PLACES else factory.dense_network(**ALONE[place])
    )


def examples(net, count=60):
    return factory.vectors(net, count) if net.spec.shape else factory.examples(net, count, padded="mask" in repr(net))


def made(place, **more):
    net = network(place)
    x, y = examples(net)
    return net, x, y, unbraid.decompose(net, (x, y), **more)


@pytest.mark.parametrize("place", [*PLACES, *ALONE])
def test_every_hidden_layer_is_pruned_by_default(place):
    net, x, _, parts = made(place, keep=0.5)
    dense = [stage.name for stage in net.spec.stages if isinstance(stage, DenseSpec)]
    assert dense and set(dense) <= set(net.layers)
    for module in parts.values():
        for name, layer in net.layers.items():
            kept = module.kept_nodes[name]
            assert kept.sum() == max(1, round(0.5 * layer.units))
        assert module.retention().nodes < 0.7
        assert module.retention().flops < 0.8
        assert np.isfinite(module.margins(x)).all()


@pytest.mark.parametrize("place", [*PLACES, *ALONE])
def test_keeping_everything_changes_nothing(place):
    net, x, _, parts = made(place, keep=1.0)
    probabilities = net.predict_proba(x)
    for label, module in parts.items():
        np.testing.assert_allclose(module.predict_proba(x), probabilities[..., label], atol=2e-4)


@pytest.mark.parametrize("place", [*PLACES, *ALONE])
def test_modules_alone_and_composed_agree(place):
    """Small batches join the bodies of the modules; large ones run one by one."""
    _net, x, _, parts = made(place, keep=0.5)
    together = unbraid.compose(parts)
    for rows in (x[:2], np.concatenate([x] * 30)):
        alone = np.stack([module.margins(rows) for module in parts.values()], -1)
        np.testing.assert_allclose(together.margins(rows), alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("place", ["front", "everywhere", "tags", "images"])
@pytest.mark.parametrize("way", [{"keep": 0.5}, {"strategy": "paper", "layers": "all", "max_removed": 0.5}])
def test_saved_modules_compute_the_same(place, way, tmp_path):
    net, x, _y, parts = made(place, **way)
    parts.save(tmp_path / "parts")
    loaded = unbraid.load_decomposition(tmp_path / "parts")
    label = parts.labels[0]
    parts[label].save(tmp_path / "one")
    one = unbraid.load_module(tmp_path / "one")
    np.testing.assert_array_equal(one.margins(x), parts[label].margins(x))
    for name, module in parts.items():
        np.testing.assert_array_equal(loaded[name].margins(x), module.margins(x))
        assert loaded[name].retention() == module.retention()
    assert loaded.config.layers == "all"
    used = [label for label in parts if (net.predict(x) == label).sum() > 1]
    fused = unbraid.compose({label: parts[label] for label in used}).fuse(x, keep=0.6)
    fused.save(tmp_path / "fused")
    np.testing.assert_array_equal(unbraid.load_composition(tmp_path / "fused").margins(x), fused.margins(x))


@pytest.mark.parametrize("place", ["front", "everywhere", "tags", "images", "rows", "vector"])
@pytest.mark.parametrize("way", [{"keep": 0.5}, {"strategy": "paper", "layers": "all", "max_removed": 0.5}])
def test_onnx_files_compute_the_same(place, way, tmp_path):
    net, x, _, parts = made(place, **way)
    x = x.astype(np.float32) if net.spec.stages[0].type != "embedding" else x
    whole = unbraid.compose(parts)
    for model, output, wanted in (
        (net, "probabilities", net.predict_proba),
        (parts[0], "probability", parts[0].predict_proba),
        (whole, "margins", whole.margins),
    ):
        unbraid.export_onnx(model, tmp_path / "model.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
        np.testing.assert_allclose(session.run([output], {"x": x[:7]})[0], wanted(x[:7]), atol=1e-4)


def test_unrolled_modules_with_a_pruned_front_run_in_one_batch(tmp_path):
    net = factory.network(("lstm", "gru"), "M:N", front=((6, "tanh"),), hidden=((5, "relu"),))
    x, y = examples(net)
    parts = unbraid.decompose(net, (x, y), strategy="paper", mode="unrolled", layers="all", max_removed=0.5)
    assert any(not module.concern.kept["front0"].all() for module in parts.values())
    together = unbraid.compose(parts)
    alone = np.stack([module.margins(x) for module in parts.values()], -1)
    np.testing.assert_allclose(together.margins(x), alone, atol=1e-5)
    plain = reference.plain(net)
    for label, module in parts.items():
        removed = factory.as_removed(module.concern)
        wanted = np.array([reference.run_module(plain, label, example, removed) for example in x[:5]])
        np.testing.assert_allclose(module.predict_proba(x[:5]), wanted, atol=1e-5)
    unbraid.export_onnx(together, tmp_path / "all.onnx")


@pytest.mark.parametrize("activation", sorted(set(ACTIVATIONS) - {"softmax", "log_softmax"}))
@pytest.mark.parametrize("place", ["front", "behind", "alone"])
def test_a_layer_whose_activation_moves_zero_stays_whole(activation, place):
    hidden = ((6, "relu"), (6, activation))
    if place == "alone":
        net = factory.dense_network(hidden, (4,))
    elif place == "front":
        net = factory.network(("lstm",), front=hidden[::-1], inputs="features")
    else:
        net = factory.network(("lstm",), hidden=hidden)
    x, y = examples(net)
    parts = unbraid.decompose(net, (x, y), keep=0.5)
    name = {"front": "front0", "behind": "dense1", "alone": "dense1"}[place]
    assert zero_at_zero(activation) == (float(ACTIVATIONS[activation](torch.zeros(()))) == 0)
    for module in parts.values():
        kept = module.kept_nodes.get(name, np.ones(6, bool))
        assert kept.sum() == (3 if zero_at_zero(activation) else 6)


@pytest.mark.parametrize("place", list(PLACES))
def test_recurrent_leaves_dense_layers_whole(place):
    net, x, _y, parts = made(place, keep=0.5, layers="recurrent")
    for module in parts.values():
        assert all(module.kept_nodes[name].all() for name, layer in net.layers.items() if layer.cell is None)
        assert all(not module.kept_nodes[name].all() for name, layer in net.layers.items() if layer.cell)
        assert not any(name.startswith("front") for name in module.concern.kept)
    assert unbraid.compose(parts).margins(x).shape[-1] == len(parts)


def test_modules_with_and_without_a_pruned_front_are_composed():
    net, x, y, every = made("front", keep=0.5)
    few = unbraid.decompose(net, (x, y), keep=0.5, layers="recurrent")
    together = unbraid.compose({0: every[0], 1: few[1], 2: every[2]})
    alone = np.stack([module.margins(x) for module in (every[0], few[1], every[2])], -1)
    np.testing.assert_allclose(together.margins(x), alone, atol=1e-4)


def test_refining_does_not_change_the_parent():
    net = network("front")
    x, y = examples(net)
    before = net.sha256()
    for layers in ("all", "recurrent"):
        unbraid.decompose(net, (x, y), keep=0.5, layers=layers, refine=3)
        assert net.sha256() == before


@settings(max_examples=30)
@given(
    sizes=st.lists(
        st.tuples(st.integers(1, 6), st.sampled_from(["relu", "tanh", "linear", "elu"])), min_size=1, max_size=4
    ),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    seed=st.integers(0, 99),
)
def test_the_paper_on_dense_layers_equals_literal_loops(sizes, shape, seed):
    net = factory.dense_network(tuple(sizes), tuple(shape), seed=seed)
    x, y = factory.vectors(net, 30, seed)
    config = DecompositionConfig.of(strategy="paper", max_removed=0.5, samples_per_class=8)
    parts = unbraid.decompose(net, (x, y), config=config)
    plain = reference.plain(net)
    for label, module in parts.items():
        wanted = [reference.run_module(plain, label, example, factory.as_removed(module.concern)) for example in x[:4]]
        np.testing.assert_allclose(module.predict_proba(x[:4]), wanted, atol=1e-5)


@pytest.mark.parametrize("setting", [{"mode": "unrolled"}, {"gates": "each"}])
def test_timesteps_and_gates_need_a_recurrence(setting):
    net = network("images")
    with pytest.raises(ConfigError, match="dense layers alone"):
        unbraid.decompose(net, examples(net), **setting)


@pytest.mark.parametrize("layers", ["recurrent", "all"])
@pytest.mark.parametrize("strategy", ["reconstruct", "paper", "random", "magnitude"])
def test_without_a_recurrence_both_choices_mean_all_layers(strategy, layers):
    net = network("images")
    x, y = examples(net)
    parts = unbraid.decompose(net, (x, y), strategy=strategy, layers=layers, keep=0.5)
    assert all(kept.sum() == round(0.5 * len(kept)) for kept in parts[0].kept_nodes.values())
    assert net.io == "1:1" and unbraid.evaluate(unbraid.compose(parts), (x, y), against=net).decisions == len(y)


def test_inputs_of_other_sizes_are_refused():
    net = network("images")
    for shape in ((2, 3, 2), (3, 2, 2, 1), ()):
        with pytest.raises(DataError, match=r"expected \(N, 3, 2, 2\)"):
            net.predict(np.zeros((2, *shape), np.float32))


def test_dense_layers_at_each_timestep_decide_at_each_timestep():
    stages = [DenseSpec(name="hidden", inputs=4, units=6, activation="relu")]
    spec = NetworkSpec(stages=stages, head="head", features=6, classes=3, steps=5, shape=[5, 4])
    net = Network(spec, factory.random_weights(spec, 0))
    assert net.io == "M:N"
    x = np.random.default_rng(0).normal(size=(40, 5, 4)).astype(np.float32)
    parts = unbraid.decompose(net, (x, np.arange(200).reshape(40, 5) % 3), keep=0.5)
    assert unbraid.compose(parts).predict(x).shape == (40, 5)


def test_networks_without_a_prunable_layer_are_refused():
    for stages in (
        [DenseSpec(name="hidden", inputs=4, units=6, activation="sigmoid")],
        [DenseSpec(name="hidden", inputs=4, units=6), ActivationSpec(name="act", activation="softplus")],
    ):
        spec = NetworkSpec(stages=stages, head="head", features=6, classes=3, shape=[4])
        with pytest.raises(FormatError, match="no hidden dense layer whose units"):
            Network.skeleton(spec)


def test_a_layer_in_front_of_a_mask_stays_whole():
    stages = [
        DenseSpec(name="front", inputs=4, units=6, activation="relu"),
        MaskingSpec(name="mask"),
        RecurrentSpec(name="rnn", cell=factory.CELLS["gru"], inputs=6, units=4, sequences=False),
    ]
    spec = NetworkSpec(stages=stages, head="head", features=4, classes=3)
    assert list(Network(spec, factory.random_weights(spec, 0)).layers) == ["rnn"]


def test_a_score_of_recurrent_layers_alone_keeps_dense_layers_whole():
    def by_fan_out(network, head, x, counted):
        return {name: layer.weight_hh.abs().sum(0).numpy() for name, layer in network.recurrent_layers().items()}

    unbraid.register_strategy("fan_out_of_cells", score=by_fan_out)
    net, _, _, parts = made("everywhere", strategy="fan_out_of_cells", keep=0.5)
    for name, layer in net.layers.items():
        assert parts[0].kept_nodes[name].all() == (layer.cell is None)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_every_activation_of_a_dense_layer_is_exported(activation, tmp_path):
    net = factory.dense_network(((6, "relu"), (5, activation)), (4,))
    x, _ = factory.vectors(net, 9)
    unbraid.export_onnx(net, tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": x})[0], net.predict_proba(x), atol=1e-5)

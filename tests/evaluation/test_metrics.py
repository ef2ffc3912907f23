import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import unbraid
from tests import factory
from tests.factory import CELLS
from tests.modules.test_module import module_of
from unbraid.evaluation.metrics import cohesion, coupling, detection, jaccard
from unbraid.networks.spec import NetworkSpec
from unbraid.networks.stage_spec import EmbeddingSpec, RecurrentSpec

flags = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30)


def test_detection_by_hand():
    claimed = np.array([1, 1, 1, 0, 0, 0, 0, 0], bool)
    true = np.array([1, 1, 0, 1, 0, 0, 0, 0], bool)
    found = detection(claimed, true)
    assert found.precision == pytest.approx(2 / 3) and found.recall == pytest.approx(2 / 3)
    assert found.f1 == pytest.approx(2 / 3) and found.false_positive_rate == pytest.approx(1 / 5)


@given(pairs=flags)
def test_detection_equals_counting(pairs):
    found = detection(np.array([c for c, _ in pairs]), np.array([t for _, t in pairs]))
    tp = sum(c and t for c, t in pairs)
    fp = sum(c and not t for c, t in pairs)
    fn = sum(t and not c for c, t in pairs)
    tn = sum(not c and not t for c, t in pairs)
    assert found.precision == (tp / (tp + fp) if tp + fp else 0)
    assert found.recall == (tp / (tp + fn) if tp + fn else 0)
    assert found.f1 == pytest.approx(2 * tp / (2 * tp + fp + fn) if tp else 0)
    assert found.false_positive_rate == (fp / (fp + tn) if fp + tn else 0)


def test_a_module_that_claims_nothing_scores_nothing():
    found = detection(np.zeros(3, bool), np.array([True, False, False]))
    assert (found.precision, found.recall, found.f1, found.false_positive_rate) == (0, 0, 0, 0)


def published(kind):
    """The sizes of the paper's one-layer CLINC models: H = 100, D = 50, C = 10."""
    stages = [
        EmbeddingSpec(name="words", vocabulary=20, dimension=50),
        RecurrentSpec(name="rnn", cell=CELLS[kind], inputs=50, units=100, sequences=False),
    ]
    spec = NetworkSpec(stages=stages, head="head", features=100, classes=10)
    shapes = {name: p.shape for name, p in unbraid.Network.skeleton(spec).named_parameters()}
    total = sum(shape.numel() for shape in shapes.values())
    values = (torch.randperm(total, generator=torch.Generator().manual_seed(0)) + 1.0) / total  # no two alike
    parts = values.split([shape.numel() for shape in shapes.values()])
    weights = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
    return unbraid.Network(spec, weights)


@pytest.mark.parametrize(("kind", "wanted"), [("lstm", 0.92), ("gru", 0.89), ("vanilla", 0.74)])
@pytest.mark.parametrize("mode", ["rolled", "unrolled"])
def test_a_module_that_lost_nothing_is_not_its_parent_to_the_papers_index(kind, wanted, mode):
    """The index measures the channeled output layer: G*H*D + H of the G*H*D + C*H values are in both."""
    net = published(kind)
    module = module_of(net, factory.random_concern(net, np.ones((1, 3), int), mode=mode, kept=2))
    for kept in module.concern.kept.values():
        kept[:] = True
    found = jaccard(module_of(net, module.concern), net)
    assert round(found, 2) == wanted
    gates = len(CELLS[kind].gates)
    whole, shared = gates * 5000 + 1000, gates * 5000 + 100
    assert found == pytest.approx(shared / (2 * whole - shared))


@pytest.mark.parametrize("way", [{}, {"by_gates": True}, {"mode": "unrolled"}, {"mode": "unrolled", "by_gates": True}])
@pytest.mark.parametrize("hidden", [(), ((4, "tanh"),)])  # as wide as the layer before it
@pytest.mark.parametrize("cell", ["vanilla", "lstm", "gru"])
def test_jaccard_equals_counting_values_one_by_one(cell, hidden, way):
    net = factory.network((cell, cell), hidden=hidden)
    x, _ = factory.examples(net, 3)
    concern = factory.random_concern(net, x, seed=2, **way)
    module = module_of(net, concern)
    parent = {name: layer.kernel.numpy() for name, layer in net.layers.items()}
    head = net.head.weight.numpy()
    whole = [v for kernel in parent.values() for v in kernel.ravel()] + list(head.ravel())
    scores = []
    for t in range(4 if concern.mode == "unrolled" else 1):
        values = []
        for name, kernel in parent.items():
            units = net.layers[name].units
            for row in range(len(kernel)):
                mask = concern.kept[name][t] if concern.mode == "unrolled" and name != "dense0" else concern.kept[name]
                stays = mask[row // units][row % units] if mask.ndim == 2 else mask[row % units]
                values += list(kernel[row] if stays else 0 * kernel[row])
        nodes = module.kept_nodes["dense0" if hidden else "rnn1"]
        last = nodes[-1] if nodes.ndim == 2 else nodes
        values += list((module.whole_head.weight.numpy() * last).ravel()) + [0.0] * head.shape[1]
        shared = len(set(whole) & set(values))
        scores.append(shared / (len(whole) + len(values) - shared))
    assert jaccard(module, net) == pytest.approx(np.mean(scores))


def test_less_is_kept_less_is_shared():
    net = published("lstm")
    x = np.ones((1, 3), int)
    scores = []
    for share in (2, 0.8, 0.5):
        concern = factory.random_concern(net, x)
        concern.kept["rnn"][:] = np.random.default_rng(0).random(100) < share
        scores.append(jaccard(module_of(net, concern), net))
    assert scores == sorted(scores, reverse=True)


def test_coupling_by_hand():
    net = factory.network(("lstm",), units=4)
    x, _ = factory.examples(net, 3)

    def with_nodes(*nodes):
        concern = factory.random_concern(net, x)
        concern.kept["rnn0"][:] = nodes
        return module_of(net, concern)

    a, b, c = with_nodes(1, 1, 0, 0), with_nodes(0, 1, 1, 0), with_nodes(1, 1, 0, 0)
    assert coupling([a, b, c]) == pytest.approx((1 / 3 + 1 + 1 / 3) / 3)
    assert coupling([a]) == 1
    assert coupling([a, with_nodes(0, 0, 1, 1)]) == 0


def test_cohesion_by_hand():
    net = factory.network(("vanilla",), units=2)
    layer = net.layers["rnn0"].module
    layer.weight_hh.data = torch.tensor([[1.0, -2.0], [3.0, 4.0]])
    x, _ = factory.examples(net, 3)
    for nodes, wanted in (([1, 0], 1 / 6), ([0, 1], 4 / 9), ([1, 1], 1), ([0, 0], 1)):
        concern = factory.random_concern(net, x)
        concern.kept["rnn0"][:] = nodes
        assert cohesion(module_of(net, concern), net) == pytest.approx(wanted)


@pytest.mark.parametrize("cell", ["vanilla", "lstm", "gru"])
def test_retention_counts_what_a_rolled_module_really_has(cell):
    net = factory.network((cell, cell), units=6, hidden=((5, "tanh"),))
    x, _ = factory.examples(net, 3)
    for seed in range(5):
        concern = factory.random_concern(net, x, seed=seed)
        module = module_of(net, concern)
        found = module.retention()
        held = sum(p.numel() for part in (module.body, module.head) for p in part.parameters())
        whole = sum(p.numel() for p in net.parameters())
        assert found.weights == pytest.approx(held / whole)
        nodes = np.concatenate(list(concern.kept.values()))
        assert found.nodes == pytest.approx(nodes.mean())
        assert found.bytes == pytest.approx(found.weights)


def test_a_whole_module_retains_all_but_the_output_columns():
    net = factory.network(("lstm",), classes=5)
    x, y = factory.examples(net, 30)
    for mode in ("rolled", "unrolled"):
        module = unbraid.decompose(net, (x, y), max_removed=0, mode=mode)[0]
        found = module.retention()
        assert found.nodes == found.recurrent_weights == 1
        total = sum(p.numel() for p in net.parameters())
        assert found.weights == pytest.approx(1 - 3 * (net.spec.features + 1) / total)
        assert found.flops == 1 if mode == "unrolled" else found.flops < 1

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests import factory
from tests.factory import CELLS, IO, watched
from unbraid import Network
from unbraid.errors import DataError, FormatError
from unbraid.networks.cells import Cell
from unbraid.networks.stage_spec import ActivationSpec, RepeatSpec

SHAPES = {
    "one layer": {"count": 1},
    "three layers": {"count": 3},
    "two directions": {"count": 2, "bidirectional": True},
    "hidden dense": {"count": 1, "hidden": ((4, "relu"), (3, "tanh"))},
    "sum": {"count": 2, "bidirectional": True, "merge": "sum"},
    "mul": {"count": 1, "bidirectional": True, "merge": "mul"},
    "ave": {"count": 1, "bidirectional": True, "merge": "ave"},
    "reverse": {"count": 2, "reverse": True},
}


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("io", IO)
@pytest.mark.parametrize("cell", CELLS)
def test_scores_equal_the_oracle(cell, io, shape):
    settings = dict(SHAPES[shape])
    seen = watched((cell,) * settings.pop("count"), io, count=6, **settings)
    close(seen.net.logits(seen.x), seen.scores)
    assert seen.net.io.value == io


@pytest.mark.parametrize("inputs", ["words", "features"])
@pytest.mark.parametrize("shape", ["three layers", "two directions", "hidden dense", "mul", "reverse"])
@pytest.mark.parametrize("cell", CELLS)
def test_masked_scores_equal_the_oracle(cell, shape, inputs):
    settings = dict(SHAPES[shape])
    cells = (cell,) * settings.pop("count")
    for io in ("M:1", "M:N"):
        seen = watched(cells, io, count=9, padded=True, mask=True, inputs=inputs, **settings)
        close(seen.net.logits(seen.x), seen.scores)


def test_a_flattened_sequence_equals_the_oracle():
    for settings in ({}, {"bidirectional": True}, {"bidirectional": True, "merge": "sum"}, {"hidden": ((3, "relu"),)}):
        seen = watched(("lstm", "vanilla"), "M:1", count=6, flat=True, **settings)
        close(seen.net.logits(seen.x), seen.scores)
        assert seen.net.io.value == "M:1"


def test_batches_do_not_change_the_outputs():
    seen = watched(("gru",), "M:N", count=9)
    whole = seen.net.logits(seen.x)
    close(np.concatenate([seen.net.logits(seen.x[i : i + 2]) for i in range(0, 9, 2)]), whole)


def test_predictions_follow_the_scores():
    net = factory.network(labels=["a", "b", "c"])
    x, _ = factory.examples(net)
    scores = net.logits(x)
    np.testing.assert_allclose(net.predict_proba(x), np.exp(scores) / np.exp(scores).sum(1, keepdims=True), rtol=1e-5)
    assert net.predict(x).tolist() == [["a", "b", "c"][i] for i in scores.argmax(1)]


@pytest.mark.parametrize("io", ["M:1", "M:N"])
def test_classes_are_decided_by_batch_so_that_memory_does_not_grow_with_them(io):
    """Scores of all examples of a network with thousands of classes would take gigabytes."""
    seen = watched(("gru",), io, count=600, padded=True, mask=True)
    sizes = []
    seen.net.register_forward_hook(lambda net, inputs, logits: sizes.append(len(logits)))
    found = seen.net.predict_index(seen.x)
    assert sum(sizes) == 600 and max(sizes) < 600
    np.testing.assert_array_equal(found, seen.net.decide(seen.net.logits(seen.x)))
    assert found.dtype == np.int64


def test_labels_of_two_kinds_stay_what_they_are():
    net = factory.network(labels=["a", 7, "7"])
    x, _ = factory.examples(net)
    assert net.predict(x).tolist() == [["a", 7, "7"][i] for i in net.predict_index(x)]


def test_independent_labels_and_a_binary_column_use_the_sigmoid():
    for classes in (3, 1):
        net = factory.network(classes=classes, output="sigmoid")
        x, _ = factory.examples(net)
        np.testing.assert_allclose(net.predict_proba(x), 1 / (1 + np.exp(-net.logits(x))), rtol=1e-5)
    assert net.binary and net.labels == [0, 1]
    np.testing.assert_array_equal(net.predict(x), (net.logits(x)[:, 0] > 0).astype(int))


def test_the_digest_tells_weights_and_structure_apart():
    net = factory.network(seed=1)
    weights = net.weights()
    assert Network(net.spec, {n: w.clone() for n, w in weights.items()}).sha256() == net.sha256()
    weights["head.bias"] = weights["head.bias"].clone()
    weights["head.bias"][0] += 1e-6
    assert Network(net.spec, weights).sha256() != net.sha256()
    assert factory.network(("gru",), seed=1).sha256() != net.sha256()


@pytest.mark.parametrize("cell", ["lstm-hard", "gru-before"])
def test_as_released_computes_another_function_of_the_same_weights(cell):
    net = factory.network((cell,))
    other = net.as_released()
    x, _ = factory.examples(net)
    same = factory.network((cell.partition("-")[0],))
    close(other.logits(x), Network(same.spec, net.weights()).logits(x))
    assert np.abs(other.logits(x) - net.logits(x)).max() > 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("head.bias"), "head.bias.*missing"),
        (lambda w: w.update({"head.bias": torch.zeros(4)}), "has shape"),
        (lambda w: w.update({"head.bias": torch.full((3,), torch.nan)}), "NaN"),
        (lambda w: w.update({"other": torch.zeros(1)}), "belong to no layer"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change, message):
    net = factory.network()
    weights = net.weights()
    change(weights)
    with pytest.raises(FormatError, match=message):
        Network(net.spec, weights)


@pytest.mark.parametrize("labels", [["a", "b"], ["a", "b", "a"], ["a", "b", "c", "d"]])
def test_labels_that_do_not_fit_are_refused(labels):
    with pytest.raises(DataError, match="labels"):
        factory.network(labels=labels)


def test_sizes_that_do_not_fit_together_are_refused():
    net = factory.network(("lstm", "lstm"))
    wrong = net.spec.stages[2].model_copy(update={"inputs": 7})
    with pytest.raises(FormatError, match="reads 7 features"):
        Network.skeleton(net.spec.model_copy(update={"stages": [*net.spec.stages[:2], wrong]}))
    with pytest.raises(FormatError, match="no recurrent layer"):
        Network.skeleton(net.spec.model_copy(update={"stages": net.spec.stages[:1]}))
    with pytest.raises(FormatError, match="repeat"):
        Network.skeleton(
            net.spec.model_copy(update={"stages": [*net.spec.stages, ActivationSpec(name="rnn0", activation="relu")]})
        )


def test_what_no_network_can_be_is_refused_when_it_is_described():
    for make in (
        lambda: RepeatSpec(name="repeat", times=2**31),  # no weight vouches for it
        lambda: RepeatSpec(name="repeat", times=0),
        lambda: ActivationSpec(name="activation", activation="nope"),
        lambda: Cell(kind="lstm", activation="nope"),
        lambda: Cell(kind="lstm", gate_activation="nope"),
        lambda: Cell(kind="transformer"),
    ):
        with pytest.raises(ValidationError):
            make()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((0, 4), int), "empty"),
        (np.full((2, 4), factory.VOCABULARY), "vocabulary"),
        (np.full((2, 4), -1), "vocabulary"),
        (np.full((2, 4), 0.5), "fractions"),
        (np.full((2, 4), np.nan), "NaN"),
        (np.zeros((2, 4, 3)), "expected word indices"),
        (np.zeros(4), "expected word indices"),
        ([[1, 2], [1]], "different lengths"),
        ([["a", "b"]], "numbers|vocabulary"),
    ],
)
def test_words_that_do_not_fit_are_refused(x, message):
    with pytest.raises(DataError, match=message):
        factory.network().predict(x)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 4)), "expected features"),
        (np.zeros((2, 4, 5)), "has 5 features|have 5 features"),
        (np.full((2, 4, 3), np.inf), "infinite"),
    ],
)
def test_features_that_do_not_fit_are_refused(x, message):
    with pytest.raises(DataError, match=message):
        factory.network(inputs="features").predict(x)

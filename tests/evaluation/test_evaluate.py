import json

import numpy as np
import pytest

import unbraid
from tests import factory
from tests.factory import IO
from unbraid import compose, evaluate
from unbraid.errors import DataError, UnbraidWarning
from unbraid.evaluation.metrics import detection

NAMES = ["a", "b", "c", "d"]


def case(io="M:1", count=80, network=None, **settings):
    net = factory.network(("lstm",), io, **{"classes": 4, "labels": NAMES, **(network or {})})
    x, y = factory.examples(net, count)
    return net, x, y, unbraid.decompose(net, (x, y), **{"samples_per_class": 10, **settings})


@pytest.mark.parametrize("io", IO)
@pytest.mark.parametrize("mode", ["rolled", "unrolled"])
def test_untouched_modules_cost_nothing(io, mode):
    net, x, y, parts = case(io, mode=mode, max_removed=0)
    found = evaluate(compose(parts), (x, y), against=net)
    assert found.accuracy == found.monolithic_accuracy == (net.predict_index(x) == y).mean()
    assert found.restricted_accuracy == found.accuracy and found.delta == 0
    assert found.decisions == y.size and found.left_out == 0
    assert found.coupling == 1 and found.retention.nodes == 1


def test_accuracy_and_each_modules_claims_by_counting():
    net, x, y, parts = case(mode="unrolled", max_removed=0.4)
    found = evaluate(compose(parts), (x, y), against=net)
    assert found.accuracy == np.mean([NAMES[j] == label for j, label in zip(y, compose(parts).predict(x), strict=True)])
    assert found.delta == found.accuracy - found.monolithic_accuracy
    for j, label in enumerate(NAMES):
        assert found.modules[label].detection == detection(parts[label].predict_proba(x) > 0.5, y == j)
        assert found.modules[label].retention == parts[label].retention()
    assert found.jaccard == pytest.approx(np.mean([m.jaccard for m in found.modules.values()]))
    assert found.detection.recall == pytest.approx(np.mean([m.detection.recall for m in found.modules.values()]))


@pytest.mark.parametrize("names", [False, True])
def test_fewer_classes_are_judged_on_their_own_examples(names):
    net, x, y, parts = case(head="softmax", max_removed=0)
    reuse = compose([parts["c"], parts["a"]])
    given = [NAMES[j] for j in y] if names else y
    found = evaluate(reuse, (x, given), against=net)
    used = (y == 0) | (y == 2)
    assert found.decisions == used.sum() and found.left_out == (~used).sum()
    p = net.predict_proba(x)[used]
    assert found.monolithic_accuracy == (p.argmax(1) == y[used]).mean()
    assert found.restricted_accuracy == (np.where(p[:, 0] > p[:, 2], 0, 2) == y[used]).mean()
    assert found.accuracy == found.restricted_accuracy  # softmax heads vote as the parent would among these two
    assert list(found.modules) == ["c", "a"]


def test_without_a_network_labels_are_the_compositions():
    _, x, y, parts = case()
    pair = compose([parts["b"], parts["a"]])
    used = y < 2
    by_name = evaluate(pair, (x[used], [NAMES[j] for j in y[used]]))
    with pytest.warns(UnbraidWarning, match="Pass names"):
        by_place = evaluate(pair, (x[used], 1 - y[used]))  # "b" stands first
    assert by_name == by_place
    assert by_name.monolithic_accuracy is by_name.delta is by_name.restricted_accuracy is by_name.jaccard is None


def test_steps_without_a_label_do_not_count():
    net, x, y, parts = case("M:N", max_removed=0)
    missing = np.random.default_rng(0).random(y.shape) < 0.4
    found = evaluate(compose(parts), (x, np.where(missing, -1, y)), against=net)
    assert found.decisions == (~missing).sum() and found.left_out == 0
    assert found.accuracy == (net.predict_index(x) == y)[~missing].mean()


def test_a_padding_class_is_left_out():
    net, x, y, parts = case("M:N", padding_label=0)
    found = evaluate(compose(parts), (x, y), against=net)
    assert found.decisions == (y != 0).sum() and found.left_out == (y == 0).sum()
    assert list(found.modules) == ["b", "c", "d"]


def test_a_binary_column():
    net, x, y, parts = case(network={"classes": 1, "output": "sigmoid", "labels": ["no", "yes"]}, max_removed=0)
    found = evaluate(compose(parts), (x, y), against=net)
    assert found.accuracy == found.monolithic_accuracy == ((net.predict_proba(x)[:, 0] > 0.5) == y).mean()


def test_one_hot_labels_are_read_and_several_at_once_refused():
    net, x, y, parts = case()
    whole = compose(parts)
    assert evaluate(whole, (x, np.eye(4)[y]), against=net) == evaluate(whole, (x, y), against=net)
    unlabelled = np.eye(4)[y]
    unlabelled[:5] = 0
    assert evaluate(whole, (x, unlabelled)).decisions == len(y) - 5
    several = np.eye(4)[y]
    several[0] = 1
    with pytest.raises(DataError, match="one-hot"):
        evaluate(whole, (x, several), against=net)


def test_the_figures_are_plain_values_and_readable():
    net, x, y, parts = case()
    found = evaluate(compose(parts), (x, y), against=net)
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["accuracy"] == found.accuracy and set(plain["modules"]) == set(NAMES)
    assert f"accuracy {found.accuracy:.4f} over 80 decisions" in str(found) and "points" in str(found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x, y[:-1]), "79 labels for 80"),
        (lambda x, y: (x, y + 4), "labels run from"),
        (lambda x, y: (x, ["z"] * 80), "not classes"),
        (lambda x, y: (x, np.full(80, 3)), "no example has a class of the composition"),
        (lambda x, y: (x[:0], y[:0]), "empty"),
        (lambda x, y: (x + 200, y), "vocabulary"),
    ],
)
def test_examples_that_do_not_fit_are_refused(change, message):
    net, x, y, parts = case()
    with pytest.raises(DataError, match=message):
        evaluate(compose(parts).drop("d"), change(x, y), against=net)

"""Numbers as labels: a warning where they could be meant as positions in the labels of the network."""

import numpy as np
import pytest

import unbraid
from tests import factory
from unbraid import compose
from unbraid.demo.small import small_modules
from unbraid.errors import DataError, UnbraidWarning


@pytest.fixture(scope="module")
def made():
    parts, x, y = small_modules()
    names = np.asarray(y)
    places = np.asarray([parts.network.labels.index(name) for name in names]) if names.dtype.kind == "U" else names
    return parts, x, places, parts.network


def reordered(parts):
    return compose([parts[label] for label in reversed(list(parts))])


def without_the_first(parts):
    return compose([parts[label] for label in list(parts)[1:]])


def with_another_at_the_end(parts):
    first = next(iter(parts))
    return compose(parts).drop(first).add(parts[first])


@pytest.mark.parametrize("change", [reordered, without_the_first, with_another_at_the_end])
def test_positions_of_other_classes_warn_and_names_do_not(made, change):
    parts, x, y, network = made
    changed, names = change(parts), np.asarray(network.labels)[y]
    known = np.isin(names, changed.labels)
    for use in (changed.with_calibration, changed.with_referee, lambda x, y: unbraid.evaluate(changed, (x, y))):
        with pytest.warns(UnbraidWarning, match="Pass names"):
            use(x[known], [changed.labels.index(name) for name in names[known]])
        use(x[known], names[known])
    by_network = unbraid.evaluate(changed, (x, y), against=network)
    assert by_network.accuracy == unbraid.evaluate(changed, (x[known], names[known])).accuracy


def test_positions_in_the_order_of_the_network_are_the_same_as_names(made):
    parts, x, y, network = made
    found = [unbraid.evaluate(compose(parts), (x, labels)).accuracy for labels in (y, np.asarray(network.labels)[y])]
    assert found[0] == found[1]


def test_numbers_that_are_names_do_not_warn():
    net = factory.network(labels=[3, 1, 2])
    x, _ = factory.examples(net, 40)
    y = np.asarray(net.labels)[np.resize(np.arange(3), 40)]
    unbraid.evaluate(compose(list(unbraid.decompose(net, (x, y)).values())[::-1]), (x, y))


@pytest.mark.parametrize("label", ["", -1, np.int64(-1)])
def test_marks_of_missing_labels_are_no_labels_of_modules(made, label):
    parts = made[0]
    first, second = list(parts.values())[:2]
    for use in (lambda: compose({label: first}), lambda: compose([first]).add(second, label=label)):
        with pytest.raises(DataError, match="missing label"):
            use()

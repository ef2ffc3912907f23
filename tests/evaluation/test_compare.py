"""Comparisons of two models, against scores that are computed by hand from their predictions."""

import json

import numpy as np
import pytest

import unbraid
from tests import factory
from unbraid.demo.small import small_examples, small_forecaster, small_network, small_translator
from unbraid.errors import ArgumentError, ConfigError, DataError


@pytest.fixture(scope="module")
def made():
    network = small_network(["a", "b", "c", "d"], seed=3)
    x, y = small_examples(network, 200)
    parts = {keep: unbraid.decompose(network, (x, y), keep=keep) for keep in (1.0, 0.5, 0.15)}
    return network, parts, x, y


def test_a_network_is_equal_to_itself_and_to_whole_modules(made):
    network, parts, x, y = made
    same = unbraid.compare(network, network, (x, y))
    assert same.settings == {} and same.data.agreement == 1 and same.data.only_right == (0, 0)
    assert same.data.difference == {"accuracy": 0} and "no setting differs" in str(same)
    whole = unbraid.compare(network, parts[1.0], (x, y))
    assert whole.data.agreement == 1 and whole.sizes["hidden units"] == (1.0, 1.0)
    assert whole.settings["kind"] == ("network", "modules") and whole.settings["keep"] == (None, 1.0)
    assert "network" not in whole.settings  # the modules have this parent


def test_settings_sizes_labels_and_units_are_compared_without_examples(made):
    _network, parts, x, _y = made
    result = unbraid.compare(parts[0.5], [parts[0.15]["b"], parts[0.15]["d"].renamed("e")])
    assert result.data is None and result.shared == ["b"] and result.only == (["a", "c", "d"], ["e"])
    assert result.settings == {"keep": (0.5, 0.15)}
    kept = [parts[keep]["b"].kept_nodes["gru"] for keep in (0.5, 0.15)]
    assert result.overlap == {"b": pytest.approx((kept[0] & kept[1]).sum() / (kept[0] | kept[1]).sum())}
    assert result.mean_overlap == result.overlap["b"]
    assert result.sizes["hidden units"] == (0.5, parts[0.15]["b"].retention().nodes)
    other = unbraid.compare(parts[0.5], unbraid.decompose(small_network(["a", "b"], seed=9), (x, ["a", "b"] * 100)))
    assert other.overlap == {} and other.mean_overlap is None  # units of different networks are not the same
    assert len(other.settings["network"][0]) == 12 and json.dumps(other.to_dict())


def test_decisions_of_the_shared_labels_are_compared(made):
    network, parts, x, y = made
    few = unbraid.compose([parts[0.15][label] for label in ("a", "c", "d")])
    used = np.isin(y, few.labels)
    ours = network.predict(x, allowed=[few.labels] * len(x))[used]
    theirs, true = few.predict(x)[used], y[used]
    data = unbraid.compare(network, few, (x, y)).data
    assert (data.decisions, data.left_out) == (used.sum(), (~used).sum())
    assert data.agreement == pytest.approx((ours == theirs).mean())
    accuracy = (ours == true).mean(), (theirs == true).mean()
    assert data.scores["accuracy"] == pytest.approx(accuracy)
    assert data.difference["accuracy"] == pytest.approx(accuracy[1] - accuracy[0])
    first, second = (ours == true) & (theirs != true), (ours != true) & (theirs == true)
    assert data.only_right == (first.sum(), second.sum())
    here = true == "c"
    assert data.by_label["c"] == (here.sum(), (ours == true)[here].mean(), (theirs == true)[here].mean())
    numbers = unbraid.compare(network, few, (x, np.asarray([network.labels.index(label) for label in y]))).data
    assert numbers == data  # numbers count the labels of the network
    reverse = unbraid.compare(few, network, (x, y)).data
    assert reverse.difference["accuracy"] == -data.difference["accuracy"]
    assert reverse.only_right == data.only_right[::-1]


def test_the_interval_of_the_difference_is_that_of_a_paired_bootstrap(made):
    network, parts, x, y = made
    data = unbraid.compare(network, parts[0.15], (x, y), seed=4).data
    right = [(each == y).astype(float) for each in (network.predict(x), unbraid.compose(parts[0.15]).predict(x))]
    rng = np.random.default_rng(0)
    drawn = [(right[1] - right[0])[rng.integers(0, len(x), len(x))].mean() for _ in range(4000)]
    np.testing.assert_allclose(data.intervals["accuracy"], np.quantile(drawn, [0.025, 0.975]), atol=0.015)
    assert data.level == 0.95 and data == unbraid.compare(network, parts[0.15], (x, y), seed=4).data
    wide, none = (unbraid.compare(network, parts[0.15], (x, y), intervals=level).data for level in (0.99, None))
    assert wide.intervals["accuracy"][1] >= data.intervals["accuracy"][1]
    assert none.intervals == {} and none.level is None and none.scores == data.scores


def test_single_modules_are_compared_by_their_claims(made):
    network, parts, x, y = made
    small, large = parts[0.15]["b"], parts[0.5]["b"]
    data = unbraid.compare(small, large, (x, y)).data
    ours, theirs, true = small.claims(x), large.claims(x), y == "b"
    assert data.decisions == len(x) and data.agreement == pytest.approx((ours == theirs).mean())
    assert data.scores["accuracy"] == pytest.approx(((ours == true).mean(), (theirs == true).mean()))
    against = unbraid.compare(small, network, (x, y)).data
    assert against.scores["accuracy"][1] == pytest.approx(((network.predict(x) == "b") == true).mean())
    plain = unbraid.compare(small, large, (x, None)).data
    assert plain.agreement == data.agreement and plain.scores == {} and plain.only_right is None


@pytest.mark.parametrize("kind", [{"io": "M:N"}, {"output": "sigmoid"}, {"output": "sigmoid", "classes": 1}])
def test_taggers_independent_labels_and_binary_networks(kind):
    network = factory.network(("gru",), units=8, **kind)
    x, y = factory.examples(network, 80)
    small = unbraid.compose(unbraid.decompose(network, (x, y), keep=0.25))
    data = unbraid.compare(network, small, (x, y)).data
    ours, theirs = network.predict_index(x), small.predict_index(x)
    assert data.agreement == pytest.approx((ours == theirs).mean())
    assert data.scores["accuracy"] == pytest.approx(((ours == y).mean(), (theirs == y).mean()))
    low, high = data.intervals["accuracy"]
    assert low <= high and data.decisions == (y.size if kind.get("io") else len(y))


def test_padding_is_left_out():
    network = factory.network(("gru",), io="M:N", units=6, mask=True)
    x, y = factory.examples(network, 40, padded=True)
    y = np.where(x == 0, -1, y)
    small = unbraid.compose(unbraid.decompose(network, (x, y), keep=0.5))
    data = unbraid.compare(network, small, (x, y)).data
    used = y >= 0
    assert data.decisions == used.sum() and data.left_out == (~used).sum()
    ours = network.predict_index(x)
    assert data.scores["accuracy"][0] == pytest.approx((ours == y)[used].mean())


def test_numbers_are_compared_by_their_errors():
    network, x, y = small_forecaster(150)
    parts = unbraid.decompose(network, x, keep=0.3)
    data = unbraid.compare(network, parts, (x, y)).data
    ours, theirs = network.predict(x), unbraid.compose(parts).predict(x)
    errors = [np.sqrt(np.square(each - y).mean()) for each in (ours, theirs)]
    assert data.scores["RMSE"] == pytest.approx(errors, rel=1e-5)
    apart = np.sqrt(np.square(ours - theirs).mean()) / np.sqrt(ours.var(0).mean())
    assert data.agreement == pytest.approx(apart, rel=1e-5)
    low, high = data.intervals["RMSE"]
    assert low <= data.difference["RMSE"] <= high and data.only_right is None
    one = unbraid.compare(parts["high"], network, (x, y)).data  # the columns are those of the network
    assert one.scores["RMSE"][1] == pytest.approx(np.sqrt(np.square(ours[:, 1] - y[:, 1]).mean()), rel=1e-5)
    assert unbraid.compare(network, parts, (x, None)).data.agreement == data.agreement
    missing = y.copy()
    missing[:10, 0] = np.nan
    assert unbraid.compare(network, parts, (x, missing)).data.left_out == 10


def test_what_cannot_be_compared_on_examples_has_a_reason(made):
    network, _parts, x, y = made
    forecaster, _numbers, _targets = small_forecaster()
    assert "their tasks differ" in unbraid.compare(network, forecaster, (x, y)).not_compared
    tagger = factory.network(("gru",), io="M:N", labels=["a", "b", "c"])
    assert "at each timestep" in unbraid.compare(network, tagger, (x, y)).not_compared
    assert "independent" in unbraid.compare(network, factory.network(output="sigmoid"), (x, y)).not_compared
    other = small_network(["x", "y"])
    result = unbraid.compare(network, other, (x, y))
    assert result.not_compared == "they have no label in common" and result.data is None
    assert "no comparison on examples: they have no label" in str(result)
    translator, pairs = small_translator()
    languages = unbraid.decompose(translator, (pairs.x, pairs.languages))
    found = unbraid.compare(translator, languages, (pairs.x, pairs.languages))
    assert "translat" in found.not_compared and found.shared == ["fr", "de"]


def test_wrong_arguments_are_refused(made):
    network, parts, x, y = made
    for wrong in (3, "folder", None, network.body):
        with pytest.raises(ArgumentError, match="second: expected a Network, a Composition, modules"):
            unbraid.compare(network, wrong)
    with pytest.raises(DataError, match="first has no module"):
        unbraid.compare([], network)
    with pytest.raises(ArgumentError, match="a pair"):
        unbraid.compare(network, parts[0.5], x)
    with pytest.raises(ConfigError, match="intervals=2"):
        unbraid.compare(network, network, (x, y), intervals=2)
    with pytest.raises(DataError, match="no example has a label that both have"):
        unbraid.compare(parts[0.5], [parts[0.15]["a"], parts[0.15]["b"]], (x, ["c"] * len(x)))
    with pytest.raises(DataError, match="expected one label for each input"):
        unbraid.compare(network, parts[0.5], (x, y[:-1]))


def test_it_is_shown_in_at_most_80_columns_and_as_a_table(made):
    _network, parts, x, y = made
    result = unbraid.compare(parts[0.5], parts[0.15], (x, y))
    lines = str(result).splitlines()
    assert lines[0].split() == ["first", "second"] and max(len(line) for line in lines[: len(result.rows()) + 1]) <= 80
    assert any(line.startswith("accuracy: ") and "95 % interval" in line for line in lines)
    assert result._repr_html_().count("<tr>") == len(result.rows()) + 1

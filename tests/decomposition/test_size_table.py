"""Several sizes of one network, against decompositions of each size and scores that are computed by hand."""

import json

import numpy as np
import pytest

import unbraid
from tests import factory
from unbraid.decomposition.reconstruction.size_search import held_out_split
from unbraid.demo.small import small_forecaster
from unbraid.errors import ConfigError, NoSize, UnbraidError

KINDS = {
    "classes": ({"units": 8}, {}),
    "timesteps": ({"io": "M:N", "units": 8}, {}),
    "labels": ({"output": "sigmoid", "units": 8}, {}),
    "binary": ({"output": "sigmoid", "classes": 1, "units": 8}, {}),
    "paper": ({"units": 8}, {"strategy": "paper"}),
}


def split(x, y, seed=0):
    kept, out = held_out_split(len(x), seed)
    return (x[kept], y[kept]), (x[out], y[out])


@pytest.mark.parametrize("kind", KINDS)
def test_each_size_is_what_decompose_makes_of_four_fifths(kind):
    made, settings = KINDS[kind]
    network = factory.network(("gru",), **made)
    x, y = factory.examples(network, 200)
    (x_kept, y_kept), (x_out, _) = split(x, y)
    table = unbraid.decompose_sizes(network, (x, y), [0.25, 0.75], samples_per_class=20, **settings)
    assert list(table) == [0.75, 0.25] and table.held_out == len(x_out) == 40
    for keep, parts in table.items():
        alone = unbraid.decompose(network, (x_kept, y_kept), samples_per_class=20, keep=keep, **settings)
        assert parts.labels == alone.labels and parts.config == alone.config
        assert all(module.config.keep == keep for module in parts.values())
        found, wanted = (unbraid.compose(each).margins(x_out) for each in (parts, alone))
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)


def test_the_scores_are_those_of_the_held_out_examples():
    network = factory.network(("gru",), units=8)
    x, y = factory.examples(network, 200)
    y = np.asarray(y)
    _, (x_out, y_out) = split(x, y)
    table = unbraid.decompose_sizes(network, (x, y), [1.0, 0.25])
    assert table.parent["accuracy"] == pytest.approx((network.predict_index(x_out) == y_out).mean())
    for row, parts in zip(table.rows, table.values(), strict=True):
        composition = unbraid.compose(parts)
        result = unbraid.evaluate(composition, (x_out, y_out), against=network)
        assert row.scores["accuracy"] == pytest.approx(result.accuracy)
        assert row.scores["F1"] == pytest.approx(result.detection.f1)
        losses = [table.parent[name] - row.scores[name] for name in ("accuracy", "F1")]
        assert row.loss == pytest.approx(max(losses))
        assert row.retention.nodes == pytest.approx(result.retention.nodes)
    assert table.rows[0].loss == pytest.approx(0, abs=1e-9)  # all units stay: the modules are the parent
    assert set(json.loads(json.dumps(table.to_dict()))["sizes"][0]) == {"keep", "retention", "scores", "loss", "pareto"}


def test_a_regression_is_compared_by_its_numbers():
    network, x, _ = small_forecaster(200)
    (x_kept, _), (x_out, _) = split(x, x)
    table = unbraid.decompose_sizes(network, x, [0.3, 1.0])
    assert table.parent == {}
    wanted = network.predict(x_out)
    for row, parts in zip(table.rows, table.values(), strict=True):
        found = unbraid.compose(parts).predict(x_out)
        change = (np.square(found - wanted).mean(0) / wanted.var(0)).max()
        assert row.loss == row.scores["change"] == pytest.approx(change, rel=1e-4, abs=1e-9)
    assert len(x_kept) == 160


class Row:
    def __init__(self, keep, loss, pareto=True):
        self.keep, self.loss, self.pareto = keep, loss, pareto


def test_the_smallest_size_within_a_loss_is_chosen():
    table = unbraid.SizeTable({0.5: "large", 0.3: "middle", 0.1: "small"}, [], {}, 10)
    table.rows = [Row(0.5, 0.01), Row(0.3, -0.02), Row(0.1, 0.2)]
    assert [table.smallest(loss) for loss in (0.5, 0.2, 0.1, 0.0)] == ["small", "small", "middle", "middle"]
    table.rows = table.rows[::2]
    with pytest.raises(NoSize, match=r"no size is within max_loss=0.001: the smallest loss is 0.01, of keep 0.5"):
        table.smallest(0.001)
    with pytest.raises(KeyError, match=r"no size 0.4, expected one of \[0.5, 0.3, 0.1\]"):
        table[0.4]


def test_pareto_sizes_are_those_without_a_smaller_size_that_is_as_good():
    network = factory.network(("gru",), units=8)
    table = unbraid.decompose_sizes(network, factory.examples(network, 200), [1.0, 0.8, 0.5, 0.25, 0.13])
    for row in table.rows:
        assert row.pareto == all(other.loss > row.loss for other in table.rows if other.keep < row.keep)
    shown = str(table).splitlines()
    assert len(shown) == 7 and "held-out examples; the network: accuracy" in shown[0]
    assert len({len(line) for line in shown[1:]}) == 1 and max(map(len, shown)) <= 80
    assert (
        table._repr_html_().count("<tr>") == 6
        and repr(table) == "SizeTable(1, 0.8, 0.5, 0.25, 0.13; 40 held-out examples)"
    )


@pytest.mark.parametrize(
    ("sizes", "settings", "message"),
    [
        ([], {}, "sizes= is empty"),
        ([0.5, 2], {}, "sizes= has 2: expected numbers above 0"),
        ([0.5, "x"], {}, "sizes= has 'x'"),
        ("0.5", {}, "sizes= has '0.5'"),
        ([0.5, True], {}, "sizes= has True"),
        ([0.5, float("nan")], {}, "sizes= has nan"),
        ([0.5, 0.5], {}, "has a size twice"),
        ([0.5], {"keep": 0.3}, "leave out keep= and max_loss="),
        ([0.5], {"max_loss": 0.3}, "leave out keep= and max_loss="),
        (None, {}, "sizes= has None"),
    ],
)
def test_wrong_sizes_are_refused(sizes, settings, message):
    network = factory.network()
    with pytest.raises(ConfigError, match=message):
        unbraid.decompose_sizes(network, factory.examples(network, 20), sizes, **settings)


def test_what_has_no_held_out_labels_is_refused():
    network = factory.network()
    with pytest.raises(ConfigError, match="3 are too few"):
        unbraid.decompose_sizes(network, factory.examples(network, 3), [0.5])
    translator = factory.translator()
    with pytest.raises(ConfigError, match="translations have none"):
        unbraid.decompose_sizes(translator, factory.sentence_pairs(translator), [0.5])
    with pytest.raises(UnbraidError, match="expected a Network"):
        unbraid.decompose_sizes("x", (1, 2), [0.5])
    table = unbraid.SizeTable({0.5: "large"}, [Row(0.5, 0.0)], {}, 1)
    for wrong in (1, -0.1, None, "0.1", True):
        with pytest.raises(ConfigError, match="expected a share from 0 to below 1"):
            table.smallest(wrong)

"""Intervals of scores, compared with evaluations of drawn examples one by one."""

import json

import numpy as np
import pytest

from tests import factory
from tests.cli.test_numbers import done, refused
from tests.numbers import forecaster, sample
from unbraid import compose, decompose, evaluate
from unbraid.errors import ConfigError, DataError
from unbraid.evaluation import bootstrap
from unbraid.evaluation.bootstrap import draws, per_example

DRAWS, N = 12, 60


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(bootstrap, "DRAWS", DRAWS)
    monkeypatch.setattr(bootstrap, "COUNTED", 5 * N)  # several parts


def drawn_rows(count, seed):
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.integers(0, count, (rows, count)) for rows in (5, 5, 2)])


def ends(values, level=0.8):
    return pytest.approx(np.quantile(values, [(1 - level) / 2, (1 + level) / 2]), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("io", ["M:1", "M:N"])
def test_intervals_of_numbers_are_those_of_drawn_examples(few, io):
    network = forecaster(("gru",), io, classes=2)
    x = sample(network, N)
    y = network.predict(x) + np.random.default_rng(1).normal(size=network.predict(x).shape)
    parts = compose(decompose(network, x, keep=0.5))
    result = evaluate(parts, (x, y), against=network, intervals=0.8, seed=3)
    single = [evaluate(parts, (x[rows], y[rows]), against=network) for rows in drawn_rows(N, 3)]
    for name in ("rmse", "mae", "r2", "parent_rmse", "parent_mae", "parent_r2", "agreement"):
        assert result.intervals.scores[name] == ends([one.mean[name] for one in single])
    gaps = [one.mean["mae"] - one.mean["parent_mae"] for one in single]
    assert result.intervals.scores["mae_difference"] == ends(gaps)
    for label, own in result.intervals.modules.items():
        assert own["mae"] == ends([one.modules[label].errors.mae for one in single])
        assert own["agreement"] == ends([one.modules[label].agreement for one in single])
    assert (result.intervals.level, result.intervals.examples) == (0.8, N)
    alone = evaluate(parts, (x, y), intervals=0.8, seed=3).intervals
    assert alone.scores["mae"] == result.intervals.scores["mae"] and "agreement" not in alone.scores


@pytest.mark.parametrize(("io", "output"), [("M:1", "softmax"), ("M:N", "softmax"), ("M:1", "sigmoid")])
def test_intervals_of_classes_are_those_of_drawn_examples(few, io, output):
    network = factory.network(("lstm",), io, output=output, classes=3)
    x, y = factory.examples(network, N)
    parts = compose(decompose(network, (x, y), keep=0.5))
    result = evaluate(parts, (x, y), against=network, intervals=0.8, seed=5)
    single = [evaluate(parts, (x[rows], y[rows]), against=network) for rows in drawn_rows(N, 5)]
    for name in ("accuracy", "restricted_accuracy", "monolithic_accuracy", "delta", "restricted_delta"):
        assert result.intervals.scores[name] == ends([getattr(one, name) for one in single])
    for name in ("precision", "recall", "f1"):
        assert result.intervals.scores[name] == ends([getattr(one.detection, name) for one in single])
        for label, own in result.intervals.modules.items():
            assert own[name] == ends([getattr(one.modules[label].detection, name) for one in single])


def test_examples_that_are_left_out_are_not_drawn(few):
    network = factory.network(("lstm",), "M:1", classes=3)
    x, y = factory.examples(network, N)
    parts = decompose(network, (x, y), keep=0.5)
    two = compose([parts[0], parts[1]])
    result = evaluate(two, (x, y), against=network, intervals=0.5)
    assert result.intervals.examples == result.decisions < N


def test_targets_that_are_missing_or_constant(few):
    network = forecaster(classes=2)
    x = sample(network, N)
    y = network.predict(x) + 1.0
    y[:40, 0], y[:, 1] = np.nan, 0.1
    found = evaluate(compose(decompose(network, x, keep=0.5)), (x, y), against=network, intervals=0.9).intervals
    assert "r2" not in found.modules[1] and "r2" in found.modules[0] and "r2" not in found.scores
    assert found.modules[1]["mae"][0] <= found.modules[1]["mae"][1]


def test_plain_values_and_text():
    network = forecaster(classes=2)
    x = sample(network, N)
    result = evaluate(
        compose(decompose(network, x, keep=0.5)), (x, network.predict(x)), against=network, intervals=0.95
    )
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["intervals"]["level"] == 0.95
    assert "0.95 intervals over 60 examples: RMSE" in str(result) and "difference of RMSE to the network" in str(result)
    network = factory.network(("lstm",), "M:1", classes=3)
    examples = factory.examples(network, N)
    result = evaluate(compose(decompose(network, examples)), examples, against=network, intervals=0.9)
    assert set(json.loads(json.dumps(result.to_dict()))["intervals"]["modules"]) == {"0", "1", "2"}
    assert "0.9 intervals over 60 examples: accuracy" in str(result) and "points" in str(result)
    same = evaluate(compose(decompose(network, examples)), examples, against=network, intervals=0.9)
    assert same.intervals == result.intervals
    assert evaluate(compose(decompose(network, examples)), examples).to_dict()["intervals"] is None


def test_sums_of_draws(few):
    values = np.random.default_rng(0).normal(size=(N, 3))
    wanted = [values[rows].sum(0) for rows in drawn_rows(N, 7)]
    np.testing.assert_allclose(draws(values, 7), wanted)
    np.testing.assert_array_equal(
        per_example(np.eye(4), np.array([0, 0, 2, 5])), [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    )


def test_bad_settings():
    network = forecaster()
    x = sample(network)
    parts = compose(decompose(network, x, keep=0.5))
    for level in (0, 1, 95, "a", True, float("nan")):
        with pytest.raises(ConfigError, match="intervals="):
            evaluate(parts, (x, network.predict(x)), intervals=level)
    for seed in (-1, 0.5, None):
        with pytest.raises(ConfigError, match="seed="):
            evaluate(parts, (x, network.predict(x)), intervals=0.9, seed=seed)
    with pytest.raises(DataError, match="at least 2 examples"):
        evaluate(parts, (x[:1], network.predict(x[:1])), intervals=0.9)
    assert evaluate(parts, (x[:1], network.predict(x[:1]))).modules[0].errors.r2 is None


def test_on_the_command_line(tmp_path):
    network = forecaster()
    x = sample(network)
    decompose(network, x, keep=0.5).save(tmp_path / "parts")
    np.savez(tmp_path / "d.npz", x=x, y=network.predict(x))
    found = json.loads(
        done("evaluate", tmp_path / "parts", tmp_path / "d.npz", "--intervals", 0.9, "--seed", 2, "--json")
    )
    wanted = evaluate(compose(decompose(network, x, keep=0.5)), (x, network.predict(x)), network, intervals=0.9, seed=2)
    assert found["intervals"]["scores"]["mae"] == pytest.approx(wanted.intervals.scores["mae"], rel=1e-4)
    assert "0.9 intervals over 120" in done("evaluate", tmp_path / "parts", tmp_path / "d.npz", "--intervals", 0.9)
    assert "--intervals 95" in refused("evaluate", tmp_path / "parts", tmp_path / "d.npz", "--intervals", 95)

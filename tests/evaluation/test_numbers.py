"""Errors of modules that predict numbers, compared with direct computations."""

import json
import math

import numpy as np
import pytest

from tests.numbers import forecaster, sample
from unbraid import RegressionEvaluation, compose, decompose, evaluate
from unbraid.errors import ArgumentError, DataError
from unbraid.evaluation.tables import scores_table


def case(io="M:1", keep=0.5, classes=3, cells=("gru",), **more):
    network = forecaster(cells, io, classes=classes, **more)
    x = sample(network)
    y = network.predict(x) + np.random.default_rng(1).normal(size=network.predict(x).shape)
    return network, x, y, decompose(network, x, keep=keep)


def by_hand(found, true):
    squares = [(a - b) ** 2 for a, b in zip(found, true, strict=True)]
    mean = sum(true) / len(true)
    return (
        math.sqrt(sum(squares) / len(squares)),
        sum(abs(a - b) for a, b in zip(found, true, strict=True)) / len(true),
        1 - sum(squares) / sum((b - mean) ** 2 for b in true),
    )


@pytest.mark.parametrize("io", ["M:1", "M:N"])
def test_scores_are_those_computed_by_hand(io):
    network, x, y, parts = case(io)
    result = evaluate(compose(parts), (x, y), against=network)
    assert isinstance(result, RegressionEvaluation)
    parent = network.predict(x).astype(float)
    for column, (label, score) in enumerate(result.modules.items()):
        found = parts[label].predict(x).astype(float).ravel()
        true, theirs = y[..., column].ravel(), parent[..., column].ravel()
        ours = score.errors
        assert (ours.rmse, ours.mae, ours.r2) == pytest.approx(by_hand(found, true), rel=1e-5)
        assert (score.parent.rmse, score.parent.mae, score.parent.r2) == pytest.approx(by_hand(theirs, true), rel=1e-5)
        apart = math.sqrt(sum((a - b) ** 2 for a, b in zip(found, theirs, strict=True)) / len(found))
        assert score.agreement == pytest.approx(apart / np.std(theirs), rel=1e-4)
        assert (score.targets, score.missing) == (true.size, 0)
    assert result.mean["rmse"] == pytest.approx(np.mean([s.errors.rmse for s in result.modules.values()]))
    assert result.retention.nodes == 0.5


def test_modules_of_full_size_agree():
    network, x, y, parts = case(keep=1.0)
    for score in evaluate(compose(parts), (x, y), against=network).modules.values():
        assert score.agreement < 1e-4 and score.errors.rmse == pytest.approx(score.parent.rmse, abs=1e-5)


def test_missing_targets_are_left_out_and_counted():
    network, x, y, parts = case()
    full = evaluate(compose(parts), (x[7:], y[7:]), against=network)
    y[:7] = np.nan
    result = evaluate(compose(parts), (x, y), against=network)
    assert [score.missing for score in result.modules.values()] == [7] * 3
    for label, score in result.modules.items():
        assert score.errors.rmse == pytest.approx(full.modules[label].errors.rmse)
    assert "left out: 21 targets" in str(result)
    y[:, 1] = np.nan
    with pytest.raises(DataError, match="no target of '1' is a number"):
        evaluate(compose(parts), (x, y), against=network)


def test_r2_of_constant_targets_is_undefined():
    network, x, y, parts = case()
    y[:, 0] = 0.1
    result = evaluate(compose(parts), (x, y), against=network)
    assert result.modules[0].errors.r2 is None and result.modules[1].errors.r2 is not None
    assert result.mean["r2"] is None and "R2 is undefined where all targets" in str(result)


def test_columns_follow_the_labels():
    network, x, y, parts = case(labels=["low", "high", "close"])
    whole = evaluate(compose(parts), (x, y), against=network)
    few = compose([parts["close"], parts["low"].renamed("floor")])
    result = evaluate(few, (x, y), against=network)
    assert result.modules["close"] == whole.modules["close"] and result.modules["floor"] == whole.modules["low"]
    alone = evaluate(few, (x, y[:, [2, 0]]))
    assert alone.modules["close"].errors == whole.modules["close"].errors
    assert alone.modules["close"].parent is None and alone.mean["agreement"] is None
    other = decompose(forecaster(labels=["low", "volume", "close"], seed=5), x, keep=0.5)
    with pytest.raises(DataError, match="against has no output 'volume'"):
        evaluate(compose([parts["low"], other["volume"]]), (x, y), against=network)


@pytest.mark.parametrize("io", ["M:1", "M:N"])
def test_one_column_needs_no_axis(io):
    network, x, y, parts = case(io, classes=1)
    result = evaluate(compose(parts), (x, y[..., 0]), against=network)
    assert result.modules == evaluate(compose(parts), (x, y), against=network).modules


def test_written_numbers():
    _, x, y, parts = case(classes=1)
    written = [f"{value:.17g}" for value in y[:, 0]]
    result = evaluate(compose(parts), (x, written))
    assert result.modules[0].errors == evaluate(compose(parts), (x, y)).modules[0].errors
    assert evaluate(compose(parts), (x, ["", *written[1:]])).modules[0].missing == 1
    with pytest.raises(DataError, match="targets hold text that is no number"):
        evaluate(compose(parts), (x, ["up", *written[1:]]))


def test_bad_targets():
    network, x, y, parts = case()
    composition = compose(parts)
    for wrong in (y[:, :2], y[:5], y[..., None], y[:, 0]):
        with pytest.raises(DataError, match=r"targets have shape .*, expected \(120, 3\): one column for each of"):
            evaluate(composition, (x, wrong), against=network)
    with pytest.raises(DataError, match="infinite"):
        evaluate(composition, (x, np.where(y > 0, np.inf, y)))
    with pytest.raises(DataError, match="targets are a NoneType"):
        evaluate(composition, (x, None))
    with pytest.raises(ArgumentError):
        evaluate(composition, x)
    with pytest.raises(DataError, match="against is a network of classification"):
        evaluate(composition, (x, y), against=forecaster(output="softmax"))


def test_results_as_plain_values_and_as_a_table():
    network, x, y, parts = case()
    result = evaluate(compose(parts), (x, y), against=network)
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert plain["task"] == "regression" and set(plain["modules"]) == {"0", "1", "2"}
    assert plain["modules"]["1"]["parent"]["rmse"] == result.modules[1].parent.rmse
    table = scores_table(result)
    assert table.row_count == 3 and len(table.columns) == 9
    assert scores_table(evaluate(compose(parts), (x, y))).row_count == 3

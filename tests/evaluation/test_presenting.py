"""Evaluations as tables for notebooks and as data frames."""

import dataclasses
import sys

import pytest

import unbraid
from unbraid.demo.small import small_examples, small_forecaster, small_network
from unbraid.errors import UnbraidError
from unbraid.evaluation.columns import COLUMNS


def classes(labels=("a", "<i>b", "c"), **settings):
    network = small_network(labels)
    examples = small_examples(network, 90)
    return unbraid.evaluate(
        unbraid.compose(unbraid.decompose(network, examples, keep=0.5)), examples, against=network, **settings
    )


def numbers(**settings):
    network, x, y = small_forecaster()
    return unbraid.evaluate(
        unbraid.compose(unbraid.decompose(network, x, keep=0.5)), (x, y), against=network, **settings
    )


def test_a_table_for_notebooks_has_the_scores():
    result = classes()
    text = result._repr_html_()
    assert "<i>" not in text and "<td>&lt;i&gt;b</td>" in text
    assert all(f"<td>{COLUMNS['F1'](score)}</td>" in text for score in result.modules.values())
    assert f"accuracy {result.accuracy:.4f}" in text and "<br>" in text


def test_a_table_of_numbers_has_the_errors():
    result = numbers()
    assert f"<td>{result.modules['low'].errors.rmse:.3g}</td>" in result._repr_html_()
    assert "<th>net RMSE</th>" in result._repr_html_()


def test_a_long_table_is_cut():
    text = classes([f"intent {n}" for n in range(30)])._repr_html_()
    assert text.count("<tr>") == 22 and "... 10 more" in text


def test_details_are_not_among_the_plain_values():
    result = classes()
    assert "details" not in result.to_dict() and "details" not in repr(result)
    assert result == dataclasses.replace(result, details=None)


@pytest.mark.parametrize("made", [classes, numbers])
def test_without_pandas_the_error_names_it(made, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UnbraidError, match="pip install pandas"):
        made().to_frame()


def test_a_frame_has_a_row_for_each_module_and_the_ends_of_intervals():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed: pip install pandas")
    result = classes(intervals=0.9)
    frame = result.to_frame()
    assert isinstance(frame, pandas.DataFrame) and list(frame.index) == ["a", "<i>b", "c"]
    for label, score in result.modules.items():
        assert frame.loc[label, "f1"] == score.detection.f1 and frame.loc[label, "nodes"] == score.retention.nodes
        ends = result.intervals.modules[label]["f1"]
        assert (frame.loc[label, "f1_low"], frame.loc[label, "f1_high"]) == ends


def test_a_frame_of_numbers_has_the_errors_of_the_network():
    pytest.importorskip("pandas", reason="pandas is not installed: pip install pandas")
    result = numbers()
    frame = result.to_frame()
    assert frame.loc["low", "rmse"] == result.modules["low"].errors.rmse
    assert frame.loc["low", "parent_mae"] == result.modules["low"].parent.mae
    assert frame["targets"].tolist() == [score.targets for score in result.modules.values()]

"""The comparison with the network is fair, and decisions that are left out are counted by reason."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import unbraid
from tests import factory
from unbraid import Composition, compose, evaluate
from unbraid.cli.app import app
from unbraid.demo.architectures import sequence_spec
from unbraid.demo.initial import initial_weights
from unbraid.errors import DataError
from unbraid.evaluation.report import LeftOut
from unbraid.evaluation.tables import scores_table

NAMES = ["a", "b", "c", "d"]


def case(io="M:1", labels=NAMES, seed=0, favour=0, **settings):
    """Make a network, examples, and unpruned modules that decide like the network restricted to their classes."""
    net = factory.network(("lstm",), io, labels=labels, classes=len(labels), seed=seed, **settings)
    net.head.bias[1] += favour
    x, y = factory.examples(net, 80)
    return net, x, y, unbraid.decompose(net, (x, y), samples_per_class=10, max_removed=0, head="softmax")


def test_the_restricted_comparison_comes_first_and_both_are_named():
    net, x, y, parts = case(favour=1000)  # its answer is always "b", where that is one of the classes
    found = evaluate(compose([parts["c"], parts["a"]]), (x, y), against=net)
    assert found.restricted_delta == 0 < found.delta == found.accuracy
    lines = str(found).splitlines()
    assert lines[1].startswith(
        f"the network restricted to these 2 classes: {found.restricted_accuracy:.4f}, difference"
    )
    assert "+0.00 points" in lines[1]
    assert lines[2].startswith(f"the network with all its 4 classes: {found.monolithic_accuracy:.4f}, difference +")
    assert lines[2].endswith("but it can also predict one of the 2 other classes")
    whole = str(evaluate(compose(parts), (x, y), against=net)).splitlines()
    assert whole[1] == f"the network: {(net.predict_index(x) == y).mean():.4f}, difference +0.00 points"
    assert "left out" not in str(whole)


def test_what_is_left_out_is_counted_by_reason():
    net, x, y, parts = case()
    y = y.copy()
    y[:7] = -1
    found = evaluate(compose([parts["c"], parts["a"]]), (x, y), against=net)
    others = int(np.isin(y, (1, 3)).sum())
    assert found.left_out_why == LeftOut(others, 0, 7, ["b", "d"]) and found.left_out == others
    line = f"left out: {others} with labels that no module has ('b', 'd'); 7 without a label"
    assert line in str(found).splitlines()
    assert scores_table(found).caption == line and f"on {found.decisions} decisions" in scores_table(found).title
    assert found.to_dict()["left_out_why"]["labels"] == ["b", "d"]
    json.dumps(found.to_dict())


def test_names_that_no_module_has_are_left_out_without_a_network_as_well():
    _, x, y, parts = case()
    few = compose([parts["c"], parts["a"]])
    found = evaluate(few, (x, np.asarray(NAMES)[y]))
    assert found.left_out_why == LeftOut(int(np.isin(y, (1, 3)).sum()), 0, 0, ["b", "d"])
    assert found.accuracy == evaluate(few, (x, y), against=parts.network).accuracy
    with pytest.raises(
        DataError, match=r"no example has a class of the composition: .*80 with labels that no module has \('x'\)"
    ):
        evaluate(few, (x, ["x"] * 80))


@pytest.mark.parametrize("kind", [int, float])
def test_whole_numbers_are_values_where_all_labels_are_numbers(kind):
    _, x, y, parts = case(labels=[0, 1, 2, 3])
    found = evaluate(compose([parts[3], parts[1]]), (x, y.astype(kind)))
    assert found.left_out_why == LeftOut(int(np.isin(y, (0, 2)).sum()), 0, 0, [0, 2])
    first = evaluate(compose([parts[0], parts[1]]), (x, y.astype(kind)))
    assert first.left_out_why.labels == [2, 3] and first.decisions == (y < 2).sum()
    with pytest.raises(DataError, match="-5"):
        evaluate(compose([parts[3], parts[1]]), (x, np.where(y == 0, -5, y).astype(kind)))
    pair = compose([parts[3], parts[1]])
    used = np.isin(y, (1, 3))
    assert evaluate(pair, (x[used], np.eye(2)[(y[used] == 1).astype(int)])).accuracy == found.accuracy


def test_many_outputs_count_timesteps():
    net, x, y, parts = case("M:N")
    y = np.where(np.random.default_rng(0).random(y.shape) < 0.3, -1, y)
    found = evaluate(compose([parts["b"], parts["d"]]), (x, y), against=net)
    assert found.left_out_why == LeftOut(int(np.isin(y, (0, 2)).sum()), 0, int((y == -1).sum()), ["a", "c"])
    assert found.decisions + found.left_out + found.left_out_why.unlabelled == y.size
    assert found.restricted_delta == 0
    longer = np.pad(y, [(0, 0), (0, 1)], constant_values=1)
    assert evaluate(compose(parts), (x, longer), against=net).left_out_why.no_decision == len(x)


def test_independent_labels_have_one_comparison_and_name_the_columns_left_out():
    spec = sequence_spec("gru", 1, 30, 6, 12, 3, "M:1", 5, output="sigmoid")
    net = unbraid.Network(spec, initial_weights(spec, 3), ["rude", "kind", "long"])
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 30, (80, 5)), rng.integers(0, 2, (80, 3))
    parts = unbraid.decompose(net, (x, y), max_removed=0)
    found = evaluate(compose([parts["long"], parts["rude"]]), (x, y), against=net)
    assert found.restricted_accuracy == found.monolithic_accuracy == found.accuracy
    assert found.left_out_why == LeftOut(0, 0, 0, ["kind"]) and "('kind')" in str(found)
    assert "restricted" not in str(found) and f"the network: {found.accuracy:.4f}" in str(found)
    renamed = compose({"slow": parts["long"]})
    assert evaluate(renamed, (x, y), against=net).accuracy == ((net.predict(x)[:, 2] == y[:, 2]).mean())
    other = unbraid.Network(spec, initial_weights(spec, 4), ["x", "y", "z"])
    foreign = Composition({"rude": parts["rude"], "z": unbraid.decompose(other, (x, y))["z"]})
    with pytest.raises(DataError, match="none for 'z'"):
        evaluate(foreign, (x, y), against=net)


def test_one_side_of_a_binary_network():
    net = factory.network(("lstm",), classes=1, output="sigmoid", labels=["no", "yes"])
    x, y = factory.examples(net, 80)
    y = np.arange(80) % 2
    parts = unbraid.decompose(net, (x, y), max_removed=0)
    found = evaluate(compose([parts["yes"]]), (x, y), against=net)
    assert found.accuracy == found.restricted_accuracy == 1 and found.network_classes == 2
    assert found.monolithic_accuracy == (net.predict_index(x) == y)[y == 1].mean()
    assert found.left_out_why == LeftOut(40, 0, 0, ["no"])


@pytest.mark.parametrize("names", ["network's", "composition's", "numbers"])
def test_renamed_modules_are_compared_with_their_class(names):
    net, x, y, parts = case()
    renamed = compose({"money": parts["c"], "a": parts["a"]})
    given = {"network's": NAMES, "composition's": ["a", "b", "money", "d"], "numbers": range(4)}[names]
    found = evaluate(renamed, (x, np.asarray(given)[y]), against=net)
    wanted = evaluate(compose([parts["c"], parts["a"]]), (x, y), against=net)
    assert found.accuracy == wanted.accuracy and found.restricted_accuracy == wanted.restricted_accuracy
    assert found.left_out_why == wanted.left_out_why and found.monolithic_accuracy == wanted.monolithic_accuracy


def test_a_module_of_another_network_is_judged_by_its_name():
    net, x, y, parts = case()
    other = case(labels=["e", "f", "b", "h"], seed=4)[3]
    mixed = Composition({"a": parts["a"], "b": other["b"]})
    found = evaluate(mixed, (x, y), against=net)
    assert found.restricted_accuracy is not None and found.decisions == (y < 2).sum()
    foreign = Composition({"a": parts["a"], "f": other["f"]})
    y_names = np.where(y == 1, "f", np.asarray(NAMES)[y])
    found = evaluate(foreign, (x, y_names), against=net)
    assert found.decisions == (y < 2).sum() and found.restricted_accuracy is found.delta is None
    assert "no comparison with the network: it has no class 'f'" in str(found)
    with pytest.raises(DataError, match="not classes"):
        evaluate(foreign, (x, np.where(y == 1, "typo", y_names)), against=net)


def test_a_network_that_decides_at_another_pace_is_no_comparison():
    _, x, y, parts = case()
    tagger = case("M:N", labels=["e", "f", "g", "h"])[3]
    mixed = Composition({**parts, "e": tagger["e"]})
    found = evaluate(mixed, (x, np.asarray(NAMES)[y]), against=tagger.network)
    assert found.delta is None and "only one of the two decides at each timestep (M:N and M:1)" in str(found)


@pytest.mark.parametrize("io", ["M:1", "M:N"])
def test_no_row_of_a_class_in_use(io):
    net, x, y, parts = case(io)
    with pytest.raises(DataError, match=r"the classes \['d'\]; left out: .* with labels that no module has \('a'\)"):
        evaluate(compose([parts["d"]]), (x, np.zeros_like(y)), against=net)


def test_nan_decides_nothing_and_is_counted():
    net, x, y, parts = case(inputs="features")
    x = x.copy()
    with torch.no_grad():
        margins = compose(parts).margins(x)
    nan = margins.copy()
    nan[:5, 2] = np.nan
    whole = compose(parts)
    whole.margins = lambda _: nan
    found = evaluate(whole, (x, y), against=net)
    assert found.decisions == 75 and found.left_out_why == LeftOut(0, 5, 0, [])
    assert "5 where a margin is NaN" in str(found)
    whole.margins = lambda _: np.full_like(margins, np.nan)
    with pytest.raises(DataError, match="80 where a margin is NaN"):
        evaluate(whole, (x, y), against=net)


@pytest.mark.parametrize("against", [False, True])
def test_the_command_line_says_what_is_left_out(tmp_path, against):
    _, x, y, parts = case()
    compose([parts["c"], parts["a"]]).save(tmp_path / "few")
    np.savez(tmp_path / "test.npz", x=x, y=y, labels=NAMES)
    others = int(np.isin(y, (1, 3)).sum())
    source = tmp_path / "few"
    if against:  # a decomposition's folder comes with its network
        parts.save(source := tmp_path / "parts")
        y[:9] = -1
        np.savez(tmp_path / "test.npz", x=x, y=y, labels=NAMES)
    command = ["evaluate", str(source), str(tmp_path / "test.npz")]
    found = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    text = CliRunner().invoke(app, command).stdout
    if against:
        assert found["left_out_why"] == {"other_label": 0, "no_decision": 0, "unlabelled": 9, "labels": []}
        assert "left out: 9 without a label" in text and "the network: " in text
    else:
        assert found["left_out_why"] == {"other_label": others, "no_decision": 0, "unlabelled": 0, "labels": ["b", "d"]}
        assert found["left_out"] == others and f"left out: {others} with labels that no module has" in text

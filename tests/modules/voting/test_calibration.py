"""Calibration: two numbers per module, fitted on a small sample; changes and saved folders keep them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import unbraid
from tests import factory
from tests.manifests import edit
from unbraid import Composition, compose
from unbraid.errors import ConfigError, DataError, FormatError
from unbraid.evaluation.metrics import expected_calibration_error
from unbraid.modules.voting.calibration import check_scale, fit


def sample(rng, per_class, scales, offsets, spread=1.0):
    """Make margins of equally good modules, distorted by a scale and an offset of each parent, and the truth."""
    classes = len(scales)
    truth = np.repeat(np.arange(classes), per_class)
    fair = 2 * (np.eye(classes)[truth] * 2 - 1) + spread * rng.normal(size=(len(truth), classes))
    return fair * scales + offsets, truth


def accuracy(margins, truth):
    return (margins.argmax(-1) == truth).mean()


def scaled(margins, scales):
    return margins / [t for t, _ in scales] + [b for _, b in scales]


def cost(margins, truth, scales):
    z = torch.from_numpy(scaled(margins, scales))
    return float(-torch.log_softmax(torch.nn.functional.logsigmoid(z), -1)[range(len(truth)), truth].sum())


PARENTS = ["a", "a", "a", "b", "b", "b"]
UNFAIR = (np.array([1, 1, 1, 6, 6, 6]), np.array([0, 0, 0, 9, 9, 9]))


@pytest.mark.parametrize("per_class", [5, 20, 50])
def test_a_few_examples_make_an_unfair_vote_fair(per_class):
    rng = np.random.default_rng(0)
    margins, truth = sample(rng, 500, *UNFAIR)
    fair = accuracy((margins - UNFAIR[1]) / UNFAIR[0], truth)
    assert accuracy(margins, truth) < 0.8 < 0.95 < fair
    for _ in range(5):
        found = scaled(margins, fit(*sample(rng, per_class, *UNFAIR), PARENTS))
        assert accuracy(found, truth) > fair - {5: 0.04, 20: 0.01, 50: 0.005}[per_class]
        shares = torch.softmax(torch.nn.functional.logsigmoid(torch.from_numpy(found)), -1).numpy()
        assert expected_calibration_error(shares, truth) < {5: 0.1, 20: 0.05, 50: 0.05}[per_class]


def test_a_single_example_of_each_class_makes_an_unfair_vote_fairer():
    rng = np.random.default_rng(0)
    margins, truth = sample(rng, 500, *UNFAIR)
    found = [accuracy(scaled(margins, fit(*sample(rng, 1, *UNFAIR), PARENTS)), truth) for _ in range(20)]
    assert np.mean(found) > accuracy(margins, truth)


def test_a_fair_vote_stays_as_it_is():
    rng = np.random.default_rng(1)
    fair = (np.ones(6), np.zeros(6))
    margins, truth = sample(rng, 500, *fair)
    found = [accuracy(scaled(margins, fit(*sample(rng, 5, *fair), PARENTS)), truth) for _ in range(20)]
    assert np.mean(found) > accuracy(margins, truth) - 0.003


@pytest.mark.parametrize(("scale", "shift"), [(0.01, 0), (0.01, -20), (1, 20), (1, -50), (1000, 0), (1e18, 0)])
def test_parents_that_are_far_off_are_found(scale, shift):
    rng = np.random.default_rng(2)
    margins, truth = sample(rng, 30, np.ones(6), np.zeros(6))
    margins[:, 3:] = margins[:, 3:] * scale + shift
    scales = fit(margins, truth, PARENTS)
    assert accuracy(scaled(margins, scales), truth) > 0.85
    assert all(check_scale("x", scale) for scale in scales)


def test_few_examples_that_are_all_told_apart_do_not_run_away():
    for scale in (1e-3, 1, 1e3):
        margins = scale * (np.eye(4) * 2 - 1)
        for temperature, offset in fit(margins, np.arange(4), ["a", "a", "b", "b"]):
            assert 1e-3 < temperature < 1e3 and abs(offset) < 20


@settings(max_examples=25)
@given(st.integers(0, 999), st.integers(2, 6), st.integers(1, 4))
def test_the_sample_becomes_no_less_likely_and_the_same_gives_the_same(seed, classes, per_class):
    rng = np.random.default_rng(seed)
    margins, truth = sample(rng, per_class, np.exp(rng.normal(size=classes)), 3 * rng.normal(size=classes), 3)
    parents = rng.integers(0, 2, classes).tolist()
    scales = fit(margins, truth, parents)
    assert cost(margins, truth, scales) <= cost(margins, truth, [(1, 0)] * classes) + 1e-9
    assert all(temperature > 0 for temperature, _ in scales)
    assert fit(margins, truth, parents) == scales


def test_calibration_without_a_gradient_mode_works():
    margins, truth = sample(np.random.default_rng(0), 5, *UNFAIR)
    with torch.no_grad():
        inside = fit(margins, truth, PARENTS)
    assert inside == fit(margins, truth, PARENTS)


def parts_of(io="M:1", cell="lstm", seed=0, labels=("a", "b", "c"), **settings):
    net = factory.network((cell,), io, labels=list(labels), seed=seed)
    x, y = factory.examples(net, 60)
    return unbraid.decompose(net, (x, y), samples_per_class=10, **settings), x, np.asarray(labels)[y]


@pytest.fixture(scope="module")
def two_parents():
    """Make modules a and b of one network and c of another, inputs and labels."""
    first, x, y = parts_of()
    second, _, _ = parts_of(cell="gru", seed=5, mode="unrolled")
    return {"a": first["a"], "b": first["b"], "c": second["c"]}, x, y


@factory.UNCALIBRATED
def test_modules_of_two_parents_are_calibrated_where_there_is_a_sample(two_parents):
    modules, x, y = two_parents
    plain = compose(modules)
    assert plain.calibration == dict.fromkeys("abc", (1.0, 0.0))
    calibrated = compose(modules, sample=(x, y))
    assert calibrated.calibration == plain.with_calibration(x, y).calibration != plain.calibration
    assert compose(modules, sample=(x, y), calibrate=False).calibration == plain.calibration
    one = {label: modules[label] for label in "ab"}
    some = y != "c"
    assert compose(one, sample=(x[some], y[some])).calibration == dict.fromkeys("ab", (1.0, 0.0))
    assert compose(one, sample=(x[some], y[some]), calibrate=True).calibration["a"] != (1.0, 0.0)
    with pytest.raises(ConfigError, match="needs a sample"):
        compose(modules, calibrate=True)


@factory.UNCALIBRATED
def test_calibrated_margins_are_margin_over_temperature_plus_offset(two_parents):
    modules, x, y = two_parents
    plain, calibrated = compose(modules), compose(modules, sample=(x, y))
    scales = np.array(list(calibrated.calibration.values()))
    np.testing.assert_allclose(
        calibrated.margins(x), plain.margins(x) / scales[:, 0] + scales[:, 1], rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(calibrated(torch.from_numpy(x)).numpy(), calibrated.margins(x), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(calibrated["a"].margins(x), plain["a"].margins(x))
    again = calibrated.with_calibration(x, y)
    assert again.calibration == calibrated.calibration  # anew, not on top


def _positions(y):
    return np.array(["abc".index(label) for label in y])


@factory.UNCALIBRATED
def test_weights_stay_as_they_are(two_parents):
    modules, x, y = two_parents
    before = {k: v.clone() for k, v in compose(modules).state_dict().items()}
    after = compose(modules, sample=(x, y)).state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@factory.UNCALIBRATED
def test_changes_keep_the_calibration_of_modules_that_stay(two_parents):
    modules, x, y = two_parents
    whole = compose(modules, sample=(x, y))
    kept = whole.calibration
    assert whole.drop("b").calibration == {"a": kept["a"], "c": kept["c"]}
    assert whole.replace("b", modules["a"]).calibration == {**kept, "b": (1.0, 0.0)}
    assert whole.add(modules["a"], label="d").calibration == {**kept, "d": (1.0, 0.0)}
    assert whole.replace("b", modules["a"]).replace("b", modules["b"]).calibration["b"] == (1.0, 0.0)
    np.testing.assert_allclose(whole.drop("b").margins(x), whole.margins(x)[:, [0, 2]], rtol=1e-5, atol=1e-5)


def test_what_is_saved_comes_back_bit_for_bit(two_parents, tmp_path):
    modules, x, y = two_parents
    whole = compose(modules, vote="probability", sample=(x, y))
    whole.save(tmp_path / "x")
    back = unbraid.load_composition(tmp_path / "x")
    assert back.calibration == whole.calibration and back.vote == "probability"
    np.testing.assert_array_equal(back.margins(x), whole.margins(x))
    from unbraid.cli.open_any import open_any

    assert open_any(tmp_path / "x").calibration == whole.calibration


@factory.UNCALIBRATED
def test_folders_of_before_calibration_load(two_parents, tmp_path):
    compose(two_parents[0]).save(tmp_path / "x")

    def older(manifest):
        manifest["format"] = 1
        for entry in manifest["modules"]:
            del entry["temperature"], entry["offset"]

    edit(tmp_path / "x", older)
    assert unbraid.load_composition(tmp_path / "x").calibration == dict.fromkeys("abc", (1.0, 0.0))


@factory.UNCALIBRATED
@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", 0), ("temperature", -1), ("temperature", 1e300), ("offset", 1e300), ("temperature", None)],
)
def test_numbers_that_cannot_be_are_refused(two_parents, tmp_path, field, value):
    compose(two_parents[0]).save(tmp_path / "x")
    edit(tmp_path / "x", lambda manifest: manifest["modules"][1].update({field: value}))
    with pytest.raises(FormatError, match=rf"modules\.1\.{field}"):
        unbraid.load_composition(tmp_path / "x")


@pytest.mark.parametrize("scale", [(0, 0), (-1, 0), (float("nan"), 0), (1, float("inf")), (1e-9, 0), (1, 1e9)])
def test_a_calibration_out_of_range_is_refused(two_parents, scale):
    with pytest.raises(ConfigError, match="'b'"):
        Composition(two_parents[0], calibration={"b": scale})
    assert check_scale("b", (0.1, 0.2)) == (float(np.float32(0.1)), float(np.float32(0.2)))


@factory.UNCALIBRATED
def test_every_timestep_is_a_decision_and_some_have_no_label():
    first, x, y = parts_of("M:N")
    second, _, _ = parts_of("M:N", cell="gru", seed=3, mode="unrolled")
    modules = [first["a"], second["b"], first["c"]]
    y = np.where(np.random.default_rng(0).random(y.shape) < 0.3, "", y)
    whole = compose(modules, sample=(x, y))
    assert whole.many_outputs and whole.margins(x).shape == (*y.shape, 3)
    positions = np.where(y == "", -1, np.searchsorted(["a", "b", "c"], y))
    assert whole.calibration == compose(modules, sample=(x, positions)).calibration
    used = y != ""
    plain, better = compose(modules).margins(x), whole.margins(x)
    scales = list(whole.calibration.values())
    assert cost(plain[used], positions[used], scales) <= cost(plain[used], positions[used], [(1, 0)] * 3)
    np.testing.assert_allclose(better, scaled(plain, scales), rtol=1e-5, atol=1e-5)


def test_a_sample_that_does_not_fit_is_refused(two_parents):
    modules, x, y = two_parents
    with pytest.raises(DataError, match=r"no example of \['b'\]"):
        compose(modules, sample=(x[y != "b"], y[y != "b"]))
    with pytest.raises(DataError, match="'z'"):
        compose(modules, sample=(x, np.where(y == "b", "z", y)))
    with pytest.raises(DataError, match="60 inputs"):
        compose(modules, sample=(x, y[:5]))
    with pytest.raises(DataError, match="has a label"):
        compose(modules, sample=(x, np.full(len(x), -1)))


def test_labels_that_are_missing_do_not_count(two_parents):
    modules, x, y = two_parents
    some = np.arange(len(x)) % 3 > 0
    left_out = compose(modules, sample=(x, np.where(some, y, "")))
    assert left_out.calibration["a"] == pytest.approx(
        compose(modules, sample=(x[some], y[some])).calibration["a"], 1e-3
    )


@factory.UNCALIBRATED
def test_evaluation_reports_the_calibration_error_and_modules_as_they_are_alone(two_parents):
    modules, x, y = two_parents
    plain, calibrated = compose(modules), compose(modules, sample=(x, y))
    before, after = unbraid.evaluate(plain, (x, y)), unbraid.evaluate(calibrated, (x, y))
    assert after.accuracy > before.accuracy
    wanted = expected_calibration_error(calibrated.predict_proba(x), _positions(y))
    assert after.calibration_error == pytest.approx(wanted) == after.to_dict()["calibration_error"]
    assert after.detection == before.detection


def literal_error(probabilities, truth, bins):
    """Compute the error bin by bin."""
    total = 0.0
    for b in range(bins):
        inside = [
            (max(p), np.argmax(p) == t)
            for p, t in zip(probabilities, truth, strict=True)
            if b / bins < max(p) <= (b + 1) / bins
        ]
        if inside:
            confidence, right = np.mean([c for c, _ in inside]), np.mean([r for _, r in inside])
            total += len(inside) / len(truth) * abs(right - confidence)
    return total


@given(st.integers(0, 999), st.integers(1, 40), st.integers(2, 5), st.integers(1, 20))
def test_the_expected_calibration_error_is_counted_bin_by_bin(seed, count, classes, bins):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(classes), count)
    truth = rng.integers(0, classes, count)
    wanted = literal_error(probabilities, truth, bins)
    assert expected_calibration_error(probabilities, truth, bins) == pytest.approx(wanted, abs=1e-12)


def test_the_expected_calibration_error_by_hand():
    certain = np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    assert expected_calibration_error(certain, np.array([0, 0, 1, 1])) == 0
    assert expected_calibration_error(certain, np.array([1, 1, 0, 0])) == 1
    assert expected_calibration_error(certain, np.array([0, 1, 1, 1])) == 0.25
    assert expected_calibration_error(np.array([[0.7, 0.3], [0.7, 0.3]]), np.array([0, 1]), bins=1) == pytest.approx(
        0.2
    )

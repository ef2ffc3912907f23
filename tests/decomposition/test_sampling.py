import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import reference
from unbraid import DecompositionConfig
from unbraid.data.targets import Targets, read_targets
from unbraid.decomposition.sampling import choose, chosen_rows, missing_classes, module_classes
from unbraid.errors import DataError, UnknownLabel


def targets(y, classes, **settings):
    y = np.asarray(y)
    return read_targets(y, list(range(classes)), many=settings.pop("many", y.ndim == 2), **settings)


def rows(sample, chosen):
    """Return class -> row numbers in ascending order, a list per timestep."""
    return {j: [sorted(sample.rows[places].tolist()) for places in steps] for j, steps in chosen.items()}


def labels(seed, count, classes, steps=None):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, count if steps is None else (count, steps))
    y[: 2 * classes] = (np.arange(2 * classes) % classes).reshape(-1, *[1] * (y.ndim - 1))
    return y


cases = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 999),
        "count": st.integers(10, 60),
        "classes": st.integers(2, 5),
        "steps": st.sampled_from([None, 1, 3]),
        "m": st.integers(2, 20),
    }
)


@given(case=cases)
def test_positives_and_negatives_of_the_papers_choice(case):
    y = labels(case["seed"], case["count"], case["classes"], case["steps"])
    config = DecompositionConfig.of(samples_per_class=case["m"], seed=case["seed"])
    sample = choose(targets(y, case["classes"]), config)
    columns = y[:, None] if y.ndim == 1 else y
    for j in range(case["classes"]):
        for t in range(columns.shape[1]):
            yes = sample.rows[sample.positive[j][t]]
            no = sample.rows[sample.negative[j][t]]
            have = [int((columns[:, t] == c).sum()) for c in range(case["classes"])]
            assert len(yes) == len(set(yes)) == min(case["m"], have[j])
            assert (columns[yes, t] == j).all()
            others = [c for c in range(case["classes"]) if c != j and have[c]]
            share = math.ceil(len(yes) / len(others)) if others else 0
            for c in others:  # as many as its share, or all there are of M
                assert (columns[no, t] == c).sum() == min(share, have[c])
            assert len(no) == len(set(no)) and not (columns[no, t] == j).any()


@given(case=cases, padding=st.sampled_from([None, 0, 1]))
def test_the_releases_choice_equals_the_oracle(case, padding):
    classes = case["classes"] + 1
    y = labels(case["seed"], case["count"] + 10, classes, case["steps"])
    config = DecompositionConfig.release(samples_per_class=case["m"], padding_label=padding)
    sample = choose(targets(y, classes), config)
    wanted = reference.sample_first(y, classes, case["m"], padding)
    assert rows(sample, sample.positive) == {j: both[0] for j, both in wanted.items()}
    assert rows(sample, sample.negative) == {j: both[1] for j, both in wanted.items()}


def test_only_rows_that_count_for_some_class_are_run():
    y = labels(0, 300, 3)
    for config in (DecompositionConfig.of(samples_per_class=4), DecompositionConfig.release(samples_per_class=4)):
        sample = choose(targets(y, 3), config)
        used = {r for by in (sample.positive, sample.negative) for (steps,) in rows(sample, by).values() for r in steps}
        assert sorted(sample.rows) == sorted(used)
        assert len(used) <= 3 * 4 + 3 * 2


def test_negatives_of_one_class_are_positives_of_another():
    sample = choose(targets(labels(0, 300, 4), 4), DecompositionConfig.of(samples_per_class=9))
    assert len(sample.rows) == 4 * 9


def test_the_same_seed_draws_the_same_and_another_seed_others():
    y = targets(labels(3, 200, 3), 3)
    one, again, other = (choose(y, DecompositionConfig.of(samples_per_class=5, seed=s)) for s in (1, 1, 2))
    assert rows(one, one.positive) == rows(again, again.positive)
    assert rows(one, one.negative) == rows(again, again.negative)
    assert rows(one, one.positive) != rows(other, other.positive)


def test_the_seed_makes_no_difference_to_the_first_in_file_order():
    y = targets(labels(3, 200, 3), 3)
    one, other = (choose(y, DecompositionConfig.release(samples_per_class=5, seed=s)) for s in (1, 2))
    assert rows(one, one.positive) == rows(other, other.positive)


def test_a_padding_label_gets_no_module_and_is_no_example():
    y = np.array([[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 1, 1]])
    for config in (
        DecompositionConfig.of(padding_label=0, samples_per_class=9),
        DecompositionConfig.release(padding_label=0, samples_per_class=9),
    ):
        sample = choose(targets(y, 3), config)
        assert set(sample.positive) == set(sample.negative) == {1, 2}
        for t in range(3):
            used = sample.rows[np.concatenate([by[j][t] for by in (sample.positive, sample.negative) for j in (1, 2)])]
            assert not (y[used, t] == 0).any()


def test_examples_without_a_label_do_not_count():
    y = np.array([0, -1, 1, 0, 1, -1])
    for config in (DecompositionConfig.of(), DecompositionConfig.release()):
        assert sorted(choose(targets(y, 2), config).rows) == [0, 2, 3, 4]


def test_independent_labels_use_every_example_for_every_class():
    y = np.array([[1, 0, 1], [1, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]])
    own = targets(y, 3, many=False, independent=True)
    sample = choose(own, DecompositionConfig.of(samples_per_class=6))
    assert rows(sample, sample.positive) == {0: [[0, 1]], 1: [[1, 2]], 2: [[0, 3]]}
    for j in range(3):
        no = sample.rows[sample.negative[j][0]]
        assert len(no) and not y[no, j].any()
    sample = choose(own, DecompositionConfig.release(samples_per_class=6))
    assert rows(sample, sample.negative) == {0: [[2, 3, 4]], 1: [[0, 3, 4]], 2: [[1, 2, 4]]}


def test_independent_labels_may_all_hold_elsewhere():
    """The only negatives of a class may be examples without any label."""
    y = np.array([[1, 1], [1, 1], [0, 0], [0, 0]])
    sample = choose(targets(y, 2, many=False, independent=True), DecompositionConfig.of())
    assert rows(sample, sample.negative) == {0: [[2, 3]], 1: [[2, 3]]}


@given(case=cases, independent=st.booleans())
def test_rows_alone_are_those_of_a_sample_of_all_timesteps_together(case, independent):
    y = labels(case["seed"], case["count"], case["classes"], case["steps"])
    if independent:
        y = (y[..., None] + np.arange(case["classes"])) % 3 == 0
        y[: case["classes"]] = True
    found = targets(y.astype(int), case["classes"], many=case["steps"] is not None, independent=independent)
    together = math.ceil(case["m"] / (case["steps"] or 1))
    config, one = (DecompositionConfig.of(samples_per_class=m, seed=0) for m in (case["m"], max(together, 2)))
    if together >= 2:
        assert chosen_rows(found, config).tolist() == choose(found, one).rows.tolist()
    few = [case["classes"] - 1]
    assert set(chosen_rows(found, config, few)) <= set(chosen_rows(found, config))


@pytest.mark.parametrize("make", [DecompositionConfig.of, DecompositionConfig.release])
def test_a_class_with_too_few_examples_is_named(make):
    config = make(missing="error")
    with pytest.raises(DataError, match=r"class 2 has 1 of the 5"):
        choose(targets([0, 0, 1, 1, 2], 3), config)
    with pytest.raises(DataError, match=r"class 1 has 0"):
        choose(targets([[0, 0], [0, 0]], 2), config)
    with pytest.raises(DataError, match=r"class 1 has 0"):  # asked for by name, whatever the setting
        chosen_rows(targets([0, 0], 2), make(), [1])


@pytest.mark.parametrize("make", [DecompositionConfig.of, DecompositionConfig.release])
def test_a_class_with_too_few_examples_gets_no_module_and_gives_negatives(make):
    y = targets([0, 0, 1, 1, 2, -1], 4)
    assert module_classes(y, make()) == [0, 1] and missing_classes(y, make()) == [2, 3]
    sample = choose(y, make())
    assert set(sample.positive) == set(sample.negative) == {0, 1}
    assert 4 in sample.rows[sample.negative[0][0]] or config_is_release(make)
    with pytest.raises(DataError, match="none of the 2 classes"):
        choose(targets([0, 1], 2), make())


def config_is_release(make):
    return make().negatives == "first"


def test_several_padding_labels_are_left_out():
    y = np.array([[0, 1, 2], [2, 1, 0], [1, 2, 3], [2, 1, 3]])
    one, both = (DecompositionConfig.of(padding_label=given) for given in (0, [0, 3]))
    assert module_classes(targets(y, 4), one) == [1, 2, 3] and module_classes(targets(y, 4), both) == [1, 2]
    sample = choose(targets(y, 4), both)
    for t in range(3):
        used = sample.rows[np.concatenate([by[j][t] for by in (sample.positive, sample.negative) for j in (1, 2)])]
        assert np.isin(y[used, t], (1, 2)).all()


def test_classes_are_named_by_label_or_position():
    def classes(wanted, labels, **changes):
        y = Targets(np.arange(8) % 4, labels, many=False)
        return module_classes(y, DecompositionConfig.of(classes=wanted, **changes))

    names = ["a", "b", "c", "d"]
    assert classes(["d", "b", "d"], names) == [1, 3] and classes([2, "a"], names) == [0, 2]
    assert classes([30, 10], [10, 20, 30, 40]) == [0, 2] and classes(["30"], [10, 20, 30, 40]) == [2]
    assert classes(["2"], ["0", "1", "2", "3"]) == [2]
    for wrong, labels in ((["e"], names), ([4], names), ([-1], names), ([1], [10, 20, 30, 40])):
        with pytest.raises(UnknownLabel, match="classes: the network has no module"):
            classes(wrong, labels)
    with pytest.raises(DataError, match="classes and padding_label both have"):
        classes(["a", "b"], names, padding_label=0)
    with pytest.raises(DataError, match="classes is empty"):
        classes([], names)


@pytest.mark.parametrize("padding", [-1, 3])
def test_a_padding_label_must_be_a_class(padding):
    with pytest.raises(DataError, match="padding_label"):
        module_classes(targets([0, 1, 2], 3), DecompositionConfig.of(padding_label=padding))

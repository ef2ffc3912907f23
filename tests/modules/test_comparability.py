"""Warnings about votes that are not comparable, and about a calibration or a referee that a change drops."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import unbraid
from tests import factory
from unbraid import Composition, UnbraidWarning, Vocabulary, compose
from unbraid.cli.app import app
from unbraid.cli.recipes import build_recipe
from unbraid.errors import DataError

LABELS = ["a", "b", "c"]
INCOMPARABLE, NO_WORDS, NO_REFEREE = "not comparable", "no vocabulary: the result is wrong", "referee is dropped"


def parts_of(seed=0, cell="lstm", known=False, **architecture):
    net = factory.network((cell,), labels=LABELS, seed=seed, **architecture)
    if known:
        net.with_vocabulary(Vocabulary.from_words([f"w{n}" for n in range(40)], steps=factory.WORDS))
    x, y = factory.examples(net, 60)
    net.head.bias -= torch.from_numpy(net.logits(x).mean(0))  # so that every class occurs
    return unbraid.decompose(net, (x, y), samples_per_class=10), x, y


def problems(action):
    """Return the texts of the warnings of a call, and its result."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        result = action()
    assert all(w.category is UnbraidWarning and w.filename == __file__ for w in found)
    return [str(w.message) for w in found], result


def one_problem(action, *said, without=()):
    texts, result = problems(action)
    assert len(texts) == 1 and "\n" not in texts[0]
    assert all(text in texts[0].lower() for text in said), texts
    assert not any(text in texts[0].lower() for text in without), texts
    return result


@pytest.fixture(scope="module")
def two():
    """Make decompositions of two networks with the same inputs and without vocabularies, and examples."""
    first, x, y = parts_of()
    second, _, _ = parts_of(5, "gru")
    return first, second, x, y


def test_one_warning_of_votes_between_two_networks(two):
    first, second, _, _ = two
    whole = compose(first)
    mixed = [
        lambda: compose([first["a"], second["b"]]),
        lambda: compose({"x": first["a"], "y": first["b"], "z": second["b"]}, vote="probability"),
        lambda: whole.replace("b", second["b"]),
        lambda: whole.add(second["b"], label="d"),
    ]
    for action in mixed:
        found = one_problem(action, INCOMPARABLE, NO_WORDS, "modules of 2 networks", "sample=(x, y)")
        assert found.calibration == dict.fromkeys(found.labels, (1.0, 0.0))


def test_no_warning_where_all_is_of_one_network_or_calibrated(two):
    first, second, x, y = two
    whole = compose(first)
    mixed = {"a": first["a"], "b": first["b"], "c": second["c"]}
    fair = compose(mixed, sample=(x, y))
    quiet = [
        lambda: compose(first),
        lambda: whole.drop("b").add(first["b"]),
        lambda: whole.replace("b", first["b"]),
        lambda: whole.fuse(x).unfuse(),
        lambda: whole.with_calibration(x, y).drop("a"),
        lambda: Composition(mixed).with_calibration(x, y),
        lambda: compose(mixed, sample=(x, y), referee=True).without_referee().drop("a"),
        lambda: fair.drop("c").fuse(x),
        lambda: fair.predict(x),
    ]
    for action in quiet:
        assert problems(action)[0] == []


def test_a_module_that_is_not_calibrated_among_calibrated_ones(two):
    first, second, x, y = two
    fair = compose(first, sample=(x, y), calibrate=True)
    one_problem(lambda: fair.replace("b", first["b"]), "'b' is not calibrated as the other", without=[INCOMPARABLE])
    one_problem(lambda: fair.add(first["b"], label="d"), "'d' is not calibrated as the other", without=[INCOMPARABLE])
    one_problem(lambda: fair.replace("b", second["b"]), INCOMPARABLE, "'b' is not calibrated")


def test_a_referee_is_not_lost_without_a_word(two):
    first, second, x, y = two
    judged = compose({"a": first["a"], "b": first["b"], "c": second["c"]}, sample=(x, y), referee=True)
    for action in (
        lambda: judged.drop("a"),
        lambda: judged.with_calibration(x, y),
        lambda: judged.unfuse(),
        lambda: judged.fuse(),
    ):
        assert one_problem(action, NO_REFEREE, "with_referee(x, y)", without=[INCOMPARABLE]).referee is None
    one_problem(lambda: judged.replace("c", second["b"]), NO_REFEREE, INCOMPARABLE)
    one_problem(lambda: judged.add(second["b"], label="d"), NO_REFEREE, INCOMPARABLE)
    assert problems(lambda: judged.with_referee(x, y))[0] == []


def test_known_vocabularies_and_features_need_no_vocabulary_warning(two):
    known, other = parts_of(known=True)[0], parts_of(3, known=True)[0]
    one_problem(lambda: compose([known["a"], other["b"]]), INCOMPARABLE, without=[NO_WORDS])
    unknown = two[1]["c"]
    one_problem(lambda: compose([known["a"], other["b"], unknown]), NO_WORDS, "networks of 'c' have")
    features = [parts_of(seed, inputs="features")[0] for seed in (0, 1)]
    one_problem(lambda: compose([features[0]["a"], features[1]["b"]]), INCOMPARABLE, without=[NO_WORDS])


class Labels(nn.Module):
    """A PyTorch module with independent labels and word indices as inputs."""

    def __init__(self, words):
        super().__init__()
        self.first = nn.Embedding(factory.VOCABULARY, 6) if words else nn.Linear(factory.DIMENSION, 6)
        self.lstm = nn.LSTM(6, 5, batch_first=True)
        self.out = nn.Linear(5, 3)

    def forward(self, x):
        return torch.sigmoid(self.out(self.lstm(self.first(x))[0][:, -1]))


@pytest.mark.parametrize("words", [True, False])
def test_independent_labels_have_no_vote_but_a_vocabulary(words):
    rng = np.random.default_rng(0)
    x = rng.integers(1, 100, (40, 4)) if words else rng.normal(size=(40, 4, factory.DIMENSION)).astype(np.float32)
    parts = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        net = unbraid.Network.from_torch(Labels(words), example=torch.from_numpy(x[:4]), labels=LABELS)
        parts.append(unbraid.decompose(net, (x, rng.integers(0, 2, (40, 3))), samples_per_class=10))
    pair = [parts[0]["a"], parts[1]["b"]]
    if words:
        one_problem(lambda: compose(pair), NO_WORDS, without=[INCOMPARABLE])
    else:
        assert problems(lambda: compose(pair))[0] == []


def test_labels_are_quoted():
    first, second = parts_of()[0], parts_of(5)[0]
    named = {"\x1b[31m": first["a"], **{n: second["b"] for n in range(9)}}
    texts, _ = problems(lambda: compose(named))
    assert "\x1b" not in texts[0] and "and 5 more" in texts[0]


def test_the_command_line_shows_one_line_each(two, tmp_path):
    first, second, x, y = two
    first.save(tmp_path / "first")
    second.save(tmp_path / "second")
    np.savez(tmp_path / "few.npz", x=x, y=y, labels=LABELS)
    np.savez(tmp_path / "ac.npz", x=x[y != 1], y=np.asarray(LABELS)[y[y != 1]])

    def lines(*arguments):
        done = CliRunner().invoke(app, [*map(str, arguments), "-o", str(tmp_path / "out")])
        assert done.exit_code == 0, done.output
        return [line.lower() for line in done.stderr.splitlines() if line.startswith("warning: ")]

    pair = [f"{tmp_path / 'first'}:a", f"{tmp_path / 'second'}:c"]
    assert [INCOMPARABLE in line and NO_WORDS in line for line in lines("compose", *pair)] == [True]
    referee = ["--sample", tmp_path / "ac.npz", "--referee"]
    assert lines("compose", *pair, *referee) == []
    judged = tmp_path / "judged"
    (tmp_path / "out").rename(judged)
    assert [NO_REFEREE in line and INCOMPARABLE in line for line in lines("replace", judged, "c", pair[1])] == [True]
    assert [NO_REFEREE in line for line in lines("fuse", judged, tmp_path / "few.npz")] == [True]
    dropped = lines("compose", f"{judged}:a")
    assert len(dropped) == 1 and "judged, and its referee if it has one, are dropped" in dropped[0]
    assert lines("compose", judged, *referee) == []
    assert lines("replace", tmp_path / "first", "a", pair[0]) == []


def test_a_recipe_warns_only_where_it_does_not_calibrate(two, tmp_path):
    first, second, x, y = two
    first.save(tmp_path / "first")
    second.save(tmp_path / "second")
    np.savez(tmp_path / "few.npz", x=x, y=np.asarray(["a", "b", "other"])[y])
    recipe = tmp_path / "r.yaml"
    recipe.write_text("modules: [{from: first, labels: [a]}, {from: second, labels: [b]}]\n")
    with pytest.warns(UnbraidWarning, match=INCOMPARABLE):
        build_recipe(recipe)
    recipe.write_text(recipe.read_text() + "calibration: {sample: few.npz}\n")
    assert problems(lambda: build_recipe(recipe))[0] == []


@pytest.mark.parametrize("referee", [False, True])
def test_a_sample_whose_margins_are_nan_is_refused(two, monkeypatch, referee):
    first, second, x, y = two
    mixed = Composition({"a": first["a"], "b": first["b"], "c": second["c"]})
    broken = second["c"].head.bias.clone()
    second["c"].head.bias.fill_(float("nan"))
    try:
        fit = mixed.with_referee if referee else mixed.with_calibration
        with pytest.raises(DataError, match=r"60 of 60 examples give NaN, the first is example 0"):
            fit(x, y)
    finally:
        second["c"].head.bias.copy_(broken)


def test_nan_at_some_timesteps_is_padding_and_at_all_of_an_example_is_refused():
    from unbraid.modules.voting.calibration import labelled

    margins = np.random.default_rng(0).normal(size=(6, 3, 2))
    truth = np.tile([0, 1, -1], (6, 1))
    margins[0, 2] = margins[1, 1] = np.nan
    used, _ = labelled(margins, truth, ["a", "b"], many=True)
    assert used.sum() == 11
    margins[3, :2] = np.nan
    with pytest.raises(DataError, match=r"NaN for 1 of 6 examples of the sample; the first is number 3"):
        labelled(margins, truth, ["a", "b"], many=True)


def test_a_single_nan_is_refused_and_an_unlabelled_or_infinite_one_left_out():
    from unbraid.modules.voting.calibration import labelled

    margins = np.random.default_rng(0).normal(size=(8, 2))
    truth = np.array([0, 1] * 3 + [-1, 0])
    margins[6], margins[7, 1] = np.nan, -np.inf
    used, _ = labelled(margins, truth, ["a", "b"], many=False)
    assert used.tolist() == [True] * 6 + [False] * 2
    margins[5, 0] = np.nan
    with pytest.raises(DataError, match=r"NaN for 1 of 8 examples of the sample; the first is number 5"):
        labelled(margins, truth, ["a", "b"], many=False)

"""The warning when the parent decides about as chance does on the sample."""

import warnings

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import unbraid
from tests import factory
from tests.data.test_text import WORDS, examples, network
from tests.networks.keras.making import write_h5
from unbraid import UnbraidWarning, Vocabulary
from unbraid.cli.app import app
from unbraid.data.targets import Targets, read_targets
from unbraid.decomposition import parent_accuracy
from unbraid.decomposition.parent_accuracy import warn_near_chance

NEAR = "parent's accuracy on this sample is"
KINDS = {
    "M:1": {"io": "M:1", "classes": 5}, "1:1": {"io": "1:1", "classes": 5}, "M:N": {"io": "M:N", "classes": 5},
    "1:N": {"io": "1:N", "classes": 5}, "binary": {"io": "M:1", "classes": 1, "output": "sigmoid"},
    "independent": {"io": "M:1", "classes": 4, "output": "sigmoid"},
}  # fmt: skip


def decided(net, x, seed=0, right=1.0):
    """The network's own decisions as labels, a share of them exchanged among the examples."""
    y = net.predict_index(x)
    rng = np.random.default_rng(seed)
    wrong = np.flatnonzero(rng.random(len(y)) >= right)
    y[wrong] = y[rng.permutation(wrong)]
    return y.astype(int)


def warned(net, x, y, padding=()):
    inputs = net.check(x)
    targets = read_targets(y, net.labels, many=net.io.many_outputs, independent=net.independent)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_near_chance(net, inputs, targets, padding, text=False)
    return [str(w.message) for w in caught]


def case(kind, count, **settings):
    """A random network whose scores are standardized, so that it decides for every class about as often."""
    net = factory.network(("gru",), units=8, **KINDS[kind] | settings)
    x = factory.examples(net, count=count)[0]
    logits = net.logits(x).reshape(-1, net.spec.classes)
    with torch.no_grad():
        net.head.weight /= torch.from_numpy(logits.std(0))[:, None]
        net.head.bias.copy_((net.head.bias - torch.from_numpy(logits.mean(0))) / torch.from_numpy(logits.std(0)))
    return net, x


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_right_labels_give_no_warning_and_exchanged_ones_do(kind, seed):
    net, x = case(kind, 400, seed=seed)
    assert not warned(net, x, decided(net, x))
    assert not warned(net, x, decided(net, x, right=0.6))
    (message,) = warned(net, x, decided(net, x, right=0.0))
    assert message.startswith(NEAR) and "is the input encoded as in training" in message


def test_the_message_gives_the_accuracy_and_that_of_chance():
    net, x = case("M:1", 300)
    y = decided(net, x, right=0.0)
    message = warned(net, x, y)[0]
    found = net.predict_index(x)
    chance = sum((found == j).mean() * (y == j).mean() for j in range(5))
    assert f"sample is {100 * (found == y).mean():.0f} % (by chance: {100 * chance:.0f} %)" in message


@pytest.mark.parametrize("count", [2, 12, 29])
def test_few_examples_allow_no_conclusion(count):
    net, x = case("M:1", 300)
    y = decided(net, x, right=0.0)
    y[count:] = -1
    assert not warned(net, x, y)
    assert not warned(net, x[:count], y[:count])


def test_padding_does_not_count_as_right():
    net, x = case("M:N", 300)
    y = decided(net, x, right=0.0)
    found = net.predict_index(x)
    y = np.where(found == 0, 0, y)  # where the network answers padding, that is right
    assert warned(net, x, np.where(y == 0, found, y), padding=()) == [] or warned(net, x, y, padding=(0,))


def test_one_frequent_class_is_no_reason_for_a_warning():
    """A network that always gives the class of 97 % of the examples is not misread."""
    net, x = case("M:1", 300)
    y = np.full(300, np.bincount(net.predict_index(x)).argmax())
    one = Targets(np.where(np.arange(300) % 33 == 0, (y + 1) % 5, y), net.labels, many=False)

    class Constant:
        device, labels = net.device, net.labels

        def __call__(self, batch):
            scores = net(batch) * 0
            scores[:, y[0]] = 1
            return scores

        decide = staticmethod(net.decide)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_near_chance(Constant(), net.check(x), one, (), text=False)


def test_only_a_part_of_a_large_sample_is_run(monkeypatch):
    net, x = case("M:N", 2000)
    y = decided(net, x)
    rows = []
    run = parent_accuracy.run_batched
    monkeypatch.setattr(
        parent_accuracy, "run_batched", lambda f, given, *rest: rows.append(len(given)) or run(f, given, *rest)
    )
    warned(net, x, y)
    monkeypatch.setattr(parent_accuracy, "MOST_STEPS", 400)
    warned(net, x, y)
    assert rows == [500, 100]


def test_decompose_warns_at_the_caller_and_names_text():
    texts, _ = examples()
    texts = [f"{text} {WORDS[i % 6]}" for i, text in enumerate(texts * 6)]
    net = network(WORDS, seed=3).with_vocabulary(Vocabulary.from_words(WORDS, steps=5))
    labels = np.asarray(net.predict(texts))
    shuffled = labels[np.random.default_rng(1).permutation(len(labels))]
    assert len(set(labels.tolist())) == 2
    with pytest.warns(UnbraidWarning, match=f"{NEAR} .* is the text encoded as in training") as caught:
        parts = unbraid.decompose(net, (texts, shuffled), keep=0.5)
    assert [w.filename for w in caught] == [__file__] and len(parts) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unbraid.decompose(net, (texts, labels), keep=0.5)


def test_another_order_of_the_words_is_noticed():
    """The reported case: texts are read with another vocabulary than in training."""
    texts, _ = examples()
    texts = texts * 10
    right = Vocabulary.from_words(WORDS, steps=5)
    misread = Vocabulary.from_words([WORDS[i] for i in (3, 4, 5, 0, 1, 2)], steps=5)
    for seed in range(100):  # some random networks answer nearly everything alike
        net = network(WORDS, seed=seed)
        labels = net.with_vocabulary(right).predict(texts)
        if len(set(labels)) > 1 and (labels == net.with_vocabulary(misread).predict(texts)).mean() < 0.4:
            break
    with pytest.warns(UnbraidWarning, match=NEAR):
        unbraid.decompose(net.with_vocabulary(misread), (texts, labels), keep=0.5)


def test_the_command_line_prints_the_warning(tmp_path):
    write_h5(tmp_path / "m.h5")
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", x=rng.integers(0, 7, (400, 5)), y=rng.integers(0, 2, 400))
    given = [tmp_path / "m.h5", tmp_path / "d.npz", "-o", tmp_path / "parts"]
    result = CliRunner().invoke(app, ["decompose", *map(str, given)])
    assert result.exit_code == 0 and f"warning: {NEAR}" in result.stderr

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from unbraid.demo.architectures import sequence_spec
from unbraid.demo.initial import initial_weights
from unbraid.demo.training import train
from unbraid.errors import DataError
from unbraid.networks.cells import Cell

N, T, VOCABULARY = 256, 5, 12
CELLS = ["rnn", "lstm", "gru", Cell(kind="gru", reset_after=False), Cell(kind="rnn", activation="relu")]


def words(seed=0):
    return np.random.default_rng(seed).integers(1, VOCABULARY, size=(N, T))


def spec_of(cell, io, *, layers=1, classes=2, **settings):
    return sequence_spec(cell, layers, VOCABULARY, 8, 16, classes, io, T, **settings)


def fit(spec, x, y, epochs=12, **settings):
    return train(spec, x, y, epochs=epochs, learning_rate=1e-2, batch_size=32, **settings)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_last_state_learns_which_word_came_first(cell):
    x = words()
    y = (x[:, 0] > 6).astype(int)
    network = fit(spec_of(cell, "M:1"), x, y)
    assert (network.predict_index(x) == y).mean() > 0.97


@pytest.mark.parametrize("io", ["1:1", "1:N", "M:1", "M:N"])
@pytest.mark.parametrize("layers", [1, 3])
def test_every_architecture_learns(io, layers):
    x = words()
    y = x % 3 if io.endswith("N") else x[:, -1] % 3
    spec = spec_of("lstm", io, layers=layers, classes=3)
    network = fit(spec, x, y, epochs=40)
    assert network.io == io
    assert len(network.layers) == layers
    assert (network.predict_index(x) == y).mean() > 0.95


def test_one_to_many_gives_as_many_outputs_as_asked():
    network = fit(spec_of("gru", "1:N", outputs=3), words(), words()[:, :3] % 2, epochs=1)
    assert network.predict(words()).shape == (N, 3)


def test_masked_padding_does_not_change_the_answer():
    x = words()
    x[:, :2] = 0
    network = fit(spec_of("lstm", "M:1", mask_zero=True), x, x[:, 2] % 2, epochs=2)
    shorter = torch.from_numpy(x[:, 2:])
    np.testing.assert_allclose(network(shorter), network(torch.from_numpy(x)), atol=1e-6)


def test_one_sigmoid_column_learns():
    x = words()
    y = (x[:, -1] > 6).astype(int)
    network = fit(spec_of("lstm", "M:1", classes=1, output="sigmoid"), x, y)
    assert (network.predict_index(x) == y).mean() > 0.97


def test_independent_sigmoid_columns_learn():
    x = words()
    y = np.stack([x[:, -1] > 6, x[:, -1] % 2 == 0, x[:, -2] > 6], axis=1).astype(int)
    network = fit(spec_of("gru", "M:1", classes=3, output="sigmoid"), x, y, epochs=20)
    assert ((network.predict_proba(x) > 0.5) == y).mean() > 0.95


@pytest.mark.parametrize("output, classes", [("softmax", 2), ("sigmoid", 1)])
def test_examples_without_a_label_change_nothing(output, classes):
    """With one batch per epoch the order does not matter, so unlabelled examples must not change any step."""
    x = words()
    y = (x[:, -1] > 6).astype(int)
    spec = spec_of("lstm", "M:1", classes=classes, output=output)
    alone = train(spec, x, y, epochs=2, batch_size=2 * N)
    mixed = train(spec, np.concatenate([x, words(1)]), np.concatenate([y, np.full(N, -1)]), epochs=2, batch_size=2 * N)
    for name, weight in alone.weights().items():
        torch.testing.assert_close(mixed.weights()[name], weight, atol=1e-4, rtol=1e-3)


def test_a_batch_without_any_label_keeps_the_weights_finite():
    y = np.full(N, -1)
    y[0] = 1
    network = train(spec_of("lstm", "M:1"), words(), y, epochs=1, batch_size=8)
    assert all(weight.isfinite().all() for weight in network.weights().values())


def test_the_same_seed_gives_the_same_weights():
    x = words()
    spec = spec_of("lstm", "M:1", layers=2)
    first, second, other = (fit(spec, x, x[:, 0] % 2, epochs=2, seed=seed) for seed in (3, 3, 4))
    assert first.sha256() == second.sha256() != other.sha256()


def test_the_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    fit(spec_of("lstm", "M:1"), words(), words()[:, 0] % 2, epochs=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_number_of_threads_is_left_alone():
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="stop"):
        fit(spec_of("lstm", "M:1"), words(), words()[:, 0] % 2, epochs=1, threads=2, progress=_stopping)
    assert torch.get_num_threads() == before


@contextmanager
def _stopping(what, total):
    def advance(amount):
        raise RuntimeError("stop")

    yield advance


def test_first_weights_are_those_of_keras():
    weights = initial_weights(spec_of("lstm", "M:1"), seed=0)
    recurrent = "body.stages.1.forward_layer"
    hidden = weights[f"{recurrent}.weight_hh"]
    torch.testing.assert_close(hidden.T @ hidden, torch.eye(16), atol=1e-5, rtol=0)
    assert weights[f"{recurrent}.bias_ih"].tolist() == [0.0] * 16 + [1.0] * 16 + [0.0] * 32
    assert weights[f"{recurrent}.weight_ih"].abs().max() <= (6 / (8 + 64)) ** 0.5
    assert weights["body.stages.0.weight"].abs().max() <= 0.05


def test_the_network_comes_back_frozen_with_its_labels():
    network = fit(spec_of("gru", "M:1"), words(), np.where(words()[:, 0] % 2, "odd", "even"), labels=["even", "odd"])
    assert set(network.predict(words())) == {"even", "odd"}
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_progress_is_told_step_by_step():
    told = []

    @contextmanager
    def progress(what, total):
        told.append(total)
        yield told.append

    fit(spec_of("rnn", "M:1"), words(), words()[:, 0] % 2, epochs=2, progress=progress)
    assert told == [16] + [1] * 16


@pytest.mark.parametrize(
    "y", [np.zeros(N - 1, int), np.full(N, 2), np.zeros((N, T), int)], ids=["short", "high", "steps"]
)
def test_labels_that_do_not_fit(y):
    with pytest.raises(DataError):
        fit(spec_of("lstm", "M:1"), words(), y, epochs=1)


def test_labels_of_another_length_than_the_outputs():
    with pytest.raises(DataError, match="outputs"):
        fit(spec_of("lstm", "M:N"), words(), np.zeros((N, T - 1), int), epochs=1)

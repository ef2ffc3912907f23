"""Comparison with the authors' code on their models and data (see the README next to them, in the shared folder)."""

import numpy as np
import pytest

import unbraid
from unbraid import ConcernModule, DecompositionConfig, compose
from unbraid.decomposition.channeling import channel

# What the release's composed modules score, as its own scripts run: LSTM and GRU with the sigmoid gates that it puts in
# place of the trained ones, and by its own vote.
AS_RELEASED = {
    ("lstm", "rolled"): 0.9300,
    ("gru", "rolled"): 0.9416,
    ("vanilla_rnn", "rolled"): 0.9429,
    ("vanilla_rnn", "unrolled"): 0.9413,
    ("relu", "rolled"): 0.9069,
    ("relu", "unrolled"): 0.9382,
}
# The same modules run with the equations that were trained, and the vote by margin.
TRUE_EQUATIONS = {
    ("lstm", "rolled"): 0.9471,
    ("lstm", "unrolled"): 0.9480,
    ("gru", "rolled"): 0.9431,
    ("gru", "unrolled"): 0.9438,
    ("relu", "rolled"): 0.9080,
    ("relu", "unrolled"): 0.9398,
}
MONOLITHIC = {"lstm": 0.9489, "gru": 0.9456, "vanilla_rnn": 0.9424, "relu": 0.9409}
CLOSE = 0.0005  # two of the 4,500 examples: another kernel rounds otherwise


@pytest.fixture(scope="module")
def clinc(shared):
    with np.load(shared / "reference" / "clinc_encoded.npz") as stored:
        return {name: stored[name] for name in stored}


@pytest.fixture(scope="module")
def load(shared):
    return lambda cell: unbraid.load(shared / "reference" / "models" / f"{cell}_many_to_one_model1.h5")


def decomposed(net, clinc, mode):
    """The settings of the authors' code, and the equations that it evaluates."""
    return unbraid.decompose(net.as_released(), (clinc["X"], clinc["Y"]), config=DecompositionConfig.release(mode=mode))


def score(composition, clinc):
    return (composition.predict_index(clinc["x"]) == clinc["y"]).mean()


@pytest.mark.parametrize("mode", ["rolled", "unrolled"])
def test_removed_nodes_are_the_releases(mode, shared, load, clinc):
    parts = decomposed(load("vanilla_rnn"), clinc, mode)
    with np.load(shared / "reference" / "release_masks_vanilla_rnn.npz") as stored:
        wanted = stored[f"removed_{mode}"]
    found = np.stack([~next(iter(module.kept_nodes.values())) for module in parts.values()])
    assert found.shape == wanted.shape and wanted.sum() > 50
    if mode == "rolled":
        np.testing.assert_array_equal(found, wanted)
    else:
        assert (found == wanted).mean() >= 0.995


@pytest.mark.parametrize("cell", MONOLITHIC)
def test_the_models_themselves(cell, load, clinc):
    assert (load(cell).predict_index(clinc["x"]) == clinc["y"]).mean() == pytest.approx(MONOLITHIC[cell], abs=CLOSE)


@pytest.mark.parametrize(("cell", "mode"), AS_RELEASED)
def test_composed_accuracy_as_the_release_evaluates_it(cell, mode, load, clinc):
    parts = decomposed(load(cell), clinc, mode)
    found = score(compose(parts, vote="probability"), clinc)
    assert found == pytest.approx(AS_RELEASED[cell, mode], abs=CLOSE)


@pytest.mark.parametrize(("cell", "mode"), TRUE_EQUATIONS)
def test_composed_accuracy_with_the_networks_own_equations(cell, mode, load, clinc):
    net = load(cell)
    parts = decomposed(net, clinc, mode)
    modules = [
        ConcernModule(net, module.index, module.concern, channel(net, module.index, parts.config), parts.config)
        for module in parts.values()
    ]
    assert score(compose(modules), clinc) == pytest.approx(TRUE_EQUATIONS[cell, mode], abs=CLOSE)


@pytest.mark.parametrize("mode", ["rolled", "unrolled"])
def test_the_papers_text_loses_little_too(mode, load, clinc):
    """Not a published figure: all timesteps, negatives of all classes, 20 % of the nodes, all edges of each node."""
    parts = unbraid.decompose(load("vanilla_rnn"), (clinc["X"], clinc["Y"]), mode=mode, max_removed=0.05)
    assert score(compose(parts), clinc) > MONOLITHIC["vanilla_rnn"] - 0.02
    gone = [1 - kept.mean() for module in parts.values() for kept in module.kept_nodes.values()]
    assert 0.02 < np.mean(gone) <= 0.05


def test_module_accuracies_alone_are_the_releases(load, clinc):
    """Recall 0.995 to 0.998, precision 0.17 to 0.22, false-positive rate 0.40 to 0.66, by cell."""
    net = load("vanilla_rnn")
    parts = decomposed(net, clinc, "rolled")
    found = unbraid.evaluate(compose(parts), (clinc["x"], clinc["y"]), against=net).detection
    assert 0.99 < found.recall <= 1 and 0.16 < found.precision < 0.23 and 0.39 < found.false_positive_rate < 0.67

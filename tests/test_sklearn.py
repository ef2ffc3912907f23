"""The scikit-learn classifier: the checks of scikit-learn itself, and its predictions against those of the library."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

import unbraid
from tests import factory
from unbraid.demo.small import small_examples, small_forecaster, small_network
from unbraid.errors import ArgumentError, ConfigError

sklearn = pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install '.[sklearn]'")

from sklearn.base import clone  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402
from sklearn.utils.estimator_checks import estimator_checks_generator  # noqa: E402

from unbraid.sklearn import DecomposedClassifier, InputError  # noqa: E402


class Rows(nn.Module):
    """Reads the columns of a table as timesteps."""

    def __init__(self, classes):
        super().__init__()
        self.gru, self.out = nn.GRU(1, 16, batch_first=True), nn.Linear(16, classes)

    def forward(self, x):
        return self.out(self.gru(x.float()[..., None])[0][:, -1])


def trained(X, y):
    """Train a network for the labels of y, as a user's own function does in cross-validation."""
    torch.manual_seed(0)
    classes, places = np.unique(y, return_inverse=True)
    module, x = Rows(len(classes)), torch.as_tensor(np.asarray(X, np.float32))
    optimizer = torch.optim.Adam(module.parameters(), 0.03)
    for _ in range(80):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x), torch.as_tensor(places)).backward()
        optimizer.step()
    return unbraid.Network.from_torch(module, torch.randn(8, x.shape[1]))


# All checks apply, and none is excluded. The check of the array API skips itself without SCIPY_ARRAY_API. The ids of
# scikit-learn hold the address of the function, which differs between the workers of pytest.
CHECKS = [
    pytest.param(estimator, check, id=f"{number}-{getattr(check, 'func', check).__name__}")
    for number, (estimator, check) in enumerate(estimator_checks_generator(DecomposedClassifier(trained, keep=0.75)))
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("estimator", "check"), CHECKS)
def test_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def made():
    network = small_network(["c", "a", "b"], seed=10)
    x, _ = small_examples(network)
    return network, x, network.predict(x)


def test_it_predicts_what_the_composition_predicts(made):
    network, x, y = made
    model = DecomposedClassifier(network, keep=0.5).fit(x, y)
    composition = unbraid.compose(unbraid.decompose(network, (x, y), keep=0.5))
    assert model.classes_.tolist() == ["a", "b", "c"] and model.n_features_in_ == x.shape[1]
    assert (model.predict(x) == composition.predict(x)).all()
    order = [composition.labels.index(label) for label in model.classes_]
    np.testing.assert_allclose(model.predict_proba(x), composition.predict_proba(x)[:, order], atol=1e-6)
    assert model.score(x, y) == (composition.predict(x) == y).mean()
    again = pickle.loads(pickle.dumps(model))
    assert (again.predict(x) == model.predict(x)).all()


def test_whole_modules_are_the_network(made):
    network, x, y = made
    model = DecomposedClassifier(network, keep=1.0).fit(x, y)
    assert (model.predict(x) == y).all()
    order = [network.labels.index(label) for label in model.classes_]
    np.testing.assert_allclose(model.predict_proba(x), network.predict_proba(x)[:, order], atol=1e-5)


def test_parameters_are_those_of_decompose_and_can_be_searched(made):
    network, x, y = made
    model = DecomposedClassifier(network, keep=0.3, samples_per_class=20)
    copied = clone(model)
    assert copied.network is not network and copied.get_params()["keep"] == 0.3
    assert copied.set_params(keep=None, strategy="paper").fit(x, y).composition_["a"].config.strategy == "paper"
    search = GridSearchCV(model, {"keep": [0.1, 1.0]}, cv=3).fit(x, y)
    assert search.best_params_ == {"keep": 1.0} and search.best_score_ == 1  # the labels are those of the network
    scores = cross_val_score(DecomposedClassifier(network, max_loss=0.5), x, y, cv=2)
    assert scores.shape == (2,)


def test_a_composition_is_used_as_it_is_or_calibrated(made):
    network, x, y = made
    composition = unbraid.compose(unbraid.decompose(network, (x, y)))
    plain, fair = (
        DecomposedClassifier(composition).fit(x, y),
        DecomposedClassifier(composition, calibrate=True).fit(x, y),
    )
    assert plain.composition_.calibration == composition.calibration
    assert fair.composition_.calibration == composition.with_calibration(x, y).calibration
    few = np.isin(y, ["a", "c"])
    two = plain.fit(x[few], y[few])  # only the classes of y are predicted
    assert two.classes_.tolist() == ["a", "c"] and set(two.predict(x)) == {"a", "c"}
    np.testing.assert_allclose(two.predict_proba(x).sum(1), 1)
    other = small_network(["d", "e"], seed=4)
    others = unbraid.decompose(other, (x, other.labels * 60))
    with pytest.warns(unbraid.UnbraidWarning):
        mixed = unbraid.compose([composition["a"], others["d"]])
    labels = np.where(np.arange(len(x)) % 2, "a", "d")
    assert DecomposedClassifier(mixed).fit(x, labels).composition_.is_calibrated
    assert DecomposedClassifier(mixed, referee=True).fit(x, labels).composition_.referee is not None


def test_labels_of_y_may_count_the_classes(made):
    x = made[1]
    plain = small_network([0, 1, 2], seed=10)
    numbers = DecomposedClassifier(plain, keep=0.5).fit(x, plain.predict(x))
    assert numbers.classes_.tolist() == [0, 1, 2] and numbers.score(x, plain.predict(x)) > 0.5
    names = np.asarray(["x", "y", "z"])[plain.predict(x)]
    named = DecomposedClassifier(plain, keep=0.5).fit(x, names)
    assert (named.predict(x) == np.asarray(["x", "y", "z"])[numbers.predict(x)]).all()
    network, x, y = made
    positions = np.asarray([network.labels.index(label) for label in y])
    counted = DecomposedClassifier(network, keep=0.5).fit(x, positions)
    by_name = DecomposedClassifier(network, keep=0.5).fit(x, y)
    assert (np.asarray(network.labels)[counted.predict(x)] == by_name.predict(x)).all()
    with pytest.raises(InputError, match="y has the class '0'"):
        counted.fit(x, positions + 2 * (positions == 2))


@pytest.mark.filterwarnings("ignore:.*get no module")
def test_a_class_of_one_example_has_the_probability_0(made):
    network, x, y = made
    kept = np.concatenate([np.flatnonzero(y != "b"), np.flatnonzero(y == "b")[:1]])
    model = DecomposedClassifier(network).fit(x[kept], y[kept])
    assert model.classes_.tolist() == ["a", "b", "c"] and (model.predict_proba(x)[:, 1] == 0).all()


def test_texts_and_sequences_of_numbers_are_inputs():
    words = unbraid.Vocabulary.from_word_index({"good": 1, "bad": 2, "day": 3}, steps=4)
    network = small_network(["no", "yes"], seed=2).with_vocabulary(words)
    texts = ["good day", "bad day", "good good", "bad bad bad"] * 20
    model = DecomposedClassifier(network).fit(texts, ["yes", "no"] * 40)
    assert set(model.predict(["good", "bad"])) <= {"no", "yes"}
    series = factory.network(("gru",), inputs="features", units=6)
    x, y = factory.examples(series, 60)
    model = DecomposedClassifier(series).fit(x.astype(np.float64), y)  # scikit-learn works in float64
    assert model.predict(x).shape == (60,)


@pytest.mark.parametrize(
    ("network", "error", "message"),
    [
        (None, ArgumentError, "network: expected a Network or a Composition, got NoneType"),
        ("path.h5", ArgumentError, "got str"),
        (lambda X, y: 3, ArgumentError, "got int"),
        (small_forecaster()[0], ConfigError, "expected one class per example"),
        (factory.network(("gru",), io="M:N"), ConfigError, "at each timestep"),
        (factory.network(("gru",), output="sigmoid"), ConfigError, "of labels"),
    ],
)
def test_networks_that_are_no_classifiers_are_refused(network, error, message, made):
    _, x, y = made
    with pytest.raises(error, match=message):
        DecomposedClassifier(network).fit(x, y)


def test_wrong_inputs_and_settings_are_refused(made):
    network, x, y = made
    model = DecomposedClassifier(network)
    with pytest.raises(NotFittedError):
        model.predict(x)
    for wrong_x, wrong_y, message in (
        (x, y[:-1], "119 labels"),
        (x, None, "requires y"),
        (x, ["z", "a"] * 60, "y has the class 'z'"),
        (x, ["a"] * 120, "1 class"),
        (x, np.linspace(0, 1, 120), "Unknown label type"),
        (x.astype(float) * np.nan, y, "NaN"),
        (x + 1000, y, "word ind"),
    ):
        with pytest.raises(InputError, match=message):
            model.fit(wrong_x, wrong_y)
    with pytest.raises(ConfigError, match="keep=3"):
        model.set_params(keep=3).fit(x, y)
    with pytest.raises(InputError, match="expecting 6 features"):
        model.set_params(keep=None).fit(x, y).predict(x[:, :3])

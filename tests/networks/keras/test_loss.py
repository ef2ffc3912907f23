"""The loss in a Keras file separates classifiers from regression networks."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import unbraid
from tests.locations import DATA
from tests.networks.keras.making import C, H, T, dense, embedding, lstm, refused, resized, sequential
from unbraid.cli.app import app
from unbraid.errors import ConfigError, UnsupportedLayer
from unbraid.networks.keras.reading import load_keras

LOSSES = DATA / "keras" / "losses"
FILES = ("k2-{}.h5", "k2-{}.keras", "k3-{}.h5", "k3-{}.keras")
X = np.ones((1, T), int)


def trained(loss, activation="linear"):
    """What write_h5 needs for a model with that output activation and stored loss."""

    def change(file):
        file.attrs["training_config"] = json.dumps({"loss": loss, "metrics": ["accuracy"]})

    return {"model": sequential(embedding(), lstm(), dense(activation=activation)), "change": change}


def wrapped(kind, **settings):
    return {"module": "keras.losses", "class_name": kind, "config": settings, "registered_name": None}


@pytest.mark.parametrize("name", ["forecast", "autoencoder", "sigmoid_mse"])
def test_cases_of_regressors_are_found_by_their_loss(shared, name):
    network = unbraid.load(shared / "cases" / "keras" / f"1-{name}.keras")
    assert network.task == "regression" and network.loss in ("mse", "mae")
    assert network.spec.output == ("linear+sigmoid" if name == "sigmoid_mse" else "linear")
    assert network.labels == list(range(network.spec.classes))


@pytest.mark.parametrize("file", FILES)
def test_a_regressor_that_keras_wrote(file):
    path = LOSSES / file.format("regressor")
    with np.load(path.with_suffix(".npz")) as stored:
        network = unbraid.load(path)
        assert (network.task, network.spec.output, network.loss) == ("regression", "linear", "MeanSquaredError")
        np.testing.assert_allclose(network.predict(stored["x"]), stored["y"], rtol=0, atol=1e-5)
        network = unbraid.load(path, task="classification")
        np.testing.assert_allclose(network.logits(stored["x"]), stored["y"], rtol=0, atol=1e-5)
    assert network.spec.output == "softmax" and network.loss == "MeanSquaredError"


@pytest.mark.parametrize("file", FILES)
def test_binary_crossentropy_from_logits_makes_linear_outputs_labels(file):
    network = load_keras(LOSSES / file.format("from_logits"))
    with np.load((LOSSES / file.format("from_logits")).with_suffix(".npz")) as stored:
        np.testing.assert_allclose(network.logits(stored["x"]), stored["y"], rtol=0, atol=1e-5)
        assert (network.predict(stored["x"]) == (stored["y"][:, 0] > 0)).all()
    assert network.binary


REGRESSION = ["mse", "mae", "mean_squared_error", "huber", "log_cosh", "poisson", "quantile_loss"]


@pytest.mark.parametrize("activation", ["linear", "sigmoid"])
@pytest.mark.parametrize(
    "loss", [*REGRESSION, ["mse"], {"out": "mae"}, wrapped("Huber", delta=1.0), wrapped("function") | {"config": "mse"}]
)
def test_a_loss_of_numbers(legacy, loss, activation):
    network = load_keras(legacy(**trained(loss, activation)))
    assert network.task == "regression" and network.activate(torch.ones(1)) == CURVES[activation](torch.ones(1))
    assert load_keras(legacy(**trained(loss, activation)), task="classification").predict(X).shape[0] == 1


@pytest.mark.parametrize("loss", ["mse", "my_loss", "kl_divergence", None, {"class_name": "__lambda__", "config": {}}])
def test_a_softmax_is_a_classifier_whatever_its_loss(legacy, loss):
    assert load_keras(legacy(**trained(loss, "softmax"))).spec.output == "softmax"


@pytest.mark.parametrize("activation", ["linear", "sigmoid"])
@pytest.mark.parametrize(
    "loss",
    [
        "categorical_crossentropy",
        "sparse_categorical_crossentropy",
        "binary_crossentropy",
        "categorical_hinge",
        "focal_loss",
        "weighted_bce",
        {"out": "categorical_crossentropy"},
        wrapped("SparseCategoricalCrossentropy", from_logits=True),
        wrapped("LossFunctionWrapper", fn="sigmoid_focal_crossentropy"),
        wrapped("function") | {"config": "categorical_crossentropy"},
    ],
)
def test_losses_of_classifiers(legacy, loss, activation):
    wanted = "sigmoid" if activation == "sigmoid" else "softmax"
    assert load_keras(legacy(**trained(loss, activation))).spec.output == wanted


def test_independent_labels_from_logits(legacy):
    network = load_keras(legacy(**trained(wrapped("BinaryCrossentropy", from_logits=True))))
    assert network.independent and network.spec.classes == C


CURVES = {"linear": torch.clone, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}


@pytest.mark.parametrize("activation", CURVES)
@pytest.mark.parametrize("loss", ["mse", "my_loss", "categorical_crossentropy", None])
def test_the_task_decides_whatever_the_loss(legacy, loss, activation):
    network = load_keras(legacy(**trained(loss, activation)), task="regression")
    found = network.predict(X)
    np.testing.assert_array_equal(found, CURVES[activation](torch.from_numpy(network.logits(X))).numpy())
    assert found.shape == (1, C) and network.task == "regression"


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_an_activation_that_no_classifier_has(legacy, activation):
    assert load_keras(legacy(**trained(None, activation))).task == "regression"


def test_an_activation_that_no_regression_has(legacy):
    with pytest.raises(UnsupportedLayer, match=r"softmax.*supported for regression: linear, sigmoid, tanh, relu"):
        load_keras(legacy(**trained("mse", "softmax")), task="regression")


@pytest.mark.parametrize("loss", ["my_loss", "kl_divergence"])
def test_a_sigmoid_and_no_known_loss_ask_for_the_task(legacy, loss):
    refused(legacy(**trained(loss, "sigmoid")), "task='classification' or task='regression'", error=UnsupportedLayer)


@pytest.mark.parametrize("loss", [None, [], {}, "my_loss", "<lambda>", "gaussian_nll"])
def test_linear_outputs_and_no_known_loss_ask_for_the_task(legacy, archive, loss):
    refused(legacy(**trained(loss)), "task='classification'", error=UnsupportedLayer)
    model = trained(loss)["model"] | {"compile_config": {"loss": loss}}
    refused(archive(model=model), "task='classification'", error=UnsupportedLayer)
    assert load_keras(archive(model=model), task="classification").classes == C


def test_no_stored_loss(legacy):
    model = trained(None)["model"]
    refused(legacy(model=model), "stores no loss", error=UnsupportedLayer)
    assert load_keras(legacy(model=model), task="classification").loss is None


@pytest.mark.parametrize("activation", ["relu", "linear"])
def test_a_forecast_of_one_unit(legacy, activation):
    made = trained("mse", activation)
    made["model"] = sequential(embedding(), lstm(), dense(units=1, activation=activation))

    def change(file):
        resized("out", "kernel", (H, 1))(file)
        resized("out", "bias", (1,))(file)
        trained("mse")["change"](file)

    network = load_keras(legacy(model=made["model"], change=change))
    assert network.task == "regression" and network.labels == [0] and network.predict(X).shape == (1, 1)


@pytest.mark.parametrize("content", ["3", "[]", '"mse"', "null", '{"loss": 3}', '{"loss": [[["mse"]]]}'])
def test_a_training_config_of_another_form_is_no_evidence(legacy, content):
    def change(file):
        file.attrs["training_config"] = content

    refused(legacy(model=trained(None)["model"], change=change), "task=", error=UnsupportedLayer)
    assert load_keras(legacy(change=change)).classes == C


def test_tasks_that_do_not_exist(legacy):
    for task in ("labels", "ranking", 3):
        with pytest.raises(ConfigError, match="task="):
            load_keras(legacy(), task=task)


def test_the_task_on_the_command_line(legacy):
    path = str(legacy(**trained("mse")))
    run = CliRunner()
    found = run.invoke(app, ["inspect", path])
    assert found.exit_code == 0 and f"{C} predicted numbers (linear, one column each)" in found.output
    shown = run.invoke(app, ["inspect", path, "--task", "classification"])
    assert shown.exit_code == 0 and "training loss: mse" in shown.output and f"{C} classes (softmax)" in shown.output
    assert json.loads(run.invoke(app, ["inspect", path, "--json"]).stdout)["task"] == "regression"
    open_task = run.invoke(app, ["inspect", str(legacy(**trained("my_loss")))])
    assert open_task.exit_code == 2 and "task regression" in " ".join(open_task.output.split())

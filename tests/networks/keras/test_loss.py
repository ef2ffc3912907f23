"""The loss in a Keras file separates classifiers from regression networks, which are refused."""

import json

import numpy as np
import pytest
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
def test_cases_of_regressors_are_refused_by_their_loss(shared, name):
    path = shared / "cases" / "keras" / f"1-{name}.keras"
    message = refused(path, "regression", "task='classification'", error=UnsupportedLayer)
    assert "'mse'" in message or "'mae'" in message


@pytest.mark.parametrize("file", FILES)
def test_a_regressor_that_keras_wrote(file):
    path = LOSSES / file.format("regressor")
    refused(path, "MeanSquaredError", "--task classification", error=UnsupportedLayer)
    network = unbraid.load(path, task="classification")
    with np.load(path.with_suffix(".npz")) as stored:
        np.testing.assert_allclose(network.logits(stored["x"]), stored["y"], rtol=0, atol=1e-5)
    assert network.spec.output == "softmax" and network.loss == "MeanSquaredError"


@pytest.mark.parametrize("file", FILES)
def test_binary_crossentropy_from_logits_makes_linear_outputs_labels(file):
    network = load_keras(LOSSES / file.format("from_logits"))
    with np.load((LOSSES / file.format("from_logits")).with_suffix(".npz")) as stored:
        np.testing.assert_allclose(network.logits(stored["x"]), stored["y"], rtol=0, atol=1e-5)
        assert (network.predict(stored["x"]) == (stored["y"][:, 0] > 0)).all()
    assert network.binary


REGRESSION = ["mse", "mae", "mean_squared_error", "huber", "log_cosh", "poisson", "kl_divergence", "quantile_loss"]


@pytest.mark.parametrize("activation", ["linear", "sigmoid"])
@pytest.mark.parametrize(
    "loss", [*REGRESSION, ["mse"], {"out": "mae"}, wrapped("Huber", delta=1.0), wrapped("function") | {"config": "mse"}]
)
def test_a_loss_that_is_no_classifiers(legacy, loss, activation):
    refused(legacy(**trained(loss, activation)), "regression", error=UnsupportedLayer)
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
def test_a_forecast_of_one_unit_is_called_a_regressor(legacy, activation):
    made = trained("mse", activation)
    made["model"] = sequential(embedding(), lstm(), dense(units=1, activation=activation))

    def change(file):
        resized("out", "kernel", (H, 1))(file)
        resized("out", "bias", (1,))(file)
        trained("mse")["change"](file)

    refused(legacy(model=made["model"], change=change), "regression", error=UnsupportedLayer)


@pytest.mark.parametrize("content", ["3", "[]", '"mse"', "null", '{"loss": 3}', '{"loss": [[["mse"]]]}'])
def test_a_training_config_of_another_form_is_no_evidence(legacy, content):
    def change(file):
        file.attrs["training_config"] = content

    refused(legacy(model=trained(None)["model"], change=change), "task=", error=UnsupportedLayer)
    assert load_keras(legacy(change=change)).classes == C


def test_tasks_that_do_not_exist(legacy):
    for task in ("regression", "ranking", 3):
        with pytest.raises(ConfigError, match="task="):
            load_keras(legacy(), task=task)


def test_the_task_on_the_command_line(legacy):
    path = str(legacy(**trained("mse")))
    run = CliRunner()
    assert run.invoke(app, ["inspect", path]).exit_code == 2
    shown = run.invoke(app, ["inspect", path, "--task", "classification"])
    assert shown.exit_code == 0 and "training loss: mse" in shown.output and f"{C} classes (softmax)" in shown.output
    assert run.invoke(app, ["inspect", path, "--task", "regression"]).exit_code == 2

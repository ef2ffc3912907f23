"""ONNX files of networks, modules and compositions that predict numbers."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.numbers import KINDS, forecaster, sample
from unbraid import Network, compose, decompose, export_onnx
from unbraid.export.onnx_model import OnnxModel

pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("output", KINDS)
@pytest.mark.parametrize("io", ["M:1", "M:N"])
def test_files_give_the_numbers(tmp_path, io, output):
    network = forecaster(("gru",), io, output=output, labels=["low", "high", "close"])
    x = sample(network)
    parts = decompose(network, x, keep=0.5)
    fused = compose(parts).fuse(x, keep=0.5)
    for number, model in enumerate((network, parts["high"], compose(parts), fused)):
        export_onnx(model, tmp_path / f"{number}.onnx", example=x[:4])
        file = OnnxModel(tmp_path / f"{number}.onnx")
        found, wanted = file.numbers(file.run(x)), model.predict(x)
        assert file.decision == "numbers" and file.labels == model.labels
        np.testing.assert_allclose(found, wanted[..., None] if number == 1 else wanted, atol=1e-5)


def test_columns_have_the_activations_of_their_parents(tmp_path):
    one = forecaster(labels=["low", "high", "close"])
    other = forecaster(output="linear+sigmoid", labels=["risk", "b", "c"], seed=3)
    x = sample(one)
    mixed = compose([decompose(one, x, keep=0.5)["low"], decompose(other, x, keep=0.5)["risk"]])
    export_onnx(mixed, tmp_path / "mixed.onnx")
    file = OnnxModel(tmp_path / "mixed.onnx")
    np.testing.assert_allclose(file.numbers(file.run(x)), mixed.predict(x), atol=1e-5)


def test_a_pytorch_module(tmp_path):
    pytest.importorskip("onnxscript")

    class Forecaster(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = nn.LSTM(3, 8, batch_first=True), nn.Linear(8, 2)

        def forward(self, x):
            return self.out(self.rnn(x)[0][:, -1]).sigmoid()

    torch.manual_seed(0)
    x = np.random.default_rng(0).normal(size=(60, 5, 3)).astype(np.float32)
    network = Network.from_torch(Forecaster(), torch.from_numpy(x[:5]), task="regression")
    composition = compose(decompose(network, x, keep=0.5))
    export_onnx(composition, tmp_path / "own.onnx", example=x[:4])
    file = OnnxModel(tmp_path / "own.onnx")
    np.testing.assert_allclose(file.numbers(file.run(x)), composition.predict(x), atol=1e-5)

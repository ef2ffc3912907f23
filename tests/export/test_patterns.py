"""ONNX files of modules that sort, fold, project or read lists; the export itself compares several sizes."""

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.census.torch_patterns import ENTRIES
from unbraid import Network, UnbraidError, compose, decompose, export_onnx
from unbraid.networks.inputs import leaves, padded
from unbraid.networks.stack import RecurrentStack

pytest.importorskip("onnxscript")
runtime = pytest.importorskip("onnxruntime")

pytestmark = pytest.mark.filterwarnings("ignore::unbraid.UnbraidWarning", "ignore:LSTM with projections:UserWarning")

BY_NAME = {entry.name: entry for entry in ENTRIES}


def made(name):
    entry = BY_NAME[name]
    example, _ = entry.make(np.random.default_rng(1), 6)
    x, _ = entry.make(np.random.default_rng(0), 40)
    return Network.from_torch(entry.module(), example, **(entry.settings or {})), example, x


@pytest.mark.parametrize(
    "name", ["SortsAndRestoresScores", "SortsByWords", "SiameseFolded", "ProjectedTagger", "ListOfLengthsSorted"]
)
def test_a_fresh_network_gives_the_same_probabilities(name, tmp_path):
    network, example, x = made(name)
    export_onnx(network, tmp_path / "net.onnx", example=example)
    session = runtime.InferenceSession(str(tmp_path / "net.onnx"))
    values = [np.asarray(part) for part in (x if isinstance(x, tuple) else (x,))]
    feeds = {given.name: value for given, value in zip(session.get_inputs(), values, strict=True)}
    np.testing.assert_allclose(session.run(None, feeds)[0], network.predict_proba(x), atol=1e-5)


@pytest.mark.parametrize("name", ["OfPacked", "PackedTags", "OfDataclass", "OfNamespace", "OfOneInList", "TiedLinear"])
def test_arguments_of_other_forms_become_inputs_of_the_file(name, tmp_path):
    network, example, x = made(name)
    export_onnx(network, tmp_path / "net.onnx", example=example)
    session = runtime.InferenceSession(str(tmp_path / "net.onnx"))
    feeds = {given.name: leaf.numpy() for given, leaf in zip(session.get_inputs(), leaves(padded(x)), strict=True)}
    found, wanted = session.run(None, feeds)[0], network.predict_proba(x)
    real = ~np.isnan(wanted)
    np.testing.assert_allclose(found[real], wanted[real], atol=1e-5)


def test_a_composition_that_predicted_small_batches_is_exported(tmp_path):
    network, example, x = made("SortsByWords")
    parts = compose(decompose(network, (x, np.arange(40) % 3), keep=0.5, samples_per_class=10))
    parts.predict(x[:1])  # joins layers for small batches
    export_onnx(parts, tmp_path / "parts.onnx", example=example)
    session = runtime.InferenceSession(str(tmp_path / "parts.onnx"))
    np.testing.assert_allclose(session.run(["margins"], {"x": x.numpy()})[0], parts.margins(x), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "says"),
    [("SortedTagger", r"\.tolist\(\)"), ("ListOfLengths", r"max\(\)"), ("CRFListed", "number of examples in 'x'")],
)
def test_a_forward_that_is_no_graph_is_refused(name, says, tmp_path):
    network, example, _ = made(name)
    with pytest.raises(UnbraidError, match=says) as told:
        export_onnx(network, tmp_path / "net.onnx", example=example)
    assert len(str(told.value)) < 360 and "\x1b" not in str(told.value)
    assert not list(tmp_path.iterdir())


def test_inverses_of_projections():
    stack = RecurrentStack(nn.LSTM(4, 6, num_layers=2, proj_size=3))
    assert len(stack.inverses()) == 2
    for weight, inverse in zip(stack.projections, stack.inverses(), strict=True):
        torch.testing.assert_close(weight @ inverse, torch.eye(3), atol=1e-5, rtol=1e-5)

"""ONNX files of modules that sort, fold, project or read lists; the export itself compares several sizes."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.census.torch_patterns import ENTRIES
from unbraid import Network, UnbraidError, compose, decompose, export_onnx
from unbraid.errors import FormatError
from unbraid.export.onnx_inputs import fixed_batch as stored_batch
from unbraid.export.onnx_model import OnnxModel
from unbraid.export.readers import Reader, fixed_batch
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


@pytest.mark.parametrize("name", ["FixedInInit", "FixedBuffer", "StatefulDetached", "StatefulBuffer", "OneSeries"])
def test_a_module_of_fixed_batches_gives_a_file_of_that_size(name, tmp_path):
    network, example, x = made(name)
    size = network.spec.run.batch
    export_onnx(network, tmp_path / "net.onnx", example=example)
    session = runtime.InferenceSession(str(tmp_path / "net.onnx"))
    axis = network.spec.batch_axis
    assert session.get_inputs()[0].shape[axis] == size
    assert json.loads(session.get_modelmeta().custom_metadata_map["batch"])["size"] == size
    model = OnnxModel(tmp_path / "net.onnx")
    assert model.batch == size
    array = x.numpy() if isinstance(x, torch.Tensor) else x
    for count in (1, 7, 40):  # fewer than a batch, and a last one that is not full
        some = np.take(array, range(count), axis)
        found = model.run(some)["probabilities"]
        np.testing.assert_allclose(found, network.predict_proba(torch.from_numpy(some)), atol=1e-5)


def test_modules_of_fixed_batches_are_composed_in_a_file(tmp_path):
    network, example, x = made("FixedInInit")
    parts = compose(decompose(network, (x, np.arange(40) % 3), keep=0.5, samples_per_class=10))
    export_onnx(parts, tmp_path / "parts.onnx", example=example)
    found = OnnxModel(tmp_path / "parts.onnx").run(x.numpy())
    np.testing.assert_allclose(found["margins"], parts.margins(x), atol=1e-4)


def test_modules_of_batches_of_different_sizes_need_several_files(tmp_path):
    parts = {}
    for name in ("FixedInInit", "OneSeries"):
        network, _, x = made(name)
        found = decompose(network, (x, np.arange(40) % 3), keep=0.5, samples_per_class=10)
        parts[name] = found[network.labels[0]]
    sizes = {part.parent.spec.run.batch for part in parts.values()}
    assert len(sizes) == 2
    with pytest.raises(UnbraidError, match="batches of different sizes"):
        fixed_batch([Reader("", [part.parent], None, None, []) for part in parts.values()])


@pytest.mark.parametrize(
    "text", ['{"size": 4}', '{"size": "4", "axes": {"x": 0}}', '{"size": 4, "axes": {"x": 9}}', "[]"]
)
def test_metadata_of_a_batch_that_do_not_fit(text):
    with pytest.raises(FormatError, match="metadata batch"):
        stored_batch({"batch": text}, {"x": [4, "time"]}, "model.onnx")
    assert stored_batch({}, {"x": [4, "time"]}, "model.onnx") is None

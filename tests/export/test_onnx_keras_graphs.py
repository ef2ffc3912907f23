"""ONNX files of Keras models that are graphs: convolutions of any length, and layers that Keras itself computes."""

import numpy as np
import pytest

import unbraid
from tests.locations import DATA
from unbraid.errors import UnsupportedLayer
from unbraid.networks.graph_spec import LayerSpec, PerTimestepSpec

GRAPHS = DATA / "keras" / "graphs"


@pytest.mark.parametrize("name", ["conv1d_same_strides", "conv1d_words", "depthwise_conv", "separable_conv"])
def test_convolutions(tmp_path, name):
    """The export compares the outputs with those of torch, also on series of other lengths."""
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    network = unbraid.load(GRAPHS / f"k3-{name}.keras")
    unbraid.export_onnx(network, tmp_path / "graph.onnx")
    stored = np.load(GRAPHS / f"k3-{name}.npz")
    session = runtime.InferenceSession(tmp_path / "graph.onnx")
    (given,) = session.get_inputs()
    x = stored["x0"].astype(np.int64 if given.type == "tensor(int64)" else np.float32)
    found = session.run(["probabilities"], {given.name: x})[0]
    np.testing.assert_allclose(found, stored["y"], atol=1e-5)


@pytest.mark.parametrize("inside", [False, True])
def test_layers_that_keras_computes(tmp_path, inside):
    network = unbraid.load(GRAPHS / f"k3-{'time_nested_cnn' if inside else 'layer_norm'}.keras")

    def adapted(graph):
        layers = []
        for layer in graph.layers:
            if isinstance(layer, PerTimestepSpec):
                layer = layer.model_copy(update={"graph": adapted(layer.graph)})
            elif isinstance(layer, LayerSpec) and layer.kind in ("LayerNormalization", "Conv2D"):
                layer = layer.model_copy(update={"kind": "GroupNormalization"})
            layers.append(layer)
        return graph.model_copy(update={"layers": layers})

    network.spec = network.spec.model_copy(update={"graph": adapted(network.spec.graph)})
    with pytest.raises(UnsupportedLayer, match=r"\(GroupNormalization\) is computed by Keras itself"):
        unbraid.export_onnx(network, tmp_path / "graph.onnx")
    assert not list(tmp_path.iterdir())

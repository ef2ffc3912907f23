"""ONNX of cells of users' own classes: one traced timestep in the body of a loop, against the layers of torch."""

import numpy as np
import pytest
import torch

from benchmarks.census.torch_patterns import ENTRIES
from benchmarks.census.torch_patterns.own_cells import HardLSTM, JoinedRNN, LinearGRU, LinearLSTM, MinGRU, NormLSTM
from tests.second_device import SecondDevice, on_second
from unbraid import Network, UnbraidError, compose, decompose, export_onnx, register_cell
from unbraid.networks.own_cells import form_of
from unbraid.networks.own_layer import OwnLayer
from unbraid.networks.recurrent import PrunedRecurrentLayer
from unbraid.networks.removal import NodesGone

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

N, T, D, H, MODULES = 5, 7, 4, 6, 2


def layer_of(kind):
    torch.manual_seed(0)
    cell = kind(D, H).eval().requires_grad_(False)
    return OwnLayer(cell, form_of(cell))


def computed(layer, x, valid, states):
    """Outputs and last states of a layer by ONNX Runtime."""
    from unbraid.export.graph import IR_VERSION, OPSET, Graph
    from unbraid.export.recurrent import recurrent

    graph, names = Graph(), [f"state{place}" for place in range(len(states))]
    out, last = recurrent(layer, graph, "x", None if valid is None else "valid", names)
    given = {"x": x, **({} if valid is None else {"valid": valid}), **dict(zip(names, states, strict=True))}
    shapes = {"x": ["N", "T", D], "valid": ["N", "T"]}
    ins = [
        onnx.helper.make_tensor_value_info(
            name, onnx.TensorProto.BOOL if name == "valid" else onnx.TensorProto.FLOAT, shapes.get(name, ["rows", H])
        )
        for name in given
    ]
    outs = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in [out, *last]]
    proto = onnx.helper.make_graph(graph.nodes, "graph", ins, outs, graph.tensors())
    opset = [onnx.helper.make_opsetid("", OPSET)]
    model = onnx.helper.make_model(proto, opset_imports=opset, ir_version=IR_VERSION)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {name: value.numpy() for name, value in given.items()})


def same(layer, valid, states):
    x = torch.randn(N, T, D, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        outputs, last = layer(x, valid, states or None)
    for found, wanted in zip(computed(layer, x, valid, states), [outputs, *last], strict=True):
        np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)


VALID = torch.arange(T) < torch.tensor([[7], [3], [5], [1], [7]])


@pytest.mark.parametrize("kind", [LinearLSTM, NormLSTM, HardLSTM, JoinedRNN, LinearGRU])
def test_own_cells_are_loops_over_one_traced_timestep(kind):
    layer, draw = layer_of(kind), torch.Generator().manual_seed(2)
    states = tuple(torch.rand(N, H, generator=draw) for _ in range(layer.cell.states))
    same(layer, None, ())
    same(layer, VALID, states)
    kept = (torch.rand(MODULES, T, H, generator=draw) > 0.3).float()
    several = PrunedRecurrentLayer(layer, NodesGone(kept), MODULES, opens=True, interleaved=False)
    same(several, None, ())
    same(several, VALID, tuple(state.repeat(MODULES, 1) for state in states))
    same(PrunedRecurrentLayer(layer, NodesGone(kept[:, :1]), MODULES, opens=True, interleaved=False), None, ())


def test_operators_that_the_older_exporter_lacks(capfd):
    same(layer_of(MinGRU), VALID, ())
    assert capfd.readouterr().out == ""


def test_compositions_of_modules_with_own_cells(tmp_path):
    entry = next(entry for entry in ENTRIES if entry.name == "HardDecoder")
    example, _ = entry.make(np.random.default_rng(1), entry.examples)
    x, y = entry.make(np.random.default_rng(0), 60)
    network = Network.from_torch(entry.module(), example)
    composed = compose(decompose(network, (x, y), samples_per_class=12, keep=0.5))
    export_onnx(composed, tmp_path / "model.onnx", x[:4])
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 17):
        found = session.run(["margins"], {session.get_inputs()[0].name: np.asarray(x[:count])})[0]
        np.testing.assert_allclose(found, composed.margins(x[:count]), atol=1e-4)


def test_a_step_that_cannot_be_traced_is_refused_with_a_sentence():
    class Branching(JoinedRNN):
        def forward(self, x, h):
            found = super().forward(x, h)
            return found if float(np.asarray(found.tolist()).sum()) > 1e9 else found.sort(0).values.mode(0)[0] + found

    register_cell(Branching, states=1, units="hidden", prune={"both.weight": ("units", "inputs+units"),
                                                              "both.bias": "units"})  # fmt: skip
    with pytest.raises(UnbraidError, match=r"Branching.*cannot be exported to ONNX"):
        same(layer_of(Branching), None, ())


def test_a_cell_stays_on_its_device():
    from unbraid.export.graph import Graph
    from unbraid.export.own_step import own_step

    layer = layer_of(LinearLSTM)
    expected = own_step(Graph(), layer)
    with SecondDevice():
        layer.to("cuda")
        found = own_step(Graph(), layer)
        assert all(on_second(weight) for weight in layer.parameters())
    assert found == expected


@pytest.mark.filterwarnings("ignore::unbraid.UnbraidWarning")
@pytest.mark.parametrize(
    ("name", "edges"),
    [("LinearLSTM", "all"), ("CellLoop(GRUCell)", "release"), ("SiameseFolded", "all"), ("FixedInForward", "all")],
)
def test_unrolled_modules_of_layers_that_a_forward_calls_several_times(name, edges, tmp_path):
    entry = next(entry for entry in ENTRIES if entry.name == name)
    example, _ = entry.make(np.random.default_rng(1), entry.examples)
    x, y = entry.make(np.random.default_rng(0), 60)
    network = Network.from_torch(entry.module(), example, **(entry.settings or {}))
    settings = {"strategy": "paper", "mode": "unrolled", "max_removed": 0.5, "samples_per_class": 12}
    composed = compose(decompose(network, (x, y), edges=edges, **settings))
    kept = [mask for module in composed.modules_by_label.values() for mask in module.concern.kept.values()]
    assert any((np.asarray(mask) != np.asarray(mask)[:1]).any() for mask in kept)  # other units at each timestep
    export_onnx(composed, tmp_path / "model.onnx", example)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    values = [np.asarray(part) for part in (example if isinstance(example, tuple) else (example,))]
    feeds = {given.name: value for given, value in zip(session.get_inputs(), values, strict=True)}
    np.testing.assert_allclose(session.run(["margins"], feeds)[0], composed.margins(example), atol=1e-4)

"""ONNX files: onnxruntime computes the same outputs as the library, for several batch sizes and lengths."""

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from benchmarks.measure.torch_cases import CASES
from tests import factory
from tests.factory import CELLS, IO, WORDS
from tests.locations import DATA
from unbraid import Composition, Network, UnbraidError, compose, decompose, load
from unbraid.cli.app import app
from unbraid.config import DecompositionConfig
from unbraid.errors import DataError, FormatError
from unbraid.export import check as export_check
from unbraid.export.onnx import export_onnx
from unbraid.modules.module import ConcernModule
from unbraid.networks.cells import Cell
from unbraid.networks.heads import Head
from unbraid.networks.inputs import leaves

WAYS = {  # mode, by_gates, edges
    "rolled": ("rolled", False, "all"),
    "rolled gates": ("rolled", True, "all"),
    "unrolled": ("unrolled", False, "all"),
    "unrolled gates": ("unrolled", True, "all"),
    "release": ("unrolled", False, "release"),
}
NETWORKS = {
    "stack": {"cells": ("lstm", "gru-before", "vanilla"), "io": "M:N"},
    "features": {"cells": ("gru",), "inputs": "features"},
    "masked features": {"cells": ("lstm",), "inputs": "features", "mask": True},
    "masked": {"cells": ("lstm", "relu"), "mask": True},
    "masked, backwards": {"cells": ("gru",), "mask": True, "reverse": True, "io": "M:N"},
    "flat": {"cells": ("lstm",), "flat": True, "hidden": ((4, "relu"),)},
    "dense": {"cells": ("gru",), "io": "M:N", "hidden": ((4, "tanh"), (3, "hard_sigmoid"))},
    "sigmoid": {"cells": ("vanilla",), "output": "sigmoid", "classes": 1},
    "labels": {"cells": ("lstm",), "output": "sigmoid"},
    **{
        f"both ways, {merge}": {"cells": ("lstm", "gru"), "io": "M:N", "bidirectional": True, "merge": merge, "mask": m}
        for merge, m in (("concat", True), ("sum", False), ("mul", True), ("ave", False))
    },
}


def run(path, x, names=("x",)):
    """Run a file; return its outputs by name."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    arrays = [np.asarray(leaf) for leaf in leaves(x)]
    found = session.run(None, dict(zip(names, arrays, strict=True)))
    return dict(zip([value.name for value in session.get_outputs()], found, strict=True))


def sizes(path):
    """Return names and sizes of the inputs and outputs."""
    graph = onnx.load(path).graph
    return {
        v.name: [s.dim_param or s.dim_value for s in v.type.tensor_type.shape.dim]
        for v in [*graph.input, *graph.output]
    }


def check(model, path, lengths=(WORDS, 2 * WORDS + 1), padded=False):
    """Export a model of stages and compare it with the outputs of the library."""
    export_onnx(model, path, check=False)
    onnx.checker.check_model(str(path), full_check=True)
    net = model if isinstance(model, Network) else next(iter(getattr(model, "members", [model]))).parent
    for count, steps in ((1, lengths[0]), (5, lengths[-1])):
        x, _ = factory.examples(net, 8, seed=count, steps=steps, padded=padded)
        found = run(path, x[:count])
        expected = {"probabilities": model.predict_proba(x[:count])}
        if isinstance(model, ConcernModule):
            expected = {"probability": model.predict_proba(x[:count])}
        elif isinstance(model, Composition):
            expected["margins"] = model.margins(x[:count])
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, atol=1e-5, rtol=1e-5)


def lengths_of(io, *ways, flat=False):
    """Return the lengths that a file must support: one length if weights or masks fix it."""
    fixed = io.startswith("1") or flat or any(WAYS[way][0] == "unrolled" for way in ways)
    return (WORDS,) if fixed else (WORDS, 2 * WORDS + 1)


def module_of(net, way, seed=0, label=0, kept=0.6):
    """Make a module with a random concern and any head."""
    mode, by_gates, edges = WAYS[way]
    concern = factory.random_concern(net, factory.examples(net)[0], mode, by_gates, edges, kept=kept, seed=seed)
    generator, rows = torch.Generator().manual_seed(seed), 1 + seed % 3
    weight, bias = torch.randn(rows, net.spec.features, generator=generator), torch.randn(rows, generator=generator)
    head = Head(weight, bias, idle=0 if rows == 1 else seed % 2)
    return ConcernModule(net, 0, concern, head, DecompositionConfig.of(strategy="paper", mode=mode), label)


@pytest.mark.parametrize("io", IO)
@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_in_every_network(cell, io, tmp_path):
    net = factory.network((cell,), io)
    check(net, tmp_path / "net.onnx", lengths_of(io))
    for way in WAYS:
        check(module_of(net, way, seed=1), tmp_path / "module.onnx", lengths_of(io, way))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_structure(name, tmp_path):
    settings = dict(NETWORKS[name])
    net = factory.network(**settings)
    flat, io, padded = settings.get("flat", False), net.io.value, settings.get("mask", False)
    check(net, tmp_path / "net.onnx", lengths_of(io, flat=flat), padded)
    for way in WAYS:
        members = {label: module_of(net, way, seed=label, label=label) for label in range(3)}
        for model in (compose(members),) if "gates" in way else (members[1], compose(members)):
            check(model, tmp_path / "modules.onnx", lengths_of(io, way, flat=flat), padded)


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("activation", ["linear", "sigmoid", "hard_sigmoid", "softmax"])
def test_unusual_activations(kind, activation, tmp_path):
    for mask in (False, True):
        cell = Cell(kind=kind, activation=activation, gate_activation="hard_sigmoid_keras2")
        check(factory.network((cell,), "M:N", mask=mask), tmp_path / "net.onnx", padded=mask)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mask", [False, True])
def test_a_module_that_keeps_nothing(way, mask, tmp_path):
    for settings in ({}, {"bidirectional": True}, {"hidden": ((3, "relu"),)}):
        net = factory.network(("lstm", "gru", "vanilla"), "M:N", mask=mask, **settings)
        check(module_of(net, way, kept=0), tmp_path / "module.onnx", lengths_of("M:N", way), mask)


def test_compositions_of_several_parents_modes_and_calibrations(tmp_path):
    one, other = factory.network(("lstm",), "M:N", mask=True), factory.network(("gru",), "M:1", mask=True, seed=3)
    ways = {"a": (one, "rolled"), "b": (other, "unrolled"), "c": (one, "unrolled"), "d": (one, "unrolled")}
    members = {label: module_of(net, way, seed=place) for place, (label, (net, way)) in enumerate(ways.items())}
    mixed = Composition(members, calibration={"a": (0.5, 1.0), "d": (2.0, -1.0)})
    check(mixed, tmp_path / "mixed.onnx", (WORDS,), padded=True)
    assert sizes(tmp_path / "mixed.onnx")["x"] == ["batch", WORDS]
    rolled = Composition({label: module_of(one, "rolled", seed=place) for place, label in enumerate("ab")})
    check(rolled, tmp_path / "rolled.onnx", padded=True)
    assert sizes(tmp_path / "rolled.onnx")["margins"] == ["batch", "time", 2]


def test_what_the_file_says_of_itself(tmp_path):
    net = factory.network(("lstm",), labels=["rain", "sun", "snow"])
    export_onnx(net, tmp_path / "net.onnx")
    assert sizes(tmp_path / "net.onnx") == {"x": ["batch", "time"], "probabilities": ["batch", 3]}
    proto = onnx.load(tmp_path / "net.onnx")
    said = {entry.key: entry.value for entry in proto.metadata_props}
    assert json.loads(said["labels"]) == ["rain", "sun", "snow"] and said["io"] == "M:1"
    assert [node.op_type for node in proto.graph.node].count("LSTM") == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "net.onnx"]  # nothing is left beside it


def test_modules_of_one_parent_share_its_weights(tmp_path):
    net = factory.network(("vanilla",))
    export_onnx(net, tmp_path / "net.onnx", check=False)
    parts = {label: module_of(net, "unrolled", label, label) for label in range(3)}
    export_onnx(compose(parts), tmp_path / "parts.onnx", check=False)
    words = [[*c.dims] for c in onnx.load(tmp_path / "parts.onnx").graph.initializer if c.dims[:1] == [120]]
    assert len(words) == 1


def part_of(net, x, y, what):
    """Return the network or its decomposition, and the outputs of the library."""
    if what == "network":
        return net, net.predict_proba(x)
    parts = decompose(net, (x, y), mode=what.split()[0], max_removed=0.5, samples_per_class=12)
    if what.endswith("module"):
        return parts[next(iter(parts))], parts[next(iter(parts))].predict_proba(x)
    model = compose({label: parts[label] for label in list(parts)[:2]})
    return model, model.margins(x)


@pytest.mark.parametrize(
    ("name", "what", "first"),
    [
        ("attention-gru", "network", ["batch", "time"]),
        ("named-inputs", "rolled module", ["batch", "time"]),
        ("time-first", "network", ["time", "batch"]),
        ("packed-tagger", "unrolled composition", ["batch", "time"]),
    ],
)
def test_users_own_modules(name, what, first, tmp_path):
    case, path = CASES[name], tmp_path / "part.onnx"
    example = case.make(np.random.default_rng(1), 6)[0]
    x, y = case.make(np.random.default_rng(0), 60)
    model, expected = part_of(Network.from_torch(case.trained(), example=example), x, y, what)
    export_onnx(model, path, example=example)  # compares five sizes
    onnx.checker.check_model(str(path), full_check=True)
    shapes = sizes(path)
    names = list(shapes)[: len(leaves(x))]
    assert shapes[names[0]] == first and names == (list(x) if isinstance(x, dict) else names)
    found = run(path, list(x.values()) if isinstance(x, dict) else x, names)
    np.testing.assert_allclose(found[list(shapes)[len(names)]], expected, atol=1e-5, rtol=1e-5)
    assert b".py" not in path.read_bytes()  # nothing of the machine that it was made on


class DecidesByValue(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        h = self.rnn(x)[0]
        return self.out(h[:, -1] * 2 if h.mean() > 5 else h[:, -1])


class DecidesByLength(DecidesByValue):
    def forward(self, x):
        h = self.rnn(x)[0]
        return self.out(h[:, 0] if x.shape[1] > 5 else h[:, -1])


class FixesTheBatch(DecidesByValue):
    def forward(self, x):
        h = self.rnn(x)[0]
        return self.out(torch.stack([h[i, -1] for i in range(len(x))]))


@pytest.mark.parametrize(
    ("own", "says"),
    [
        (DecidesByValue, "cannot be exported to ONNX: replace branches on values"),
        (DecidesByLength, "outputs that differ from those of PyTorch"),
        (FixesTheBatch, "number of examples in 'x' a constant"),
    ],
)
def test_forwards_that_are_no_graph(own, says, tmp_path):
    x = torch.randn(6, 7, 3)
    with pytest.raises(UnbraidError, match=says):
        export_onnx(Network.from_torch(own(), example=x), tmp_path / "net.onnx", example=x)
    assert not list(tmp_path.iterdir())


def test_errors_before_anything_is_written(tmp_path, monkeypatch):
    net, path = factory.network(("lstm",)), tmp_path / "net.onnx"
    x, y = factory.examples(net)
    own = Network.from_torch(DecidesByLength(), example=torch.randn(4, 3, 3))
    with pytest.raises(DataError, match="example is needed"):
        export_onnx(own, path)
    with pytest.raises(UnbraidError, match="compose"):
        export_onnx(decompose(net, (x, y)), path)
    with pytest.raises(DataError, match="reads exactly 4"):
        export_onnx(module_of(net, "unrolled"), path, example=x[:, :3])
    with pytest.raises(UnbraidError, match="float64"):
        export_onnx(factory.network(("lstm",)).double(), path)
    with pytest.raises(FormatError, match="cannot be written"):
        export_onnx(net, tmp_path / "nowhere" / "net.onnx")
    for package in ("onnxruntime", "onnx"):
        with monkeypatch.context() as without, pytest.raises(UnbraidError, match=r"pip install 'unbraid\[onnx\]'"):
            without.setitem(sys.modules, package, None)
            export_onnx(net, path)
    assert not list(tmp_path.iterdir())


def test_a_file_that_computes_something_else_is_not_written(tmp_path, monkeypatch):
    net, path = factory.network(("gru",)), tmp_path / "net.onnx"
    export_onnx(net, path)
    before = path.read_bytes()
    monkeypatch.setattr(export_check, "TOLERANCE", -1.0)
    with pytest.raises(UnbraidError, match="no file was written"):
        export_onnx(net, path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_the_command_line(tmp_path):
    net = factory.network(("lstm",))
    parts = decompose(net, factory.examples(net))
    parts.save(tmp_path / "parts")
    parts[0].save(tmp_path / "module")
    for source, output, labels in (("parts", "probabilities", [0, 1, 2]), ("module", "probability", [0])):
        path = tmp_path / f"{source}.onnx"
        done = CliRunner().invoke(app, ["export", str(tmp_path / source), "-o", str(path), "--json"])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout) == {"file": str(path), "bytes": path.stat().st_size, "labels": labels}
        assert output in sizes(path)
    done = CliRunner().invoke(app, ["export", str(tmp_path / "none"), "-o", str(tmp_path / "none.onnx")])
    assert done.exit_code == 2 and "no such file" in done.stderr
    assert "Example" in CliRunner().invoke(app, ["export", "--help"]).stdout


@pytest.mark.parametrize("name", ["words_and_numbers", "layer_norm", "conv1d_pool"])
def test_a_keras_graph_needs_no_example(tmp_path, name):
    network = load(DATA / "keras" / "graphs" / f"k3-{name}.keras")
    export_onnx(network, tmp_path / "graph.onnx")
    sizes = [len(one.shape) + 1 for one in network.spec.graph.inputs]
    session = onnxruntime.InferenceSession(tmp_path / "graph.onnx")
    assert [len(given.shape) for given in session.get_inputs()] == sizes


@pytest.mark.parametrize("name", [".", "missing/f.onnx"])
def test_the_path_is_checked_before_the_computation(tmp_path, monkeypatch, name):
    monkeypatch.setattr("unbraid.export.onnx.find_readers", None)  # no computation
    with pytest.raises(FormatError, match=r"not a regular file|folder does not exist"):
        export_onnx(factory.network(cells=("lstm",)), tmp_path / name)

"""Write a recurrence as an ONNX Scan: :func:`unbraid.networks.recurrent.scan`, node by node.

Shapes: K modules in one batch, N examples, T timesteps, D inputs, H hidden units, G gates.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from unbraid.export.graph import Graph
from unbraid.export.own_step import own_step
from unbraid.networks.own_layer import OwnLayer
from unbraid.networks.recurrent import RecurrentLayer
from unbraid.networks.removal import AtStep, GatesGone, NodesGone, ReleaseEdges, Removal

Rows = tuple[int, int]  # first row and end of a slice of the recurrent weights


def scan(
    graph: Graph, layer: RecurrentLayer | OwnLayer, removal: Removal | None, x: str, valid: str | None, state: list[str]
) -> tuple[str, list[str]]:
    """Add the nodes of a masked recurrence.

    Args:
        graph: the graph.
        layer: the layer with weights and cell; the step of a user's own cell is traced once.
        removal: the masks; None removes nothing.
        x: inputs (K, N, T, D), or (1, N, T, D) if all modules read the same.
        valid: booleans (N, T), or None.
        state: first states, each (K, N, H).

    Returns:
        outputs (K, N, T, H), masked for the next layer, and last states, each (K, N, H).
    """
    final = True  # whether edges to the next layer are removed behind this call
    if isinstance(removal, AtStep):
        final, removal = bool(removal.final), removal.one
    if isinstance(layer, RecurrentLayer):
        x = graph.linear(x, layer.weight_ih, layer.cell.input_bias(layer.bias_ih, layer.bias_hh))
    steps = {"inputs": graph.permuted(x, 2, 0, 1, 3)}  # the values of each timestep
    always: dict[str, str] = {}
    if removal is not None:
        kept = graph.constant(removal.kept.transpose(0, 1).unsqueeze(2))  # (T or 1, K, 1, H or G*H)
        if removal.kept.shape[1] > 1:
            steps["kept"] = graph.slice(kept, 0, 0, graph.dims(x, 2, 3))
        else:
            always["kept"] = graph.pick(kept, 0, 0)
    if valid is not None:
        steps["here"] = graph.node("Unsqueeze", graph.permuted(valid, 1, 0), graph.numbers(1, 3))
    body: _Step | _OwnStep
    if isinstance(layer, RecurrentLayer):
        body = _Step(Graph(graph), removal, always, layer)
    else:
        body = _OwnStep(Graph(graph), removal, always, layer)
    last = graph.nodes_of(
        "Scan",
        [*state, *steps.values()],
        len(state) + 1,
        body=body.proto(len(state), list(steps)),
        num_scan_inputs=len(steps),
        scan_input_directions=[int(layer.reverse)] * len(steps),
        scan_output_directions=[int(layer.reverse)],
    )
    outputs = graph.permuted(last[-1], 1, 2, 0, 3)
    if not isinstance(removal, ReleaseEdges) or not final:
        return outputs, last[:-1]
    place = 0 if layer.reverse else -1  # the last timestep read; edges to the next layer are removed only there
    at = graph.pick(steps["kept"], place, 0) if "kept" in steps else always["kept"]
    behind = graph.slice(outputs, 2, place, place + 1 or None)
    seen = graph.node("Mul", behind, graph.node("Unsqueeze", at, graph.numbers(2)))
    rest = graph.slice(outputs, 2, 1) if layer.reverse else graph.slice(outputs, 2, 0, -1)
    parts = [seen, rest] if layer.reverse else [rest, seen]
    return graph.node("Concat", *parts, axis=2), [graph.node("Squeeze", seen, graph.numbers(2)), *last[1:-1]]


@dataclass
class _Body(ABC):
    """The body of the loop: one timestep.

    Attributes:
        graph: graph of the body.
        removal: kind of the masks.
        masks: ``kept`` -> value; it is added by :meth:`proto` if it depends on the timestep.
    """

    graph: Graph
    removal: Removal | None
    masks: dict[str, str]

    @property
    @abstractmethod
    def units(self) -> int:
        """H."""

    @abstractmethod
    def next(self, inputs: str, state: list[str]) -> list[str]:
        """Add the nodes from the inputs of a timestep and the states to the next states."""

    def proto(self, states: int, names: list[str]) -> Any:
        """Make the graph of the body: from states and values of a timestep to new states and the output."""
        from onnx import TensorProto, helper

        g = self.graph
        held = [g.name("state") for _ in range(states)]
        given = {name: g.name(name) for name in names}
        self.masks |= given
        state = [self.without_removed(s) for s in held]
        state = [self.without_removed(s) for s in self.next(given["inputs"], state)]
        if "here" in given:
            state = [g.node("Where", given["here"], new, old) for new, old in zip(state, held, strict=True)]
        state = [g.node("Identity", s) for s in state]
        outputs = [*state, g.node("Identity", state[0])]
        kinds = {"here": TensorProto.BOOL}
        ins = [helper.make_tensor_value_info(s, TensorProto.FLOAT, None) for s in held]
        ins += [helper.make_tensor_value_info(v, kinds.get(n, TensorProto.FLOAT), None) for n, v in given.items()]
        size = [None, None, self.units]  # the runtime cannot find the number of axes behind any step of a user
        outs = [helper.make_tensor_value_info(s, TensorProto.FLOAT, size) for s in outputs]
        return helper.make_graph(g.nodes, g.name("step"), ins, outs)

    def without_removed(self, value: str) -> str:
        """Set removed nodes of a state to 0."""
        return self.graph.node("Mul", value, self.masks["kept"]) if isinstance(self.removal, NodesGone) else value


@dataclass
class _OwnStep(_Body):
    """One timestep of a user's own cell."""

    layer: OwnLayer

    @property
    def units(self) -> int:
        return self.layer.units

    def next(self, inputs: str, state: list[str]) -> list[str]:
        g, units = self.graph, self.layer.units
        sizes = g.dims(state[0], 0, 2)  # (K, N)
        x = g.node("Expand", inputs, g.shape(sizes, self.layer.inputs))
        rows = [g.reshape(value, -1, size) for value, size in [(x, self.layer.inputs), *((s, units) for s in state)]]
        return [g.reshape(value, sizes, units) for value in g.include(own_step(g.root, self.layer), rows)]


@dataclass
class _Step(_Body):
    """One timestep of a layer of torch or Keras."""

    layer: RecurrentLayer

    @property
    def units(self) -> int:
        return self.layer.units

    def next(self, inputs: str, state: list[str]) -> list[str]:
        return self.advance(self.gates(inputs, state[0]), state)

    def gates(self, inputs: str, hidden: str) -> list[str]:
        """Add the nodes of :meth:`Cell.gate_values`."""
        g, cell, units = self.graph, self.layer.cell, self.layer.units
        if isinstance(self.removal, ReleaseEdges):
            inputs = g.node("Mul", inputs, self.tiled(len(cell.gates)))
        functions = {gate: cell.gate_activation for gate in cell.gates}
        functions |= {gate: cell.activation for gate in ("h", "g", "n")}

        def activated(s: str, rows: Rows) -> list[str]:
            if isinstance(self.removal, GatesGone):
                s = g.node("Mul", s, g.slice(self.masks["kept"], -1, *rows))
            names = cell.gates[rows[0] // units : rows[1] // units]
            parts = [s] if len(names) == 1 else g.nodes_of("Split", [s], len(names), axis=-1, num_outputs=len(names))
            return [g.activated(part, functions[name]) for name, part in zip(names, parts, strict=True)]

        if cell.kind != "gru":
            rows = (0, len(cell.gates) * units)
            return activated(g.node("Add", inputs, self.product(hidden, rows)), rows)
        rz, n = (0, 2 * units), (2 * units, 3 * units)
        r, z = activated(g.node("Add", g.slice(inputs, -1, *rz), self.product(hidden, rz)), rz)
        if cell.reset_after:
            recurrent = g.node("Mul", r, self.product(hidden, n, cell.candidate_bias(self.layer.bias_hh)))
        else:
            recurrent = self.product(g.node("Mul", r, hidden), n)
        return [r, z, *activated(g.node("Add", g.slice(inputs, -1, *n), recurrent), n)]

    def advance(self, gates: list[str], state: list[str]) -> list[str]:
        """Add the nodes of :meth:`Cell.advance`."""
        g, cell = self.graph, self.layer.cell
        if cell.kind == "rnn":
            return gates
        if cell.kind == "gru":
            _, z, n = gates
            return [g.node("Add", n, g.node("Mul", z, g.node("Sub", state[0], n)))]
        i, f, new, o = gates
        c = g.node("Add", g.node("Mul", f, state[1]), g.node("Mul", i, new))
        return [g.node("Mul", o, g.activated(c, cell.activation)), c]

    def product(self, hidden: str, rows: Rows, bias: Tensor | None = None) -> str:
        """Add the nodes of :meth:`Removal.product`."""
        g, weight = self.graph, self.layer.weight_hh[rows[0] : rows[1]]
        if not isinstance(self.removal, ReleaseEdges):
            return g.linear(hidden, weight, bias)
        many = weight.shape[0] // self.layer.units
        gone = g.node("Mul", hidden, self.complement(1))
        between = g.node("Mul", g.linear(gone, weight), self.complement(many))
        product = g.node("Sub", g.linear(hidden, weight), between)
        if bias is None:
            return product
        return g.node("Add", product, g.node("Mul", g.constant(bias), self.tiled(many)))

    def tiled(self, times: int) -> str:
        """Repeat the mask for several gates."""
        return self.graph.node("Concat", *[self.masks["kept"]] * times, axis=-1)

    def complement(self, times: int) -> str:
        """Return 1 for removed nodes and 0 for kept nodes."""
        return self.graph.node("Sub", self.graph.constant(self.layer.bias_hh.new_ones(1)), self.tiled(times))

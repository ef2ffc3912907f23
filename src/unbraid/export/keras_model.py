"""Layers of a Keras model and their weights, written as a ``.keras`` file without Keras.

The file has the form that Keras 2 (tf-keras) and Keras 3 read alike: a Functional model of built-in layers. Calls that
this form cannot express in both versions (initial states, several arguments) are written as Keras 3 writes them.
Shapes: T timesteps, D inputs, H hidden units, G gates.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from unbraid.errors import UnsupportedLayer
from unbraid.networks.keras.activations import LEAKY
from unbraid.networks.keras.names import snake_case

if TYPE_CHECKING:
    import h5py

ACTIVATIONS = {
    **{n: n for n in ("tanh", "sigmoid", "relu", "linear", "elu", "selu", "softplus", "softsign", "exponential")},
    **{"softmax": "softmax", "gelu": "gelu", "silu": "swish"},
}  # those that Keras 2 and 3 compute alike; hard_sigmoid, for example, differs
_LAYERS: dict[str, tuple[str, dict[str, float]]] = {
    **{name: ("LeakyReLU", {"alpha": slope}) for slope, name in LEAKY.items()},
    "relu1": ("ReLU", {"max_value": 1.0}),
    "relu6": ("ReLU", {"max_value": 6.0}),
}  # activations that are layers in both
HARD = {"hard_sigmoid": 1 / 6, "hard_sigmoid_keras2": 0.2}  # relu1(HARD * x + 0.5)
_EPSILON = 1e-3  # Keras 2 raises smaller ones for images
VERSION = "2.15.0"  # Keras 3 also reads the calls of layers as Keras 2 writes them
MODERN = "3.0.0"  # of a file that Keras 2 cannot read

Ref = tuple[str, int, int]  # a value: layer, number of its call, number of its output


@dataclass(frozen=True)
class Node:
    """One call of a layer.

    Attributes:
        reads: the values that it reads.
        states: initial states of a recurrent layer.
        options: other arguments.
        apart: whether the values are one argument each, not one list.
        before: constants that are arguments before the values, of an operation.
        behind: constants that are arguments behind the values, of an operation.
        operation: whether the layer is an operation.
        masks: explicit masks of the values.
    """

    reads: tuple[Ref, ...]
    states: tuple[Ref, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    apart: bool = False
    before: tuple[Any, ...] = ()
    behind: tuple[Any, ...] = ()
    operation: bool = False
    masks: tuple[Ref | None, ...] = ()

    @property
    def modern(self) -> bool:
        """Whether only Keras 3 reads this call."""
        return self.operation or bool(self.masks) or bool(self.states) or (self.apart and len(self.reads) > 1)

    def legacy_form(self) -> list[Any]:
        """Return the call as Keras 2 writes it."""
        return [[*read, self.options] for read in self.reads]

    def modern_form(self) -> dict[str, Any]:
        """Return the call as Keras 3 writes it."""
        values = [_tensor(read) for read in self.reads]
        states = [_tensor(state) for state in self.states]
        given: dict[str, Any] = {"initial_state": states if len(states) > 1 else states[0]} if states else {}
        args = values if self.apart or len(values) == 1 else [values]
        if self.masks:
            masks = [None if mask is None else _tensor(mask) for mask in self.masks]
            given["mask"] = masks if len(values) > 1 else masks[0]
        return {"args": [*self.before, *args, *self.behind], "kwargs": {**self.options, **given}}


def _tensor(read: Ref) -> dict[str, Any]:
    """Return a value as Keras 3 writes it; its shape is computed again when the file is loaded."""
    return {
        "class_name": "__keras_tensor__",
        "config": {"shape": [None], "dtype": "float32", "keras_history": list(read)},
    }


def reference(read: str | Ref) -> Ref:
    """Return a value. The name of a layer means the result of its first call."""
    return (read, 0, 0) if isinstance(read, str) else read


def activation(name: str, layer: str) -> str | dict[str, Any]:
    """Return an activation in Keras, a name or a layer; raise UnsupportedLayer for one that Keras 2 and 3 do not share.

    ``hard_sigmoid`` differs between both: see :func:`scaled`.
    """
    if name in _LAYERS:
        kind, settings = _LAYERS[name]
        return serialized(kind, {"name": f"{name.replace('.', '_')}", "dtype": "float32", **settings})
    if name not in ACTIVATIONS:
        raise UnsupportedLayer(
            f"layer {layer!r} has activation {name!r}, which Keras 2 and 3 compute differently: use "
            "unbraid.export_onnx."
        )
    return ACTIVATIONS[name]


def scaled(name: str) -> tuple[str, float, float]:
    """Return an activation that Keras 2 and 3 share, and the factor and the shift of what it reads."""
    return ("relu1", HARD[name], 0.5) if name in HARD else (name, 1.0, 0.0)


class KerasModel:
    """A Functional model that grows layer by layer.

    Args:
        shape: shape of one example of the first input; None for any size.
        name: wanted name of the first input.
        dtype: of its values; ``bool`` for a mask.
    """

    def __init__(self, shape: Sequence[int | None], name: str = "input", dtype: str = "float32") -> None:
        self.layers: dict[str, dict[str, Any]] = {}
        self.inputs: list[str] = []
        self._nodes: dict[str, list[Node]] = {}
        self._arrays: dict[str, dict[str, list[np.ndarray]]] = {}
        self._inner: dict[str, tuple[KerasModel, Ref]] = {}
        self.input = self.add_input(shape, name, dtype)

    def add_input(self, shape: Sequence[int | None], name: str, dtype: str = "float32") -> str:
        """Add another input; return its name."""
        settings = {"batch_input_shape": [None, *shape], "dtype": dtype, "sparse": False}
        chosen = self.add("InputLayer", settings, (), name)
        self.inputs.append(chosen)
        return chosen

    def add(
        self,
        kind: str,
        settings: dict[str, Any],
        reads: Sequence[str | Ref],
        name: str,
        arrays: dict[str, list[np.ndarray]] | None = None,
        module: str | None = None,
    ) -> str:
        """Add a layer and its call.

        Args:
            kind: class in Keras.
            settings: its configuration.
            reads: what it reads: values, or names of layers whose first results it reads; several for a merge.
            name: wanted name; a number is added if it is taken.
            arrays: part of the layer -> its variables in the order of Keras.
            module: module of an operation of Keras 3.

        Returns:
            the name of the layer.
        """
        plain = "".join(c if c.isalnum() and c.isascii() else "_" for c in name).lower().strip("_") or snake_case(kind)
        own = {} if module is None else {"module": module, "registered_name": kind}
        chosen, number = plain, 1
        while chosen in self._nodes:
            chosen, number = f"{plain}_{number}", number + 1
        config = {"name": chosen, "dtype": "float32", **settings}
        config = config if module is None else {"name": chosen, **settings}
        self.layers[chosen] = {**serialized(kind, config), **own, "name": chosen}
        self._nodes[chosen], self._arrays[chosen] = [], {"": [], **(arrays or {})}
        if reads:
            self.call(chosen, Node(tuple(map(reference, reads))))
        return chosen

    def call(self, name: str, node: Node) -> int:
        """Add a call of a layer; return its number."""
        self._nodes[name].append(node)
        return len(self._nodes[name]) - 1

    def arrays(self, name: str) -> dict[str, list[np.ndarray]]:
        """Return the variables of a layer: part of it -> variables in the order of Keras."""
        return self._arrays[name]

    def affine(self, value: Ref | str, factor: float, shift: float, width: int, name: str) -> Ref:
        """Add a scale and a shift of values; return the result.

        Args:
            value: the values.
            factor: the scale.
            shift: the shift, which follows the scale.
            width: size of the last axis, or 0 where it is not known. Rescaling does it then, which passes no mask on in
                Keras 2.
            name: wanted name of the layer.
        """
        if not width:
            return reference(self.add("Rescaling", {"scale": factor, "offset": shift}, (value,), name))
        whole = np.ones(width, np.float32)
        arrays = {"": [factor * whole, shift * whole, 0 * whole, (1 - _EPSILON) * whole]}
        return reference(self.add("BatchNormalization", {"axis": -1, "epsilon": _EPSILON}, (value,), name, arrays))

    def wrap(self, name: str, model: KerasModel, output: Ref) -> None:
        """Make a model, up to one of its values, the layer inside of the wrapper ``name``."""
        self._inner[name] = model, output

    def _modern(self) -> bool:
        own = any(node.modern for nodes in self._nodes.values() for node in nodes)
        return own or any(model._modern() for model, _ in self._inner.values())

    def _in_order(self, output: Ref) -> list[str]:
        """Return the layers as Keras sorts them.

        They are sorted by the number of layers up to the output, then by their place in a search from the output.
        """
        turn: dict[str, int] = {}
        done: dict[tuple[str, int], None] = {}  # calls, those that others read first
        left = [(output[:2], False)]
        while left:
            here, finished = left.pop()
            if finished:
                done[here] = None
            elif here not in done:
                turn.setdefault(here[0], len(turn))
                left.append((here, True))
                left += [(read[:2], False) for read in reversed(self._read(here))]
        calls, behind = dict.fromkeys(done, 0), dict.fromkeys(turn, 0)
        for here in reversed(done):
            behind[here[0]] = calls[here] = max(calls[here], behind[here[0]])
            for read in self._read(here):
                calls[read[:2]] = max(calls[read[:2]], calls[here] + 1)
        unread = [name for name in self.inputs if name not in turn]
        return unread + sorted(turn, key=lambda name: (-behind[name], turn[name]))

    def _read(self, call: tuple[str, int]) -> list[Ref]:
        """Return all values that a call reads; none for an input."""
        nodes = self._nodes[call[0]]
        if not nodes:
            return []
        node = nodes[call[1]]
        return [*node.reads, *node.states, *(mask for mask in node.masks if mask is not None)]

    def _write_weights(self, file: h5py.Group, output: Ref) -> None:
        """Write a group for each layer, named by its class and its position among the layers of its class."""
        file.create_group("vars")  # Keras 2 also opens groups without variables
        turns = Counter[str]()
        for name in self._in_order(output):
            group = snake_case(self.layers[name]["class_name"])
            place = f"layers/{group}_{turns[group]}" if turns[group] else f"layers/{group}"
            turns[group] += 1
            for part, arrays in self._arrays[name].items():
                inner = file.create_group("/".join(step for step in (place, part, "vars") if step))
                for number, array in enumerate(arrays):
                    inner[str(number)] = np.array(array, np.float32, order="C")
            if name in self._inner:
                model, value = self._inner[name]
                model._write_weights(file.create_group(f"{place}/layer"), value)

    def _config(self, output: Ref, modern: bool) -> dict[str, Any]:
        """Return the model whose result is one of its values, as Keras writes it."""
        layers = []
        for name in self._in_order(output):
            layer = self.layers[name]
            if name in self._inner:
                inner, value = self._inner[name]
                layer = {**layer, "config": {**layer["config"], "layer": inner._config(value, modern)}}
            nodes = [node.modern_form() if modern else node.legacy_form() for node in self._nodes[name]]
            layers.append({**layer, "inbound_nodes": nodes})
        inputs = [[name, 0, 0] for name in self.inputs]  # a list of one would make Keras 3 return a list
        config = {
            "name": "model",
            "trainable": True,
            "layers": layers,
            "input_layers": inputs if len(inputs) > 1 else inputs[0],
            "output_layers": list(output),
        }
        return {"module": "keras", "class_name": "Model", "config": config, "registered_name": "Model"}

    def content(self, output: str | Ref, modern: bool = False) -> bytes:
        """Return the file of the model whose result is the value ``output``; a ``modern`` one is for Keras 3 only."""
        import h5py  # here, as `import unbraid` need not wait for it

        value, modern = reference(output), modern or self._modern()
        weights = io.BytesIO()
        with h5py.File(weights, "w") as file:
            self._write_weights(file, value)
        metadata = {"keras_version": MODERN if modern else VERSION, "date_saved": "2024-01-01@00:00:00"}
        members = {
            "metadata.json": json.dumps(metadata).encode(),
            "config.json": json.dumps(self._config(value, modern)).encode(),
            "model.weights.h5": weights.getvalue(),
        }
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as packed:
            for name, data in members.items():
                packed.writestr(zipfile.ZipInfo(name), data)
        return archive.getvalue()


def serialized(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    """Return a layer as Keras writes it."""
    return {"module": "keras.layers", "class_name": kind, "config": config, "registered_name": None}

"""Layers of a Keras model and their weights, written as a ``.keras`` file without Keras.

The file has the form that Keras 2 (tf-keras) and Keras 3 read alike: a Functional model of built-in layers.
Shapes: T timesteps, D inputs, H hidden units, G gates.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from unbraid.errors import UnsupportedLayer
from unbraid.networks.keras.names import snake_case

if TYPE_CHECKING:
    import h5py

ACTIVATIONS = {
    **{n: n for n in ("tanh", "sigmoid", "relu", "linear", "elu", "selu", "softplus", "softsign", "exponential")},
    **{"softmax": "softmax", "gelu": "gelu", "silu": "swish"},
}  # those that Keras 2 and 3 compute alike; hard_sigmoid, for example, differs
VERSION = "2.15.0"  # Keras 3 also reads the calls of layers as Keras 2 writes them


def activation(name: str, layer: str) -> str:
    """Return the name of an activation in Keras; raise UnsupportedLayer for one that Keras 2 and 3 do not share."""
    if name not in ACTIVATIONS:
        raise UnsupportedLayer(
            f"layer {layer!r} has activation {name!r}, which Keras 2 and 3 compute differently: use "
            "unbraid.export_onnx."
        )
    return ACTIVATIONS[name]


class KerasModel:
    """A Functional model that grows layer by layer.

    Args:
        shape: of one example; None for any size.
    """

    def __init__(self, shape: list[int | None]) -> None:
        self.layers: list[dict[str, Any]] = []
        self._reads: dict[str, tuple[str, ...]] = {}
        self._arrays: dict[str, dict[str, list[np.ndarray]]] = {}
        self.input = self.add("InputLayer", {"batch_input_shape": [None, *shape], "sparse": False}, (), "input")

    def add(
        self,
        kind: str,
        settings: dict[str, Any],
        reads: tuple[str, ...],
        name: str,
        arrays: dict[str, list[np.ndarray]] | None = None,
    ) -> str:
        """Add a layer and its call.

        Args:
            kind: class in Keras.
            settings: its configuration.
            reads: names of the layers whose results it reads; several for a merge.
            name: wanted name; a number is added if it is taken.
            arrays: part of the layer -> its variables in the order of Keras.

        Returns:
            the name of the layer.
        """
        plain = "".join(c if c.isalnum() and c.isascii() else "_" for c in name).lower().strip("_") or snake_case(kind)
        chosen, number = plain, 1
        while chosen in self._reads:
            chosen, number = f"{plain}_{number}", number + 1
        config = {"name": chosen, "trainable": True, "dtype": "float32", **settings}
        if kind == "InputLayer":
            config.pop("trainable")
        calls = [[[read, 0, 0, {}] for read in reads]] if reads else []
        self.layers.append({**serialized(kind, config), "name": chosen, "inbound_nodes": calls})
        self._reads[chosen], self._arrays[chosen] = reads, {"": [], **(arrays or {})}
        return chosen

    def _in_order(self) -> list[dict[str, Any]]:
        """Return the layers as Keras sorts them: by the number of layers up to the output, then as they were added."""
        behind = dict.fromkeys(self._reads, 0)
        for name in reversed(self._reads):  # layers read those that were added before
            for read in self._reads[name]:
                behind[read] = max(behind[read], behind[name] + 1)
        return sorted(self.layers, key=lambda layer: -behind[layer["name"]])

    def _write_weights(self, file: h5py.File, layers: list[dict[str, Any]]) -> None:
        """Write a group for each layer, named by its class and its position among the layers of its class."""
        file.create_group("vars")  # Keras 2 also opens groups without variables
        turns = Counter[str]()
        for layer in layers:
            group = snake_case(layer["class_name"])
            place = f"layers/{group}_{turns[group]}" if turns[group] else f"layers/{group}"
            turns[group] += 1
            for part, arrays in self._arrays[layer["name"]].items():
                inner = file.create_group("/".join(step for step in (place, part, "vars") if step))
                for number, array in enumerate(arrays):
                    inner[str(number)] = np.ascontiguousarray(array, np.float32)

    def content(self, output: str) -> bytes:
        """Return the file of the model whose result is that of the layer ``output``."""
        import h5py  # here, as `import unbraid` need not wait for it

        layers = self._in_order()
        config = {
            "name": "model",
            "trainable": True,
            "layers": layers,
            "input_layers": [[self.input, 0, 0]],
            "output_layers": [[output, 0, 0]],
        }
        whole = {"module": "keras", "class_name": "Model", "config": config, "registered_name": "Model"}
        weights = io.BytesIO()
        with h5py.File(weights, "w") as file:
            self._write_weights(file, layers)
        members = {
            "metadata.json": json.dumps({"keras_version": VERSION, "date_saved": "2024-01-01@00:00:00"}).encode(),
            "config.json": json.dumps(whole).encode(),
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

"""Read an exported Keras file again, and compare its outputs with those of the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from unbraid.errors import UnbraidError, quoted
from unbraid.export.drawing import FAILED, Shapes, drawn, first_that_runs
from unbraid.modules.composition import Composition
from unbraid.modules.module import ConcernModule
from unbraid.networks.graph.module import KerasGraph
from unbraid.networks.graph_spec import GraphLayer, GraphSpec, LayerSpec, PerTimestepSpec
from unbraid.networks.keras.files import open_keras
from unbraid.networks.keras.graph_reading import read_graph
from unbraid.networks.keras.wiring import wired
from unbraid.networks.network import Network
from unbraid.networks.precision import FULL

TOLERANCE = 1e-4  # largest difference, relative to the largest output or to 1
ROUGH = 3e-2  # the same for half precision, and for other devices than the CPU
EXAMPLES = 3


class OnlyKeras3(UnbraidError):
    """A file gives other outputs in Keras 2, and the right ones in Keras 3."""


def check_keras(
    path: Path, model: Network | ConcernModule | Composition, shapes: Shapes, words: list[int | None]
) -> None:
    """Read a file and run it on random inputs. If the model runs on none of these, the file is only read.

    A file that Keras 2 and 3 load is run as both compute it: they pass some masks on in different ways.

    Args:
        path: the file.
        model: the model that it was written from.
        shapes: shape of one example of each input; None for any size.
        words: for each input, the number of its word indices; None for numbers.

    Raises:
        OnlyKeras3: its outputs differ in Keras 2 alone.
        UnbraidError: the file cannot be read, or its outputs differ.
    """
    try:
        graphs = _read(path)
    except FAILED as error:
        raise _differs(f"cannot be read again ({quoted(error, 200)})") from error
    predict = model.predict if model.task == "regression" else model.predict_proba
    found = first_that_runs(predict, drawn(shapes, words, EXAMPLES))
    if found is None:
        return
    x, expected = found
    weight = next(model.parameters())
    exact = weight.dtype in FULL and weight.device.type == "cpu"
    scale = max(1.0, float(np.abs(expected[np.isfinite(expected)]).max(initial=0)))
    differences: dict[int, str] = {}
    for keras, graph in graphs.items():
        try:
            with torch.inference_mode():
                given = graph(*map(torch.from_numpy, x if isinstance(x, tuple) else [x])).numpy()
        except FAILED as error:
            raise _differs(f"does not run ({quoted(error, 200)})") from error
        if given.size != expected.size:
            raise _differs(f"has outputs of shape {given.shape}, expected {expected.shape}")
        apart = np.abs(given.reshape(expected.shape) - expected)[~np.isnan(expected)]
        if not (apart <= (TOLERANCE if exact else ROUGH) * scale).all():
            differences[keras] = f"has outputs in Keras {keras} that differ by up to {apart.max():.1g}"
    if differences:
        kind = OnlyKeras3 if 3 not in differences else UnbraidError
        masks = ", as both pass masks on in different ways" if len(differences) < len(graphs) else ""
        raise _differs(" and ".join(differences.values()) + masks, kind)


def _read(path: Path) -> dict[int, KerasGraph]:
    """Return the graph of a file as each version of Keras that loads it computes it: version -> graph."""
    with open_keras(path) as saved:
        keras = saved.keras
        wiring = wired(saved.model, keras, False)
        read = read_graph(saved, wiring, next(iter(wiring.outputs.values())))
    found = {}
    for version in range(keras, 4):
        with torch.device("meta"):
            graph = KerasGraph(_computed_by(version, read.spec))
        graph.load_state_dict(read.weights, assign=True)
        found[version] = graph.eval()
    return found


def _computed_by(keras: int, spec: GraphSpec) -> GraphSpec:
    """Return a graph whose layers compute as in a version of Keras."""
    layers: list[GraphLayer] = []
    for layer in spec.layers:
        if isinstance(layer, PerTimestepSpec):
            layer = layer.model_copy(update={"graph": _computed_by(keras, layer.graph)})
        elif isinstance(layer, LayerSpec):
            layer = layer.model_copy(update={"keras": keras})
        layers.append(layer)
    return spec.model_copy(update={"layers": layers})


def _differs(what: str, kind: type[UnbraidError] = UnbraidError) -> UnbraidError:
    return kind(
        f"the exported Keras file {what}: no file was written. Use unbraid.export_onnx; check=False writes the file "
        "without this comparison."
    )

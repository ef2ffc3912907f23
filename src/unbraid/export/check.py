"""Whether an ONNX file computes what the model does: inputs of several sizes through both.

Shapes: N examples, T timesteps, D features.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unbraid.config import Mode
from unbraid.errors import DataError, UnbraidError
from unbraid.modules.composition import Composition
from unbraid.modules.module import ConcernModule
from unbraid.networks import timesteps
from unbraid.networks.inputs import Inputs, leaves, map_tree, to_device
from unbraid.networks.network import Network
from unbraid.networks.spec import EmbeddingSpec, NetworkSpec

TOLERANCE = 1e-5  # of the largest output, or of 1


def needed(*packages: str) -> None:
    """Raises UnbraidError where one of the optional packages is not installed."""
    for package in packages:
        try:
            import_module(package)
        except ImportError:
            raise UnbraidError(f"ONNX export needs {package}: run  pip install 'unbraid[onnx]'") from None


def compare(content: bytes, answers: nn.Module, names: list[str], probes: Iterable[Any], device: torch.device) -> None:
    """Run a file beside the model.

    Args:
        content: of the file.
        answers: gives the outputs as torch computes them, in the file's order.
        names: of the inputs, in the order of a probe's tensors.
        probes: inputs; those that torch refuses are left out.
        device: where ``answers`` runs.

    Raises:
        UnbraidError: the file does not run, or its outputs differ.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what matters comes as an exception
    ran = 0
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        for tree in probes:
            expected = _as_torch(answers, to_device(tree, device))
            if expected is None:
                continue
            arrays = [leaf.numpy() for leaf in leaves(tree) if isinstance(leaf, Tensor)]
            wanted = {value.name for value in session.get_inputs()}
            feed = {name: array for name, array in zip(names, arrays, strict=True) if name in wanted}
            _same(session.run(None, feed), expected, [array.shape for array in arrays])
            ran += 1
    except UnbraidError:
        raise
    except Exception as error:  # onnxruntime's own, which derive from nothing in common
        raise UnbraidError(f"onnxruntime cannot run the exported model: {str(error).splitlines()[0]}") from error
    if not ran:
        raise DataError("the example does not run through the model's own forward.")


def fixed_steps(model: Network | ConcernModule | Composition, example: Tensor | None = None) -> int | None:
    """T where it cannot change: the network's file, a Flatten's consumer or unrolled masks fix it."""
    if isinstance(model, Composition):
        found = [fixed_steps(module, example) for module in model.modules_by_label.values()]
        return next((steps for steps in found if steps is not None), None)
    network = model if isinstance(model, Network) else model.parent
    assert isinstance(network.spec, NetworkSpec)
    if network.spec.steps is not None:
        return network.spec.steps
    if isinstance(model, ConcernModule) and model.concern.mode is Mode.UNROLLED and network.io.value[0] == "M":
        return next(iter(model.concern.steps.values()))
    return timesteps.fixed_steps(network.spec, None if example is None else example.shape[-1])


def random_inputs(network: Network, examples: int, steps: int, like: Tensor | None = None) -> Tensor:
    """Any words (N, T), or features (N, T, D) with D from the network or from inputs ``like`` these."""
    spec, generator = network.spec, torch.Generator().manual_seed(examples)
    assert isinstance(spec, NetworkSpec)
    first = spec.stages[0]
    if isinstance(first, EmbeddingSpec):
        words = torch.randint(0, first.vocabulary, (examples, steps), generator=generator)
        return words * (torch.rand(words.shape, generator=generator) < 0.8)  # zeros, as padding has
    width = timesteps.feature_width(spec) if like is None else like.shape[2]
    if width is None:
        raise DataError("example is needed: the network's file does not say how many features a timestep has.")
    values = torch.randn(examples, steps, width, generator=generator)
    return values * (torch.rand(examples, steps, 1, generator=generator) < 0.8)


def tensors(inputs: Inputs) -> Inputs:
    """The same inputs as tensors."""
    return replace(inputs, tree=map_tree(lambda v: torch.as_tensor(v) if isinstance(v, np.ndarray) else v, inputs.tree))


def resized(inputs: Inputs, proto: Any) -> Iterator[Any]:
    """An example of a user's own module in other sizes: rows in the same order (lengths stay sorted), other T."""
    changing = [
        [axis for axis, size in enumerate(value.type.tensor_type.shape.dim) if size.dim_param.startswith("time")]
        for value in proto.graph.input
    ]
    count = inputs.examples
    for rows, change in ((count, 0), (1, 0), (count + 3, -1), (2, -2), (count, 3)):
        yield _with_steps(inputs.take(np.sort(np.arange(rows) % count)).tree, changing, change)


def _with_steps(tree: Any, changing: list[list[int]], change: int) -> Any:
    """A tree whose tensors have so many timesteps more, along the axes given for each."""
    axes = iter(changing)
    shortest: list[int] = []

    def fitted(leaf: Any) -> Any:
        for axis in next(axes) if isinstance(leaf, Tensor) else []:
            steps = max(1, leaf.shape[axis] + change)
            shortest.append(steps)
            leaf = leaf.index_select(axis, torch.arange(steps) % leaf.shape[axis])
        return leaf

    def shortened(leaf: Any) -> Any:
        whole = isinstance(leaf, Tensor) and leaf.dim() == 1 and leaf.dtype in (torch.int32, torch.int64)
        return leaf.clamp(max=min(shortest)) if whole else leaf  # one whole number an example may be its length

    tree = map_tree(fitted, tree)
    return map_tree(shortened, tree) if shortest and change < 0 else tree


def _as_torch(answers: nn.Module, tree: Any) -> list[np.ndarray] | None:
    try:
        with torch.inference_mode():
            return [value.cpu().numpy() for value in answers(tree)]
    except Exception:  # a user's own forward may raise anything where a size does not suit it
        return None


def _same(found: list[np.ndarray], expected: list[np.ndarray], shapes: list[tuple[int, ...]]) -> None:
    for one, other in zip(found, expected, strict=True):
        most = TOLERANCE * max(1.0, float(np.nan_to_num(np.abs(other)).max(initial=0)))
        if one.shape != other.shape:
            what = f"outputs of shape {one.shape}, torch gives {other.shape}"
        elif not np.allclose(one, other, rtol=0, atol=most, equal_nan=True):
            what = f"outputs that differ from torch's by up to {np.nanmax(np.abs(one - other)):.1g}"
        else:
            continue
        raise UnbraidError(
            f"the exported model gives {what}, on inputs of shape {shapes}: no file was written. Where the forward "
            "decides by values or sizes, only one way is exported; check=False writes the file all the same."
        )

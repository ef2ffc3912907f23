"""Compare the outputs of an ONNX file with those of the model, on inputs of several sizes.

Shapes: N examples, T timesteps, D features.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unbraid.config import Mode
from unbraid.errors import DataError, UnbraidError
from unbraid.modules.module import ConcernModule
from unbraid.networks import timesteps
from unbraid.networks.inputs import Inputs, leaves, map_tree, to_device
from unbraid.networks.network import Network
from unbraid.networks.spec import NetworkSpec
from unbraid.networks.stage_spec import EmbeddingSpec

TOLERANCE = 1e-5  # largest difference, relative to the largest output or to 1


def needed(*packages: str) -> None:
    """Raise UnbraidError if one of the optional packages is not installed."""
    for package in packages:
        try:
            import_module(package)
        except ImportError:
            raise UnbraidError(f"ONNX export needs {package}: run pip install 'unbraid[onnx]'.") from None


def compare(content: bytes, answers: nn.Module, names: list[str], probes: Iterable[Any], device: torch.device) -> None:
    """Run an ONNX file and the model on the same inputs, and compare the outputs.

    Args:
        content: content of the file.
        answers: computes the expected outputs in PyTorch, in the order of the file.
        names: names of the inputs, in the order of the tensors of a probe.
        probes: inputs; those on which the model raises an error are skipped.
        device: device of ``answers``.

    Raises:
        UnbraidError: the file does not run, or its outputs differ.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # no log; errors are raised as exceptions
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
    except Exception as error:  # the errors of onnxruntime have no common base class
        raise UnbraidError(f"onnxruntime cannot run the exported model: {str(error).splitlines()[0]}") from error
    if not ran:
        raise DataError("the example does not run through the model's forward: pass inputs that the model reads.")


def fixed_steps(model: Network | ConcernModule, example: Tensor | None = None) -> int | None:
    """Return T if it is fixed by the network's file, by a flattening layer or by unrolled masks; None otherwise."""
    network = model if isinstance(model, Network) else model.parent
    assert isinstance(network.spec, NetworkSpec)
    if network.spec.steps is not None or network.spec.shape is not None:
        return network.spec.steps
    if isinstance(model, ConcernModule) and model.concern.mode is Mode.UNROLLED and network.io.value[0] == "M":
        return next(iter(model.concern.steps.values()))
    return timesteps.fixed_steps(network.spec, None if example is None else example.shape[-1])


def random_inputs(network: Network, examples: int, steps: int, like: Tensor | None = None) -> Tensor:
    """Draw random word indices (N, T), or features (N, T, D) with D of the network or of the inputs ``like``.

    A network with fixed sizes of one example gets features (N, ...) of these sizes.
    """
    spec, generator = network.spec, torch.Generator().manual_seed(examples)
    assert isinstance(spec, NetworkSpec)
    if spec.shape is not None:
        return torch.randn(examples, *spec.shape, generator=generator)
    first = spec.stages[0]
    if isinstance(first, EmbeddingSpec):
        words = torch.randint(0, first.vocabulary, (examples, steps), generator=generator)
        return words * (torch.rand(words.shape, generator=generator) < 0.8)  # some zeros, like padding
    width = timesteps.feature_width(spec) if like is None else like.shape[2]
    if width is None:
        raise DataError(
            "example is needed, because the network's file does not store the number of features of a timestep: pass "
            "export_onnx(..., example=x[:4])."
        )
    values = torch.randn(examples, steps, width, generator=generator)
    return values * (torch.rand(examples, steps, 1, generator=generator) < 0.8)


def tensors(inputs: Inputs) -> Inputs:
    """Convert the arrays of the inputs to tensors."""
    return replace(inputs, tree=map_tree(lambda v: torch.as_tensor(v) if isinstance(v, np.ndarray) else v, inputs.tree))


def with_steps(tree: Any, changing: list[list[int]], change: int) -> Any:
    """Change the number of timesteps of the tensors of a tree by ``change``, along the axes given for each tensor."""
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
        return leaf.clamp(max=min(shortest)) if whole else leaf  # one integer for each example may be its length

    tree = map_tree(fitted, tree)
    return map_tree(shortened, tree) if shortest and change < 0 else tree


def _as_torch(answers: nn.Module, tree: Any) -> list[np.ndarray] | None:
    try:
        with torch.inference_mode():
            return [value.cpu().numpy() for value in answers(tree)]
    except Exception:  # the forward of a user may raise any error for an unsuitable size
        return None


def _same(found: list[np.ndarray], expected: list[np.ndarray], shapes: list[tuple[int, ...]]) -> None:
    for one, other in zip(found, expected, strict=True):
        most = TOLERANCE * max(1.0, float(np.nan_to_num(np.abs(other)).max(initial=0)))
        if one.shape != other.shape:
            what = f"has outputs of shape {one.shape}, the PyTorch model of shape {other.shape}"
        elif not np.allclose(one, other, rtol=0, atol=most, equal_nan=True):
            what = f"has outputs that differ from those of PyTorch by up to {np.nanmax(np.abs(one - other)):.1g}"
        else:
            continue
        raise UnbraidError(
            f"the exported model {what}, on inputs of shape {shapes}: no file was written. If the forward branches on "
            "values or sizes, only one branch is exported. check=False writes the file without this comparison."
        )

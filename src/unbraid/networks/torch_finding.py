"""Finding what a user's nn.Module consists of: its recurrent layers, its output layer, its batch axis.

Shapes: N examples, T timesteps, F features, C classes.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from unbraid.errors import ConfigError, DataError, UnsupportedLayer
from unbraid.networks.inputs import leaves
from unbraid.networks.spec import TorchLayerSpec, TorchSpec
from unbraid.networks.stack import RecurrentStack
from unbraid.networks.torch_body import TorchBody, layer_names, prepared, said
from unbraid.networks.torch_checking import SUPPORTED, check_plain, recurrent_sites
from unbraid.networks.torch_running import Run, batch_axes, watched

Output = Literal["softmax", "sigmoid"]

__all__ = ["find", "recurrent_sites"]


def find(module: nn.Module, example: Any, head: str | None, output: Output | None) -> TorchSpec:
    """Describe a user's module.

    Args:
        module: in eval mode.
        example: at least two examples, as the module reads them.
        head: path of the output nn.Linear; None finds it where only one fits.
        output: ``softmax`` or ``sigmoid``; None takes it from what follows the output layer, else by its size.

    Raises:
        UnsupportedLayer: no recurrent layer, or one that cannot be taken apart.
        DataError: no such head, several that fit, or an example that does not run.
        FormatError: weights that are not finite.
        ConfigError: another ``output``.
    """
    sites = recurrent_sites(module)
    check_plain(module)
    if output not in (None, "softmax", "sigmoid"):
        raise ConfigError(f"output={output!r}: expected 'softmax' or 'sigmoid', or None to find it.")
    _check_example(example)
    run = watched(module, example)
    if idle := [site for site in sites if not run.counts[site]]:
        raise UnsupportedLayer(f"recurrent layers {idle} do not run on the example: remove what forward does not call.")
    path, found = _head(module, run, head)
    layer = module.get_submodule(path)
    assert isinstance(layer, nn.Linear)
    features = run.linears[path][0]
    batch_axis, out_axis = batch_axes(module, example, path)
    names = []
    for site, original in sites.items():
        stack = RecurrentStack(original)
        for name, part in zip(layer_names(site, stack), stack.layers, strict=True):
            names.append(TorchLayerSpec(name=name, site=site, cell=stack.cell, inputs=part.inputs, units=part.units))
    default: Output = "sigmoid" if layer.out_features == 1 else "softmax"
    spec = TorchSpec(
        module=type(module).__name__,
        layers=names,
        head=path,
        features=layer.in_features,
        classes=layer.out_features,
        output=output or found or default,
        many_outputs=features.dim() == 3,
        time_first=features.dim() == 3 and out_axis == 1,
        axes=[leaf.dim() for leaf in leaves(example) if isinstance(leaf, Tensor) and leaf.dim()],
        batch_axis=batch_axis,
    )
    _check_same(module, spec, example, features.transpose(0, 1) if spec.time_first else features)
    return spec


def _check_example(example: Any) -> None:
    if not any(isinstance(leaf, Tensor) and leaf.dim() for leaf in leaves(example)):
        raise DataError("example holds no tensor: pass a small batch as the module reads it.")
    for part in example.values() if isinstance(example, dict) else example if isinstance(example, tuple) else ():
        if isinstance(part, list) and part and all(isinstance(number, int | float) for number in part):
            raise DataError(f"example holds a list of {len(part)} numbers: pass tensors, as torch.tensor(lengths).")


def _check_same(module: nn.Module, spec: TorchSpec, example: Any, wanted: Tensor) -> None:
    """The module with its layers exchanged must do what it did; raises UnsupportedLayer."""
    try:
        with torch.no_grad():
            given = TorchBody(prepared(module, spec.head), spec)(example)
    except Exception as error:  # whatever a user's forward raises
        raise UnsupportedLayer(
            f"{spec.module} does more with its recurrent layers than call them ({said(error)}); {SUPPORTED}."
        ) from error
    if given.shape != wanted.shape or not torch.allclose(given, wanted, rtol=1e-3, atol=1e-4):
        raise UnsupportedLayer(
            f"{spec.module} computes something else with plain layers of its weights: remove hooks on its recurrent "
            f"layers and whatever else changes what they give; {SUPPORTED}."
        )


def _head(module: nn.Module, run: Run, head: str | None) -> tuple[str, Output | None]:
    """Path of the output layer, and the activation that the module itself puts behind it."""
    linears = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    fits = {name: kind for name, (_, scores) in run.linears.items() if (kind := _relation(scores, run)) is not None}
    if head is not None:
        if head not in linears:
            raise DataError(f"head={head!r} is no nn.Linear of the module; it has {linears}.")
        if head not in run.linears:
            raise DataError(f"head={head!r} did not run on the example.")
        if head not in fits and _overruled(run.linears[head][1], run):
            raise UnsupportedLayer(
                f"behind head={head!r} the module changes what it decides (by a mask, a prior?), and modules of that "
                "layer would not: make it part of the layer's bias, or return the layer's own scores."
            )
    elif not linears:
        raise UnsupportedLayer(f"{type(module).__name__} has no nn.Linear that could give its scores; {SUPPORTED}.")
    elif len(fits) != 1:
        for only in [name for name in run.linears if not fits and len(run.linears) == 1]:
            _check_head(module.get_submodule(only), only, run)
        many = f"several layers fit: {sorted(fits)}" if fits else f"none of {linears} gives the module's result"
        raise DataError(f"the output layer was not found ({many}): name it with head=.")
    name = next(iter(fits)) if head is None else head
    _check_head(module.get_submodule(name), name, run)
    return name, fits.get(name) or None  # type: ignore[return-value]  # "" says nothing about the activation


def _check_head(layer: Any, name: str, run: Run) -> None:
    """Raises UnsupportedLayer where the output layer is not run once, as a plain nn.Linear over examples."""
    if hasattr(layer, "parametrizations") or "weight" not in dict(layer.named_parameters()):
        raise UnsupportedLayer(
            f"output layer {name!r} has parametrized weights: make them plain first "
            "(torch.nn.utils.parametrize.remove_parametrizations, or torch.nn.utils.remove_weight_norm)."
        )
    if run.counts[name] > 1:
        raise UnsupportedLayer(
            f"output layer {name!r} runs {run.counts[name]} times in one forward; supported is once, over all "
            "timesteps (nn.Linear works over the last axis)."
        )
    features, scores = run.linears[name]
    if not torch.allclose(scores, nn.functional.linear(features, layer.weight, layer.bias), rtol=1e-4, atol=1e-5):
        raise UnsupportedLayer(
            f"output layer {name!r} is {type(layer).__name__}, with a forward of its own; {SUPPORTED}."
        )
    if features.dim() not in (2, 3):
        raise UnsupportedLayer(f"output layer {name!r} reads {tuple(features.shape)}, expected (N, F) or (N, T, F).")


def _relation(scores: Tensor, run: Run) -> str | None:
    """How a layer's scores become one of the results: "" as they are, "softmax", "sigmoid"; None: they do not."""
    for result in run.results:
        if result.numel() != scores.numel():
            continue
        for candidate in (result, result.transpose(0, 1) if result.dim() > 1 else result):
            given = candidate.reshape(scores.shape)
            for kind, values in _activations(scores):
                if torch.allclose(given, values.to(given.dtype), rtol=1e-4, atol=1e-6):
                    return kind
    return None


def _overruled(scores: Tensor, run: Run) -> bool:
    """Whether results of the layer's own shape, which no layer explains, decide otherwise than its scores (..., C)."""
    explained = [other for _, other in run.linears.values()]
    for result in run.results:
        if result.shape != scores.shape or scores.shape[-1] < 2:
            continue
        alone = Run(results=[result])
        if all(_relation(other, alone) is None for other in explained):
            return not torch.equal(result.argmax(-1), scores.argmax(-1))
    return False


def _activations(scores: Tensor) -> list[tuple[str, Tensor]]:
    return [
        ("", scores),
        ("softmax", torch.softmax(scores, -1)),
        ("softmax", torch.log_softmax(scores, -1)),
        ("sigmoid", torch.sigmoid(scores)),
        ("sigmoid", nn.functional.logsigmoid(scores)),
    ]

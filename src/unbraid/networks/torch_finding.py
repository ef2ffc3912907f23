"""Finding what a user's nn.Module consists of: its recurrent layers, its output layer, its batch axis.

Shapes: N examples, T timesteps, F features, C classes.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from unbraid.errors import DataError, UnsupportedLayer
from unbraid.networks.inputs import Inputs, leaves, map_tree
from unbraid.networks.spec import TorchLayerSpec, TorchSpec
from unbraid.networks.stack import RecurrentStack, torch_cell
from unbraid.networks.torch_body import call, layer_names

Output = Literal["softmax", "sigmoid"]
_SUPPORTED = "supported are nn.RNN, nn.LSTM and nn.GRU with one output nn.Linear behind them"


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
    """
    sites = recurrent_sites(module)
    axes = [leaf.dim() for leaf in leaves(example) if isinstance(leaf, Tensor) and leaf.dim()]
    if not axes:
        raise DataError("example holds no tensor: pass a small batch as the module reads it.")
    result, seen = _watched(module, example)
    path, found = _head(module, result, seen, head)
    layer = module.get_submodule(path)
    assert isinstance(layer, nn.Linear)
    features = seen[path][0]
    batch_axis, out_axis = _batch_axes(module, example, path)
    if features.dim() not in (2, 3):
        raise UnsupportedLayer(f"output layer {path!r} reads {tuple(features.shape)}, expected (N, F) or (N, T, F).")
    names = []
    for site, original in sites.items():
        stack = RecurrentStack(original)
        for name, part in zip(layer_names(site, stack), stack.layers, strict=True):
            names.append(TorchLayerSpec(name=name, site=site, cell=stack.cell, inputs=part.inputs, units=part.units))
    default: Output = "sigmoid" if layer.out_features == 1 else "softmax"
    return TorchSpec(
        module=type(module).__name__,
        layers=names,
        head=path,
        features=layer.in_features,
        classes=layer.out_features,
        output=output or found or default,
        many_outputs=features.dim() == 3,
        time_first=features.dim() == 3 and out_axis == 1,
        axes=axes,
        batch_axis=batch_axis,
    )


def recurrent_sites(module: nn.Module) -> dict[str, nn.RNNBase]:
    """Path -> nn.RNN, nn.LSTM or nn.GRU; raises UnsupportedLayer with what was found instead."""
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise UnsupportedLayer(f"{type(module).__name__} wraps a module: pass its .module.")
    if isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedLayer("a scripted module hides its layers: pass the nn.Module that it was made from.")
    sites: dict[str, nn.RNNBase] = {}
    for name, part in module.named_modules():
        if isinstance(part, nn.RNNCellBase):
            raise UnsupportedLayer(
                f"layer {name!r} is {type(part).__name__}, stepped by the module's own loop; {_SUPPORTED}: "
                f"use nn.{type(part).__name__.removesuffix('Cell')} over the whole sequence instead."
            )
        if "quantized" in type(part).__module__:
            raise UnsupportedLayer(f"layer {name!r} is quantized; {_SUPPORTED}: pass the network before quantization.")
        if isinstance(part, nn.RNNBase):
            if not isinstance(part, nn.RNN | nn.LSTM | nn.GRU):
                raise UnsupportedLayer(f"layer {name!r} is {type(part).__name__}; {_SUPPORTED}.")
            if hasattr(part, "parametrizations") or "weight_hh_l0" not in dict(part.named_parameters()):
                raise UnsupportedLayer(
                    f"layer {name!r} has parametrized weights: make them plain first "
                    "(torch.nn.utils.parametrize.remove_parametrizations)."
                )
            torch_cell(part)
            sites[name] = part
    if not sites:
        kinds = sorted({type(part).__name__ for part in module.modules()} - {type(module).__name__})
        raise UnsupportedLayer(f"{type(module).__name__} has no recurrent layer (it holds {kinds}); {_SUPPORTED}.")
    return sites


def _watched(module: nn.Module, example: Any) -> tuple[list[Tensor], dict[str, tuple[Tensor, Tensor]]]:
    """The module's output tensors, and every nn.Linear's last input and output."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    handles = []
    for name, part in module.named_modules():
        if isinstance(part, nn.Linear):
            handles.append(part.register_forward_hook(lambda m, i, o, name=name: seen.__setitem__(name, (i[0], o))))
    try:
        with torch.no_grad():
            result = call(module, example)
    except Exception as error:  # whatever a user's forward raises
        raise DataError(f"example does not run through the module: {str(error).splitlines()[0]}") from error
    finally:
        for handle in handles:
            handle.remove()
    return [leaf for leaf in leaves(result) if isinstance(leaf, Tensor)], seen


def _head(
    module: nn.Module, result: list[Tensor], seen: dict[str, tuple[Tensor, Tensor]], head: str | None
) -> tuple[str, Output | None]:
    """Path of the output layer, and the activation that the module itself puts behind it."""
    linears = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    fits = {name: kind for name, (_, scores) in seen.items() if (kind := _relation(scores, result)) is not None}
    if head is not None:
        if head not in linears:
            raise DataError(f"head={head!r} is no nn.Linear of the module; it has {linears}.")
        if head not in seen:
            raise DataError(f"head={head!r} did not run on the example.")
        return head, fits.get(head) or None  # type: ignore[return-value]  # "" says nothing about the activation
    if len(fits) != 1:
        many = f"several layers fit: {sorted(fits)}" if fits else f"no nn.Linear gives the module's output: {linears}"
        raise DataError(f"the output layer was not found ({many}): name it with head=.")
    name, kind = next(iter(fits.items()))
    return name, kind or None  # type: ignore[return-value]


def _relation(scores: Tensor, results: list[Tensor]) -> str | None:
    """How a layer's scores become one of the results: "" as they are, "softmax", "sigmoid"; None: they do not."""
    for result in results:
        if result.numel() != scores.numel():
            continue
        for candidate in (result, result.transpose(0, 1) if result.dim() > 1 else result):
            given = candidate.reshape(scores.shape)
            for kind, values in _activations(scores):
                if torch.allclose(given, values, rtol=1e-4, atol=1e-6):
                    return kind
    return None


def _activations(scores: Tensor) -> list[tuple[str, Tensor]]:
    return [
        ("", scores),
        ("softmax", torch.softmax(scores, -1)),
        ("softmax", torch.log_softmax(scores, -1)),
        ("sigmoid", torch.sigmoid(scores)),
        ("sigmoid", nn.functional.logsigmoid(scores)),
    ]


def _batch_axes(module: nn.Module, example: Any, head: str) -> tuple[int, int]:
    """Where examples lie in the inputs and in what the output layer reads: swapping them there swaps the results."""
    tensors = [leaf for leaf in leaves(example) if isinstance(leaf, Tensor) and leaf.dim()]
    before = _watched(module, example)[1][head][0]
    for axis in (0, 1):
        if tensors[0].dim() <= axis:
            continue
        examples = tensors[0].shape[axis]
        if examples < 2:
            continue
        inputs = Inputs(example, examples, axis)
        try:
            after = _watched(module, map_tree(partial(_turned, inputs=inputs), example))[1][head][0]
        except DataError:
            continue
        for out in (0, 1):
            if before.dim() <= out or before.shape[out] != examples or after.shape != before.shape:
                continue
            if torch.allclose(before.index_select(out, _order(examples).to(before.device)), after, 1e-3, 1e-5):
                return axis, out
    raise DataError(
        "the batch axis was not found: example must hold at least two different examples, of one length where the "
        "module packs with enforce_sorted=True, and the module must treat each by itself."
    )


def _order(examples: int) -> Tensor:
    return torch.cat([torch.arange(1, examples), torch.arange(1)])


def _turned(leaf: Any, inputs: Inputs) -> Any:
    axis = inputs.axis_of(leaf)
    return leaf if axis is None else leaf.index_select(axis, _order(inputs.examples).to(leaf.device))

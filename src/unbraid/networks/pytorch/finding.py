"""Find the recurrent layers, the output layer and the batch axis of a user's nn.Module.

Shapes: N examples, T timesteps, F features, C classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from unbraid.errors import ConfigError, DataError, UnsupportedLayer
from unbraid.networks.inputs import leaves
from unbraid.networks.pytorch.answer import Answer, Output, changed_answer, disagreements, find_answer
from unbraid.networks.pytorch.body import TorchBody, layer_names, prepared
from unbraid.networks.pytorch.calling import said
from unbraid.networks.pytorch.checking import SUPPORTED, check_plain, recurrent_sites
from unbraid.networks.pytorch.running import Run, batch_axes, watched
from unbraid.networks.spec import TorchLayerSpec, TorchSpec
from unbraid.networks.stack import RecurrentStack

__all__ = ["find", "recurrent_sites"]


def find(module: nn.Module, example: Any, head: str | None, output: Output | None) -> tuple[TorchSpec, Answer | None]:
    """Describe a user's module.

    Args:
        module: in eval mode.
        example: at least two examples, as the module reads them.
        head: path of the output nn.Linear; None searches for it.
        output: ``softmax`` or ``sigmoid``; None derives it from the result of the module, else ``softmax``.

    Returns:
        the description, and which result comes from the output layer (None if no result can be compared).

    Raises:
        UnsupportedLayer: no recurrent layer, or one that cannot be decomposed.
        DataError: no such output layer, several candidates, or an example that does not run.
        FormatError: weights that are not finite.
        ConfigError: an unknown ``output``.
    """
    sites = recurrent_sites(module)
    check_plain(module)
    if output not in (None, "softmax", "sigmoid"):
        raise ConfigError(f"output={output!r}: expected 'softmax' or 'sigmoid', or None to derive it.")
    _check_example(example)
    run = watched(module, example)
    if idle := [site for site in sites if not run.counts[site]]:
        raise UnsupportedLayer(
            f"recurrent layers {idle} do not run on the example: remove layers that forward does not call."
        )
    path, answer = _head(module, run, head, output)
    layer = module.get_submodule(path)
    assert isinstance(layer, nn.Linear)
    features = run.linears[path][0]
    batch_axis, out_axis = batch_axes(module, example, path)
    names = []
    for site, original in sites.items():
        stack = RecurrentStack(original)
        for name, part in zip(layer_names(site, stack), stack.layers, strict=True):
            names.append(TorchLayerSpec(name=name, site=site, cell=stack.cell, inputs=part.inputs, units=part.units))
    spec = TorchSpec(
        module=type(module).__name__,
        layers=names,
        head=path,
        features=layer.in_features,
        classes=layer.out_features,
        output=output or (answer and answer.output) or "softmax",
        many_outputs=features.dim() == 3,
        time_first=features.dim() == 3 and out_axis == 1,
        axes=[leaf.dim() for leaf in leaves(example) if isinstance(leaf, Tensor) and leaf.dim()],
        batch_axis=batch_axis,
    )
    _check_same(module, spec, example, features.transpose(0, 1) if spec.time_first else features)
    return spec, answer


def _check_example(example: Any) -> None:
    if not any(isinstance(leaf, Tensor) and leaf.dim() for leaf in leaves(example)):
        raise DataError("example holds no tensor: pass a small batch of inputs of the module.")
    for part in example.values() if isinstance(example, dict) else example if isinstance(example, tuple) else ():
        if isinstance(part, list) and part and all(isinstance(number, int | float) for number in part):
            raise DataError(f"example holds a list of {len(part)} numbers: pass tensors, as torch.tensor(lengths).")


def _check_same(module: nn.Module, spec: TorchSpec, example: Any, wanted: Tensor) -> None:
    """Check that the module computes the same with replaced layers; raises UnsupportedLayer."""
    try:
        with torch.no_grad():
            given = TorchBody(prepared(module, spec.head), spec)(example)
    except Exception as error:  # whatever a user's forward raises
        raise UnsupportedLayer(
            f"{spec.module} does more with its recurrent layers than call them ({said(error)}); {SUPPORTED}."
        ) from error
    if given.shape != wanted.shape or not torch.allclose(given, wanted, rtol=1e-3, atol=1e-4):
        raise UnsupportedLayer(
            f"{spec.module} computes other values with plain layers of the same weights: remove hooks and other code "
            f"that changes the outputs of its recurrent layers; {SUPPORTED}."
        )


def _head(module: nn.Module, run: Run, head: str | None, output: Output | None) -> tuple[str, Answer | None]:
    """Find the path of the output layer, and the result of the module that comes from it."""
    linears = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    if head is None and not linears:
        raise UnsupportedLayer(f"{type(module).__name__} has no nn.Linear that could give its scores; {SUPPORTED}.")
    _check_kinds(module, run)
    fits = {name: found for name, (_, scores) in run.linears.items() if (found := find_answer(scores, run.results))}
    name = _found_head(module, run, fits, linears, output) if head is None else head
    if name not in linears:
        raise DataError(f"head={head!r} is no nn.Linear of the module; it has {linears}.")
    if name not in run.linears:
        raise DataError(f"head={head!r} did not run on the example.")
    _check_head(module.get_submodule(name), name, run)
    scores = run.linears[name][1]
    if scores.shape[-1] == 1 and output != "sigmoid" and (name not in fits or fits[name].output != "sigmoid"):
        raise DataError(_regression(name))
    return name, fits.get(name) or _changed(name, run, output)


def _found_head(module: nn.Module, run: Run, fits: dict[str, Answer], linears: list[str], output: Output | None) -> str:
    """Find the one layer whose scores are returned. Activated scores and decisions are preferred to plain scores."""
    numbers = [n for n in fits if run.linears[n][1].shape[-1] == 1 and fits[n].output is None and output != "sigmoid"]
    classes = {name: fits[name] for name in fits if name not in numbers}
    shown = [name for name, answer in classes.items() if answer.output is not None]
    candidates = shown or list(classes)
    if len(candidates) == 1:
        return candidates[0]
    if numbers and not classes:
        raise DataError(_regression(numbers[0]))
    for only in [name for name in run.linears if not fits and len(run.linears) == 1]:
        _check_head(module.get_submodule(only), only, run)
    many = f"several layers fit: {sorted(candidates)}" if candidates else f"none of {linears} gives the module's result"
    raise DataError(f"the output layer was not found ({many}): name it with head=.")


def _regression(name: str) -> str:
    return (
        f"layer {name!r} has one column without a sigmoid, a regression output, but classes are needed. "
        f"If it is the logit of two classes, pass head={name!r}, output='sigmoid'; else pass another layer as head=."
    )


def _check_kinds(module: nn.Module, run: Run) -> None:
    """Raise UnsupportedLayer if forward runs under inference mode or autocast."""
    for name, (features, scores) in run.linears.items():
        if features.is_inference() or scores.is_inference():
            raise UnsupportedLayer(
                "the module's forward runs under torch.inference_mode(), and no gradients pass through its tensors: "
                "remove it from forward, and use it where the module is called."
            )
        weight = dict(module.named_parameters()).get(f"{name}.weight")
        if weight is not None and scores.dtype != weight.dtype:
            raise UnsupportedLayer(
                f"layer {name!r} has weights of {weight.dtype} and gives {scores.dtype}: the module's forward uses "
                "autocast. Remove it from forward, and use it where the module is called."
            )


def _changed(name: str, run: Run, output: Output | None) -> Answer | None:
    """Find a result that changes the scores but not the decisions; raises UnsupportedLayer if decisions differ."""
    scores = run.linears[name][1]
    answer = changed_answer(scores, run.results, [given for _, given in run.linears.values()])
    if answer is None:
        return None
    wrong = disagreements(answer, scores, run.results, output or "softmax")
    if wrong is not None and bool(wrong.any()):
        raise UnsupportedLayer(
            f"behind head={name!r} the module changes what it decides (for example by a mask or a prior): "
            "move that step into the bias of the layer, or return the scores of the layer."
        )
    return answer


def _check_head(layer: Any, name: str, run: Run) -> None:
    """Raise UnsupportedLayer unless the output layer runs once, as a plain nn.Linear over examples."""
    if hasattr(layer, "parametrizations") or "weight" not in dict(layer.named_parameters()):
        raise UnsupportedLayer(
            f"output layer {name!r} has parametrized weights: call "
            "torch.nn.utils.parametrize.remove_parametrizations or torch.nn.utils.remove_weight_norm first."
        )
    if run.counts[name] > 1:
        raise UnsupportedLayer(
            f"output layer {name!r} runs {run.counts[name]} times in one forward; supported is once, over all "
            "timesteps (nn.Linear works over the last axis)."
        )
    features, scores = run.linears[name]
    if not torch.allclose(scores, nn.functional.linear(features, layer.weight, layer.bias), rtol=1e-4, atol=1e-5):
        raise UnsupportedLayer(f"output layer {name!r} is {type(layer).__name__} with a custom forward; {SUPPORTED}.")
    if features.dim() not in (2, 3):
        raise UnsupportedLayer(
            f"output layer {name!r} reads {tuple(features.shape)}, expected (N, F) or (N, T, F): does the example have "
            "a batch axis? A list or tuple holds forward's arguments, so one argument that is a list is ([a, b],)."
        )

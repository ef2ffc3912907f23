"""Describe a user's nn.Module: its recurrent layers, its output layer, and its calling convention.

Shapes: N examples, T timesteps, F features, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unbraid.errors import ConfigError, DataError, UnbraidError, UnsupportedLayer
from unbraid.networks.inputs import Inputs, arrays_of, leaves, map_tree, padded, with_arrays
from unbraid.networks.outputs import NUMBERS, GivenTask, Output
from unbraid.networks.precision import HALF
from unbraid.networks.pytorch.answer import Answer
from unbraid.networks.pytorch.arranging import Arrangement
from unbraid.networks.pytorch.body import TorchBody, layer_names
from unbraid.networks.pytorch.calling import Caller, said
from unbraid.networks.pytorch.checking import SUPPORTED, check_plain, recurrent_sites, without_layers
from unbraid.networks.pytorch.choosing import Head, choose_head, options, returned
from unbraid.networks.pytorch.dense_finding import with_dense
from unbraid.networks.pytorch.heads import is_head
from unbraid.networks.pytorch.lengths import PackedLengths, UnsortedError
from unbraid.networks.pytorch.memory import Memory
from unbraid.networks.pytorch.merging import full_precision, plain
from unbraid.networks.pytorch.replacing import copied, prepared, stacks_of
from unbraid.networks.pytorch.running import Run, Swapping, axis_candidates, recorded, same_values
from unbraid.networks.pytorch.telling import tell
from unbraid.networks.pytorch.transitions import without_paths
from unbraid.networks.torch_spec import TorchLayerSpec, TorchRun, TorchSpec

__all__ = ["find", "recurrent_sites"]


def find(
    module: nn.Module, example: Any, head: str | None, output: str | None, task: GivenTask | None = None
) -> tuple[TorchSpec, Answer | None]:
    """Describe a user's module.

    Args:
        module: the module, in eval mode. Its weights are made plain in place.
        example: inputs of the module with at least two examples.
        head: path of the output layer; None searches for it.
        output: ``softmax`` or ``sigmoid``; None derives it from the result of the module, else ``softmax``.
        task: ``regression`` for numbers; ``output`` is then None, or the activation of the numbers.

    Returns:
        the description, and the result that depends on the output layer (None if no result can be compared).

    Raises:
        UnsupportedLayer: there is no recurrent layer, or one that cannot be decomposed.
        DataError: there is no such output layer, there are several candidates, or the example does not run.
        FormatError: weights that are not finite.
        ConfigError: an unknown ``output``.
    """
    sites = recurrent_sites(module, required=False)
    if not sites and sum(isinstance(part, nn.Linear) for part in module.modules()) < 2:
        raise without_layers(module)
    merged, half = plain(module), full_precision(module)
    check_plain(module)
    wanted = _wanted(output, task)
    tree, lists = _tensors(example)
    if half:  # the module has weights of float32 now
        tree = map_tree(_single, tree)
    memory = Memory(module)
    failed: UnbraidError | None = None
    try:
        for inputs, settings, run in _runs(module, memory, tree, TorchRun(lists=lists)):
            if idle := [site for site in sites if site not in run.layers]:
                raise UnsupportedLayer(
                    f"recurrent layers {idle} do not run on the example: remove layers that forward does not call."
                )
            candidates = [inputs] if settings.batch else list(axis_candidates(tree))
            try:
                found = choose_head(module, run, candidates, head, wanted)
                settings, arrangement, answer, test = _arranged(module, candidates, settings, run, found)
            except DataError as error:
                failed = failed or error
                if settings.batch or any(len(x) > 1 for calls in run.layers.values() for x in calls):
                    raise failed from None
                continue  # the layers read one sequence, so the module may read one example per call
            shown = _shown(wanted, answer, output is not None)
            ready = prepared(module, found.path, settings.folds)
            spec = _described(module, ready, settings, arrangement, test.inputs, found.path, shown)
            answer = without_paths(answer, module, spec.classes)
            features = _check_same(module, TorchBody(ready, spec), test)
            spec = with_dense(module, spec, test, features)
            if not spec.layers and not spec.dense:
                raise without_layers(module)
            tell(spec, answer, merged, half, found.others)
            return spec, answer
        assert failed is not None
        raise failed
    finally:
        memory.restore()


def output_layers(module: nn.Module, example: Any) -> list[str]:
    """List the paths of the layers whose scores a module returns, in the order of their definition.

    Args:
        module: the module. It is copied.
        example: inputs of the module with at least two examples.

    Raises:
        UnsupportedLayer: there is no recurrent layer, or one that cannot be decomposed.
        DataError: the example does not run, or no result is a function of the scores of one layer.
    """
    recurrent_sites(module, required=False)
    module = copied(module).eval()
    tree, lists = _tensors(example)
    memory = Memory(module)
    heads = [name for name, part in module.named_modules() if is_head(part)]
    try:
        for inputs, settings, run in _runs(module, memory, tree, TorchRun(lists=lists)):
            candidates = [inputs] if settings.batch else list(axis_candidates(tree))
            if found := list(returned(heads, run, candidates)):
                return found
    finally:
        memory.restore()
    raise DataError(f"no output layer was found (none of {heads} computes a result of the module): name them.")


def _single(leaf: Any) -> Any:
    """Convert numbers of half precision to float32."""
    return leaf.float() if isinstance(leaf, Tensor) and leaf.dtype in HALF else leaf


def _wanted(output: str | None, task: GivenTask | None) -> Output | None:
    """Return the kind of output that the user named; a regression has at least a linear one."""
    allowed: Mapping[str, Output] = NUMBERS if task == "regression" else {"softmax": "softmax", "sigmoid": "sigmoid"}
    if output is None:
        return "linear" if task == "regression" else None
    if output not in allowed:
        expected = " or ".join(map(repr, allowed))
        raise ConfigError(f"output={output!r}: expected {expected}, or None to derive it.")
    return allowed[output]


def _shown(wanted: Output | None, answer: Answer | None, named: bool) -> Output | None:
    """Return the kind of output that the user named, or that the result of the module shows."""
    if named or answer is None:
        return wanted
    return answer.output if wanted is None else answer.numbers or wanted


def _tensors(example: Any) -> tuple[Any, list[int]]:
    """Convert the example to tensors; also return the positions of lists of numbers."""
    tree, lists = with_arrays(padded(example))
    for leaf in leaves(tree):
        if not (leaf is None or isinstance(leaf, np.ndarray | Tensor | str | int | float)):
            raise DataError(
                f"example holds {type(leaf).__name__}, expected tensors, and tuples, lists, dicts, dataclasses or "
                "SimpleNamespaces of tensors. Copy the attributes of another batch object into a SimpleNamespace."
            )
    tree = map_tree(lambda leaf: torch.as_tensor(leaf) if isinstance(leaf, np.ndarray) else leaf, tree)
    if not arrays_of(tree):
        raise DataError("example holds no tensor: pass a small batch of inputs of the module.")
    if isinstance(tree, list) and len(tree) > 1 and len({t.shape[1:] for t in arrays_of(tree)}) == 1:
        sizes = {len(t) for t in arrays_of(tree)}
        if len(sizes) > 1:
            raise DataError(
                f"example is a list of {len(tree)} sequences of different lengths: pass one padded tensor and the "
                "lengths to a module that makes the list in its forward."
            )
    return tree, lists


def _runs(module: nn.Module, memory: Memory, tree: Any, settings: TorchRun) -> Iterator[tuple[Inputs, TorchRun, Run]]:
    """Run the example as it is. For the next value, run one example in each call.

    Yields:
        inputs, calling convention, and recorded values.

    Raises:
        DataError: the example does not run in either way. The message is that of the first failure.
    """
    failed: DataError | None = None
    candidates = list(axis_candidates(tree))
    alone = [inputs for inputs in candidates if inputs.examples > 1 and inputs.axis == 0]
    attempts = [(candidates[0], settings)]
    if isinstance(tree, tuple | list):
        attempts.append((candidates[0], settings.model_copy(update={"whole": True})))
    for changes in ({"batch": 1}, {"batch": 1, "unbatched": True}):
        attempts += [(inputs, settings.model_copy(update=changes)) for inputs in alone]
    ran = False
    for inputs, own in attempts:
        memory.restore()
        try:
            with PackedLengths():
                run = recorded(Caller(module, own), inputs)[0]
        except UnsortedError as error:
            failed = failed or DataError(f"example does not run through the module: {error}.")
            fitting = [i for i in candidates if i.examples == len(error.lengths)]
            if not fitting or own.batch:
                continue
            inputs, own = fitting[0], own.model_copy(update={"sorts": True})
            run = recorded(Caller(module, own), inputs)[0]
        except DataError as error:
            failed = failed or error
            continue
        if run.sorts and inputs.examples == _packed_rows(run):
            own = own.model_copy(update={"sorts": True})
        ran = True
        yield inputs, *_repeatable(module, memory, inputs, own, run)
    if not ran and failed is not None:
        raise failed


def _packed_rows(run: Run) -> int:
    return 0 if run.packed is None else int(run.packed.batch_sizes[0])


def _repeatable(
    module: nn.Module, memory: Memory, inputs: Inputs, settings: TorchRun, first: Run
) -> tuple[TorchRun, Run]:
    """Run again, with and without reset tensors; raise UnsupportedLayer if results are random.

    Args:
        module: the module, after its first run.
        memory: the values that it kept before the first run.
        inputs: the example.
        settings: calling convention.
        first: recorded values of the first run.
    """
    caller = Caller(module, settings)
    if settings.sorts:  # the first run may have used another order
        memory.restore()
        first = recorded(caller, inputs)[0]
    again = recorded(caller, inputs)[0]
    memory.restore()
    if same_values(first, again):
        return settings, first
    settings = settings.model_copy(update={"keeps": True})
    if not same_values(first, recorded(Caller(module, settings), inputs)[0]):
        raise UnsupportedLayer(
            "the module returns other values each time it runs on the same example. Turn dropout off in eval mode "
            "(F.dropout needs training=self.training), and make initial states without random numbers."
        )
    return settings, first


def _arranged(
    module: nn.Module, candidates: list[Inputs], settings: TorchRun, run: Run, found: Head
) -> tuple[TorchRun, Arrangement, Answer | None, Swapping]:
    """Find the batch axis of every input and the arrangement of the output layer, by swapping examples."""
    for inputs in candidates:
        if inputs.examples < 2:
            continue
        for arrangement, answer in options(found, run, settings.batch or inputs.examples):
            test = Swapping(Caller(module, settings), inputs, found.path, arrangement)
            if not test.moves():
                continue
            if settings.batch is None and test.fixed():
                settings = settings.model_copy(update={"batch": inputs.examples})
            settings = settings.model_copy(update={"folds": test.folds()})
            return settings, arrangement, answer, test
    raise DataError(_no_axis(candidates[0], run.heads[found.path][-1][0], found.path))


def _described(
    module: nn.Module,
    ready: nn.Module,
    settings: TorchRun,
    arrangement: Arrangement,
    inputs: Inputs,
    head: str,
    output: Output | None,
) -> TorchSpec:
    arrays = arrays_of(inputs.tree)
    by_rule = Inputs(inputs.tree, inputs.examples, inputs.axis)
    usual = all(by_rule.axis_of(leaf) == axis for leaf, axis in zip(arrays, inputs.axes or (), strict=True))
    settings = settings.model_copy(
        update={
            "layout": arrangement.layout,
            "pick": arrangement.pick,
            "axes": None if usual else list(inputs.axes or ()),
        }
    )
    names = []
    for site, stack in stacks_of(ready).items():
        for name, part in zip(layer_names(site, stack), stack.layers, strict=True):
            names.append(TorchLayerSpec(name=name, site=site, cell=stack.cell, inputs=part.inputs, units=part.units))
    weight = module.get_submodule(head).weight
    assert isinstance(weight, Tensor)
    return TorchSpec(
        module=type(module).__name__,
        layers=names,
        head=head,
        features=weight.shape[1],
        classes=weight.shape[0],
        output=output or "softmax",
        many_outputs=arrangement.many,
        time_first=arrangement.time_first,
        axes=[leaf.dim() for leaf in arrays],
        batch_axis=inputs.axis,
        run=settings,
    )


def _check_same(module: nn.Module, body: TorchBody, test: Swapping) -> Tensor:
    """Check that the module computes the same with replaced layers; raise UnsupportedLayer if not.

    Returns:
        the features that it computes, (N, F) or (N, T, F).
    """
    spec, wanted = body.spec, test.features()
    ran: set[int] = set()
    stacks = body.stacks()
    for stack in stacks.values():
        stack.register_forward_hook(lambda own, *_: ran.add(id(own)))
    try:
        with torch.no_grad():
            given: Tensor = body(test.inputs.tree)
    except Exception as error:  # a user's forward may raise any error
        raise UnsupportedLayer(
            f"{spec.module} does more with its recurrent layers than call them ({said(error)}); {SUPPORTED}."
        ) from error
    for site, stack in stacks.items():
        if id(stack) not in ran:
            raise UnsupportedLayer(
                f"layer {site!r} is {type(module.get_submodule(site)).__name__} with a custom forward that does not "
                f"call the forward of its base class; {SUPPORTED}."
            )
    if given.shape != wanted.shape or not torch.allclose(given, wanted, rtol=1e-3, atol=1e-4):
        raise UnsupportedLayer(
            f"{spec.module} computes other values with plain layers of the same weights: remove hooks and other code "
            f"that changes the outputs of its recurrent layers; {SUPPORTED}."
        )
    return given


def _no_axis(inputs: Inputs, before: Tensor, head: str) -> str:
    first = next(leaf for leaf in leaves(inputs.tree) if isinstance(leaf, Tensor) and leaf.dim())
    sizes = first.shape[:2]
    if max(sizes) < 2 or (first.shape[0] < 2 and before.shape[0] < 2):
        return "example holds one example: pass a batch of at least two different examples."
    if before.dim() == 1 or not any(before.shape[0] % size == 0 for size in sizes if size > 1):
        return (
            f"output layer {head!r} reads {tuple(before.shape)} for inputs of shape {tuple(first.shape)}; expected "
            "(N, F), (N, T, F) or (N*T, F): one row for each example or each of its timesteps."
        )
    return (
        "the batch axis was not found: swapping examples does not swap the results. Pass at least two different ones "
        "(of one length, if the module packs with enforce_sorted=True); is batch_first=True missing?"
    )

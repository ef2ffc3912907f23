"""Run a user's module and record the calls of its parts, without changes to the module.

Shapes: N examples, T timesteps, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from unbraid.errors import DataError, UnbraidError
from unbraid.networks.pytorch.arranging import tensors_of
from unbraid.networks.pytorch.calling import call, said
from unbraid.networks.pytorch.memory import Memory
from unbraid.networks.pytorch.replacing import copied

ADVICE = (
    "If it needs batches of one size, sequences sorted by length, or one example a call, shrink its network: "
    "unbraid.shrink(unbraid.Network.from_torch(module, example), x)."
)

Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Call:
    """One call of a part: its arguments and its result."""

    args: tuple
    kwargs: dict[str, Any]
    result: Any


@dataclass(frozen=True)
class Record:
    """One run of a module.

    Attributes:
        calls: path of a part -> its calls; the paths are in the order of their first call.
        results: the tensors that the module returned.
    """

    calls: dict[str, list[Call]] = field(default_factory=dict)
    results: list[Tensor] = field(default_factory=list)


def fresh(module: nn.Module) -> nn.Module:
    """Copy a module that shares its parameters, so that states stored by forward do not pass from run to run."""
    return copied(module, {id(p): p for p in module.parameters()})


@contextmanager
def same_random_numbers() -> Iterator[None]:
    """Give every run the same random numbers; those of the caller are not changed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def runs(
    module: nn.Module, batches: Iterable[Any], paths: Sequence[str], view: Callable[[nn.Module, Call], Seen]
) -> Generator[tuple[dict[str, list[Seen]], list[Tensor]]]:
    """Run a copy of a module over batches.

    Args:
        module: in eval mode.
        batches: inputs as :func:`unbraid.networks.pytorch.calling.call` reads them.
        paths: paths of the parts to record.
        view: what is recorded of each call of a part.

    Yields:
        of each batch: path -> recorded values, in the order of the first call; and the tensors that were returned.

    Raises:
        DataError: the forward of the module fails.
    """
    yield from runs_in(fresh(module), batches, paths, view)


def runs_in(
    module: nn.Module, batches: Iterable[Any], paths: Sequence[str], view: Callable[[nn.Module, Call], Seen]
) -> Generator[tuple[dict[str, list[Seen]], list[Tensor]]]:
    """Run as :func:`runs`, but in the module itself. What forward stores in it is reset for each batch."""
    memory = Memory(module)
    seen: dict[str, list[Seen]] = {}

    def hook_of(path: str) -> Callable[[nn.Module, tuple, dict, Any], None]:
        def hook(part: nn.Module, args: tuple, kwargs: dict, result: Any) -> None:
            seen.setdefault(path, []).append(view(part, Call(args, kwargs, result)))

        return hook

    for path in paths:
        module.get_submodule(path).register_forward_hook(hook_of(path), with_kwargs=True)
    with same_random_numbers():
        for batch in batches:
            seen.clear()
            memory.restore()
            try:
                result = call(module, batch)
            except UnbraidError:
                raise
            except Exception as error:  # a user's forward may raise any error
                raise DataError(f"the module's own forward failed on x: {said(error)}. {ADVICE}") from error
            yield dict(seen), tensors_of(result)


def record(module: nn.Module, batch: Any, paths: Sequence[str]) -> Record:
    """Run a module once and keep copies of everything that its parts read and gave."""

    def kept(part: nn.Module, made: Call) -> Call:
        return Call(cloned(made.args), cloned(made.kwargs), cloned(made.result))

    with torch.no_grad():
        calls, results = next(runs(module, [batch], paths, kept))
    return Record(calls, [cloned(result) for result in results])


def cloned(value: Any) -> Any:
    """Copy tensors in nested tuples and dicts; a packed sequence keeps its class."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: cloned(part) for key, part in value.items()}
    if isinstance(value, tuple):
        parts = [cloned(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value

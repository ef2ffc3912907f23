"""Follow the outputs of the linear layers of a user's module through one call of it.

An output that only elementwise functions with f(0) = 0 read before one other linear layer is *chained* to that layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from unbraid.networks.inputs import leaves

RECTIFIED = {torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_, functional.relu}
PASSED = RECTIFIED | {
    torch.tanh, torch.Tensor.tanh, torch.Tensor.tanh_, functional.tanh, functional.gelu, functional.silu,
    functional.mish, functional.elu, functional.selu, functional.celu, functional.leaky_relu, functional.softsign,
    functional.hardtanh, functional.relu6, functional.hardswish, functional.tanhshrink, functional.softshrink,
    functional.hardshrink, functional.dropout, functional.alpha_dropout, functional.feature_alpha_dropout,
    torch.Tensor.contiguous, torch.Tensor.clone, torch.clone, torch.Tensor.detach, torch.Tensor.float,
}  # fmt: skip
MOVED = {
    torch.sigmoid, torch.Tensor.sigmoid, functional.sigmoid, functional.softplus, functional.logsigmoid,
    functional.hardsigmoid, torch.exp, torch.Tensor.exp, torch.cos, torch.Tensor.cos,
}  # fmt: skip
LOOKED_AT = {torch.Tensor.dim, torch.Tensor.is_floating_point, torch.Tensor.device.__get__, torch.Tensor.dtype.__get__}  # type: ignore[attr-defined]


class Followed(TorchFunctionMode):
    """Record what reads the outputs of linear layers.

    Args:
        linears: path -> linear layer.
        recurrent: path -> recurrent layer or cell.

    Attributes:
        first_calls: path -> number of recurrent layers that ran before the first call of a linear layer, in the order
            of these calls.
        readers: path -> paths of the layers that read its output, behind elementwise functions alone.
        sources: path -> for each call, the path of the layer whose output it reads, or None.
        escaped: layers whose output something else reads.
        moved: layers whose output an elementwise function with f(0) != 0 reads.
        rectified: layers whose output a ReLU reads.
        misused: layers whose weights something else reads.
    """

    def __init__(self, linears: Mapping[str, nn.Module], recurrent: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.first_calls: dict[str, int] = {}
        self._recurrent, self._ran = recurrent, set[str]()
        self.readers: dict[str, set[str]] = {path: set() for path in linears}
        self.sources: dict[str, list[str | None]] = {path: [] for path in linears}
        self.escaped: set[str] = set()
        self.moved: set[str] = set()
        self.rectified: set[str] = set()
        self.misused: set[str] = set()
        self._tags: dict[int, str] = {}
        self._alive: list[Tensor] = []  # so that no other tensor gets the same id
        self._inside: list[str] = []
        self._weights = {id(p): path for path, layer in linears.items() for p in layer.parameters(recurse=False)}
        self._linears = linears

    def run(self, call: Callable[[], Iterable[Any]]) -> None:
        """Run ``call`` and follow its values; it returns the results of the module."""
        handles = []
        for path, layer in self._recurrent.items():
            handles.append(layer.register_forward_hook(lambda *_, path=path: self._ran.add(path)))
        for path, layer in self._linears.items():
            handles.append(layer.register_forward_pre_hook(self._entering(path), with_kwargs=True))
            handles.append(layer.register_forward_hook(self._leaving(path)))
        try:
            with torch.no_grad(), self:
                results = call()
            self.escaped |= {self._tags[id(leaf)] for leaf in results if id(leaf) in self._tags}
        finally:
            for handle in handles:
                handle.remove()

    def chained_to(self, path: str) -> str | None:
        """Return the layer that alone reads the output of a layer and nothing else; None if there is none."""
        readers = self.readers[path]
        if path in self.escaped | self.moved or len(readers) != 1:
            return None
        reader = next(iter(readers))
        return reader if set(self.sources[reader]) == {path} and reader not in self.misused else None

    def _entering(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            x = args[0] if args else next(iter(kwargs.values()), None)
            source = self._tags.get(id(x))
            self.first_calls.setdefault(path, len(self._ran))
            self.sources[path].append(source)
            if source is not None:
                self.readers[source].add(path)
            self._inside.append(path)

        return hook

    def _leaving(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple, output: Any) -> None:
            self._inside.pop()
            if isinstance(output, Tensor):
                self._tag(output, path)

        return hook

    def _tag(self, tensor: Tensor, path: str) -> None:
        self._tags[id(tensor)] = path
        self._alive.append(tensor)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if func in LOOKED_AT:
            return found
        given = [leaf for leaf in leaves((list(args), dict(kwargs or {}))) if isinstance(leaf, Tensor)]
        own = self._inside[-1] if self._inside else None
        used = {self._weights[id(leaf)] for leaf in given if id(leaf) in self._weights}
        self.misused |= used - ({own} if own is not None else set())
        if own is not None and func is functional.linear:
            return found
        for path in {self._tags[id(leaf)] for leaf in given if id(leaf) in self._tags}:
            if func in PASSED and isinstance(found, Tensor):
                self.rectified |= {path} if func in RECTIFIED else set()
                self._tag(found, path)
            else:
                (self.moved if func in MOVED else self.escaped).add(path)
        return found

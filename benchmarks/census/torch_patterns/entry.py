"""One class of the census and how it is used. Shapes: N examples, T timesteps, D features, H units, C classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

STEPS, FEATURES, HIDDEN, CLASSES, WORDS = 5, 4, 6, 3, 20
Made = tuple[Any, np.ndarray]


def series(rng: np.random.Generator, n: int) -> Made:
    """Features (N, T, D), labels (N,)."""
    y = rng.permutation(np.arange(n) % CLASSES)
    x = rng.normal(size=(n, STEPS, FEATURES)) + y[:, None, None] - 1
    return torch.from_numpy(x.astype(np.float32)), y


def words(rng: np.random.Generator, n: int) -> Made:
    """Word indices (N, T) from 1, labels (N,)."""
    y = rng.permutation(np.arange(n) % CLASSES)
    x = np.where(
        rng.random((n, STEPS)) < 0.5,
        rng.integers(1, WORDS, (n, STEPS)),
        1 + 3 * rng.integers(0, 6, (n, STEPS)) + y[:, None],
    )
    return torch.from_numpy(x), y


def with_lengths(rng: np.random.Generator, n: int) -> Made:
    """Word indices (N, T) with zeros as padding, lengths (N,); labels (N,)."""
    x, y = words(rng, n)
    lengths = torch.from_numpy(rng.integers(1, STEPS + 1, n))
    lengths[: min(n, 2)] = STEPS
    return (x * (torch.arange(STEPS) < lengths[:, None]), lengths), y


def tags(made: Callable[..., Made]) -> Callable[..., Made]:
    """The same inputs with one label for each timestep, -1 at padding."""

    def with_tags(rng: np.random.Generator, n: int) -> Made:
        x, _ = made(rng, n)
        first = x[0] if isinstance(x, tuple) else x
        y = rng.integers(0, CLASSES, first.shape[:2])
        if isinstance(x, tuple) and x[1].dim() == 1:
            y = np.where(np.arange(STEPS) < x[1].numpy()[:, None], y, -1)
        return x, y

    return with_tags


def changed(made: Callable[..., Made], change: Callable[[Any], Any]) -> Callable[..., Made]:
    """The same data in another form."""

    def other(rng: np.random.Generator, n: int) -> Made:
        x, y = made(rng, n)
        return change(x), y

    return other


def call(module: nn.Module, x: Any) -> Any:
    """As a user calls it."""
    if isinstance(x, dict):
        return module(**x)
    return module(*x) if type(x) is tuple else module(x)


def argmax(result: Any) -> Tensor:
    """The usual decision, from the first result."""
    return (result[0] if isinstance(result, tuple) else result).argmax(-1)


@dataclass(frozen=True)
class Entry:
    """A class of the census.

    Attributes:
        pattern: its pattern.
        build: makes an instance; the name of the entry is that of its class.
        make: N inputs as the network reads them, and labels.
        settings: of ``Network.from_torch``.
        decide: class indices from what the module returns.
        own: decisions of the module itself on N inputs; None: one call.
        time_first: whether the inputs are (T, N, ...).
        refused: words of the refusal; None: it must work.
        examples: in the example.
    """

    pattern: str
    build: Callable[[], nn.Module]
    make: Callable[[np.random.Generator, int], Made] = series
    settings: dict[str, Any] | None = None
    decide: Callable[[Any], Tensor] = argmax
    own: Callable[[nn.Module, Any], Tensor] | None = None
    time_first: bool = False
    refused: str | None = None
    examples: int = 6
    title: str = ""

    @property
    def name(self) -> str:
        """Name of the class."""
        return self.title or getattr(self.build, "__name__", "")

    def module(self, seed: int = 0) -> nn.Module:
        """An instance in eval mode with weights that are large enough to tell inputs apart."""
        torch.manual_seed(seed)
        module = self.build().eval()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(2.0 if parameter.dim() > 1 else 0.3)
        return module

    def decisions(self, module: nn.Module, x: Any) -> np.ndarray:
        """Decisions of the module itself, in plain PyTorch."""
        with torch.no_grad():
            found = self.decide(call(module, x)) if self.own is None else self.own(module, x)
        return found.numpy()


def named(title: str, kind: Callable[..., nn.Module], *args: Any, **kwargs: Any) -> dict[str, Any]:
    """``build`` and ``title`` of an entry whose class takes arguments."""
    return {"build": lambda: kind(*args, **kwargs), "title": title}

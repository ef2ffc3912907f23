"""The settings of a decomposition as keyword arguments, with their types."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypedDict, TypeVar, get_type_hints

from unbraid.config import (
    CapScope,
    Edges,
    GateView,
    HeadKind,
    LayerChoice,
    Mode,
    Negatives,
    Observed,
    ReluRule,
    Words,
)

Function = TypeVar("Function", bound=Callable[..., Any])


class Settings(TypedDict, total=False):
    """Keyword arguments of :func:`unbraid.decompose`; :class:`unbraid.DecompositionConfig` documents them."""

    strategy: str
    keep: float | None
    layers: LayerChoice | Literal["recurrent", "all"]
    max_loss: float | None
    refine: int
    memory: int | str | None
    head: HeadKind | Literal["mean", "softmax", "fitted"]
    samples_per_class: int
    seed: int
    negatives: Negatives | Literal["per_class", "first"]
    classes: Iterable[str | int] | None
    missing: Literal["skip", "error"]
    padding_label: int | Iterable[int] | None
    words: Words | Literal["all", "own"]
    bins: int | None
    concern: Literal["column", "output"]
    mode: Mode | Literal["rolled", "unrolled"]
    gates: GateView | Literal["hidden", "each"]
    max_removed: float
    scope: CapScope | Literal["network", "layer"]
    observed: Observed | Literal["all", "last"]
    overrun: float | None
    relu: ReluRule | Literal["paper", "release"]
    edges: Edges | Literal["all", "release"]
    idle_columns: bool
    first: int
    confidence: float
    others: int
    merge: bool
    encoder: bool


def lists_settings(function: Function) -> Function:
    """Show every setting in the signature of a function that takes ``**settings``, for ``help`` and completion."""
    own = [p for p in inspect.signature(function).parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    listed = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=..., annotation=kind)
        for name, kind in get_type_hints(Settings).items()
    ]
    function.__signature__ = inspect.Signature([*own, *listed])  # type: ignore[attr-defined]  # inspect reads it
    return function

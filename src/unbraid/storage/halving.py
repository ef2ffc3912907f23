"""Modules with weights rounded to half precision, so that a folder can hold them in half of the bytes.

Rounding comes before saving: the rounded modules are saved and verified as others are, so digests are those of the
rounded weights. They compute in float32.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from unbraid.data.targets import Label
from unbraid.errors import ConfigError, FormatError, quoted
from unbraid.modules.arguments import named_modules
from unbraid.modules.composition import Composition
from unbraid.modules.module import ConcernModule
from unbraid.networks.heads import Head
from unbraid.networks.network import Network
from unbraid.storage.tuning import can_be_sliced, stored_modules

Stored = Literal["float32", "float16"]
Modules = Mapping[Label, ConcernModule] | Iterable[ConcernModule] | Composition
LARGEST = torch.finfo(torch.float16).max


def check_stored(dtype: Any) -> Stored:
    """Check the name of a type for stored weights; raise ConfigError for another name."""
    if not isinstance(dtype, str) or dtype not in get_args(Stored):
        raise ConfigError(f"dtype={quoted(repr(dtype), 40)}: expected 'float32' or 'float16'.")
    return "float16" if dtype == "float16" else "float32"


def halved(modules: Sequence[ConcernModule], alone: bool = False) -> list[ConcernModule]:
    """Copy modules with weights that float16 holds exactly; what they were fused from is copied too.

    Args:
        modules: modules of float32 networks.
        alone: whether each is saved with only the weights that it needs.

    Raises:
        FormatError: weights of another type, or values that float16 does not hold.
    """
    originals = list({id(m.original): m.original for m in modules if m.original is not None}.values())
    sources = [*originals, *modules]
    parents: dict[str, Network] = {}
    bodies: dict[int, ConcernModule] = {}
    found: dict[int, ConcernModule] = {}
    memo: dict[int, Any] = {}
    for source, module in zip(sources, stored_modules(sources, alone), strict=True):
        if module.is_remnant or (alone and can_be_sliced(module)):
            found[id(source)] = _rounded_copy(module, memo)
        else:
            original = None if module.original is None else found[id(module.original)]
            found[id(source)] = _rounded(module, original, parents, bodies)
    return [found[id(module)] for module in modules]


def half_precision_change(modules: Modules, x: Any) -> float:
    """Compute the largest change of a margin when modules are saved with ``dtype="float16"``.

    Args:
        modules: modules as :func:`unbraid.compose` takes them, or a composition.
        x: inputs as the parents read them, N examples.

    Returns:
        the largest absolute difference of a margin (log-odds) of a module, before calibration, float32 to float16.

    Raises:
        FormatError: weights of another type than float32, or values that float16 does not hold.
        DataError: the inputs do not fit.

    Example:
        >>> import unbraid
        >>> from unbraid.demo.small import small_modules
        >>> parts, x, y = small_modules()
        >>> 0 < unbraid.half_precision_change(parts, x) < 0.1
        True
    """
    given = list((modules.modules_by_label if isinstance(modules, Composition) else named_modules(modules)).values())
    pairs = zip(given, halved(given), strict=True)
    return max(float(np.nanmax(np.abs(one.margins(x) - other.margins(x)), initial=0)) for one, other in pairs)


def as_half(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert float32 tensors to float16."""
    return {n: t.to(torch.float16) if t.dtype == torch.float32 else t for n, t in tensors.items()}


def _rounded(
    module: ConcernModule,
    original: ConcernModule | None,
    parents: dict[str, Network],
    bodies: dict[int, ConcernModule],
) -> ConcernModule:
    """Make a module of the rounded parent."""
    sha256 = module.origin.sha256
    if sha256 not in parents:
        parents[sha256] = module.origin.changed(_all(module.origin.weights, f"the parent of module {module.label!r}"))
    head, own = module.whole_head, module.weights
    weights = None if own is None else {n: _all(t, f"module {module.label!r}") for n, t in own.items()}
    bridges = None if module.bridges is None else _all(module.bridges, f"module {module.label!r}")
    rows = _all({"weight": head.weight.detach(), "bias": head.bias.detach()}, f"module {module.label!r}")
    found = ConcernModule(
        parents[sha256], module.index, module.concern, Head(rows["weight"], rows["bias"], head.idle, head.words),
        module.config, module.label, weights=weights, original=original, bridges=bridges,
        like=bodies.get(id(module.body)),
    )  # fmt: skip
    found.domain = module.domain
    bodies.setdefault(id(module.body), found)
    return found


def _rounded_copy(module: ConcernModule, memo: dict[int, Any]) -> ConcernModule:
    """Copy a module that is stored without its whole parent, with its present weights rounded."""
    found = copy.deepcopy(module, memo)
    for name, tensor in [*found.named_parameters(), *found.named_buffers()]:
        if tensor.is_floating_point():
            tensor.data = _half(tensor.detach(), f"module {module.label!r}: {name}")
    return found


def _all(tensors: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    return {name: _half(t, f"{what}: {name}") if t.is_floating_point() else t for name, t in tensors.items()}


def _half(tensor: Tensor, what: str) -> Tensor:
    if tensor.dtype != torch.float32:
        raise FormatError(f"{what}: found {tensor.dtype}, dtype='float16' stores float32 weights: save without it.")
    if tensor.numel() and not float(tensor.abs().max()) <= LARGEST:
        raise FormatError(f"{what}: found values above {LARGEST:g}, which float16 does not hold: save without dtype.")
    return tensor.to(torch.float16).to(torch.float32)

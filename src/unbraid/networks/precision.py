"""Support for weights of half precision, and checks of the types of weights.

A network or module runs in half precision: inputs are converted to the type of its weights, scores are float32 again.
Networks are decomposed in float32 or float64 only.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from unbraid.errors import DataError

HALF = (torch.float16, torch.bfloat16)
FULL = (torch.float32, torch.float64)


def like_weights(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert floating-point values to the type of the weights; word indices stay unchanged."""
    return values.to(dtype) if values.is_floating_point() else values


def full(scores: Tensor) -> Tensor:
    """Convert scores of half precision to float32."""
    return scores.float() if scores.dtype in HALF else scores


def check_values(module: nn.Module, what: str) -> None:
    """Raise DataError for weights on the meta device, which have no values."""
    if any(part.is_meta for part in _parameters(module)):
        raise DataError(f"{what} has weights on the meta device, which have no values: load the weights first.")


def _parameters(module: nn.Module) -> Iterator[Tensor]:
    """Yield the parameters; for a single layer much faster than ``module.parameters()``, which removes duplicates."""
    for part in (module,) if not module._modules else module.modules():
        yield from (parameter for parameter in part._parameters.values() if parameter is not None)


def check_full(network: nn.Module) -> None:
    """Raise DataError for weights that are not float32 or float64."""
    check_values(network, "the network")
    for name, parameter in network.named_parameters():
        if parameter.dtype not in FULL:
            raise DataError(
                f"weight {name!r} is {parameter.dtype}, and networks are decomposed in float32: decompose "
                "network.float(), and convert the modules afterwards."
            )

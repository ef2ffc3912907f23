"""Which values of a user's module are its scores, and how a smaller module is compared with its parent.

Shapes: N examples, T timesteps, C columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unbraid.decomposition.shrinking.running import Call, fresh
from unbraid.errors import DataError
from unbraid.networks.outputs import OUTPUTS, Output
from unbraid.networks.pytorch.answer import find_answer
from unbraid.networks.pytorch.heads import channels_last
from unbraid.networks.pytorch.running import watched


@dataclass(frozen=True)
class Source:
    """One tensor of scores.

    Attributes:
        path: the nn.Linear that computes it; None: the module returns it.
        place: position among the returned tensors.
        output: the activation behind it, or None if that is not known.
    """

    path: str | None
    place: int = 0
    output: Output | None = None

    def read(self, linears: dict[str, list[Tensor]], results: Sequence[Tensor]) -> Tensor:
        """Return the scores of one run; those of several calls of the layer are joined along their first axis."""
        return results[self.place] if self.path is None else torch.cat(linears[self.path])

    def decide(self, scores: Tensor) -> Tensor | None:
        """Decisions (..., ) or (..., C) of scores (..., C); None where they are numbers, not classes."""
        if self.output == "sigmoid":
            return scores > 0
        numbers = self.output is not None and OUTPUTS[self.output].numbers
        return scores.argmax(-1) if scores.dim() > 1 and scores.shape[-1] > 1 and not numbers else None


def columns(numbers: Tensor) -> Tensor:
    """Reshape returned numbers (N,) or (..., C) to rows of columns, (M, C)."""
    return numbers.reshape(-1, numbers.shape[-1] if numbers.dim() > 1 else 1)


def squared_change(found: Tensor, wanted: Tensor) -> float:
    """Mean squared difference of numbers (M, C), over the variance of ``wanted``: that of the column with the largest.

    Rows with NaN (padding) do not count.
    """
    used = wanted.isfinite().all(-1)
    one, two = found[used].double(), wanted[used].double()
    spread = two.var(0, correction=0).clamp(min=1e-12)
    return float(((one - two).square().mean(0) / spread).max())


def find_sources(module: nn.Module, batch: Any) -> list[Source]:
    """Find the linear layers whose scores, or a softmax, sigmoid or argmax of them, the module returns.

    If there are none, the scores are the first tensor of floating-point numbers that the module returns.

    Raises:
        DataError: the module returns no such tensor.
    """
    run = watched(fresh(module), batch, "x does")
    found = []
    for path, (_, scores) in run.linears.items():
        answer = find_answer(scores, run.results) if run.counts[path] == 1 else None
        if answer is not None:
            found.append(Source(path, output=answer.output))
    if found:
        return found
    for place, result in enumerate(run.results):
        if result.is_floating_point() and result.dim():
            return [Source(None, place)]
    raise DataError(
        "the module returns no tensor of floating-point numbers, so there are no scores to keep: return its scores, "
        "or make a network with Network.from_torch(module, example, head=...) and shrink that network."
    )


def linear_outputs(part: nn.Module, made: Call) -> Tensor:
    """Make the view of :func:`~unbraid.decomposition.shrinking.running.runs` that sources read."""
    return channels_last(part, made.result)


def objectives(source: Source, scores: Tensor) -> list[Tensor]:
    """Sums whose gradients show which hidden units the scores depend on.

    With classes these are the margins of the first and second class and of a random one; for all other scores random
    combinations of the columns, in units of their standard deviation.
    """
    flat = scores.reshape(-1, scores.shape[-1]) if scores.dim() > 1 else scores.unsqueeze(1)
    generator = torch.Generator().manual_seed(0)
    if source.output == "softmax" and flat.shape[1] > 1:
        order = flat.detach().argsort(-1, descending=True)
        random = torch.randint(flat.shape[1], (len(flat),), generator=generator)
        return [_margins(flat, chosen).sum() for chosen in (order[:, 0], order[:, 1], random)]
    scale = flat.detach().std(0).clamp(min=1e-6) if len(flat) > 1 else torch.ones(flat.shape[1])
    signs = (torch.randint(2, (RANDOM, *flat.shape), generator=generator) * 2 - 1).to(flat.dtype)
    return [(flat / scale * sign).sum() for sign in signs[: RANDOM if flat.shape[1] > 1 else 1]]


RANDOM = 3  # random combinations


def _margins(scores: Tensor, chosen: Tensor) -> Tensor:
    own = scores.gather(1, chosen.unsqueeze(1))[:, 0]
    others = scores.scatter(1, chosen.unsqueeze(1), -torch.inf)
    return own - torch.logsumexp(others, 1)

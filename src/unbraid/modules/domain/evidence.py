"""Domain evidence: what the inputs of a parent look like, so that modules of different parents can vote without labels.

A module gives P(class | x, x is an input of its parent). Evidence about the domain gives P(x is an input of the
parent). The vote for class k of parent P is log P(k | x, P) + log P(x | P) / temperature, up to a constant of x.
P(x | P) is a unigram model of the words, or a Gaussian of the numeric inputs. The temperature is the mean dispersion of
the parents, which was measured on held-out inputs without labels. Classes of one parent keep their order exactly.
Shapes: N examples, T timesteps, K modules, P parents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unbraid.modules.domain.gaussians import Gaussians
from unbraid.modules.domain.typicality import Typicality
from unbraid.modules.domain.words import Unigrams, WordCounts
from unbraid.networks.heads import one_against_rest

LARGEST = 1e30  # largest absolute log probability


@dataclass(frozen=True, eq=False, repr=False)
class Domain:
    """Evidence about the inputs of one parent. A decomposition gathers it, and folders store it with the parent.

    Attributes:
        words: word counts of its texts; None for other inputs.
        inputs: Gaussian of its numeric inputs, all timesteps together; None for other inputs.
        dispersion: of ``inputs``, as :attr:`WordCounts.dispersion`.
        features: Gaussians of the features that its output layer reads, one mean for each class; None where the network
            decides at each timestep, or where they are too large.
        typicality: how typical inputs score, measured on held-out inputs; None for too few of them.
    """

    words: WordCounts | None = None
    inputs: Gaussians | None = None
    dispersion: float = 1.0
    features: Gaussians | None = None
    typicality: Typicality | None = None

    def __repr__(self) -> str:
        kinds = [name for name in ("words", "inputs", "features", "typicality") if getattr(self, name) is not None]
        return f"Domain({', '.join(kinds)})"

    @cached_property
    def key(self) -> str:
        """SHA-256 of the evidence that parents are compared by; equal for equal samples."""
        found = hashlib.sha256()
        if self.words is not None:
            found.update(repr((sorted(self.words.counts.items()), self.words.total)).encode())
        if self.inputs is not None:
            found.update(self.inputs.means.tobytes() + self.inputs.covariance.tobytes())
        return found.hexdigest()

    def __deepcopy__(self, memo: dict[int, Any]) -> Domain:
        return self


class Densities:
    """Log densities of inputs under the domains of P parents.

    Args:
        domains: the evidence of each parent.

    Attributes:
        unigrams: the unigram models of texts; None for numbers.
        gaussians: the Gaussians of numbers, one for each parent.
        temperature: what the log densities are divided by.
    """

    def __init__(self, domains: Sequence[Domain]) -> None:
        words = [domain.words for domain in domains if domain.words is not None]
        self.gaussians = [domain.inputs for domain in domains if domain.inputs is not None]
        self.unigrams, dispersion = None, [domain.dispersion for domain in domains]
        if len(words) == len(domains):
            self.unigrams, dispersion = Unigrams(words), [own.dispersion for own in words]
        self.temperature = float(np.mean(dispersion))

    @property
    def of_words(self) -> bool:
        """Whether the densities are of words; otherwise they are of numbers."""
        return self.unigrams is not None

    def logs(self, x: Any) -> np.ndarray:
        """Compute log densities divided by the temperature, (N, P).

        Args:
            x: N texts as lists of words, or numbers (N, D) or (N, T, D).
        """
        if self.unigrams is not None:
            return self.unigrams.densities(x) / self.temperature
        return np.stack([model.density(x) for model in self.gaussians], axis=1) / self.temperature


def comparable(domains: Sequence[Domain | None]) -> list[Domain] | None:
    """Return the domains of several parents if they have a kind of evidence in common; else None."""
    found = [domain for domain in domains if domain is not None]
    if len(found) < 2 or len(found) < len(domains):
        return None
    sizes = {None if domain.inputs is None else domain.inputs.means.shape[1] for domain in found}
    alike = all(domain.words is not None for domain in found) or (len(sizes) == 1 and None not in sizes)
    return found if alike else None


def domain_vote(margins: Tensor, logs: np.ndarray, parents: Sequence[int], by_probability: bool) -> Tensor:
    """Add the evidence about the domain to margins. Classes of one parent keep their order exactly, also equal ones.

    Args:
        margins: floats (N, [T,] K), comparable within each parent; NaN at padding. They may need a gradient.
        logs: log densities of the inputs under each parent, (N, P).
        parents: for each module the number of its parent, (K,).
        by_probability: whether classes of one parent are ordered by their float64 probabilities instead of margins.

    Returns:
        margins of each module against all others, (N, [T,] K), with the type of ``margins``.
    """
    own = logs - logs.max(1, keepdims=True)  # a constant of each input changes no decision
    own = own[:, list(parents)].reshape(len(own), *([1] * (margins.dim() - 2)), -1)
    votes = nn.functional.logsigmoid(margins.double()).clamp(min=-LARGEST)  # a module without a decision has -inf
    scores = votes + torch.from_numpy(own).to(margins.device)
    found = one_against_rest(scores).to(margins.dtype)
    if found.requires_grad:
        return found  # training needs no exact order
    keys = torch.sigmoid(margins.double()) if by_probability else margins
    for number in range(logs.shape[1]):
        members = [place for place, parent in enumerate(parents) if parent == number]
        if len(members) > 1:
            found[..., members] = _in_order(found[..., members], keys[..., members])
    return found


def _in_order(found: Tensor, keys: Tensor) -> Tensor:
    """Change values (..., k) by as little as possible, so that they have exactly the order and the ties of ``keys``.

    Rounding can make values equal whose keys differ, because probabilities near 1 have few digits.
    """
    ordered, order = torch.sort(keys, dim=-1, stable=True)
    values = found.gather(-1, order)
    if bool(((values.diff(dim=-1) > 0) & (ordered.diff(dim=-1) > 0)).all()):
        return found
    columns = list(values.unbind(-1))
    infinity = torch.full_like(columns[0], torch.inf)
    for place in range(1, len(columns)):
        before = columns[place - 1]
        above = torch.maximum(columns[place], torch.nextafter(before, infinity))
        columns[place] = torch.where(ordered[..., place] > ordered[..., place - 1], above, before)
    return torch.empty_like(values).scatter(-1, order, torch.stack(columns, dim=-1))

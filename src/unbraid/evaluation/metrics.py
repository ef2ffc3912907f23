"""Measures as pure functions. Shapes: N decisions, K modules, H hidden units, G gates, T timesteps, C classes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from torch import Tensor

from unbraid.config import Mode
from unbraid.modules.module import ConcernModule
from unbraid.networks.layers import head_sources
from unbraid.networks.network import Network


@dataclass(frozen=True)
class Detection:
    """Scores of one module that separates its class from all others; each in [0, 1].

    A module claims an example if its margin is above 0.

    Attributes:
        precision: share of the claims that are right; 0 without a claim.
        recall: share of the examples of the class that are claimed.
        f1: harmonic mean of precision and recall.
        false_positive_rate: share of the other examples that are claimed.
    """

    precision: float
    recall: float
    f1: float
    false_positive_rate: float


def detection(claimed: np.ndarray, true: np.ndarray) -> Detection:
    """Score claims, booleans (N,), against the truth, booleans (N,)."""
    hits, claims, positives = (int(marked.sum()) for marked in (claimed & true, claimed, true))
    precision, recall = hits / max(claims, 1), hits / max(positives, 1)
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    return Detection(precision, recall, f1, (claims - hits) / max(true.size - positives, 1))


def jaccard(module: ConcernModule, network: Network) -> float:
    """Compute the Jaccard index of the paper for a module and its parent, in [0, 1].

    The index compares the *sets of values* of the input kernels and dense kernels. Recurrent weights, biases and
    embeddings are not compared. Each kernel has the size of the parent's kernel, with zeros for removed weights. The
    size of the union is len + len - intersection, as in the code of the paper. The index of an unrolled module is the
    mean over its timesteps.

    The index is a similarity, not a size. It is below 1 even if nothing is removed, because the output layer differs.
    Source: Imtiaz et al. 2023, section IV; their code, ``evaluation/jaccard_computer.py``.
    """
    kernels = {name: _array(layer.kernel) for name, layer in module.parent.layers.items()}
    parent = [*(layer.kernel for layer in network.layers.values()), network.head.weight]
    whole = np.concatenate([_array(kernel).ravel() for kernel in parent])
    distinct = np.unique(whole)
    found = []
    for t in _moments(module):
        parts = [_channeled(module, network, t)]
        parts += [np.where(_kept_rows(module, name, t), kernel, 0).ravel() for name, kernel in kernels.items()]
        values = np.concatenate(parts)
        shared = len(np.intersect1d(distinct, values))
        found.append(shared / (len(whole) + len(values) - shared))
    return float(np.mean(found))


def coupling(modules: list[ConcernModule]) -> float:
    """Compute the mean Jaccard index of the kept nodes over all pairs of modules, in [0, 1]; 1 for one module.

    Pairs of modules with layers of other sizes, such as those of different parents, are left out.
    """
    sets = [np.concatenate([m.ravel() for m in module.kept_nodes.values()]) for module in modules]
    pairs = [(a & b).sum() / max((a | b).sum(), 1) for a, b in combinations(sets, 2) if a.shape == b.shape]
    return float(np.mean(pairs)) if pairs else 1.0


def cohesion(module: ConcernModule, network: Network) -> float:
    """Compute the share of a module's recurrent edges, by |weight|, that connect kept nodes, in [0, 1].

    The share is the sum of |weight| over edges between kept nodes, divided by the sum over all edges with at least one
    kept node. The result is the mean over recurrent layers and timesteps; 1 without recurrent layers.
    """
    shares = []
    for name, layer in network.recurrent_layers().items():
        strength = layer.strength.detach().cpu().numpy()
        for kept in np.atleast_2d(module.kept_nodes[name]).astype(np.float32):
            inside = kept @ strength @ kept
            touched = strength.sum() - (1 - kept) @ strength @ (1 - kept)
            shares.append(inside / touched if touched else 1.0)
    return float(np.mean(shares)) if shares else 1.0


def _moments(module: ConcernModule) -> list[int]:
    if module.concern.mode is Mode.ROLLED:
        return [0]
    return list(range(max(module.concern.steps.values())))


def _kept_rows(module: ConcernModule, name: str, t: int) -> np.ndarray:
    """Return which rows of a layer's input kernel are kept at timestep t, booleans (G*H, 1)."""
    layer = module.parent.layers[name]
    mask = module.concern.kept.get(name, np.ones(layer.units, bool))
    if mask.ndim > (2 if module.concern.has_gates(layer) else 1):
        mask = mask[min(t, len(mask) - 1)]
    gates = 1 if layer.cell is None or mask.ndim == 2 else len(layer.cell.gates)
    return np.tile(mask.reshape(-1), gates)[:, None]


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def _channeled(module: ConcernModule, network: Network, t: int) -> np.ndarray:
    """Return the module's output kernel in the parent's size, with zeros for the rows that it does not have."""
    rows = _array(module.whole_head.weight).copy()
    nodes = [module.kept_nodes[name] for name in head_sources(network.body)]
    kept = np.concatenate([mask[-1] if mask.ndim == 2 else mask for mask in nodes]) if nodes else np.ones(0, bool)
    if rows.shape[1] == len(kept):
        rows[:, ~kept] = 0
    idle = np.zeros((max(network.spec.classes - len(rows), 0), rows.shape[1]), rows.dtype)
    return np.concatenate([rows.ravel(), idle.ravel()])


@dataclass(frozen=True)
class Reliability:
    """Decisions in B bins of equal width by confidence, the probability of the most probable class.

    Bin b of B holds the confidences in (b / B, (b + 1) / B].

    Attributes:
        counts: number of decisions, int (B,).
        confidence: sum of their confidences, (B,).
        right: number of right decisions, (B,).
    """

    counts: np.ndarray
    confidence: np.ndarray
    right: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error, see :func:`expected_calibration_error`."""
        return float(np.abs(self.right - self.confidence).sum() / max(int(self.counts.sum()), 1))


def reliability(probabilities: np.ndarray, truth: np.ndarray, bins: int = 15) -> Reliability:
    """Put decisions into bins by confidence. Arguments are those of :func:`expected_calibration_error`."""
    confidence = probabilities.max(-1).astype(np.float64)
    right = probabilities.argmax(-1) == truth
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return Reliability(
        np.bincount(place, minlength=bins),
        np.bincount(place, weights=confidence, minlength=bins),
        np.bincount(place, weights=right, minlength=bins),
    )


def expected_calibration_error(probabilities: np.ndarray, truth: np.ndarray, bins: int = 15) -> float:
    """Compute the expected calibration error, in [0, 1]; 0 is best.

    Confidence is the probability of the most probable class. Decisions are put into bins (a, b] of equal width by
    confidence. The error is the mean of |accuracy - mean confidence| over the bins, weighted by their number of
    decisions. Source: Naeini et al. 2015; Guo et al. 2017.

    Args:
        probabilities: floats (N, K); each row sums to 1.
        truth: index of the right class, (N,), in [0, K).
        bins: number of bins.
    """
    return reliability(probabilities, truth, bins).error

"""Scores of hidden units for a module: the mean square of (d margin / d h) * h.

The derivative is taken through the recurrence at every timestep, not only at the outputs of the layer. Units of dense
layers are scored by :mod:`unbraid.decomposition.reconstruction.elimination`.
Shapes: N examples, T timesteps, H hidden units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from unbraid.decomposition.reconstruction.elimination import WIDEST, elimination_scores
from unbraid.decomposition.sizes import kept_count
from unbraid.errors import DataError
from unbraid.networks.heads import Head
from unbraid.networks.inputs import BATCH, Inputs, to_device
from unbraid.networks.layers import Layer, decomposable_layers, pruned
from unbraid.networks.network import Network
from unbraid.networks.removal import Probe

NodeScore = Callable[[Network, Head, Inputs, np.ndarray], Mapping[str, np.ndarray]]


def node_scores(network: Network, head: Head, x: Inputs, counted: np.ndarray) -> dict[str, np.ndarray]:
    """Score the hidden units of every layer for one module.

    Args:
        network: the parent network.
        head: output layer of the module, over all F features.
        x: examples of the class of the module and of other classes.
        counted: booleans (N,) or (N, T) that mark the decisions to use.

    Returns:
        layer name -> scores (H,), float64 >= 0.
    """
    sums = {name: np.zeros(layer.units) for name, layer in network.recurrent_layers().items()}
    dense = {name: DenseProbe(layer.units) for name, layer in network.layers.items() if name not in sums}
    for start in range(0, len(x), BATCH):
        part = slice(start, start + BATCH)
        size = len(range(len(x))[part])
        (own,) = _passed(network, [head], x.take(part), counted[part], [size], [dense])
        sums = {name: total + own[name] for name, total in sums.items()}
    return sums | {name: probe.scores() for name, probe in dense.items()}


def class_scores(
    network: Network, heads: Sequence[Head], x: Inputs, counted: np.ndarray, sizes: Sequence[int]
) -> list[dict[str, np.ndarray]]:
    """Score the hidden units of every layer for several modules at once, with one backward pass.

    Args:
        network: a parent network whose layers compute the values of each example by itself, in the order of examples.
        heads: output layers of the K modules, over all F features.
        x: the examples of the first module, then those of the next one, and so on.
        counted: as for :func:`node_scores`.
        sizes: number of examples of each of the K modules.

    Returns:
        for each module, scores as those of :func:`node_scores`.
    """
    recurrent = network.recurrent_layers()
    plain = {name: layer.units for name, layer in network.layers.items() if name not in recurrent}
    dense = [{name: DenseProbe(units) for name, units in plain.items()} for _ in heads]
    sums = _passed(network, heads, x, counted, sizes, dense)
    found = zip(sums, dense, strict=True)
    return [own | {name: probe.scores() for name, probe in probes.items()} for own, probes in found]


def _passed(
    network: Network,
    heads: Sequence[Head],
    x: Inputs,
    counted: np.ndarray,
    sizes: Sequence[int],
    dense: Sequence[Mapping[str, DenseProbe]],
) -> list[dict[str, np.ndarray]]:
    """Run one batch forward and backward; return sums for recurrent layers, and add to the probes of dense layers."""
    probes = {name: Probe() for name in network.recurrent_layers()}
    body = pruned(network.body, probes, 1)
    batch = to_device(next(x.batches(max(len(x), 1))), network.device)
    with torch.enable_grad(), probed(body, dense[0]):
        parts = []
        for head, features in zip(heads, body(batch).split(list(sizes)), strict=True):
            margins = head.margin(features).nan_to_num()
            parts.append(margins * _signs(margins) if network.task == "regression" else margins)
        joined = torch.cat(parts)
        joined[torch.from_numpy(counted).to(joined.device)].sum().backward()
    for name, probe in dense[0].items():
        probe.share([own[name] for own in dense], sizes)
    found: list[dict[str, np.ndarray]] = [{} for _ in heads]
    for name, recurrent in probes.items():
        for own, sums in zip(found, recurrent.saliences(None if len(heads) == 1 else sizes), strict=True):
            own[name] = sums.cpu().numpy()
    return found


class DenseProbe:
    """Add zeros to the outputs of a dense layer, to compute gradients; see :class:`unbraid.networks.removal.Probe`.

    Args:
        units: H.
    """

    def __init__(self, units: int) -> None:
        self._reached: list[tuple[Tensor, Tensor]] = []  # zeros that require gradients, and the outputs, (..., H)
        self._count, self._sum, self._saliences = 0, np.zeros(units), np.zeros(units)
        wide = units > WIDEST
        self._products, self._metric = (np.zeros((0, 0) if wide else (units, units)) for _ in range(2))

    def hook(self, module: nn.Module, inputs: tuple, output: tuple[Tensor, Tensor | None]) -> tuple:
        """Replace the outputs of the layer by their sum with the zeros."""
        values, *rest = output
        zeros = torch.zeros_like(values, requires_grad=True)
        self._reached.append((zeros, values.detach()))
        return (values + zeros, *rest)

    def share(self, probes: Sequence[DenseProbe], sizes: Sequence[int]) -> None:
        """Add the values and gradients of a batch to the probes of its parts, after the backward pass."""
        for zeros, values in self._reached:
            gradients = torch.zeros_like(values) if zeros.grad is None else zeros.grad
            if len(probes) == 1:
                probes[0]._add(values, gradients)
                continue
            parts = zip(probes, values.split(list(sizes)), gradients.split(list(sizes)), strict=True)
            for probe, own, slopes in parts:
                probe._add(own, slopes)
        self._reached.clear()

    def _add(self, values: Tensor, gradients: Tensor) -> None:
        h, g = values.flatten(0, -2).double(), gradients.flatten(0, -2).double()
        self._count += len(h)
        self._sum += h.sum(0).cpu().numpy()
        self._saliences += (h * g).square().sum(0).cpu().numpy()
        if self._products.size:
            self._products += (h.t() @ h).cpu().numpy()
            self._metric += (g.t() @ g).cpu().numpy()

    def scores(self) -> np.ndarray:
        """Return the scores of the units, (H,) float64 >= 0; of very wide layers those of each unit by itself."""
        if not self._products.size or not self._count:
            return self._saliences
        mean = self._sum / self._count
        return elimination_scores(self._products / self._count - np.outer(mean, mean), self._metric / self._count)


@contextmanager
def probed(body: nn.Module, probes: Mapping[str, DenseProbe]) -> Iterator[None]:
    """Run the probes of the dense layers of a body within the context."""
    layers = decomposable_layers(body)
    handles = [layers[name].module.register_forward_hook(probe.hook) for name, probe in probes.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _signs(margins: Tensor) -> Tensor:
    """Random signs of the timesteps (N, T), the same each time; 1 for one output (N,).

    The numbers of an autoencoder depend on a unit in opposite directions at different timesteps, and in the derivative
    of their plain sum these would cancel. With random signs, the expected square is the sum of the squares of all
    timesteps.
    """
    if margins.dim() == 1:
        return torch.ones_like(margins)
    generator = torch.Generator().manual_seed(0)
    return (torch.randint(2, margins.shape, generator=generator) * 2 - 1).to(margins)


def combined(scores: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Combine the scores of several modules. Each module has the same weight; the scale of its margin is ignored."""
    return {name: np.sum([s[name] / max(s[name].sum(), 1e-300) for s in scores], axis=0) for name in scores[0]}


def strongest(scores: dict[str, np.ndarray], keep: float) -> dict[str, torch.Tensor]:
    """Return the indices of the units of each layer with the largest scores: the share ``keep``, at least one unit."""
    kept = {}
    for name, score in scores.items():
        order = np.argsort(-score, kind="stable")[: kept_count(len(score), keep)]
        kept[name] = torch.from_numpy(np.sort(order))
    return kept


def checked_scores(scores: Mapping[str, np.ndarray], layers: Mapping[str, Layer]) -> dict[str, np.ndarray]:
    """Check the scores of the layers that are pruned, and return them as float64 (H,).

    A dense layer without scores is left out, and keeps all units.

    Raises:
        DataError: a recurrent layer is missing, or its scores are not H finite numbers >= 0.
    """
    found = {}
    for name, layer in layers.items():
        if layer.cell is None and name not in scores:
            continue
        values = np.asarray(scores.get(name, np.empty(0)), dtype=np.float64)
        if values.shape != (layer.units,) or not (np.isfinite(values) & (values >= 0)).all():
            raise DataError(
                f"node scores of layer {name!r} have shape {values.shape}, expected {layer.units} finite numbers >= 0."
            )
        found[name] = values
    return found

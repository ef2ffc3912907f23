"""Concern identification over several layers: group the columns of layers that are compared with each other.

Source: Imtiaz et al. 2023, Alg. 1-3. Columns of all layers with the same statistic, gate and timesteps are sorted
together and share one cap. With ``scope="layer"`` (the release) or a given share, each layer has its own.
Shapes: H nodes, G gates, T timesteps, U columns that are compared together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from unbraid.config import CapScope, GateView, Mode, RemovalConfig
from unbraid.decomposition.reconstruction.moments import check_steps
from unbraid.decomposition.removal.central_tendency import central_tendency
from unbraid.decomposition.removal.identification import (
    Statistic,
    active_rate,
    open_rate,
    remove_logistic,
    remove_rectified,
    remove_share,
)
from unbraid.decomposition.removal.observation import Observation
from unbraid.decomposition.removal.statistics import class_statistics
from unbraid.decomposition.sampling import Sample
from unbraid.networks.cells import CANDIDATE
from unbraid.networks.layers import Layer
from unbraid.networks.network import Network
from unbraid.networks.torch_spec import TorchSpec
from unbraid.progress import Advance

Differences = dict[int, tuple[np.ndarray, np.ndarray]]  # class -> statistics on its examples and on other examples
Member = tuple[str, slice]  # name of a layer, and columns of it
View = tuple[str, slice, Statistic]  # gate, columns and their statistic
Replaced = Callable[[np.ndarray, Sequence[Member]], np.ndarray]


@dataclass(frozen=True)
class Identification:
    """Statistics of every node for every class.

    Args:
        network: the parent network.
        config: settings.
        views: layer name -> gates, columns and statistics of the layer.
        statistics: layer name -> class -> statistics on the class and on the others.
    """

    network: Network
    config: RemovalConfig
    views: dict[str, list[View]]
    statistics: dict[str, Differences]

    @property
    def classes(self) -> list[int]:
        """Return the indices of the classes that have statistics."""
        return list(next(iter(self.statistics.values())))

    def kept(
        self, index: int, keep: float | None = None, replaced: Replaced = lambda gone, members: gone
    ) -> dict[str, np.ndarray]:
        """Choose the nodes that the module of a class keeps.

        Args:
            index: index of the class.
            keep: share of the nodes of each layer to keep, in (0, 1]; None for the cap and the sign rule of the paper.
            replaced: maps the chosen nodes to the nodes that are removed instead, booleans (..., U).

        Returns:
            layer name -> booleans, shaped as in :class:`~unbraid.modules.concern.Concern`.
        """
        removed = {name: np.zeros_like(self.statistics[name][index][0], dtype=bool) for name in self.views}
        for (rule, *_), members in self._pools(keep).items():
            positive, negative = (
                np.concatenate([self.statistics[name][index][side][..., columns] for name, columns in members], -1)
                for side in (0, 1)
            )
            if keep is not None:
                chosen = remove_share(positive, negative, 1 - keep)
            else:
                remove = remove_rectified if rule is active_rate else remove_logistic
                chosen = remove(positive, negative, self.config)
            gone = replaced(chosen, members)
            start = 0
            for name, columns in members:
                stop = start + columns.stop - columns.start
                removed[name][..., columns] = gone[..., start:stop]
                start = stop
        layers = self.network.layers
        return {name: _shaped(~gone, layers[name], self.config) for name, gone in removed.items()}

    def _pools(self, keep: float | None) -> dict[tuple, list[Member]]:
        pools: dict[tuple, list[Member]] = {}
        for name, parts in self.views.items():
            shape = next(iter(self.statistics[name].values()))[0].shape[:-1]
            for gate, columns, statistic in parts:
                own = name if self.config.scope is CapScope.LAYER or keep is not None else None
                pools.setdefault((statistic, gate, shape, own), []).append((name, columns))
        return pools


def identified(
    network: Network,
    seen: Observation,
    sample: Sample,
    config: RemovalConfig,
    advance: Advance = lambda share: None,
) -> Identification:
    """Compute the statistics of every node for every class.

    Args:
        network: the parent network.
        seen: values of the nodes of the parent network on the sample.
        sample: the positive and negative examples of each class.
        config: settings.
        advance: called with the finished share of a layer.

    Raises:
        DataError: per-timestep labels whose number differs from that of the decisions.
    """
    check_steps(seen.steps, len(next(iter(sample.positive.values()))))
    views = {name: _views(layer, config) for name, layer in network.layers.items() if name in seen.layers}
    statistics: dict[str, Differences] = {}
    folded = _folded(network)
    for name, parts in views.items():
        rules = [(columns, statistic) for _, columns, statistic in parts]
        statistics[name] = class_statistics(seen.layers[name], sample, rules, config, advance, name in folded)
    return Identification(network, config, views, statistics)


def _folded(network: Network) -> set[str]:
    """Names of the layers of a user's module that read several sequences of each example in one call."""
    sites = network.spec.run.folds if isinstance(network.spec, TorchSpec) else {}
    return {name for name in network.layers if any(name == site or name.startswith(f"{site}.") for site in sites)}


def _views(layer: Layer, config: RemovalConfig) -> list[View]:
    """List the gates, columns and statistics of a layer."""
    own: Statistic = active_rate if layer.rectified else central_tendency
    if config.gates is GateView.HIDDEN or layer.cell is None:
        return [("h", slice(0, layer.units), own)]
    views = []
    for g, gate in enumerate(layer.cell.gates):
        columns = slice(g * layer.units, (g + 1) * layer.units)
        views.append((gate, columns, own if gate == CANDIDATE[layer.cell.kind] else open_rate))
    return views


def _shaped(kept: np.ndarray, layer: Layer, config: RemovalConfig) -> np.ndarray:
    if layer.cell is None:
        return kept[-1] if config.mode is Mode.UNROLLED and kept.shape[0] == 1 else kept
    if config.gates is GateView.HIDDEN or len(layer.cell.gates) == 1:
        return kept
    return kept.reshape(*kept.shape[:-1], len(layer.cell.gates), layer.units)

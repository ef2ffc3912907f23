"""Concern identification over several layers: which columns of which layers are compared with each other.

Source: Imtiaz et al. 2023, Alg. 1-3. The cap counts over all layers that are judged alike (same rule, same gate, same
timesteps), sorted together; layer by layer with ``scope="layer"`` (the release) or with a given share.
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
from unbraid.networks.spec import TorchSpec
from unbraid.progress import Advance

Differences = dict[int, tuple[np.ndarray, np.ndarray]]  # class -> statistic on its examples, and on the others'
Member = tuple[str, slice]  # a layer's name and its columns
View = tuple[str, slice, Statistic]  # gate, columns and the statistic that judges them
Replaced = Callable[[np.ndarray, Sequence[Member]], np.ndarray]


@dataclass(frozen=True)
class Identification:
    """Statistics of every node for every class.

    Args:
        network: the parent.
        config: settings.
        views: layer name -> what of it is judged.
        statistics: layer name -> class -> its two statistics.
    """

    network: Network
    config: RemovalConfig
    views: dict[str, list[View]]
    statistics: dict[str, Differences]

    @property
    def classes(self) -> list[int]:
        """The classes that statistics were made for."""
        return list(next(iter(self.statistics.values())))

    def kept(
        self, index: int, keep: float | None = None, replaced: Replaced = lambda gone, members: gone
    ) -> dict[str, np.ndarray]:
        """Kept nodes of one class.

        Args:
            index: the class.
            keep: share of each layer's nodes that stays, in (0, 1]; None for the cap and the sign rule of the paper.
            replaced: gives the removed nodes in place of those chosen, booleans (..., U).

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
        network: the parent.
        seen: values of its nodes on the sample.
        sample: which examples count for which class.
        config: settings.
        advance: called with the share of a layer that is done.

    Raises:
        DataError: per-timestep labels whose number differs from that of the decisions.
    """
    check_steps(seen.steps, len(next(iter(sample.positive.values()))))
    views = {name: _views(layer, config) for name, layer in network.layers.items()}
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
    """What of a layer is judged, and by which rule."""
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

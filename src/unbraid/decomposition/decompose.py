"""Decomposing a network into one module per class (Imtiaz et al. 2023, Alg. 1-4)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import nn

from unbraid.config import CapScope, DecompositionConfig, GateView, HeadKind, IOArchitecture, Mode, Strategy
from unbraid.data.targets import Label, Targets, read_targets
from unbraid.decomposition.channeling import channel
from unbraid.decomposition.reconstruction.output_rows import fitted_head
from unbraid.decomposition.reconstruction.parent_decisions import read_decisions
from unbraid.decomposition.reconstruction.reconstruct import DEFAULT_KEEP, Reconstruction
from unbraid.decomposition.reconstruction.size_search import held_out_split, smallest_within
from unbraid.decomposition.removal.baselines import choose_random, choose_smallest, magnitudes
from unbraid.decomposition.removal.central_tendency import central_tendency
from unbraid.decomposition.removal.identification import (
    Statistic,
    active_rate,
    open_rate,
    remove_logistic,
    remove_rectified,
    remove_share,
)
from unbraid.decomposition.removal.observation import Observation, observe
from unbraid.decomposition.removal.statistics import class_statistics
from unbraid.decomposition.sampling import Sample, choose, module_classes
from unbraid.errors import unknown_label, wrong_object
from unbraid.modules.arguments import check_network, check_pair
from unbraid.modules.concern import Concern
from unbraid.modules.module import ConcernModule
from unbraid.networks.cells import CANDIDATE
from unbraid.networks.inputs import Inputs
from unbraid.networks.layers import Layer
from unbraid.networks.network import Network
from unbraid.networks.precision import check_full
from unbraid.progress import Advance, Progress, silent
from unbraid.storage.card import NOTHING
from unbraid.storage.loading import load_modules
from unbraid.storage.saving import save_decomposition

Differences = dict[int, tuple[np.ndarray, np.ndarray]]


class Decomposition(Mapping[Label, ConcernModule]):
    """The modules of one network: a read-only mapping label -> module.

    Attributes:
        network: the monolithic model.
        config: how it was decomposed.
    """

    def __init__(self, network: Network, modules: Mapping[Label, ConcernModule], config: DecompositionConfig) -> None:
        self.network, self.config = network, config
        self._modules = dict(modules)

    def __getitem__(self, label: Label) -> ConcernModule:
        """The module of a label; raises UnknownLabel, which is a KeyError and names the nearest label."""
        if label not in self._modules:
            raise unknown_label(label, self._modules, "the decomposition")
        return self._modules[label]

    def __iter__(self) -> Iterator[Label]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)

    @property
    def labels(self) -> list[Label]:
        """The modules' labels, in the order of the network's output."""
        return list(self._modules)

    def save(
        self, folder: str | os.PathLike[str], license: str | None = None, scores: Mapping[str, Any] | None = None
    ) -> None:
        """Write the folder format, whole or not at all, with a model card.

        Args:
            folder: where; an Unbraid folder that is there is replaced.
            license: for the card, as ``cc-by-4.0``.
            scores: figures to keep beside the modules, as :meth:`unbraid.Evaluation.to_dict` gives them.

        Raises:
            FormatError: something else lies there.
        """
        about = NOTHING.changed(license, scores)
        save_decomposition(folder, self.network, list(self.values()), self.config, about)


@torch.inference_mode(False)
@torch.enable_grad()
def decompose(
    network: Network,
    examples: tuple[Any, Any],
    *,
    config: DecompositionConfig | None = None,
    progress: Progress = silent,
    **settings: Any,
) -> Decomposition:
    """Take a trained network apart into one module per class.

    Args:
        network: the monolithic model.
        examples: (x, y): inputs, and labels (indices or names; (N,), or (N, T) for many outputs; -1 or "" = none). Of
            an encoder-decoder x is a dict of ``source`` and ``target``, and y each pair's target language.
        config: all settings; small reconstructed modules by default.
        progress: a progress bar's factory, see :mod:`unbraid.progress`.
        **settings: changes to ``config``: mode, strategy, gates, head, max_removed, samples_per_class, seed, ...

    Returns:
        the modules, by label.

    Raises:
        ConfigError: an unknown setting or a value out of range.
        DataError: inputs or labels that do not fit, or a class with fewer than two examples.
        ArgumentError: ``network`` is not a Network, ``examples`` not a pair, or ``config`` not a DecompositionConfig.
    """
    check_network(network, "network")
    check_pair(examples, "examples")
    if config is not None and not isinstance(config, DecompositionConfig):
        raise wrong_object(config, "config", "a DecompositionConfig", "pass single settings as keywords")
    config = (config or DecompositionConfig()).changed(**settings)
    check_full(network)
    if network.io is IOArchitecture.ENCODER_DECODER:
        from unbraid.decomposition.languages import decompose_languages  # built of the parts below

        return decompose_languages(network, examples, config, progress)
    x = network.check(examples[0])
    targets = read_targets(
        network.align(examples[1], x, examples[0]),
        network.labels,
        many=network.io.many_outputs,
        independent=network.independent,
        examples=len(x),
    )
    if config.strategy is Strategy.RECONSTRUCT:
        return _compact(network, x, targets, config, progress)
    sample = choose(targets, config)
    by_gates = config.gates is GateView.EACH
    with ExitStack() as stack:
        advance = stack.enter_context(progress("observing", len(sample.rows)))
        seen = stack.enter_context(observe(network, x.take(sample.rows), by_gates, advance))
        step = stack.enter_context(progress("identifying", len(seen.layers)))
        kept = identify(network, seen, sample, config, step)
        steps = {name: layer.values.shape[1] for name, layer in seen.layers.items()}
    modules, decisions = {}, None
    for index, masks in kept.items():
        concern = Concern(masks, steps, config.mode, by_gates, config.edges)
        module = ConcernModule(network, index, concern, channel(network, index, config), config)
        if config.head is HeadKind.FITTED and len(module.head.bias) == 2:
            with torch.inference_mode():
                decisions = decisions or read_decisions(network, x.take(sample.rows), targets.take(sample.rows))
                head = fitted_head(module, decisions)
            module = ConcernModule(network, index, concern, head, config)
        modules[module.label] = module
    return Decomposition(network, modules, config)


def _compact(
    network: Network, x: Inputs, targets: Targets, config: DecompositionConfig, progress: Progress
) -> Decomposition:
    """Compact modules, one per class, of the wanted size or within the wanted loss."""
    held_out = None
    if config.max_loss is not None:
        kept, out = held_out_split(len(x), config.seed)
        held_out = (x.take(out), targets.take(out))
        x, targets = x.take(kept), targets.take(kept)
    classes = module_classes(targets, config)
    rows = choose(targets, config, pooled=True).rows
    with progress("reconstructing", len(classes)) as advance:
        reconstruction = Reconstruction(network, x.take(rows), targets.take(rows), classes, config, advance)

    def modules(keep: float) -> dict[Label, ConcernModule]:
        made = {index: reconstruction.make(index, keep) for index in classes}
        return {
            network.labels[index]: ConcernModule(network, index, m.concern, m.head, config, weights=m.weights)
            for index, m in made.items()
        }

    if held_out is None:
        return Decomposition(network, modules(DEFAULT_KEEP if config.keep is None else config.keep), config)
    assert config.max_loss is not None
    return Decomposition(network, smallest_within(network, modules, *held_out, config.max_loss, progress), config)


def identify(
    network: Network,
    seen: Observation,
    sample: Sample,
    config: DecompositionConfig,
    advance: Advance = lambda share: None,
) -> dict[int, dict[str, np.ndarray]]:
    """Kept nodes of every class: class -> layer -> booleans, shaped as :class:`~unbraid.modules.concern.Concern` says.

    The cap counts over all layers that are judged alike (same rule, same gate, same timesteps), sorted together; with
    ``scope="layer"`` (the release) or a share to keep layer by layer.
    """
    views = {name: _views(layer, config) for name, layer in network.layers.items()}
    statistics: dict[str, Differences] = {}
    for name in views:
        rules = [(columns, statistic) for _, columns, statistic in views[name]]
        statistics[name] = class_statistics(seen.layers[name], sample, rules, config, advance)
    removed = {j: {name: np.zeros_like(statistics[name][j][0], dtype=bool) for name in views} for j in sample.positive}
    for (rule, *_), members in _pools(views, statistics, config).items():
        remove = remove_rectified if rule is active_rate else remove_logistic
        for j in removed:
            both = [
                np.concatenate([statistics[name][j][sign][..., columns] for name, columns in members], axis=-1)
                for sign in (0, 1)
            ]
            if config.keep is None:
                first = remove(both[0], both[1], config)
            else:
                first = remove_share(both[0], both[1], 1 - config.keep)
            gone = _chosen(first, members, network, config, j)
            start = 0
            for name, columns in members:
                stop = start + columns.stop - columns.start
                removed[j][name][..., columns] = gone[..., start:stop]
                start = stop
    return {
        j: {name: _shaped(~gone, network.layers[name], config) for name, gone in layers.items()}
        for j, layers in removed.items()
    }


def _chosen(
    gone: np.ndarray, members: list[tuple[str, slice]], network: Network, config: DecompositionConfig, index: int
) -> np.ndarray:
    """The removal itself, or a baseline's choice of as many nodes."""
    if config.strategy is Strategy.RANDOM:
        return choose_random(gone, np.random.default_rng([config.seed, index]))
    if config.strategy is Strategy.MAGNITUDE:
        layers = network.layers
        by_gates = config.gates is GateView.EACH
        sizes = [magnitudes(layers[name], columns, by_gates) for name, columns in members]
        return choose_smallest(gone, np.concatenate(sizes))
    return gone


def _views(layer: Layer, config: DecompositionConfig) -> list[tuple[str, slice, Statistic]]:
    """(gate, columns, statistic): what of a layer is judged, and by which rule."""
    own: Statistic = active_rate if layer.rectified else central_tendency
    if config.gates is GateView.HIDDEN or layer.cell is None:
        return [("h", slice(0, layer.units), own)]
    views = []
    for g, gate in enumerate(layer.cell.gates):
        columns = slice(g * layer.units, (g + 1) * layer.units)
        views.append((gate, columns, own if gate == CANDIDATE[layer.cell.kind] else open_rate))
    return views


def _pools(
    views: dict[str, list[tuple[str, slice, Statistic]]],
    statistics: dict[str, Differences],
    config: DecompositionConfig,
) -> dict[tuple, list[tuple[str, slice]]]:
    pools: dict[tuple, list[tuple[str, slice]]] = {}
    for name, parts in views.items():
        shape = next(iter(statistics[name].values()))[0].shape[:-1]
        for gate, columns, statistic in parts:
            own = name if config.scope is CapScope.LAYER or config.keep is not None else None
            pools.setdefault((statistic, gate, shape, own), []).append((name, columns))
    return pools


def _shaped(kept: np.ndarray, layer: Layer, config: DecompositionConfig) -> np.ndarray:
    if layer.cell is None:
        return kept[-1] if config.mode is Mode.UNROLLED and kept.shape[0] == 1 else kept
    if config.gates is GateView.HIDDEN or len(layer.cell.gates) == 1:
        return kept
    return kept.reshape(*kept.shape[:-1], len(layer.cell.gates), layer.units)


def load_decomposition(folder: str | os.PathLike[str], module: nn.Module | None = None) -> Decomposition:
    """Read what :meth:`Decomposition.save` wrote.

    Args:
        folder: that folder.
        module: a fresh instance of the user's own module, where the network is one's (no code is ever stored).

    Raises:
        FormatError: a file is missing, damaged, of a newer format, or does not fit the others or the instance.
    """
    _, parents, modules = load_modules(folder, "decomposition", module)
    return Decomposition(parents[0], {m.label: m for m in modules}, modules[0].config)

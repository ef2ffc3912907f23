"""Node removal as a strategy: the method of Imtiaz et al. 2023, and two baselines that remove equally many nodes.

Shapes: N examples, T timesteps, U columns of a layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from unbraid.config import DecompositionConfig, GateView, HeadKind, Observed, RemovalConfig
from unbraid.data.targets import Targets
from unbraid.decomposition.channeling import channel
from unbraid.decomposition.choosing_layers import check_recurrent, chosen_layers
from unbraid.decomposition.protocol import MAKING, Strategy
from unbraid.decomposition.reconstruction.output_rows import fitted_head
from unbraid.decomposition.reconstruction.parent_decisions import ParentDecisions, read_decisions
from unbraid.decomposition.removal.baselines import choose_random, choose_smallest, magnitudes
from unbraid.decomposition.removal.observation import Observation, observe
from unbraid.decomposition.removal.pooling import Identification, Member, identified
from unbraid.decomposition.sampling import Sample, choose
from unbraid.modules.concern import Concern
from unbraid.modules.module import ConcernModule
from unbraid.networks.inputs import Inputs
from unbraid.networks.network import Network
from unbraid.networks.spec import EncoderDecoderSpec
from unbraid.progress import Progress


class Removal(Strategy):
    """``strategy="paper"``: remove nodes that are less active for the class than for other classes, up to a cap."""

    settings = RemovalConfig
    phases: ClassVar[Mapping[str, float]] = {"observing": 1.0, "identifying": 4.0, MAKING: 1.0}

    def prepare(
        self, network: Network, x: Inputs, targets: Targets, config: DecompositionConfig, progress: Progress
    ) -> PreparedRemoval:
        sample = choose(targets, config)
        seen = x.take(sample.rows)
        return self._observed(network, seen, targets.take(sample.rows), sample, config, progress)

    def prepare_languages(
        self, network: Network, x: Inputs, sample: Sample, config: DecompositionConfig, progress: Progress
    ) -> PreparedRemoval:
        return self._observed(network, x, None, sample, config.changed(observed=Observed.ALL), progress)

    def replaced(
        self, gone: np.ndarray, members: Sequence[Member], network: Network, config: RemovalConfig, index: int
    ) -> np.ndarray:
        """Choose the nodes that are removed instead of ``gone``. This strategy returns ``gone``.

        Args:
            gone: the nodes that the paper removes, booleans (..., U).
            members: names of the layers and their columns, U columns in total.
            network: the parent network.
            config: settings.
            index: index of the class.
        """
        return gone

    def _observed(
        self,
        network: Network,
        x: Inputs,
        targets: Targets | None,
        sample: Sample,
        config: DecompositionConfig,
        progress: Progress,
    ) -> PreparedRemoval:
        assert isinstance(config, RemovalConfig)
        check_recurrent(network, config)
        layers = chosen_layers(network, config)
        with ExitStack() as stack:
            advance = stack.enter_context(progress("observing", len(x)))
            seen = stack.enter_context(observe(network, x, config.gates is GateView.EACH, advance, layers=layers))
            _leave_out_padding(seen, network, x)
            step = stack.enter_context(progress("identifying", len(seen.layers)))
            identification = identified(network, seen, sample, config, step)
            steps = {name: layer.values.shape[1] for name, layer in seen.layers.items()}
        known = None if seen.features is None else (sample.rows, seen.features)
        return PreparedRemoval(self, network, x, targets, config, identification, steps, known)


@dataclass
class PreparedRemoval:
    """Statistics of every node for every class, from which nodes are removed.

    Args:
        strategy: the strategy that chooses the nodes.
        network: the parent network.
        x: the sampled examples.
        targets: labels of the examples; None for languages.
        config: settings.
        identification: the statistics.
        steps: layer name -> number of timesteps.
        known: rows of the sample among the given examples, and their features (R, F) in the parent; None if unknown.
    """

    strategy: Removal
    network: Network
    x: Inputs
    targets: Targets | None
    config: RemovalConfig
    identification: Identification
    steps: dict[str, int]
    known: tuple[np.ndarray, Tensor] | None = None

    @property
    def classes(self) -> list[int]:
        """Indices of the classes that modules can be made for."""
        return list(self.identification.classes)

    def module(self, index: int, keep: float | None) -> ConcernModule:
        """Make the module of class ``index``; see :class:`~unbraid.decomposition.protocol.Prepared`."""

        def replaced(gone: np.ndarray, members: Sequence[Member]) -> np.ndarray:
            return self.strategy.replaced(gone, members, self.network, self.config, index)

        masks = self.identification.kept(index, self.config.keep if keep is None else keep, replaced)
        by_gates = self.config.gates is GateView.EACH
        concern = Concern(masks, self.steps, self.config.mode, by_gates, self.config.edges)
        head = channel(self.network, index, self.config)
        module = ConcernModule(self.network, index, concern, head, self.config)
        if self.config.head is not HeadKind.FITTED or len(head.bias) != 2 or self.targets is None:
            return module
        with torch.inference_mode():
            head = fitted_head(module, self._decisions)
        return ConcernModule(self.network, index, concern, head, self.config)

    @cached_property
    def _decisions(self) -> ParentDecisions:
        assert self.targets is not None
        return read_decisions(self.network, self.x, self.targets)


class RandomRemoval(Removal):
    """``strategy="random"``: remove as many nodes as the paper, drawn at random."""

    def replaced(
        self, gone: np.ndarray, members: Sequence[Member], network: Network, config: RemovalConfig, index: int
    ) -> np.ndarray:
        return choose_random(gone, np.random.default_rng([config.seed, index]))


class MagnitudeRemoval(Removal):
    """``strategy="magnitude"``: remove as many nodes as the paper, those with the smallest weights."""

    def replaced(
        self, gone: np.ndarray, members: Sequence[Member], network: Network, config: RemovalConfig, index: int
    ) -> np.ndarray:
        by_gates = config.gates is GateView.EACH
        sizes = [magnitudes(network.layers[name], columns, by_gates) for name, columns in members]
        return choose_smallest(gone, np.concatenate(sizes))


def _leave_out_padding(seen: Observation, network: Network, x: Inputs) -> None:
    """Mask the padding of sentence pairs, even if the encoder has no mask and reads it."""
    if not isinstance(network.spec, EncoderDecoderSpec):
        return
    encoder = {spec.name for spec in network.spec.encoder}
    for name, layer in seen.layers.items():
        layer.valid = (np.asarray(x.tree["source" if name in encoder else "target"]) != 0).T

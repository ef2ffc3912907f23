"""Reconstruction as a strategy: keep few hidden units, and fold the others into them by least squares.

Shapes: N examples, T timesteps, K modules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from unbraid.config import DecompositionConfig, ReconstructConfig
from unbraid.data.targets import Label, Targets
from unbraid.decomposition.channeling import channel
from unbraid.decomposition.processes import each, shares_work
from unbraid.decomposition.protocol import MAKING, FusingStrategy
from unbraid.decomposition.reconstruction.importance import NodeScore, node_scores
from unbraid.decomposition.reconstruction.reconstruct import (
    DEFAULT_KEEP,
    Compact,
    Reconstruction,
    observing_cost,
)
from unbraid.decomposition.sampling import Sample, chosen_rows, module_classes
from unbraid.modules.concern import Concern
from unbraid.modules.module import ConcernModule
from unbraid.networks.heads import Head, distinct_rows
from unbraid.networks.inputs import Inputs
from unbraid.networks.layers import decomposable_layers
from unbraid.networks.network import Network
from unbraid.progress import Advance, Progress

OBSERVING = "observing"
BODY = 0.9  # share of the work of a module that makes its body


class ReconstructionStrategy(FusingStrategy):
    """``strategy="reconstruct"``, or the same method with another score of hidden units.

    Args:
        score: score of hidden units, see :func:`unbraid.register_strategy`. None for the default score.
    """

    settings = ReconstructConfig
    numbers = True
    phases: ClassVar[Mapping[str, float]] = {OBSERVING: 1.0, MAKING: 2.0}

    def __init__(self, score: NodeScore | None = None) -> None:
        self.score = score or node_scores

    def prepare(
        self, network: Network, x: Inputs, targets: Targets, config: DecompositionConfig, progress: Progress
    ) -> PreparedReconstruction:
        assert isinstance(config, ReconstructConfig)
        classes = module_classes(targets, config)
        rows = chosen_rows(targets, config)
        with progress(OBSERVING, observing_cost(len(rows), len(classes))) as advance:
            made = Reconstruction(network, x.take(rows), targets.take(rows), classes, config, advance, score=self.score)
        return PreparedReconstruction(made, rows)

    def prepare_fusing(
        self,
        network: Network,
        x: Inputs,
        targets: Targets,
        classes: Sequence[int],
        config: DecompositionConfig,
        advance: Advance,
    ) -> PreparedReconstruction:
        assert isinstance(config, ReconstructConfig)
        rows = chosen_rows(targets, config, classes)
        made = Reconstruction(network, x.take(rows), targets.take(rows), classes, config, advance, score=self.score)
        return PreparedReconstruction(made)

    def prepare_languages(
        self, network: Network, x: Inputs, sample: Sample, config: DecompositionConfig, progress: Progress
    ) -> PreparedLanguages:
        assert isinstance(config, ReconstructConfig)
        said = np.asarray(x.tree["target"]) != 0
        found = {}
        total = sum(observing_cost(len(places[0]), 1) for places in sample.positive.values())
        with progress(OBSERVING, total) as advance:
            for index, places in sample.positive.items():
                rows = places[0]
                targets = Targets(np.where(said[rows], index, -1), network.labels, many=True)
                part = Reconstruction(network, x.take(rows), targets, [index], config, advance, score=self.score)
                found[index] = PreparedReconstruction(part)
        return PreparedLanguages(found)


@dataclass(frozen=True)
class PreparedReconstruction:
    """Make modules of any size from one observation of the sample.

    Attributes:
        reconstruction: the observation.
        rows: indices of the sample among the given examples, (R,); None if it was drawn in another way.
    """

    reconstruction: Reconstruction
    rows: np.ndarray | None = None

    @property
    def classes(self) -> Sequence[int]:
        """Indices of the classes that modules can be made for."""
        return self.reconstruction.classes

    @property
    def known(self) -> tuple[np.ndarray, Tensor] | None:
        """Rows of the sample and their features (R, F) in the parent, if memory allowed to keep them; else None."""
        features = self.reconstruction.features
        return None if features is None or self.rows is None else (self.rows, features)

    def module(self, index: int, keep: float | None) -> ConcernModule:
        """Make the module of class ``index``; see :class:`~unbraid.decomposition.protocol.Prepared`."""
        return self._module(index, self.reconstruction.make(index, DEFAULT_KEEP if keep is None else keep))

    def every(self, keep: float | None, advance: Advance) -> Iterator[ConcernModule]:
        """Make the modules of all classes; see :class:`~unbraid.decomposition.protocol.Together`."""
        made, share = self.reconstruction, DEFAULT_KEEP if keep is None else keep
        groups = made.groups(share)
        if not shares_work(len(groups), made.network.device):
            for group in groups:
                bodies = made.make_group(group, share, lambda amount: advance(BODY * amount))
                for index, body in zip(group, bodies, strict=True):
                    yield self._module(index, body)
                    advance(1 - BODY)
            return
        if made.config.refine:
            made.taught()  # once, for all processes
        parts = each(partial(_parts, made, share), groups)
        for group, found in zip(groups, parts, strict=True):
            for index, (concern, layers, (weight, bias, idle, words)) in zip(group, found, strict=True):
                tensors = {name: {n: torch.from_numpy(w) for n, w in own.items()} for name, own in layers.items()}
                places = None if words is None else torch.from_numpy(words)
                head = Head(torch.from_numpy(weight), torch.from_numpy(bias), idle, places)
                yield ConcernModule(made.network, index, concern, head, made.config, weights=tensors)
                advance(1)

    def _module(self, index: int, made: Compact) -> ConcernModule:
        config, network = self.reconstruction.config, self.reconstruction.network
        return ConcernModule(network, index, made.concern, made.head, config, fitted=(made.body, made.features))

    def shared(self, keep: float | None, advance: Advance) -> list[ConcernModule]:
        """Make the modules of all classes with one body; see :class:`~unbraid.decomposition.protocol.Sharing`."""
        made = self.reconstruction
        plans = [_Plan(index, made.config, made.network.labels[index]) for index in self.classes]
        return self._one_body(
            plans, DEFAULT_KEEP if keep is None else keep, lambda amount: advance(len(plans) * amount)
        )

    def together(
        self, members: Sequence[ConcernModule], configs: Sequence[DecompositionConfig], keep: float
    ) -> list[ConcernModule]:
        """Make one body for ``members``; see :class:`~unbraid.decomposition.protocol.Fusing`."""
        pairs = zip(members, configs, strict=True)
        return self._one_body([_Plan(m.index, config, m.label, m) for m, config in pairs], keep, lambda amount: None)

    def _one_body(self, plans: Sequence[_Plan], keep: float, advance: Advance) -> list[ConcernModule]:
        network = self.reconstruction.network
        heads = [channel(network, plan.index, plan.config) for plan in plans]
        weight, bias, places = distinct_rows(heads)
        made = self.reconstruction.make_together(
            [plan.index for plan in plans], keep, Head(weight, bias), [p.tolist() for p in places], advance
        )
        found: list[ConcernModule] = []
        for plan, head, own in zip(plans, heads, places, strict=True):
            small = Head(made.head.weight[own], made.head.bias[own], head.idle)
            first = found[0] if found else None  # all modules share its body
            found.append(
                ConcernModule(
                    network, plan.index, made.concern, small, plan.config, plan.label,
                    fitted=(made.body, made.features), original=plan.original, like=first,
                )
            )  # fmt: skip
        return found


Part = tuple[Concern, dict[str, dict[str, np.ndarray]], tuple]


def _parts(made: Reconstruction, keep: float, group: Sequence[int]) -> list[Part]:
    """Make modules in another process: their kept units, and the weights of their layers and of their output layers."""
    return [_part(found) for found in made.make_group(group, keep)]


def _part(found: Compact) -> Part:
    layers = decomposable_layers(found.body)
    weights = {
        name: {own: p.detach().numpy() for own, p in layers[name].module.named_parameters()}
        for name in found.concern.kept
    }
    head = found.head
    words = None if head.words is None else head.words.numpy()
    return found.concern, weights, (head.weight.detach().numpy(), head.bias.detach().numpy(), head.idle, words)


@dataclass(frozen=True)
class _Plan:
    """A module to make with the body of others: its class, settings and label, and the module that it replaces."""

    index: int
    config: DecompositionConfig
    label: Label
    original: ConcernModule | None = None


@dataclass(frozen=True)
class PreparedLanguages:
    """Make modules of languages. A module never translates to another language, so each has its own sample."""

    languages: dict[int, PreparedReconstruction]

    @property
    def classes(self) -> Sequence[int]:
        """Indices of the languages that modules can be made for."""
        return list(self.languages)

    def module(self, index: int, keep: float | None) -> ConcernModule:
        """Make the module of language ``index``; see :class:`~unbraid.decomposition.protocol.Prepared`."""
        return self.languages[index].module(index, keep)

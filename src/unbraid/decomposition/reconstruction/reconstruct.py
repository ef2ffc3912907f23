"""Compact modules: keep few hidden units, fold the others into them, and refit the output layer on the module.

Shapes: N examples, T timesteps, H units, F features, R head rows, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unbraid.config import HeadKind, LayerChoice, Mode, ReconstructConfig
from unbraid.data.targets import Targets
from unbraid.decomposition.channeling import channel
from unbraid.decomposition.choosing_layers import chosen_layers, pruned_layers
from unbraid.decomposition.memory import budget
from unbraid.decomposition.processes import at_work, shares_work
from unbraid.decomposition.reconstruction.folding import reconstructed_head, reconstructing, source_indices
from unbraid.decomposition.reconstruction.importance import (
    NodeScore,
    checked_scores,
    class_scores,
    combined,
    node_scores,
    strongest,
)
from unbraid.decomposition.reconstruction.joint_distillation import EXAMPLES, Student, Teaching, group_size, trained
from unbraid.decomposition.reconstruction.layer_refit import refit
from unbraid.decomposition.reconstruction.moments import SampleMoments, counts, with_one
from unbraid.decomposition.reconstruction.objectives import OBJECTIVES
from unbraid.decomposition.reconstruction.output_rows import decided
from unbraid.decomposition.reconstruction.parent_decisions import HELD, ParentDecisions, even, read_decisions
from unbraid.decomposition.reconstruction.regression import JUDGING, Regression
from unbraid.decomposition.reconstruction.states import HeldPass, States
from unbraid.modules.concern import Concern
from unbraid.networks.heads import Head
from unbraid.networks.inputs import Inputs, to_device
from unbraid.networks.layers import Layer, decomposable_layers, head_sources, sliced
from unbraid.networks.network import Network
from unbraid.networks.spec import NetworkSpec
from unbraid.networks.watching import watched

DEFAULT_KEEP = 0.5  # keep ratio if neither keep nor max_loss is given
# Smallest and largest number of examples with and without a class, and number of timesteps that they should have:
SCORED = (20, 100, 1_000)  # for scores; more hardly change the order
SCORED_AT_ONCE = 1_000  # examples of several classes that are scored in one batch
REFITTED = (20, 200, 2_000)  # for refitting layers; the classes of one body share these examples
REFITTED_DENSE = (20, 2_000, 2_000)  # the same without a recurrence, where an example is one observation
FITTED = 6  # smallest number of timesteps for each weight of a unit that is refitted
STEPS = 20.0  # number of gradient steps that take as long as the rest of making a module
PASS = 5.0  # cost of the pass over the sample, relative to the scores of one class


@dataclass(frozen=True)
class Compact:
    """The parts of a compact module.

    Attributes:
        concern: the kept hidden units.
        body: the smaller body; it owns the weights of its smaller layers and shares all others with the parent.
        features: indices of the remaining features of the parent in the outputs of the body; None for all.
        head: output layer over all features of the parent, with zero weights for removed features.
    """

    concern: Concern
    body: nn.Module
    features: Tensor | None
    head: Head


@dataclass(frozen=True)
class FittedBody:
    """A smaller body and its output layer.

    Attributes:
        body: the body; it owns the weights of its smaller recurrent layers.
        kept: layer name -> indices of its kept units.
        inputs: indices of the kept features of the parent, (F',).
        cut: whether the body computes these features only; otherwise it computes all, with zeros for removed units.
        head: output layer over all features of the parent, with zero weights for removed features.
    """

    body: nn.Module
    kept: dict[str, Tensor]
    inputs: Tensor
    cut: bool
    head: Head


@dataclass
class Reconstruction:
    """Make compact modules of any size from one observation of the sample.

    Args:
        network: the parent network.
        x: the sampled examples.
        targets: their labels.
        classes: indices of the classes that modules are made for.
        config: settings of the decomposition.
        advance: called with the finished work; see :func:`observing_cost` for the total.
        score: scores the hidden units of each layer for a module, larger for units that should stay.

    Raises:
        DataError: the number of labels per example differs from that of the decisions of the network.
    """

    network: Network
    x: Inputs
    targets: Targets
    classes: Sequence[int]
    config: ReconstructConfig
    advance: Callable[[float], object] = lambda amount: None
    score: NodeScore = node_scores
    layers: dict[str, Layer] = field(init=False)
    moments: SampleMoments = field(init=False)
    scores: dict[int, Mapping[str, np.ndarray]] = field(init=False)
    steps: dict[str, int] = field(init=False)
    states: dict[str, States] | None = field(init=False)
    features: Tensor | None = field(init=False)  # inputs of the output layer for all examples, if memory allows
    deciding: ParentDecisions = field(init=False)
    teaching: Teaching | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.layers = chosen_layers(self.network, self.config)
        with torch.inference_mode(), watched(self.layers, lambda layer, read, given: given[0]) as seen:
            self.network.features(to_device(next(self.x.batches()), self.network.device))
        self.steps = {name: prod(v.shape[1:-1]) for name, v in seen.items()}
        groups = self._groups()
        shared = shares_work(len(groups), self.network.device)
        with at_work(self.scored, groups) if shared else nullcontext(map(self.scored, groups)) as scored:
            self._pass()  # at the same time as the scores, if these have processes of their own
            self.scores = {}
            for group, found in zip(groups, scored, strict=True):
                self.scores |= dict(zip(group, found, strict=True))
                self.advance(len(group))

    def _pass(self) -> None:
        """Run the network on the sample, and keep what the modules are made from."""
        memory = budget(self.config.memory)
        held = HeldPass(self.network, len(self.x), memory / 4, self._refitted())
        passed = partial(_advanced, self.advance, PASS / max(len(self.x), 1))
        self.moments = SampleMoments(
            self.network, self.x, self.targets, self.classes, memory / 2, advance=passed, held=held
        )
        self.states, self.features = held.states(), held.features()
        self.deciding = read_decisions(self.network, self.x, self.targets, self.features)

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs: all but the progress bar and the features."""
        return {name: value for name, value in vars(self).items() if name not in ("advance", "features")}

    def _groups(self) -> list[list[int]]:
        """Group the classes that are scored at once: several of a network of stages, up to a batch of examples."""
        classes = list(self.classes)
        size = 1
        if self.score is node_scores and isinstance(self.network.spec, NetworkSpec):
            size = max(1, SCORED_AT_ONCE // (2 * self._examples(SCORED)))
        return [classes[start : start + size] for start in range(0, len(classes), size)]

    def scored(self, group: Sequence[int]) -> list[dict[str, np.ndarray]]:
        """Score the hidden units of the pruned layers for the modules of some classes, each layer name -> (H,)."""
        chosen = [self._with_and_without(index, self._examples(SCORED)) for index in group]
        rows = np.concatenate(chosen)
        heads = [channel(self.network, index, self.config.changed(head=HeadKind.SOFTMAX)) for index in group]
        x, counted = self.x.take(rows), self.targets.take(rows).counted()
        if len(group) == 1:
            every: Sequence[Mapping[str, np.ndarray]] = [self.score(self.network, heads[0], x, counted)]
        else:
            every = class_scores(self.network, heads, x, counted, [len(own) for own in chosen])
        layers = pruned_layers(self.network, self.config)
        return [checked_scores(found, layers) for found in every]

    def make(self, index: int, keep: float) -> Compact:
        """Make the module of class ``index`` that keeps the share ``keep`` of the units of each layer, in (0, 1]."""
        return self.make_group([index], keep)[0]

    def make_group(
        self, classes: Sequence[int], keep: float, advance: Callable[[float], object] = lambda amount: None
    ) -> list[Compact]:
        """Make the modules of some classes, which take their gradient steps together; see :meth:`make`.

        Args:
            classes: the classes.
            keep: as for :meth:`make`.
            advance: called with the finished work, whose sum is 1 for each class.
        """
        heads = [channel(self.network, index, self.config) for index in classes]
        plans = [([index], [range(len(head.bias))]) for index, head in zip(classes, heads, strict=True)]
        made = []
        for (own, rows), head in zip(plans, heads, strict=True):
            made.append(self._fitted_body(own, keep, head, rows))
            advance(self._fitting)
        return [self._compact(part) for part in self._refined(plans, made, advance)]

    @property
    def _fitting(self) -> float:
        """Return the share of the work of a module before its gradient steps."""
        return STEPS / (STEPS + self.config.refine)

    def groups(self, keep: float) -> list[list[int]]:
        """Group the classes whose modules are made at once: several if there are gradient steps, else one."""
        classes, size = list(self.classes), 1
        if self.config.refine:
            timesteps = max(self.steps.values(), default=1)
            size = group_size(self.layers.values(), keep, timesteps, OBJECTIVES[self.network.task])
        return [classes[start : start + size] for start in range(0, len(classes), size)]

    def make_together(
        self,
        indices: Sequence[int],
        keep: float,
        head: Head,
        own: Sequence[Sequence[int]],
        advance: Callable[[float], object] = lambda amount: None,
    ) -> Compact:
        """Make one body for several classes.

        Args:
            indices: indices of the classes.
            keep: share of the hidden units of each recurrent layer to keep, in (0, 1].
            head: all rows of the output layers of these classes, over the features of the parent.
            own: indices of the rows of each class, the dominant row first.
            advance: called with the finished work, whose sum is 1.
        """
        made = self._fitted_body(indices, keep, head, own)
        advance(self._fitting)
        return self._compact(self._refined([(indices, own)], [made], advance)[0])

    def _compact(self, made: FittedBody) -> Compact:
        masks = {name: _mask(self.layers[name].units, indices) for name, indices in made.kept.items()}
        concern = Concern(masks, self.steps, Mode.ROLLED)
        return Compact(concern, made.body, made.inputs if made.cut else None, made.head)

    def fitted_body(
        self, indices: Sequence[int], keep: float, head: Head, own: Sequence[Sequence[int]], whole: Collection[str] = ()
    ) -> FittedBody:
        """Make the smaller body and the output layer of :meth:`make_together`.

        Args:
            indices: as for :meth:`make_together`.
            keep: as for :meth:`make_together`.
            head: as for :meth:`make_together`.
            own: as for :meth:`make_together`.
            whole: names of layers that keep all units.
        """
        made = self._fitted_body(indices, keep, head, own, whole)
        return self._refined([(indices, own)], [made])[0]

    def _fitted_body(
        self, indices: Sequence[int], keep: float, head: Head, own: Sequence[Sequence[int]], whole: Collection[str] = ()
    ) -> FittedBody:
        """Make what :meth:`fitted_body` makes, without gradient steps."""
        network, layers = self.network, self.network.layers
        kept = {name: torch.arange(layer.units) for name, layer in self.layers.items()}
        chosen = strongest(combined([self.scores[j] for j in indices]), keep)
        kept |= {name: units for name, units in chosen.items() if name not in whole}
        moments = self.moments.mean(indices)
        body, features = sliced(network.body, kept, reconstructing(layers, kept, moments))
        if any(len(indices) < layers[name].units for name, indices in kept.items()):
            self._refit(indices, kept, body)
        width = network.spec.features
        inputs = source_indices(layers, kept, head_sources(network.body), width) if features is None else features
        folded = reconstructed_head(head, moments, inputs)
        fitted = self._fitted(indices, head, folded, own, _Features(body, inputs, features is not None))
        return FittedBody(body, kept, inputs, features is not None, fitted)

    def _refit(self, indices: Sequence[int], kept: dict[str, Tensor], body: nn.Module) -> None:
        """Refit the layers of ``body`` in place. The classes and all others have half of the weight each."""
        widest = max(
            sum(p.shape[1] for p in layer.module.parameters() if p.dim() == 2) for layer in _smaller(body, kept)
        )
        wanted = REFITTED if self.network.recurrent_layers() else REFITTED_DENSE
        most = max(self._examples(wanted, FITTED * widest) // len(indices), wanted[0])  # all rows run as one batch
        rows = np.unique(np.concatenate([self._with_and_without(j, most) for j in indices]))
        targets = self.targets.take(rows)
        own = np.any([targets.members(j) for j in indices], axis=0)
        sides = [counts(own), counts(targets.counted() & ~own)]
        weights = sum(side / max(float(side.sum()), 1) for side in sides)
        states = self.states and {name: own.take(rows) for name, own in self.states.items()}
        own_weights = {name: kept[name] for name in self._refitted()}
        refit(self.network.body, body, own_weights, self.x.take(rows), self.network.device, np.asarray(weights), states)

    def _refitted(self) -> dict[str, Layer]:
        """Return the layers that are refitted: with ``layers="recurrent"``, dense layers are folded only."""
        every = self.config.layers is LayerChoice.ALL or not self.network.recurrent_layers()
        first = next(iter(self.layers)) if isinstance(self.network.spec, NetworkSpec) else None  # reads no pruned units
        chosen = self.layers.items()
        return {name: layer for name, layer in chosen if layer.cell is not None or (every and name != first)}

    def _fitted(
        self, indices: Sequence[int], whole: Head, folded: Head, own: Sequence[Sequence[int]], features: _Features
    ) -> Head:
        """Fit the rows on the features of the module to the scores and probabilities or the numbers of the parent."""
        places = features.inputs
        start = torch.cat([folded.weight[:, places], folded.bias.unsqueeze(1)], 1)
        rows = torch.cat([whole.weight, whole.bias.unsqueeze(1)], 1)
        fewer = rows.shape[1] < len(rows)  # the products with the features of the parent are fewer than with the scores
        regression = Regression(start, rows.detach() if fewer else None)
        seen = []
        with torch.inference_mode():
            for batch, used, parents in self.deciding.batches(self.network.device):
                seen.append(features(batch)[used])
                judging = used.nonzero()[:, 0] < -(-len(used) // JUDGING)
                regression.add(with_one(seen[-1]), with_one(parents) if fewer else whole(parents), judging)
            new = regression.solved()
            objective = OBJECTIVES[self.network.task]
            deciding = objective.probabilities and self.config.head is not HeadKind.MEAN and whole.words is None
            if deciding:
                asked = [channel(self.network, j, self.config.changed(head=HeadKind.SOFTMAX)) for j in indices]
                chances = [torch.sigmoid(self.deciding.margins(h, j)) for h, j in zip(asked, indices, strict=True)]
                place = 1 if self.config.head is HeadKind.FITTED and len(own[0]) == 2 else 0
                margins = [(list(some), place, chance) for some, chance in zip(own, chances, strict=True)]
                new = decided(torch.cat(seen), new, margins)
        weight = folded.weight.detach().clone()
        weight[:, places] = new[:, :-1]
        return Head(weight, new[:, -1], folded.idle, folded.words)

    def _refined(
        self,
        plans: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]],
        made: Sequence[FittedBody],
        advance: Callable[[float], object] = lambda amount: None,
    ) -> list[FittedBody]:
        """Take the gradient steps of ``refine=`` on fitted bodies, in place, and on their output layers.

        Args:
            plans: indices and rows of the classes of each body, as for :meth:`fitted_body`.
            made: the bodies.
            advance: called after each step with the finished work, whose sum is that of the steps of each body.
        """
        steps = self.config.refine
        if not steps or made[0].head.words is not None:
            return list(made)
        softmax = self.config.changed(head=HeadKind.SOFTMAX)
        students = []
        for (indices, own), part in zip(plans, made, strict=True):
            asked = [channel(self.network, index, softmax) for index in indices]
            rows = torch.cat([part.head.weight[:, part.inputs], part.head.bias.unsqueeze(1)], 1).detach()
            seed = self.config.seed * self.network.classes + indices[0]
            students.append(Student(part.body, part.inputs, part.cut, rows, own, asked, seed))
        objective, found = OBJECTIVES[self.network.task], []
        taken = partial(_advanced, advance, (1 - self._fitting) / steps)
        every = trained(students, tuple(self.layers), self.taught(), steps, objective, taken)
        for part, rows in zip(made, every, strict=True):
            weight = part.head.weight.detach().clone()
            weight[:, part.inputs] = rows[:, :-1]
            found.append(replace(part, head=Head(weight, rows[:, -1], part.head.idle)))
        return found

    def taught(self) -> Teaching:
        """Return the examples for gradient steps, and the features of the parent for them; computed once."""
        if self.teaching is None:
            counted = self.targets.counted()
            values = self.network.spec.features * counted[0].size
            rows = even(np.arange(len(self.x)), max(1, min(EXAMPLES, HELD // values)))
            x, used = self.x.take(rows), torch.from_numpy(counted[rows]).to(self.network.device)
            if self.features is not None:
                features = self.features[torch.from_numpy(rows).to(self.features.device)]
            else:
                with torch.inference_mode():
                    seen = [self.network.features(to_device(b, self.network.device)) for b in x.batches()]
                features = torch.cat(seen)
            self.teaching = Teaching(x, used, features.detach().clone())
        return self.teaching

    def _examples(self, wanted: tuple[int, int, int], steps: int = 0) -> int:
        """Return how many examples have enough timesteps, see :data:`SCORED`."""
        fewest, most, enough = wanted
        return int(np.clip(max(enough, steps) // max(self.steps.values(), default=1), fewest, most))

    def _with_and_without(self, index: int, most: int) -> np.ndarray:
        """Choose examples with and without a class, evenly spread, at most ``most`` of each."""
        carries = counts(self.targets.members(index)).any(1)
        labelled = counts(self.targets.counted()).any(1)
        return np.concatenate([even(np.flatnonzero(side & labelled), most) for side in (carries, ~carries)])


def observing_cost(examples: int, classes: int) -> float:
    """Return the work that a :class:`Reconstruction` reports: a pass over the examples, and the scores per class."""
    return (PASS if examples else 0) + classes


def _advanced(advance: Callable[[float], object], share: float, examples: int) -> None:
    advance(share * examples)


@dataclass(frozen=True)
class _Features:
    """Features of a sliced body: either the kept features only, or all features with zeros for removed units."""

    body: nn.Module
    inputs: Tensor
    cut: bool

    def __call__(self, x: Any) -> Tensor:
        found = self.body(x)
        return found if self.cut else found[..., self.inputs]


def _smaller(body: nn.Module, names: Collection[str]) -> list[Layer]:
    return [layer for name, layer in decomposable_layers(body).items() if name in names]


def _mask(units: int, indices: Tensor) -> np.ndarray:
    mask = np.zeros(units, bool)
    mask[indices.numpy()] = True
    return mask

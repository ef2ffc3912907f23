"""Observe a network on examples once, so that modules of any number of sizes can be made of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from unbraid.config import DecompositionConfig, ReconstructConfig, Words
from unbraid.data.files import as_pair
from unbraid.data.targets import Label, Targets, plain_labels, read_targets
from unbraid.data.texts import is_text
from unbraid.decomposition.bins import classifier_of_bins
from unbraid.decomposition.decomposition import Decomposition
from unbraid.decomposition.everywhere import (
    check_classes,
    check_numbers,
    check_settings,
    everywhere,
    inputs_and_targets,
    read_weights,
    weighted,
)
from unbraid.decomposition.parent_accuracy import warn_near_chance
from unbraid.decomposition.protocol import MAKING, Prepared, Sharing, Together
from unbraid.decomposition.reconstruction.size_search import held_out_split
from unbraid.decomposition.skipping import skipped_labels
from unbraid.decomposition.strategies import strategy_of
from unbraid.errors import ConfigError, wrong_object
from unbraid.modules.arguments import check_network, check_pair
from unbraid.modules.module import ConcernModule
from unbraid.networks.inputs import Inputs
from unbraid.networks.network import Network
from unbraid.networks.own_words import with_own_words
from unbraid.networks.precision import check_full
from unbraid.progress import Advance, Progress, joined
from unbraid.settings import Settings


@dataclass(frozen=True)
class Observed:
    """A network that was observed on examples.

    Attributes:
        network: the network; of ``bins`` the classifier of bins, of ``words="own"`` one with fewer words.
        config: the settings.
        prepared: makes modules of any size.
        skipped: labels of the classes that get no module.
        held_out: inputs and targets that were not observed; None if all examples were.
        advance: called with finished work, in units of one module.
    """

    network: Network
    config: DecompositionConfig
    prepared: Prepared
    skipped: list[Label]
    held_out: tuple[Inputs, Targets] | None
    advance: Advance

    def modules(self, keep: float | None) -> dict[Label, ConcernModule]:
        """Make the modules of all classes: each with its own body, or all with one.

        Args:
            keep: share of the hidden units to keep, in (0, 1]; None for the default of the strategy.
        """
        made = zip(self.prepared.classes, self._made(keep), strict=True)
        return {self.network.labels[index]: module for index, module in made}

    def decomposition(self, modules: dict[Label, ConcernModule]) -> Decomposition:
        """Make a decomposition of modules of this network."""
        return Decomposition(self.network, modules, self.config, self.skipped)

    def _made(self, keep: float | None) -> Iterator[ConcernModule]:
        if isinstance(self.config, ReconstructConfig) and self.config.concern == "output":
            if not isinstance(self.prepared, Sharing):
                raise ConfigError(f"strategy={self.config.strategy!r} has no concern='output': use concern='column'.")
            yield from self.prepared.shared(keep, self.advance)
            return
        if isinstance(self.prepared, Together):
            yield from self.prepared.every(keep, self.advance)
            return
        for index in self.prepared.classes:
            yield self.prepared.module(index, keep)
            self.advance(1)


def read_arguments(
    network: Network, examples: Any, config: DecompositionConfig | None, settings: Settings
) -> tuple[tuple[Any, Any], DecompositionConfig]:
    """Check the arguments of :func:`unbraid.decompose`.

    Returns:
        the examples as a pair (x, y), and all settings.

    Raises:
        ArgumentError, ConfigError, DataError: as documented there.
    """
    check_network(network, "network")
    if network.task == "regression":
        examples = inputs_and_targets(examples)
    else:
        examples = as_pair(examples, network.labels)
        check_pair(examples, "examples")
    if config is not None and not isinstance(config, DecompositionConfig):
        raise wrong_object(config, "config", "a DecompositionConfig", "pass single settings as keywords")
    if settings.get("classes") is not None:
        settings["classes"] = tuple(plain_labels(settings["classes"]))
    config = config.changed(**settings) if config else DecompositionConfig.of(**settings)
    check_full(network)
    return examples, config


@contextmanager
def observing(
    network: Network,
    examples: tuple[Any, Any],
    config: DecompositionConfig,
    sample_weight: Any,
    progress: Progress,
    rounds: float | None = None,
) -> Iterator[Observed]:
    """Observe a network that is no encoder-decoder; the block makes the modules.

    Args:
        network: the network.
        examples: a pair (x, y).
        config: the settings.
        sample_weight: of a regression, weights of the examples, or None.
        progress: factory of progress bars.
        rounds: number of times that the block makes all modules, if a fifth of the examples is to be held out. None:
            once, and all examples are observed.

    Raises:
        ConfigError, DataError, UnknownLabel: as :func:`unbraid.decompose`.
    """
    if config.words is Words.OWN:
        network = with_own_words(network, examples[0])
    if config.bins is not None:
        network, examples = classifier_of_bins(network, examples, config.bins)
    strategy, held_out = strategy_of(config), None
    x = network.check(examples[0])
    if network.task == "regression":
        check_settings(strategy, config)
        targets, weight = everywhere(network, x), read_weights(sample_weight, len(x))
        check_numbers(targets, examples[1])
    else:
        check_classes(config, sample_weight)
        targets, weight = _labelled(network, x, examples), None
        warn_near_chance(network, x, targets, config.padding_labels, is_text(examples[0]))
    kept: slice | np.ndarray = slice(None)
    if rounds is not None:
        kept, out = held_out_split(len(x), config.seed)
        held_out = weighted(x, targets, weight, out)
    kept_x, kept_targets = weighted(x, targets, weight, kept)
    skipped = skipped_labels(kept_targets, config)
    phases = {**strategy.phases, MAKING: (rounds or 1.0) * strategy.phases.get(MAKING, 1.0)}
    with joined(progress, "decomposing", phases) as within:
        prepared = strategy.prepare(network, kept_x, kept_targets, config, within)
        with within(MAKING, (rounds or 1.0) * len(prepared.classes)) as advance:
            yield Observed(network, config, prepared, skipped, held_out, advance)


def _labelled(network: Network, x: Inputs, examples: tuple[Any, Any]) -> Targets:
    return read_targets(
        network.align(examples[1], x, examples[0]),
        network.labels,
        many=network.io.many_outputs,
        independent=network.independent,
        examples=len(x),
    )

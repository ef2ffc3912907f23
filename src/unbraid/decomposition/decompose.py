"""Decompose a network into one module per class (Imtiaz et al. 2023, Alg. 1-4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Unpack

import numpy as np
import torch

from unbraid.config import DecompositionConfig, IOArchitecture, ReconstructConfig, Words
from unbraid.data.files import as_pair
from unbraid.data.targets import Label, Targets, plain_labels, read_targets
from unbraid.data.texts import is_text
from unbraid.decomposition.bins import classifier_of_bins
from unbraid.decomposition.decomposition import Decomposition
from unbraid.decomposition.domain import gathered, give_domain
from unbraid.decomposition.everywhere import (
    check_classes,
    check_numbers,
    check_settings,
    everywhere,
    inputs_and_targets,
    read_weights,
    weighted,
)
from unbraid.decomposition.languages import decompose_languages
from unbraid.decomposition.parent_accuracy import warn_near_chance
from unbraid.decomposition.protocol import MAKING, Prepared, Sharing
from unbraid.decomposition.reconstruction.size_search import held_out_split, search_cost, smallest_within
from unbraid.decomposition.skipping import skipped_labels
from unbraid.decomposition.strategies import strategy_of
from unbraid.errors import ConfigError, wrong_object
from unbraid.modules.arguments import check_network, check_pair
from unbraid.modules.module import ConcernModule
from unbraid.networks.inputs import Inputs
from unbraid.networks.network import Network
from unbraid.networks.own_words import with_own_words
from unbraid.networks.precision import check_full
from unbraid.networks.threads import few_threads
from unbraid.progress import Advance, Progress, joined, shown
from unbraid.settings import Settings, lists_settings


@lists_settings
@torch.inference_mode(False)
@torch.enable_grad()
def decompose(
    network: Network,
    examples: Any,
    *,
    config: DecompositionConfig | None = None,
    sample_weight: Any = None,
    domain: bool = True,
    progress: Progress | bool | None = None,
    **settings: Unpack[Settings],
) -> Decomposition:
    """Decompose a trained network into one module per class, or per output column of a regression.

    Args:
        network: the trained network.
        examples: (x, y). Labels y are indices or names, (N,), or (N, T) for many outputs; -1 or "" marks a missing
            label. For an encoder-decoder, x is a dict of ``source`` and ``target``, and y holds the target language of
            each pair. A DataFrame (pandas, polars) or a Hugging Face Dataset with columns ``text`` and ``label`` is
            accepted as well. A regression needs no labels: (x, y) or x alone, where a tuple of two is always (x, y).
        config: all settings; the strategy is ``reconstruct`` by default.
        sample_weight: of a regression, the weight of each example, numbers (N,) >= 0. An example of weight 2 counts as
            two examples, one of weight 0 is left out. Default None: equal weights.
        domain: whether to gather evidence about the inputs, so that modules of different networks can vote together
            without labels and unknown inputs can be rejected: counts of frequent words, means and covariances. Folders
            store it. With False nothing of the examples is stored. Networks of numbers and translators have none.
            Default True.
        progress: None (default) shows a bar if the work takes more than two seconds and standard error is a terminal
            or a notebook; True always, False never. A callable makes bars, see :mod:`unbraid.progress`.
        **settings: changes to ``config``: strategy, keep, max_loss, classes, missing, ...; see
            :class:`unbraid.DecompositionConfig`, and :class:`unbraid.settings.Settings` for their types.

    Returns:
        the modules by label. Classes with fewer than two examples get no module and are listed in ``skipped``.

    Raises:
        ConfigError: an unknown setting, a value out of range, or a setting that the strategy does not use. Of a
            regression also a strategy that compares classes. Of a classifier also ``concern``, ``bins`` or
            ``sample_weight``.
        DataError: inputs or labels that do not fit the network, or no class with two examples. With
            ``missing="error"`` also a class with fewer than two examples.
        UnknownLabel: ``classes`` has a label that the network does not have.
        ArgumentError: ``network`` is not a Network, ``examples`` not a pair, or ``config`` not a DecompositionConfig.

    Example:
        >>> import unbraid
        >>> from unbraid.demo.small import small_examples, small_network
        >>> network = small_network()
        >>> x, y = small_examples(network)
        >>> parts = unbraid.decompose(network, (x, y), keep=0.25)
        >>> parts.labels
        ['travel', 'banking', 'weather']
        >>> parts["travel"].retention().nodes
        0.25
        >>> few = unbraid.decompose(network, (x, y), classes=["travel", "weather"], progress=False)
        >>> few.labels
        ['travel', 'weather']
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
    with few_threads([network]):
        found = _decomposed(network, examples, config, sample_weight, shown(progress))
        if domain and network.task != "regression" and network.io is not IOArchitecture.ENCODER_DECODER:
            parent = found.network  # own words make another network
            inputs = parent.check(examples[0])
            give_domain(found.values(), gathered(parent, examples[0], inputs, dict(found), config.seed))
        return found


def _decomposed(
    network: Network, examples: tuple[Any, Any], config: DecompositionConfig, sample_weight: Any, progress: Progress
) -> Decomposition:
    if network.io is IOArchitecture.ENCODER_DECODER:
        check_classes(config, sample_weight)
        return decompose_languages(network, examples, config, progress)
    if config.words is Words.OWN:
        network = with_own_words(network, examples[0])
    if config.bins is not None:
        network, examples = classifier_of_bins(network, examples, config.bins)
    strategy, held_out, rounds = strategy_of(config), None, 1.0
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
    if isinstance(config, ReconstructConfig) and config.max_loss is not None:
        kept, out = held_out_split(len(x), config.seed)
        held_out, rounds = weighted(x, targets, weight, out), search_cost()
    kept_x, kept_targets = weighted(x, targets, weight, kept)
    skipped = skipped_labels(kept_targets, config)
    phases = {**strategy.phases, MAKING: rounds * strategy.phases.get(MAKING, 1.0)}
    with joined(progress, "decomposing", phases) as within:
        prepared = strategy.prepare(network, kept_x, kept_targets, config, within)
        with within(MAKING, rounds * len(prepared.classes)) as advance:

            def modules(keep: float | None) -> dict[Label, ConcernModule]:
                made = _made(prepared, config, keep, advance)
                return {network.labels[index]: module for index, module in zip(prepared.classes, made, strict=True)}

            if held_out is None:
                return Decomposition(network, modules(config.keep), config, skipped)
            assert isinstance(config, ReconstructConfig) and config.max_loss is not None
            found = smallest_within(network, modules, *held_out, config.max_loss, advance)
            return Decomposition(network, found, config, skipped)


def _made(
    prepared: Prepared, config: DecompositionConfig, keep: float | None, advance: Advance
) -> Iterator[ConcernModule]:
    """Make the modules of all classes: each with its own body, or all with one."""
    if isinstance(config, ReconstructConfig) and config.concern == "output":
        if not isinstance(prepared, Sharing):
            raise ConfigError(f"strategy={config.strategy!r} has no concern='output': use concern='column'.")
        yield from prepared.shared(keep)
        advance(len(prepared.classes))
        return
    for index in prepared.classes:
        yield prepared.module(index, keep)
        advance(1)


def _labelled(network: Network, x: Inputs, examples: tuple[Any, Any]) -> Targets:
    return read_targets(
        network.align(examples[1], x, examples[0]),
        network.labels,
        many=network.io.many_outputs,
        independent=network.independent,
        examples=len(x),
    )

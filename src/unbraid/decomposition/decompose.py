"""Decompose a network into one module per class (Imtiaz et al. 2023, Alg. 1-4)."""

from __future__ import annotations

from typing import Any

import torch

from unbraid.config import DecompositionConfig, IOArchitecture, ReconstructConfig
from unbraid.data.targets import Label, read_targets
from unbraid.decomposition.decomposition import Decomposition
from unbraid.decomposition.languages import decompose_languages
from unbraid.decomposition.reconstruction.size_search import held_out_split, smallest_within
from unbraid.decomposition.strategies import strategy_of
from unbraid.errors import wrong_object
from unbraid.modules.arguments import check_network, check_pair
from unbraid.modules.module import ConcernModule
from unbraid.networks.network import Network
from unbraid.networks.precision import check_full
from unbraid.progress import Progress, silent


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
    """Decompose a trained network into one module per class.

    Args:
        network: the trained network.
        examples: (x, y). Labels y are indices or names, (N,), or (N, T) for many outputs; -1 or "" means no label. For
            an encoder-decoder x is a dict of ``source`` and ``target``, and y holds the target language of each pair.
        config: all settings; the strategy is ``reconstruct`` by default.
        progress: factory of progress bars, see :mod:`unbraid.progress`.
        **settings: changes to ``config``: mode, strategy, gates, head, max_removed, samples_per_class, seed, ...

    Returns:
        the modules by label.

    Raises:
        ConfigError: an unknown setting, a value out of range, or a setting that the strategy does not use.
        DataError: inputs or labels that do not fit the network, or a class with fewer than two examples.
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
    """
    check_network(network, "network")
    check_pair(examples, "examples")
    if config is not None and not isinstance(config, DecompositionConfig):
        raise wrong_object(config, "config", "a DecompositionConfig", "pass single settings as keywords")
    config = config.changed(**settings) if config else DecompositionConfig.of(**settings)
    check_full(network)
    if network.io is IOArchitecture.ENCODER_DECODER:
        return decompose_languages(network, examples, config, progress)
    x = network.check(examples[0])
    targets = read_targets(
        network.align(examples[1], x, examples[0]),
        network.labels,
        many=network.io.many_outputs,
        independent=network.independent,
        examples=len(x),
    )
    held_out = None
    if isinstance(config, ReconstructConfig) and config.max_loss is not None:
        kept, out = held_out_split(len(x), config.seed)
        held_out = (x.take(out), targets.take(out))
        x, targets = x.take(kept), targets.take(kept)
    prepared = strategy_of(config).prepare(network, x, targets, config, progress)

    def modules(keep: float | None) -> dict[Label, ConcernModule]:
        return {network.labels[index]: prepared.module(index, keep) for index in prepared.classes}

    if held_out is None:
        return Decomposition(network, modules(config.keep), config)
    assert isinstance(config, ReconstructConfig) and config.max_loss is not None
    return Decomposition(network, smallest_within(network, modules, *held_out, config.max_loss, progress), config)

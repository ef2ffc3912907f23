"""Decompose a network into one module per class (Imtiaz et al. 2023, Alg. 1-4)."""

from __future__ import annotations

from typing import Any, Unpack

import torch

from unbraid.config import DecompositionConfig, IOArchitecture, ReconstructConfig
from unbraid.decomposition.decomposition import Decomposition
from unbraid.decomposition.domain import Known, gather, gathers_from
from unbraid.decomposition.everywhere import check_classes
from unbraid.decomposition.languages import decompose_languages
from unbraid.decomposition.observing import observing, read_arguments
from unbraid.decomposition.processes import processes
from unbraid.decomposition.reconstruction.size_search import search_cost, smallest_within
from unbraid.modules.domain_modules import checked_domain
from unbraid.networks.network import Network
from unbraid.networks.threads import few_threads
from unbraid.progress import Progress, joined, shown
from unbraid.settings import Settings, lists_settings

EVIDENCE = 0.3  # time of the evidence, relative to the modules


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
    jobs: int = 1,
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
        jobs: number of processes that make the modules of ``strategy="reconstruct"``; -1 for one a core. The modules
            are the same to the bit, up to layers of 1,024 units. Each process may take as much memory again as
            ``memory`` allows. Other strategies, networks on a GPU and ``concern="output"`` use one process. Default 1.
        progress: None (default) shows a bar if the work takes more than two seconds and standard error is a terminal
            or a notebook; True always, False never. A callable makes bars, see :mod:`unbraid.progress`.
        **settings: changes to ``config``: strategy, keep, max_loss, classes, missing, ...; see
            :class:`unbraid.DecompositionConfig`, and :class:`unbraid.settings.Settings` for their types.

    Returns:
        the modules by label. Classes with fewer than two examples get no module and are listed in ``skipped``.

    Raises:
        ConfigError: an unknown setting, a value out of range, or a setting that the strategy does not use. Of a
            regression also a strategy that compares classes. Of a classifier also ``concern``, ``bins`` or
            ``sample_weight``. Also for ``jobs`` below 1 and not -1.
        UnbraidError: one of several processes was ended from outside, perhaps for want of memory.
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
    examples, config = read_arguments(network, examples, config, settings)
    gathers = checked_domain(domain) and config.bins is None and gathers_from(network)  # bins are classes of a number
    phases = {"decomposing": 1.0, **({"evidence": EVIDENCE} if gathers else {})}
    with few_threads([network]), processes(jobs), joined(shown(progress), "decomposing", phases) as within:
        found, known = _decomposed(network, examples, config, sample_weight, within)
        if gathers:
            with within("evidence", 1.0) as advance:
                gather(found, examples[0], advance, known)
        return found


def _decomposed(
    network: Network, examples: tuple[Any, Any], config: DecompositionConfig, sample_weight: Any, progress: Progress
) -> tuple[Decomposition, Known | None]:
    """Return the modules, and features of the parent that were computed for them."""
    if network.io is IOArchitecture.ENCODER_DECODER:
        check_classes(config, sample_weight)
        return decompose_languages(network, examples, config, progress), None
    max_loss = config.max_loss if isinstance(config, ReconstructConfig) else None
    rounds = None if max_loss is None else search_cost()
    with observing(network, examples, config, sample_weight, progress, rounds) as seen:
        if max_loss is None:
            return seen.decomposition(seen.modules(config.keep)), getattr(seen.prepared, "known", None)
        assert seen.held_out is not None
        found = smallest_within(seen.network, seen.modules, *seen.held_out, max_loss, seen.advance)
        return seen.decomposition(dict(found)), None

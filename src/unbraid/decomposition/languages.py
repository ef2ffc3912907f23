"""Decomposing an encoder-decoder into one module per target language (Imtiaz et al. 2023, encoder-decoder).

A language's positive examples are its sentence pairs, its negative ones those of the other languages. All timesteps of
a pair count but padding; the decoder's layers are taken apart, the encoder's only on request; a module keeps the whole
output layer, or the columns of the words that its examples hold. A reconstructed module can be refined.
Shapes: N pairs, S source words, T target words, R words kept, V words known.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np
import torch

from unbraid.config import DecompositionConfig, GateView, Observed, Strategy, Words
from unbraid.data.targets import Label, Targets, read_targets
from unbraid.decomposition.channeling import channel
from unbraid.decomposition.decompose import Decomposition, identify
from unbraid.decomposition.reconstruction.language_distillation import refined_language
from unbraid.decomposition.reconstruction.reconstruct import DEFAULT_KEEP, Reconstruction
from unbraid.decomposition.removal.observation import Observation, observe
from unbraid.decomposition.sampling import Sample, choose
from unbraid.errors import ConfigError, DataError
from unbraid.modules.concern import Concern
from unbraid.modules.module import ConcernModule
from unbraid.networks.heads import Head
from unbraid.networks.inputs import Inputs
from unbraid.networks.network import Network
from unbraid.networks.spec import EncoderDecoderSpec
from unbraid.progress import Progress


def decompose_languages(
    network: Network, examples: tuple[Any, Any], config: DecompositionConfig, progress: Progress
) -> Decomposition:
    """Take an encoder-decoder apart into one module per target language.

    Args:
        network: the monolithic model.
        examples: (x, y): ``source`` (N, S) and ``target`` (N, T) word indices, and each pair's language (N,).
        config: all settings; ``words`` and ``encoder`` are of encoder-decoders alone.
        progress: a progress bar's factory.

    Returns:
        the modules, by language.

    Raises:
        DataError: pairs or languages that do not fit, or a language with fewer than two pairs.
        ConfigError: settings that an encoder-decoder has no use for.
    """
    if config.max_loss is not None:
        raise ConfigError("max_loss measures labels, and translations have none: give keep=, a share of the nodes.")
    network = _taken_apart(network, config.encoder)
    config = config.changed(observed=Observed.ALL, strategy=config.strategy)  # which "observed" given would change
    x = network.check(examples[0])
    targets = read_targets(examples[1], network.labels, many=False, examples=len(x))
    own = {j: _own_words(network, x, targets, j, config) for j in range(len(network.labels))}
    sample = choose(targets, config)
    make = _compact if config.strategy is Strategy.RECONSTRUCT else _kept
    modules = make(network, x.take(sample.rows), sample, config, own, progress)
    if config.refine:
        modules = _refined(modules, x, targets, config.refine, progress)
    return Decomposition(network, modules, config)


def _taken_apart(network: Network, encoder: bool) -> Network:
    """The same network, naming the layers that are taken apart."""
    spec = network.spec
    assert isinstance(spec, EncoderDecoderSpec)
    if not spec.languages:
        raise DataError("the network names no languages: say which with unbraid.translation.with_languages().")
    if spec.encoder_too is encoder:
        return network
    other = Network(spec.model_copy(update={"encoder_too": encoder}), network.weights())
    return other.with_vocabulary(network.vocabulary, network.target_vocabulary)


def _own_words(
    network: Network, x: Inputs, targets: Targets, index: int, config: DecompositionConfig
) -> torch.Tensor | None:
    """The words of a language's examples, its tags and padding included, ascending (R,); None: all V."""
    if config.words is Words.ALL:
        return None
    assert isinstance(network.spec, EncoderDecoderSpec)
    tag = network.spec.languages[index]
    held = np.asarray(x.tree["target"])[targets.members(index)]
    return torch.from_numpy(np.union1d(held, [0, tag.start, tag.end])).to(network.device)


def _kept(
    network: Network, x: Inputs, sample: Sample, config: DecompositionConfig, own: dict[int, torch.Tensor | None],
    progress: Progress,
) -> dict[Label, ConcernModule]:  # fmt: skip
    """Modules by the paper's rules, or by a baseline's."""
    by_gates = config.gates is GateView.EACH
    with ExitStack() as stack:
        advance = stack.enter_context(progress("observing", len(x)))
        seen = stack.enter_context(observe(network, x, by_gates, advance))
        _leave_out_padding(seen, network, x)
        step = stack.enter_context(progress("identifying", len(seen.layers)))
        kept = identify(network, seen, sample, config, step)
        steps = {name: layer.values.shape[1] for name, layer in seen.layers.items()}
    modules = {}
    for index, masks in kept.items():
        concern = Concern(masks, steps, config.mode, by_gates, config.edges)
        head = _only(channel(network, index, config), own[index])
        modules[network.labels[index]] = ConcernModule(network, index, concern, head, config)
    return modules


def _compact(
    network: Network, x: Inputs, sample: Sample, config: DecompositionConfig, own: dict[int, torch.Tensor | None],
    progress: Progress,
) -> dict[Label, ConcernModule]:  # fmt: skip
    """Modules of few nodes, the work of the others reconstructed on the language's own pairs, word by word.

    A module of a language never says another one, so the others' pairs do not count.
    """
    said = np.asarray(x.tree["target"]) != 0
    modules = {}
    with progress("reconstructing", len(sample.positive)) as advance:
        for index, places in sample.positive.items():
            rows = places[0]
            y = np.where(said[rows], index, -1)
            targets = Targets(y, network.labels, many=True)
            reconstruction = Reconstruction(network, x.take(rows), targets, [index], config, advance)
            made = reconstruction.make(index, DEFAULT_KEEP if config.keep is None else config.keep)
            head = _only(made.head, own[index])
            module = ConcernModule(network, index, made.concern, head, config, weights=made.weights)
            modules[network.labels[index]] = module
    return modules


def _refined(
    modules: dict[Label, ConcernModule], x: Inputs, targets: Targets, steps: int, progress: Progress
) -> dict[Label, ConcernModule]:
    """Modules refined on all pairs of their languages: a sample's few would be learnt by heart."""
    with progress("refining", steps * len(modules)) as advance:
        return {
            label: refined_language(module, x.take(np.flatnonzero(targets.members(module.index))), advance)
            for label, module in modules.items()
        }


def _leave_out_padding(seen: Observation, network: Network, x: Inputs) -> None:
    """Padding never counts, also where an encoder without a mask reads it."""
    assert isinstance(network.spec, EncoderDecoderSpec)
    encoder = {spec.name for spec in network.spec.encoder}
    for name, layer in seen.layers.items():
        layer.valid = (np.asarray(x.tree["source" if name in encoder else "target"]) != 0).T


def _only(head: Head, own: torch.Tensor | None) -> Head:
    """The head with the rows of some words alone (None: of all)."""
    words = torch.arange(len(head.weight), device=head.weight.device) if own is None else own
    return Head(head.weight[words], head.bias[words], head.idle, words)

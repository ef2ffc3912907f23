"""Decompose an encoder-decoder into one module per target language (Imtiaz et al. 2023, encoder-decoder).

The positive examples of a language are its sentence pairs; the negative ones are those of the other languages. All
timesteps of a pair count except padding. The layers of the decoder are decomposed, those of the encoder only on
request. A module keeps the whole output layer, or the columns of the words in its examples. A reconstructed module can
be distilled. Shapes: N pairs, S source words, T target words, R words kept, V words of the vocabulary.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from unbraid.config import DecompositionConfig, ReconstructConfig, RemovalConfig, Words
from unbraid.data.targets import Label, Targets, read_targets
from unbraid.decomposition.decomposition import Decomposition
from unbraid.decomposition.protocol import MAKING
from unbraid.decomposition.reconstruction.language_distillation import refined_language
from unbraid.decomposition.sampling import choose
from unbraid.decomposition.skipping import skipped_labels
from unbraid.decomposition.strategies import strategy_of
from unbraid.errors import ConfigError, DataError
from unbraid.modules.module import ConcernModule
from unbraid.networks.heads import Head
from unbraid.networks.inputs import Inputs
from unbraid.networks.network import Network
from unbraid.networks.spec import EncoderDecoderSpec
from unbraid.progress import Progress, joined

REFINING = "refining"
REFINED = 0.05  # cost of one gradient step of all modules, relative to the cost of observing


def decompose_languages(
    network: Network, examples: tuple[Any, Any], config: DecompositionConfig, progress: Progress
) -> Decomposition:
    """Decompose an encoder-decoder into one module per target language.

    Args:
        network: the trained encoder-decoder.
        examples: (x, y): ``source`` (N, S) and ``target`` (N, T) word indices, and the language of each pair (N,).
        config: all settings; ``words`` and ``encoder`` are for encoder-decoders only.
        progress: factory of progress bars.

    Returns:
        the modules by language.

    Raises:
        DataError: pairs or languages that do not fit, or a language with fewer than two pairs.
        ConfigError: settings that do not apply to an encoder-decoder.
    """
    if isinstance(config, ReconstructConfig) and config.max_loss is not None:
        raise ConfigError("max_loss needs labels, and translations have none: give keep=, a share of the nodes.")
    if config.bins is not None or config.padding_labels:
        name = "padding_label" if config.bins is None else f"bins={config.bins}"
        raise ConfigError(f"{name} is not for translators, whose modules are languages: leave it out.")
    network = _with_decomposed_layers(network, isinstance(config, RemovalConfig) and config.encoder)
    x = network.check(examples[0])
    targets = read_targets(examples[1], network.labels, many=False, examples=len(x))
    sample = choose(targets, config)
    skipped, strategy = skipped_labels(targets, config), strategy_of(config)
    refine = config.refine if isinstance(config, ReconstructConfig) else 0
    with joined(progress, "decomposing", {**strategy.phases, REFINING: REFINED * refine}) as within:
        prepared = strategy.prepare_languages(network, x.take(sample.rows), sample, config, within)
        modules = {}
        with within(MAKING, len(prepared.classes)) as advance:
            for j in prepared.classes:
                own = _own_words(network, x, targets, j, config)
                modules[network.labels[j]] = _only(prepared.module(j, config.keep), own)
                advance(1)
        if refine:
            modules = _refined(modules, x, targets, refine, within)
    return Decomposition(network, modules, config, skipped)


def _with_decomposed_layers(network: Network, encoder: bool) -> Network:
    """Return the network with the layers of the encoder decomposed or not."""
    spec = network.spec
    assert isinstance(spec, EncoderDecoderSpec)
    if not spec.languages:
        raise DataError("the network has no names of languages: set them with unbraid.translation.with_languages().")
    if spec.encoder_too is encoder:
        return network
    other = Network(spec.model_copy(update={"encoder_too": encoder}), network.weights())
    return other.with_vocabulary(network.vocabulary, network.target_vocabulary)


def _own_words(
    network: Network, x: Inputs, targets: Targets, index: int, config: DecompositionConfig
) -> torch.Tensor | None:
    """Return ascending indices (R,) of the words of a language, its tags and padding; None for all V words."""
    if config.words is Words.ALL:
        return None
    assert isinstance(network.spec, EncoderDecoderSpec)
    tag = network.spec.languages[index]
    held = np.asarray(x.tree["target"])[targets.members(index)]
    return torch.from_numpy(np.union1d(held, [0, tag.start, tag.end])).to(network.device)


def _refined(
    modules: dict[Label, ConcernModule], x: Inputs, targets: Targets, steps: int, progress: Progress
) -> dict[Label, ConcernModule]:
    """Distil the modules on all pairs of their languages, because a sample has too few pairs and is overfitted."""
    with progress(REFINING, steps * len(modules)) as advance:
        return {
            label: refined_language(module, x.take(np.flatnonzero(targets.members(module.index))), advance)
            for label, module in modules.items()
        }


def _only(module: ConcernModule, own: torch.Tensor | None) -> ConcernModule:
    """Return the module with the output rows of the given words only; None for all words."""
    head = module.whole_head
    words = torch.arange(len(head.weight), device=head.weight.device) if own is None else own
    small = Head(head.weight[words], head.bias[words], head.idle, words)
    return ConcernModule(module.parent, module.index, module.concern, small, module.config, weights=module.weights)

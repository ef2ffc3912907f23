"""Gather domain evidence from the sample of a decomposition, without labels. The modules are not changed.

Shapes: N examples, T timesteps, D inputs, F features, C classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unbraid.config import IOArchitecture
from unbraid.data.targets import Label
from unbraid.data.texts import as_texts, is_text
from unbraid.decomposition.decomposition import Decomposition
from unbraid.decomposition.noise import noisy, noisy_inputs
from unbraid.errors import FormatError
from unbraid.modules.composition import Composition
from unbraid.modules.domain.evidence import Domain
from unbraid.modules.domain.gaussians import MOST, Gaussians, dispersion_of, shrunk
from unbraid.modules.domain.typicality import Typicality
from unbraid.modules.domain.views import numbers_read, reads_words, words_given, words_read
from unbraid.modules.domain.words import WordCounts
from unbraid.modules.module import ConcernModule
from unbraid.modules.rejecting import input_scores, joined_scores, scores_of
from unbraid.networks.inputs import Inputs, run_batched
from unbraid.networks.network import Network
from unbraid.progress import Advance

READ = 20_000  # examples whose inputs are counted
OBSERVED = 5_000  # examples that the network runs on
HELD_OUT, SHARE = 1_000, 0.2  # held-out examples, and their largest share of the sample
STORED = 1_000_000  # largest number of values of the class means

Known = tuple[np.ndarray, Tensor]  # rows of examples, (R,), and their features in the parent, (R, F)


def give_domain(modules: Iterable[ConcernModule], domain: Domain | None) -> None:
    """Give modules of one parent their evidence."""
    for module in modules:
        module.domain = domain


def gather(parts: Decomposition, x: Any, advance: Advance = lambda amount: None, known: Known | None = None) -> None:
    """Gather the evidence of a decomposition and give it to its modules; do nothing for numbers and translators.

    Args:
        parts: the modules of one network.
        x: the inputs of the sample, as they were given.
        advance: is called with the share of the work that was done, 1 in all.
        known: features of some of the examples. Default None.
    """
    if gathers_from(parts.network):
        give_domain(parts.values(), gathered(parts.network, x, dict(parts), parts.config.seed, advance, known))


def gathers_from(network: Network) -> bool:
    """Return whether there is evidence about the inputs of a network: not for numbers and translators."""
    return network.task != "regression" and network.io is not IOArchitecture.ENCODER_DECODER


class Sample:
    """The examples of a sample, of which only those in use are checked.

    Args:
        network: the parent.
        x: the sample, as it was given.
    """

    def __init__(self, network: Network, x: Any) -> None:
        self.network = network
        self._texts = as_texts(x) if is_text(x) else None
        self._inputs = None if self._texts is not None else network.check(x)

    def __len__(self) -> int:
        return len(self._texts or self._inputs or ())

    def texts(self, rows: np.ndarray) -> list[Any] | None:
        """Return some texts; None for a sample of arrays."""
        return None if self._texts is None else [self._texts[row] for row in rows.tolist()]

    def inputs(self, rows: np.ndarray) -> Inputs:
        """Return some checked inputs."""
        return self.network.check(self.texts(rows)) if self._inputs is None else self._inputs.take(rows)

    def words(self, rows: np.ndarray) -> list[list[str]] | None:
        """Return the words of some examples; None if the network reads no words."""
        if not reads_words(self.network):
            return None
        texts = self.texts(rows)
        return words_read(self.network, self.inputs(rows)) if texts is None else words_given(texts)


def gathered(
    network: Network,
    x: Any,
    modules: Mapping[Label, ConcernModule],
    seed: int,
    advance: Advance = lambda amount: None,
    known: Known | None = None,
) -> Domain:
    """Gather the evidence about the inputs of a network.

    Four fifths of the sample, at most, are counted. The rest is held out: dispersion and typicality are measured on it.

    Args:
        network: the parent.
        x: the sample, as it was given.
        modules: the modules, by label.
        seed: seed of the choice of examples.
        advance: as of :func:`gather`.
        known: as of :func:`gather`.
    """
    sample = Sample(network, x)
    order = np.random.default_rng(seed).permutation(len(sample))
    out = min(HELD_OUT, int(len(order) * SHARE))
    held, counted, observed = order[:out], order[out:][:READ], order[out:][:OBSERVED]  # samples are often sorted
    domain = _with_words(Domain(), sample, np.sort(counted), np.sort(held))
    domain = _with_numbers(domain, sample, np.sort(counted), np.sort(held))
    advance(0.3)
    domain = _with_features(domain, sample, np.sort(observed), known)
    advance(0.4)
    domain = _with_typicality(domain, sample, modules, np.sort(held), seed)
    advance(0.3)
    return domain


def _with_words(domain: Domain, sample: Sample, counted: np.ndarray, held: np.ndarray) -> Domain:
    found = sample.words(counted)
    counts = None if found is None else WordCounts.of(found)
    if counts is None:
        return domain
    dispersion = counts.dispersion_of(sample.words(held) or [])
    return dataclasses.replace(domain, words=WordCounts(counts.counts, counts.total, dispersion))


def _with_numbers(domain: Domain, sample: Sample, counted: np.ndarray, held: np.ndarray) -> Domain:
    if sample.network.vocabulary is not None:
        return domain
    values = numbers_read(sample.network, sample.inputs(counted))
    rows = None if values is None else values.reshape(-1, values.shape[-1])
    if values is None or rows is None or len(rows) < 2 or not np.isfinite(rows).all():
        return domain
    mean = rows.astype(np.float64).mean(0)
    model = _stored(mean[None], shrunk(rows - mean, len(values)))
    if model is None:
        return domain
    out = numbers_read(sample.network, sample.inputs(held))
    return dataclasses.replace(domain, inputs=model, dispersion=1.0 if out is None else dispersion_of(model, out))


def _with_features(domain: Domain, sample: Sample, rows: np.ndarray, known: Known | None) -> Domain:
    """Add class means and a covariance of the features of the output layer, and words, by the predicted class."""
    network = sample.network
    size, classes = network.spec.features, network.classes
    if network.io.many_outputs or network.task != "classification" or size > MOST or classes * size > STORED:
        return domain
    found = _features_and_scores(sample, rows, known)
    features, decided = found[:, :size], network.decide(found[:, size:])
    if not np.isfinite(features).all() or len(features) < 2:
        return domain
    means = np.repeat(features.mean(0, keepdims=True), classes, axis=0)  # also of classes that are never predicted
    for label in np.unique(decided).tolist():
        means[label] = features[decided == label].mean(0)
    words, said = domain.words, sample.words(rows)
    if words is not None and said is not None:
        words = words.with_classes(said, decided.tolist(), classes)
    model = _stored(means, shrunk(features - means[decided], len(features)))
    return dataclasses.replace(domain, words=words, features=model)


def _features_and_scores(sample: Sample, rows: np.ndarray, known: Known | None) -> np.ndarray:
    """Compute features and logits of some examples, (R, F + C); the network runs only on those that are not known."""
    network = sample.network
    places, features = (np.empty(0, np.int64), network.head.weight[:0]) if known is None else known
    where = np.full(len(sample), -1)
    where[places] = np.arange(len(places))
    old, new = (np.flatnonzero(chosen) for chosen in (where[rows] >= 0, where[rows] < 0))

    def both(values: Tensor) -> Tensor:
        return torch.cat([values, network.head(values).to(values.dtype)], dim=1)

    found = np.empty((len(rows), network.spec.features + network.spec.classes), np.float64)
    if len(old):
        with torch.inference_mode():
            found[old] = both(features[torch.from_numpy(where[rows[old]]).to(features.device)]).cpu().numpy()
    if len(new):
        inputs = sample.inputs(rows[new])
        found[new] = run_batched(lambda batch: both(network.features(batch)), inputs, network.device)
    return found


def _with_typicality(
    domain: Domain, sample: Sample, modules: Mapping[Label, ConcernModule], held: np.ndarray, seed: int
) -> Domain:
    """Add the typicality of held-out examples; of a classifier of those whose predicted class has a module.

    The examples are changed by :mod:`unbraid.decomposition.noise`. The module of the predicted class runs on each
    example. All modules run only for taggers.
    """
    network = sample.network
    if network.task != "classification" or not len(held):
        return domain
    changed = _changed(sample, held, seed)
    if network.io.many_outputs:
        found, decided = _tagger_scores(domain, modules, changed), np.zeros(len(held), np.int64)  # without class words
    else:
        decided = network.predict_index(changed)
        found = _classifier_scores(domain, network.check(changed), modules, decided)
        used = np.isin(decided, [module.index for module in modules.values()])
        held, decided = held[used], decided[used]
    if not len(held):
        return domain
    plain = input_scores(domain, network, sample.inputs(held), decided)  # these need no correction
    found |= {name: values for name, values in plain.items() if name in found}
    return dataclasses.replace(domain, typicality=Typicality.of(found))


def _tagger_scores(domain: Domain, modules: Mapping[Label, ConcernModule], x: Any) -> dict[str, np.ndarray]:
    """Compute the scores of the modules that win at the best timestep of each example, name -> (N,)."""
    give_domain(modules.values(), domain)
    composition = Composition(modules)
    margins = np.nan_to_num(composition.margins(x), nan=-np.inf)
    return composition.typicality_scores(x, margins.max(axis=1).argmax(axis=1))


def _classifier_scores(
    domain: Domain, inputs: Inputs, modules: Mapping[Label, ConcernModule], decided: np.ndarray
) -> dict[str, np.ndarray]:
    """Compute the scores of the modules of the decided classes (N,), of examples whose class has a module."""
    blocks = []
    for module in modules.values():
        rows = np.flatnonzero(decided == module.index)
        if len(rows):
            blocks.append((rows, scores_of(module, domain, inputs.take(rows))))
    used = np.isin(decided, [module.index for module in modules.values()])
    return {name: values[used] for name, values in joined_scores(blocks, len(decided)).items()}


def _changed(sample: Sample, held: np.ndarray, seed: int) -> Any:
    """Return held-out examples with noise, as :meth:`Network.predict_index` takes them."""
    rng, texts, words = np.random.default_rng(seed), sample.texts(held), sample.network.vocabulary
    if texts is not None:
        return noisy(texts, rng)
    return noisy_inputs(sample.inputs(held), rng, 0 if words is None else words.padding.index)


def _stored(means: np.ndarray, covariance: np.ndarray) -> Gaussians | None:
    """Round to float32, so that the stored values equal the used values; return None for values that are too large."""
    with np.errstate(over="ignore"):
        rounded = means.astype(np.float32), covariance.astype(np.float32)
    try:
        return Gaussians(*rounded)
    except FormatError:  # a decomposition needs no evidence
        return None

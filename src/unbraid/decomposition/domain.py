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
from unbraid.errors import FormatError
from unbraid.modules.composition import Composition
from unbraid.modules.domain.evidence import Domain
from unbraid.modules.domain.gaussians import MOST, Gaussians, dispersion_of, shrunk
from unbraid.modules.domain.typicality import Typicality
from unbraid.modules.domain.views import numbers_read, seen_words
from unbraid.modules.domain.words import WordCounts
from unbraid.modules.module import ConcernModule
from unbraid.modules.rejecting import joined_scores, scores_of
from unbraid.networks.inputs import Inputs, run_batched
from unbraid.networks.network import Network

READ = 20_000  # examples whose inputs are counted
OBSERVED, FOR_EACH = 2_000, 20  # examples that the network runs on, and more for each class
HELD_OUT, SHARE = 1_000, 0.2  # held-out examples, and their largest share of the sample
STORED = 1_000_000  # largest number of values of the class means

Known = tuple[np.ndarray, Tensor]  # rows of examples, (R,), and their features in the parent, (R, F)


def give_domain(modules: Iterable[ConcernModule], domain: Domain | None) -> None:
    """Give modules of one parent their evidence."""
    for module in modules:
        module.domain = domain


def gather(parts: Decomposition, x: Any, known: Known | None = None) -> None:
    """Gather the evidence of a decomposition and give it to its modules; do nothing for numbers and translators.

    Args:
        parts: the modules of one network.
        x: the inputs of the sample, as they were given.
        known: features of some of the examples. Default None.
    """
    network = parts.network
    if network.task == "regression" or network.io is IOArchitecture.ENCODER_DECODER:
        return
    give_domain(parts.values(), gathered(network, x, network.check(x), dict(parts), parts.config.seed, known))


def gathered(
    network: Network,
    x: Any,
    inputs: Inputs,
    modules: Mapping[Label, ConcernModule],
    seed: int,
    known: Known | None = None,
) -> Domain:
    """Gather the evidence about the inputs of a network.

    Four fifths of the sample, at most, are counted. The rest is held out: dispersion and typicality are measured on it.

    Args:
        network: the parent.
        x: the sample, as it was given.
        inputs: the sample, checked.
        modules: the modules, by label.
        seed: seed of the choice of examples.
        known: features of some of the examples. Default None.
    """
    order = np.random.default_rng(seed).permutation(len(inputs))
    out = min(HELD_OUT, int(len(order) * SHARE))
    held, counted = np.sort(order[:out]), np.sort(order[out:][:READ])
    domain = _with_words(Domain(), network, x, inputs, counted, held)
    domain = _with_numbers(domain, network, inputs, counted, held)
    domain, decided = _with_features(
        domain, network, inputs, counted[: OBSERVED + FOR_EACH * network.classes], held, known
    )
    return _with_typicality(domain, network, x, inputs, modules, held, decided)


def _with_words(
    domain: Domain, network: Network, x: Any, inputs: Inputs, counted: np.ndarray, held: np.ndarray
) -> Domain:
    def words(rows: np.ndarray) -> list[list[str]] | None:
        return seen_words(network, _rows(x, rows), inputs.take(rows))

    found = words(counted)
    counts = None if found is None else WordCounts.of(found)
    if counts is None:
        return domain
    dispersion = counts.dispersion_of(words(held) or [])
    return dataclasses.replace(domain, words=WordCounts(counts.counts, counts.total, dispersion))


def _with_numbers(domain: Domain, network: Network, inputs: Inputs, counted: np.ndarray, held: np.ndarray) -> Domain:
    values = numbers_read(network, inputs.take(counted))
    rows = None if values is None else values.reshape(-1, values.shape[-1])
    if values is None or rows is None or rows.shape[1] > MOST or len(rows) < 2 or not np.isfinite(rows).all():
        return domain
    mean = rows.astype(np.float64).mean(0)
    model = _stored(mean[None], shrunk(rows - mean, len(values)))
    if model is None:
        return domain
    out = numbers_read(network, inputs.take(held))
    return dataclasses.replace(domain, inputs=model, dispersion=1.0 if out is None else dispersion_of(model, out))


def _with_features(
    domain: Domain, network: Network, inputs: Inputs, counted: np.ndarray, held: np.ndarray, known: Known | None
) -> tuple[Domain, np.ndarray | None]:
    """Add class means and a covariance of the features of the output layer, by the predicted class.

    Returns:
        the evidence, and the predicted classes of the held-out examples; None without one class for each example.
    """
    size, classes = network.spec.features, network.classes
    if network.io.many_outputs or network.task != "classification":
        return domain, None

    stored = size <= MOST and classes * size <= STORED and len(counted) > 1
    rows = np.concatenate([counted, held]) if stored else held
    found = _features_and_scores(network, inputs, rows, known)
    every = network.decide(found[:, size:])
    out = every[len(rows) - len(held) :]
    features, decided = found[: len(counted), :size], every[: len(counted)]
    if not stored or not np.isfinite(features).all():
        return domain, out
    means = np.repeat(features.mean(0, keepdims=True), classes, axis=0)  # also of classes that are never predicted
    for label in np.unique(decided).tolist():
        means[label] = features[decided == label].mean(0)
    model = _stored(means, shrunk(features - means[decided], len(features)))
    return dataclasses.replace(domain, features=model), out


def _features_and_scores(network: Network, inputs: Inputs, rows: np.ndarray, known: Known | None) -> np.ndarray:
    """Compute features and logits of some examples, (R, F + C); the network runs only on those that are not known."""
    places, features = (np.empty(0, np.int64), network.head.weight[:0]) if known is None else known
    where = np.full(len(inputs), -1)
    where[places] = np.arange(len(places))
    new = np.flatnonzero(where[rows] < 0)

    def both(values: Tensor) -> Tensor:
        return torch.cat([values, network.head(values).to(values.dtype)], dim=1)

    found = np.empty((len(rows), network.spec.features + network.spec.classes), np.float64)
    with torch.inference_mode():
        old = np.flatnonzero(where[rows] >= 0)
        found[old] = both(features[torch.from_numpy(where[rows[old]]).to(features.device)]).cpu().numpy()
    if len(new):
        found[new] = run_batched(lambda batch: both(network.features(batch)), inputs.take(rows[new]), network.device)
    return found


def _with_typicality(
    domain: Domain,
    network: Network,
    x: Any,
    inputs: Inputs,
    modules: Mapping[Label, ConcernModule],
    held: np.ndarray,
    decided: np.ndarray | None,
) -> Domain:
    """Add the typicality of held-out examples; of a classifier of those whose predicted class has a module.

    The module of the predicted class runs on each example. All modules run only for taggers, where ``decided`` is None.
    """
    if network.task != "classification" or not len(held):
        return domain
    if decided is None:
        give_domain(modules.values(), domain)
        composition = Composition(modules)
        margins = np.nan_to_num(composition.margins(_given(x, inputs, held)), nan=-np.inf)
        winners = margins.max(axis=1).argmax(axis=1)  # the best timestep
        scores = composition.typicality_scores(_given(x, inputs, held), winners)
        return dataclasses.replace(domain, typicality=Typicality.of(scores))
    blocks = []
    for module in modules.values():
        rows = np.flatnonzero(decided == module.index)
        if len(rows):
            blocks.append((rows, scores_of(module, domain, inputs.take(held[rows]))))
    used = np.isin(decided, [module.index for module in modules.values()])
    scores = {name: values[used] for name, values in joined_scores(blocks, len(held)).items()}
    return dataclasses.replace(domain, typicality=Typicality.of(scores))


def _given(x: Any, inputs: Inputs, rows: np.ndarray) -> Any:
    """Return some examples as :meth:`Network.predict_index` takes them."""
    return _rows(x, rows) if is_text(x) else inputs.take(rows).tree


def _rows(x: Any, rows: np.ndarray) -> Any:
    """Return some texts; inputs that are no texts are returned unchanged."""
    if not is_text(x):
        return x
    texts = as_texts(x)
    return [texts[row] for row in rows.tolist()]


def _stored(means: np.ndarray, covariance: np.ndarray) -> Gaussians | None:
    """Round to float32, so that the stored values equal the used values; return None for values that are too large."""
    with np.errstate(over="ignore"):
        rounded = means.astype(np.float32), covariance.astype(np.float32)
    try:
        return Gaussians(*rounded)
    except FormatError:  # a decomposition needs no evidence
        return None

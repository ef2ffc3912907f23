"""Compose modules of a network with one output and of a network with many outputs: the paper's inter experiments.

A problem has classes of the first network and one class of the second network. Its examples are texts of these classes
of the first data set, and texts of the second data set in which the class occurs at any timestep. The number of texts
per class is limited. Shapes: N texts, C classes of the first network, K classes of the second network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from benchmarks.experiments.experiment import Run
from benchmarks.experiments.voting import EXAMPLES, chosen, first_of_each, joined, refereed, right, scaled
from benchmarks.experiments.ways import modules
from benchmarks.training.classifiers import Model, trained_on
from unbraid import compose
from unbraid.modules.groups import Evidence
from unbraid.modules.voting.calibration import Scale, fit

TESTED = 100  # most test texts per class
MORE = 100  # most held-out texts per class for the referee with a larger sample

Texts = list[str]
Ways = tuple[str, str]  # methods of decomposition of the first and of the second network


class Mixture:
    """Two networks whose modules are composed.

    Args:
        run: a run with the data ``one-output+many-outputs``.
        joint: whether both networks have the joint vocabulary of both data sets, as in the paper. Otherwise each has
            its own vocabulary.
    """

    def __init__(self, run: Run, joint: bool) -> None:
        first, second = run.data.split("+")
        self.scale = run.scale
        self.models = [Model(n, run.cell, run.layers, run.seed, joint, run.scale.rows) for n in (first, second)]
        self.sizes = [len(model.examples.labels) for model in self.models]
        self.test, self.sample = (self._texts(part, count) for part, count in (("test", TESTED), ("held_out", MORE)))

    def ways(self, chosen: Callable[[str], list[str]]) -> list[Ways]:
        """Choose the same methods for both networks."""
        one, many = (chosen(model.examples.about.io) for model in self.models)
        return list(zip(one, many, strict=True))

    def pairs(self) -> list[tuple[int, int]]:
        """Draw random pairs of a class of each network; they are the same for both kinds of vocabulary."""
        found = list(product(range(self.sizes[0]), range(self.sizes[1])))
        return [found[n] for n in np.random.default_rng(0).permutation(len(found))[: self.scale.problems]]

    def votes(self, ways: Ways) -> Votes:
        """Compute margins and features of all modules of both networks for the test texts and the sample texts."""
        both = [compose(modules(model, way)) for model, way in zip(self.models, ways, strict=True)]
        said = []
        for part in (self.test, self.sample):
            texts = [text for found in part for text in found]
            said.append(joined([c.evidence(texts) for c in both]))
        return Votes(self.sizes[0], self._classes(self.test), self._classes(self.sample), *said)

    def scratch(self, firsts: Sequence[int], second: int) -> float:
        """Train a network with the first architecture and the joint vocabulary for a problem; return its accuracy."""
        first = self.models[0]
        model = Model(first.data, first.cell, first.layers, first.seed, True, first.rows)
        places = [*firsts, self.sizes[0] + second]
        x, y = self._problem(model, self._texts("train", self.scale.learnt), places)
        network = trained_on(model, x, y, [str(place) for place in places])
        x, y = self._problem(model, self.test, places)
        return float((network.predict_index(x) == y).mean())

    def _problem(self, model: Model, texts: list[Texts], places: list[int]) -> tuple[np.ndarray, np.ndarray]:
        x = model.examples.vocabulary.encode([text for place in places for text in texts[place]])[0]
        return x, np.repeat(np.arange(len(places)), [len(texts[place]) for place in places])

    def _texts(self, part: str, count: int) -> list[Texts]:
        """Return the texts of each class: the C classes of the first data set, then the K classes of the second."""
        found = []
        for model in self.models:
            data, rng = model.examples, np.random.default_rng(0)
            y = getattr(data, part)[1].reshape(len(data.texts[part]), -1)
            for label in range(len(data.labels)):
                rows = np.flatnonzero((y == label).any(-1))
                found.append([data.texts[part][n] for n in rng.permutation(rows)[:count]])
        return found

    @staticmethod
    def _classes(texts: list[Texts]) -> np.ndarray:
        return np.repeat(np.arange(len(texts)), [len(found) for found in texts])


@dataclass(frozen=True)
class Votes:
    """Evidence of C + K modules about test texts and sample texts, and the class of each text, (N,)."""

    size: int
    truth: np.ndarray
    known: np.ndarray
    said: Evidence
    sample: Evidence

    def problem(self, firsts: Sequence[int], second: int) -> Problem:
        """Select some classes of the first network and one class of the second."""
        places = np.asarray([*firsts, self.size + second])
        parts = [
            (chosen(said, places, rows), np.searchsorted(places, truth[rows]))
            for truth, said, some in (
                (self.truth, self.said, True),
                (self.known, self.sample, first_of_each(self.known, EXAMPLES)),
                (self.known, self.sample, True),
            )
            for rows in [np.isin(truth, places) & some]
        ]
        return Problem(*parts, [0] * len(firsts) + [1])


@dataclass(frozen=True)
class Problem:
    """Evidence and right modules (N,) for test texts and for two sizes of samples, and the parent of each module."""

    test: tuple[Evidence, np.ndarray]
    sample: tuple[Evidence, np.ndarray]
    more: tuple[Evidence, np.ndarray]
    parents: list[int]

    def accuracies(self, more: bool = False) -> dict[str, float]:
        """Compute accuracies: uncalibrated, calibrated on the sample, and with a referee, optionally on more texts."""
        said, truth = self.test
        scales = self._scales(self.sample)
        found = {
            "composed": right(said.margins, truth),
            "calibrated": right(scaled(said.margins, scales), truth),
            "refereed": right(refereed(said, self.sample, scales, self.parents), truth),
        }
        if more:
            found["knowing"] = right(refereed(said, self.more, self._scales(self.more), self.parents), truth)
        return found

    def _scales(self, sample: tuple[Evidence, np.ndarray]) -> list[Scale]:
        known, labels = sample
        return fit(known.margins, labels, self.parents)

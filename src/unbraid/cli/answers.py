"""Predictions of networks, compositions and ONNX files, and their output in ``unbraid predict``.

Shapes: N examples, T timesteps, C labels.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from unbraid.data.targets import Label
from unbraid.errors import ConfigError, DataError, printable, unknown_label
from unbraid.export.onnx_model import OnnxModel
from unbraid.modules.composition import Composition
from unbraid.networks.network import Network


@dataclass(frozen=True)
class Answers:
    """Probabilities and decisions of N examples.

    Attributes:
        labels: names of the C labels.
        probabilities: (N, C), or (N, T, C) with one decision per timestep.
        decided: positions in ``labels``, (N,) or (N, T), -1 without a decision; for independent labels booleans
            (..., C).
        chosen: probability of each decision, (N,) or (N, T), NaN without one; for independent labels (..., C).
    """

    labels: list[Label]
    probabilities: np.ndarray
    decided: np.ndarray
    chosen: np.ndarray

    @classmethod
    def of(cls, labels: list[Label], probabilities: np.ndarray, decided: np.ndarray) -> Answers:
        """Make answers with the probabilities of the decisions."""
        if decided.dtype.kind == "b":
            return cls(labels, probabilities, decided, probabilities)
        chosen = np.take_along_axis(probabilities, np.maximum(decided, 0)[..., None], -1)[..., 0]
        return cls(labels, probabilities, decided, np.where(decided < 0, np.nan, chosen))

    @property
    def independent(self) -> bool:
        """Whether labels are independent: each has its own decision."""
        return self.decided.dtype.kind == "b"

    def above(self, threshold: float | None) -> Answers:
        """Drop decisions whose probability is below a threshold; raise ConfigError for a threshold outside [0, 1].

        The probabilities do not change.
        """
        if threshold is None:
            return self
        if not 0 <= threshold <= 1:
            raise ConfigError(f"--threshold {threshold}: expected a probability, 0 to 1.")
        if self.independent:
            return replace(self, decided=self.probabilities >= threshold)
        return replace(self, decided=np.where(self.chosen >= threshold, self.decided, -1))

    @property
    def predicted(self) -> np.ndarray:
        """Return labels, (N,) or (N, T), "" without a decision; for independent labels booleans (..., C)."""
        if self.independent:
            return self.decided
        named = np.asarray([*self.labels, ""], dtype=object)
        return named[self.decided]

    def to_dict(self) -> dict[str, Any]:
        """Convert all values to plain values, for JSON."""
        return {
            "labels": self.labels,
            "predicted": self.predicted.tolist(),
            "probabilities": self.probabilities.tolist(),
        }

    def lines(self, probabilities: bool) -> Iterator[str]:
        """Yield one line per example.

        Args:
            probabilities: whether to add the probability after each label: after a tab if an example has one decision,
                else after a space.
        """
        count = len(self.decided)
        cells, chosen = self.predicted.reshape(count, -1), self.chosen.reshape(count, -1)
        between = "\t" if cells.shape[1] == 1 else " "
        for row, numbers in zip(cells.tolist(), chosen.tolist(), strict=True):
            shown = [printable(str(cell)) for cell in row]
            if probabilities:
                shown = [f"{cell}{between}{number:.4f}" for cell, number in zip(shown, numbers, strict=True)]
            yield "\t".join(shown)


@dataclass(frozen=True)
class Numbers:
    """Predicted numbers of N examples.

    Attributes:
        labels: names of the C columns.
        predicted: (N, C), or (N, T, C) with predictions for each timestep; NaN at padding.
    """

    labels: list[Label]
    predicted: np.ndarray

    def above(self, threshold: float | None) -> Numbers:
        """Raise ConfigError for a threshold, as there are no probabilities."""
        if threshold is not None:
            raise ConfigError("--threshold is a probability, and this model predicts numbers: leave it out.")
        return self

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON; null at padding."""
        numbers = self.predicted.astype(object)
        numbers[np.isnan(self.predicted)] = None
        return {"labels": self.labels, "predicted": numbers.tolist()}

    def lines(self, probabilities: bool) -> Iterator[str]:
        """One line per example: its numbers, timestep after timestep, separated by tabs."""
        if probabilities:
            raise ConfigError("--probabilities: this model predicts numbers and has no probabilities: leave it out.")
        for row in self.predicted.reshape(len(self.predicted), -1).tolist():
            yield "\t".join(f"{number:.6g}" for number in row)


@dataclass(frozen=True)
class Paths:
    """The best sequence of labels of each of N examples, (N, T), with "" at padding."""

    labels: list[Label]
    predicted: np.ndarray

    def above(self, threshold: float | None) -> Paths:
        """Return the sequences; no timestep has a probability of its own."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """Convert all values to plain values, for JSON."""
        return {"labels": self.labels, "predicted": self.predicted.tolist()}

    def lines(self, probabilities: bool) -> Iterator[str]:
        """Yield one line per example."""
        for row in self.predicted.tolist():
            yield "\t".join(printable(str(cell)) for cell in row)


def paths(model: Network | Composition | OnnxModel, x: Any, scores: Mapping[str, Any]) -> Paths:
    """Decode taggers with transition scores, see :meth:`unbraid.Composition.viterbi`.

    Args:
        model: the model.
        x: its inputs.
        scores: ``transitions``, ``start`` and ``end``; without any, those of the parent.

    Raises:
        ConfigError: another model than a composition.
        UnbraidError: as :meth:`unbraid.Composition.viterbi`.
    """
    if not isinstance(model, Composition):
        raise ConfigError(
            "--viterbi decodes modules of a tagger with a CRF: give a folder of a composition or a decomposition."
        )
    return Paths(model.labels, model.viterbi(x, **scores))


def answers(
    model: Network | Composition | OnnxModel, x: Any, allowed: Sequence[str] | None = None
) -> Answers | Numbers:
    """Run a model once.

    Args:
        model: the model.
        x: its inputs.
        allowed: texts of the labels that may be predicted; None for all.

    Raises:
        DataError: inputs that do not fit.
        UnknownLabel: ``allowed`` names a label that the model does not have.
        ConfigError: ``allowed`` for an ONNX file or for numbers.
    """
    if allowed is not None:
        return _restricted(model, x, allowed)
    if isinstance(model, OnnxModel) and model.decision == "numbers":
        return Numbers(model.labels, model.numbers(model.run(x)))
    if not isinstance(model, OnnxModel) and model.task == "regression":
        return Numbers(model.labels, model.predict(x))
    if isinstance(model, OnnxModel):
        outputs = model.run(x)
        shares = outputs["probabilities"] if "probabilities" in outputs else outputs["probability"][..., None]
        binary, decided = model.decision == "binary", model.decide(outputs)
    elif isinstance(model, Network):
        logits = model.logits(x)
        shares, decided = model.activate(torch.from_numpy(logits)).numpy(), model.decide(logits)
        binary = model.binary
    else:
        margins = model.margins(x)
        shares, decided, binary = model.shares(margins), model.decide(margins), False
    if binary:
        shares = np.concatenate([1 - shares, shares], axis=-1)
    return Answers.of(model.labels, shares, decided)


def rejecting_answers(
    model: Network | Composition | OnnxModel, x: Any, unknown: Label, threshold: float | None
) -> Answers:
    """Run modules once, with a label for unknown inputs.

    Raises:
        ConfigError: the model is not made of modules, or a threshold out of range.
        DataError: inputs or a label that do not fit.
        IncompatibleModules: modules that do not support unknown inputs.
    """
    if not isinstance(model, Composition):
        raise ConfigError("--unknown is for folders of modules, which store what their inputs look like: leave it out.")
    shares = model.predict_proba(x, unknown=True, threshold=threshold)
    decided = model.predict(x, unknown=unknown, threshold=threshold)
    places = {label: place for place, label in enumerate([*model.labels, unknown])}
    return Answers.of(list(places), shares, np.asarray([places[label] for label in decided.tolist()], dtype=np.int64))


def allowed_mask(allowed: Sequence[str], labels: Sequence[Label]) -> np.ndarray:
    """Mark the labels of --allowed, booleans (C,); raise UnknownLabel for others."""
    texts = [str(label) for label in labels]
    for name in allowed:
        if name not in texts:
            raise unknown_label(name, labels, "the model of --allowed")
    return np.isin(texts, list(allowed))


def _restricted(model: Network | Composition | OnnxModel, x: Any, allowed: Sequence[str]) -> Answers:
    """Run a model whose decisions are among some of its labels."""
    if isinstance(model, OnnxModel):
        raise ConfigError("--allowed is not for .onnx files: give the model file or the folder that it was made of.")
    if model.task == "regression":
        raise ConfigError("--allowed restricts classes, and this model predicts numbers: leave it out.")
    mask = allowed_mask(allowed, model.labels)
    shares, decided = model.predict_proba(x, mask), model.predict_index(x, mask)
    if shares.shape[-1] == 1:  # one column of two classes
        shares = np.concatenate([1 - shares, shares], axis=-1)
    return Answers.of(model.labels, shares, decided)


def read_lines() -> list[str]:
    """Read the lines of standard input; raise DataError if it is not text, or empty."""
    try:
        lines = sys.stdin.read().splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"standard input is not text in {error.encoding}: convert it first.") from None
    return lines

"""Results of an evaluation, as plain values and as text."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unbraid.data.targets import Label
from unbraid.errors import quoted
from unbraid.evaluation.bootstrap import Intervals
from unbraid.evaluation.columns import Columns, columns_of_scores
from unbraid.evaluation.details import Details
from unbraid.evaluation.metrics import Detection
from unbraid.evaluation.presenting import Presented
from unbraid.evaluation.unknown import UnknownScores
from unbraid.modules.retention import Retention, mean_retention

SHOWN = 5  # most labels in one line


@dataclass(frozen=True)
class ModuleScore:
    """Scores of one module alone.

    Attributes:
        detection: precision, recall, F1 and false-positive rate. The module claims an example if P(dominant) > 0.5.
        retention: shares of the parent that the module keeps.
        cohesion: share of the recurrent edges, by |weight|, that connect kept nodes, in [0, 1].
        jaccard: Jaccard index of the paper with ``against``, in [0, 1]; None for a module of another network.
    """

    detection: Detection
    retention: Retention
    cohesion: float
    jaccard: float | None


@dataclass(frozen=True)
class LeftOut:
    """Numbers of decisions that were not scored, by reason.

    Attributes:
        other_label: decisions with a label that no module has.
        no_decision: decisions with a margin of NaN, at padded timesteps or after an overflow.
        unlabelled: decisions without a label.
        labels: the labels that occur but have no module. For independent labels, the columns without a module.
    """

    other_label: int
    no_decision: int
    unlabelled: int
    labels: list[Label]

    def __str__(self) -> str:
        parts = []
        if self.labels:
            more = f" and {len(self.labels) - SHOWN} more" if len(self.labels) > SHOWN else ""
            named = ", ".join(repr(quoted(label, 40)) for label in self.labels[:SHOWN])
            parts.append(f"{self.other_label:,} with labels that no module has ({named}{more})")
        if self.no_decision:
            parts.append(f"{self.no_decision:,} where a margin is NaN")
        if self.unlabelled:
            parts.append(f"{self.unlabelled:,} without a label")
        return f"left out: {'; '.join(parts)}" if parts else ""


@dataclass(frozen=True)
class Evaluation(Presented):
    """Results of :func:`unbraid.evaluate`; all accuracies are in [0, 1].

    Attributes:
        accuracy: accuracy of the composition (CMA in the paper). For independent labels, the share of right yes/no
            decisions.
        restricted_accuracy: accuracy of ``against`` on the same decisions, with its argmax restricted to the classes of
            the composition. This is the fair baseline, because the composition also decides between these classes only.
        restricted_delta: accuracy - restricted_accuracy.
        monolithic_accuracy: accuracy of ``against`` with all its classes (MMA in the paper). With more classes than the
            composition, it solves a harder problem.
        delta: accuracy - monolithic_accuracy (the cost of decomposition in the paper).
        network_classes: number of classes of ``against``.
        not_compared: reason why ``against`` could not be compared; None otherwise.
        jaccard: mean Jaccard index of the modules.
        coupling: mean Jaccard index of the kept nodes over all pairs of modules.
        calibration_error: expected calibration error of the composition's probabilities.
        decisions: number of examples (or timesteps) that were scored.
        left_out: number of labelled decisions that were not scored.
        left_out_why: numbers of decisions that were not scored, by reason, including those without a label.
        modules: label -> scores of the module alone.
        intervals: intervals of the accuracies and their differences, and of precision, recall and F1 of each module and
            their means; None if they were not asked for.
        emissions: whether a parent has a conditional random field (CRF). Decisions of the network are then the argmax
            of its emission scores, not the path that its module returns.
        unknown: how well inputs of no class are rejected; None without ``unknown=``.
        details: confusions, reliability and kept units, for :meth:`report`; not in :meth:`to_dict`.

    Example:
        >>> import unbraid
        >>> from unbraid.demo.small import small_examples, small_network
        >>> network = small_network()
        >>> examples = small_examples(network)
        >>> composition = unbraid.compose(unbraid.decompose(network, examples, keep=0.25))
        >>> result = unbraid.evaluate(composition, examples, against=network)
        >>> result.delta == result.accuracy - result.monolithic_accuracy
        True
        >>> result.retention.nodes, sorted(result.to_dict())[:3]
        (0.25, ['accuracy', 'calibration_error', 'coupling'])
    """

    accuracy: float
    restricted_accuracy: float | None
    restricted_delta: float | None
    monolithic_accuracy: float | None
    delta: float | None
    network_classes: int | None
    not_compared: str | None
    jaccard: float | None
    coupling: float
    calibration_error: float
    decisions: int
    left_out: int
    left_out_why: LeftOut
    modules: dict[Label, ModuleScore]
    intervals: Intervals | None = None
    emissions: bool = False
    unknown: UnknownScores | None = None
    details: Details | None = field(default=None, compare=False, repr=False)

    @property
    def retention(self) -> Retention:
        """Mean retention of the modules."""
        return mean_retention([m.retention for m in self.modules.values()])

    @property
    def detection(self) -> Detection:
        """Mean precision, recall, F1 and false-positive rate of the modules alone."""
        fields, scores = dataclasses.fields(Detection), [score.detection for score in self.modules.values()]
        return Detection(**{f.name: float(np.mean([getattr(one, f.name) for one in scores])) for f in fields})

    def to_dict(self) -> dict[str, Any]:
        """Return all results as plain values, for JSON."""
        plain = dataclasses.asdict(dataclasses.replace(self, details=None))
        del plain["details"]
        plain["modules"] = {str(label): score for label, score in plain["modules"].items()}
        return {
            **plain,
            "intervals": None if self.intervals is None else self.intervals.to_dict(),
            "retention": dataclasses.asdict(self.retention),
            "detection": dataclasses.asdict(self.detection),
        }

    def _columns(self) -> Columns:
        return columns_of_scores(self.modules.values())

    def __str__(self) -> str:
        kept, alone = self.retention, self.detection
        lines = [
            f"accuracy {self.accuracy:.4f} over {self.decisions} decisions, {len(self.modules)} modules",
            *self._comparison(),
            *self._intervals(),
            "decisions are the argmax of emission scores: see Composition.viterbi for those of the CRF"
            if self.emissions
            else "",
            "" if self.unknown is None else str(self.unknown),
            str(self.left_out_why),
            f"kept: {kept.nodes:.1%} of the nodes, {kept.recurrent_weights:.1%} of the recurrent weights",
            f"alone: precision {alone.precision:.3f}, recall {alone.recall:.3f}, F1 {alone.f1:.3f}",
        ]
        return "\n".join(line for line in lines if line)

    def _intervals(self) -> list[str]:
        if self.intervals is None:
            return []
        found = self.intervals.text({"accuracy": "accuracy", "f1": "F1"}, digits=".4f")
        against = self.intervals.text({"restricted_delta": "; difference to the network"}, 100, "+.2f")
        return [f"{self.intervals.title}: {found}{against}{' points' if against else ''}"]

    def _comparison(self) -> list[str]:
        if self.not_compared is not None:
            return [f"no comparison with the network: {self.not_compared}"]
        if self.restricted_accuracy is None or self.monolithic_accuracy is None or self.network_classes is None:
            return []
        used, others = len(self.modules), self.network_classes - len(self.modules)
        same = _compared("the network", self.restricted_accuracy, self.restricted_delta)
        if others <= 0:
            return [same]
        if self.restricted_accuracy == self.monolithic_accuracy and not self.left_out_why.other_label:
            return [same]  # independent labels do not compete with each other
        return [
            _compared(
                f"the network restricted to these {used} classes", self.restricted_accuracy, self.restricted_delta
            ),
            _compared(f"the network with all its {self.network_classes} classes", self.monolithic_accuracy, self.delta)
            + f", but it can also predict one of the {others} other classes",
        ]


def _compared(what: str, accuracy: float, delta: float | None) -> str:
    return f"{what}: {accuracy:.4f}, difference {100 * (delta or 0.0):+.2f} points"

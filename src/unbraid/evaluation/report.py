"""What an evaluation found, as plain values and as text."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from unbraid.data.targets import Label
from unbraid.errors import quoted
from unbraid.evaluation.metrics import Detection
from unbraid.modules.retention import Retention

SHOWN = 5  # labels that a line names, at most


@dataclass(frozen=True)
class ModuleScore:
    """One module by itself.

    Attributes:
        detection: precision, recall, F1 and false-positive rate of its own claims (P(dominant) > 0.5).
        retention: shares of its parent that it keeps.
        cohesion: share of its recurrent edges that stay among its nodes.
        jaccard: the paper's index against ``against``; None where it is no part of that network.
    """

    detection: Detection
    retention: Retention
    cohesion: float
    jaccard: float | None


@dataclass(frozen=True)
class LeftOut:
    """How many decisions were not judged, by reason.

    Attributes:
        other_label: their label is none of the composition's.
        no_decision: a margin is NaN: at a timestep that an input does not reach, or where numbers overflow.
        unlabelled: they have no label.
        labels: the labels that no module has, of all that occur; of independent labels the columns without a module.
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
class Evaluation:
    """A composition's figures; accuracies in [0, 1].

    Attributes:
        accuracy: of the composition (the paper's CMA); of independent labels the share of right yes-or-no decisions.
        restricted_accuracy: of ``against`` on the same decisions, its argmax restricted to the classes in use. Compare
            with this one: the composition, too, decides between these classes alone.
        restricted_delta: accuracy - restricted_accuracy.
        monolithic_accuracy: of ``against`` with all its classes (the paper's MMA). Where it has more classes than the
            composition it solves a harder problem.
        delta: accuracy - monolithic_accuracy (the paper's cost of decomposition).
        network_classes: how many classes ``against`` has.
        not_compared: why there is no comparison although there is a network; None otherwise.
        jaccard: mean of the modules' (the paper's index).
        coupling: mean pairwise Jaccard of the modules' node sets.
        calibration_error: expected calibration error of the composition's probabilities.
        decisions: how many examples (or timesteps) were judged.
        left_out: how many labelled ones were not, for the reasons in ``left_out_why``.
        left_out_why: their numbers by reason, and that of those without a label.
        modules: label -> what each is worth by itself.
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

    @property
    def retention(self) -> Retention:
        """Mean of the modules' retentions."""
        return _mean(Retention, [m.retention for m in self.modules.values()])

    @property
    def detection(self) -> Detection:
        """Mean of the modules' own precision, recall, F1 and false-positive rate."""
        return _mean(Detection, [m.detection for m in self.modules.values()])

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        plain = dataclasses.asdict(self)
        plain["modules"] = {str(label): score for label, score in plain["modules"].items()}
        return {
            **plain,
            "retention": dataclasses.asdict(self.retention),
            "detection": dataclasses.asdict(self.detection),
        }

    def __str__(self) -> str:
        kept, alone = self.retention, self.detection
        lines = [
            f"accuracy {self.accuracy:.4f} over {self.decisions} decisions, {len(self.modules)} modules",
            *self._comparison(),
            str(self.left_out_why),
            f"kept: {kept.nodes:.1%} of the nodes, {kept.recurrent_weights:.1%} of the recurrent weights",
            f"alone: precision {alone.precision:.3f}, recall {alone.recall:.3f}, F1 {alone.f1:.3f}",
        ]
        return "\n".join(line for line in lines if line)

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
            return [same]  # independent labels: no class competes with another
        return [
            _compared(
                f"the network restricted to these {used} classes", self.restricted_accuracy, self.restricted_delta
            ),
            _compared(f"the network with all its {self.network_classes} classes", self.monolithic_accuracy, self.delta)
            + f", but it may also answer one of the {others} others",
        ]


def _compared(what: str, accuracy: float, delta: float | None) -> str:
    return f"{what}: {accuracy:.4f}, difference {100 * (delta or 0.0):+.2f} points"


def _mean(kind: Any, parts: list[Any]) -> Any:
    return kind(**{f.name: float(np.mean([getattr(p, f.name) for p in parts])) for f in dataclasses.fields(kind)})

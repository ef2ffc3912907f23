"""What composing costs and what each module is worth. Shapes: N decisions, K modules, C classes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from unbraid.data import Label, Targets, read_targets
from unbraid.errors import DataError, wrong_object
from unbraid.evaluation.metrics import Detection, cohesion, coupling, detection, expected_calibration_error, jaccard
from unbraid.modules.arguments import check_network, check_pair
from unbraid.modules.composition import Composition
from unbraid.modules.module import ConcernModule
from unbraid.modules.retention import Retention
from unbraid.networks.network import Network


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
class Evaluation:
    """A composition's figures; accuracies in [0, 1].

    Attributes:
        accuracy: of the composition (the paper's CMA); of independent labels the share of right yes-or-no decisions.
        monolithic_accuracy: of ``against`` on the same decisions (MMA).
        restricted_accuracy: of ``against`` with its argmax restricted to the classes in use: an honest baseline.
        delta: accuracy - monolithic_accuracy (the cost of decomposition).
        jaccard: mean of the modules' (the paper's index).
        coupling: mean pairwise Jaccard of the modules' node sets.
        calibration_error: expected calibration error of the composition's probabilities.
        decisions: how many examples (or timesteps) were judged.
        left_out: how many were not, their class being none of the composition's, or at steps without a decision.
        modules: label -> what each is worth by itself.
    """

    accuracy: float
    monolithic_accuracy: float | None
    restricted_accuracy: float | None
    delta: float | None
    jaccard: float | None
    coupling: float
    calibration_error: float
    decisions: int
    left_out: int
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
        lines = [f"accuracy {self.accuracy:.4f} over {self.decisions} decisions, {len(self.modules)} modules"]
        if self.monolithic_accuracy is not None and self.delta is not None:
            lines.append(f"monolithic {self.monolithic_accuracy:.4f}, difference {100 * self.delta:+.2f} points")
        kept, alone = self.retention, self.detection
        lines.append(f"kept: {kept.nodes:.1%} of the nodes, {kept.recurrent_weights:.1%} of the recurrent weights")
        lines.append(f"alone: precision {alone.precision:.3f}, recall {alone.recall:.3f}, F1 {alone.f1:.3f}")
        return "\n".join(lines)


def evaluate(composition: Composition, examples: tuple[Any, Any], against: Network | None = None) -> Evaluation:
    """Measure a composition, and each of its modules alone.

    Args:
        composition: what to measure.
        examples: (x, y): inputs, and labels as names or as indices into the labels of ``against`` (without it: of the
            composition); (N,), or (N, T) where all modules have many outputs; independent labels as 0/1 columns.
        against: the monolithic model to compare with.

    Returns:
        the figures.

    Raises:
        DataError: inputs or labels that do not fit, or no example of a class in use.
        ArgumentError: ``composition`` is not a Composition, ``examples`` not a pair, or ``against`` not a Network.
    """
    _check_composition(composition)
    check_pair(examples, "examples")
    if against is not None:
        check_network(against, "against")
    x, y = examples
    margins = composition.margins(x)
    names = against.labels if against is not None else composition.labels
    targets = read_targets(
        composition.align(y, x),
        names,
        many=composition.many_outputs,
        independent=composition.independent,
        examples=len(margins),
    )
    margins = _as_long(margins, targets)
    truth = _truth(targets, names, composition.labels)
    used = np.asarray(truth.any(-1) | composition.independent) & ~np.isnan(margins).any(-1)  # NaN: no decision there
    if not used.any():
        raise DataError(f"no example is of a class in use: the composition has {composition.labels}.")
    margins_used, true = margins[used], truth[used]
    alone = margins_used if composition.referee is None else composition.without_referee().margins(x)[used]
    mono, restricted = _monolithic(composition, against, x, true, used, targets)
    modules = {}
    for place, (label, module) in enumerate(composition.modules_by_label.items()):
        claimed = alone[..., place] > composition.calibration[label][1]  # the module's own margin > 0
        modules[label] = ModuleScore(
            detection(claimed, true[..., place]),
            module.retention(),
            cohesion(module, module.parent),
            _jaccard(module, against),
        )
    indices = [m.jaccard for m in modules.values() if m.jaccard is not None]
    accuracy = _share_right(composition.decide(margins_used), true)
    return Evaluation(
        accuracy=accuracy,
        monolithic_accuracy=mono,
        restricted_accuracy=restricted,
        delta=None if mono is None else accuracy - mono,
        jaccard=float(np.mean(indices)) if indices else None,
        coupling=coupling(list(composition.modules_by_label.values())),
        calibration_error=_calibration_error(composition, margins_used, true),
        decisions=int(true.size if composition.independent else used.sum()),
        left_out=int(targets.counted().sum() - used.sum()),
        modules=modules,
    )


def _check_composition(composition: Any) -> None:
    """Raise ArgumentError for anything but a Composition."""
    if not isinstance(composition, Composition):
        advice = "call unbraid.compose(modules) first, as unbraid.evaluate(unbraid.compose(parts), examples)"
        raise wrong_object(composition, "composition", "a Composition", advice)


def _as_long(found: np.ndarray, targets: Targets) -> np.ndarray:
    """Margins or logits (N, [T,] K), NaN at the timesteps of labels that no sequence reaches."""
    if not targets.many or found.shape[1] == targets.y.shape[1]:
        return found
    missing = targets.y.shape[1] - found.shape[1]
    if missing < 0:
        raise DataError(f"labels have {targets.y.shape[1]} timesteps, the modules decide at {found.shape[1]}.")
    return np.pad(found, [(0, 0), (0, missing), (0, 0)], constant_values=np.nan)


def _monolithic(
    composition: Composition,
    network: Network | None,
    x: Any,
    true: np.ndarray,
    used: np.ndarray,
    targets: Targets,
) -> tuple[float | None, float | None]:
    """Accuracy of the whole network, and with its argmax restricted to the composition's classes."""
    if network is None or network.io.many_outputs != composition.many_outputs:
        return None, None
    logits = _as_long(network.logits(x), targets)
    if network.binary:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=-1)
    columns = [network.labels.index(label) for label in composition.labels if label in network.labels]
    if len(columns) < len(composition.labels):
        return None, None  # a class that the network does not have
    if composition.independent:
        return _share_right(logits[used][..., columns] > 0, true), None
    place = np.full(len(network.labels), -1)
    place[columns] = np.arange(len(columns))
    return (
        _share_right(place[logits[used].argmax(-1)], true),
        _share_right(logits[used][..., columns].argmax(-1), true),
    )


def _truth(targets: Targets, names: list[Label], labels: list[Label]) -> np.ndarray:
    """Which of ``labels`` hold, booleans (..., K)."""
    nowhere = np.zeros(targets.counted().shape, bool)
    return np.stack([targets.members(names.index(n)) if n in names else nowhere for n in labels], axis=-1)


def _share_right(decided: np.ndarray, true: np.ndarray) -> float:
    """Share of right decisions: positions (N,) against true (N, K), or booleans (N, K) label by label."""
    return float((decided == (true if decided.ndim == true.ndim else true.argmax(-1))).mean())


def _calibration_error(composition: Composition, margins: np.ndarray, true: np.ndarray) -> float:
    shares = composition.shares(margins)
    if composition.independent:
        both = np.stack([1 - shares, shares], axis=-1).reshape(-1, 2)
        return expected_calibration_error(both, true.ravel().astype(int))
    return expected_calibration_error(shares, true.argmax(-1))


def _jaccard(module: ConcernModule, network: Network | None) -> float | None:
    if network is None or module.parent.spec != network.spec or module.weights is not None:
        return None
    return jaccard(module, network)


def _mean(kind: Any, parts: list[Any]) -> Any:
    return kind(**{f.name: float(np.mean([getattr(p, f.name) for p in parts])) for f in dataclasses.fields(kind)})

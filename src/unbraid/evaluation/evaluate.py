"""Evaluate a composition and its modules. Shapes: N decisions, T timesteps, K modules, C classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from unbraid.data.files import as_pair
from unbraid.data.targets import Label, Targets
from unbraid.errors import ConfigError, DataError, IncompatibleModules, quoted, wrong_object
from unbraid.evaluation.bootstrap import check_level
from unbraid.evaluation.class_intervals import class_intervals
from unbraid.evaluation.details import Confusion, Details, structure_of
from unbraid.evaluation.metrics import Reliability, cohesion, coupling, detection, jaccard, reliability
from unbraid.evaluation.numbers import RegressionEvaluation, evaluate_numbers
from unbraid.evaluation.report import Evaluation, LeftOut, ModuleScore
from unbraid.evaluation.truth import Truth, columns_of, read_truth
from unbraid.evaluation.unknown import UnknownScores, unknown_scores
from unbraid.modules.arguments import check_network, check_pair
from unbraid.modules.composition import Composition
from unbraid.modules.module import ConcernModule
from unbraid.modules.rejecting import check_unknown
from unbraid.networks.allowed import restricted as allowed_only
from unbraid.networks.network import Network
from unbraid.networks.outputs import check_restricts
from unbraid.networks.pytorch.body import TorchBody
from unbraid.networks.pytorch.transitions import has_transitions
from unbraid.networks.threads import few_threads

__all__ = ["Evaluation", "LeftOut", "ModuleScore", "RegressionEvaluation", "evaluate"]


def evaluate(
    composition: Composition,
    examples: Any,
    against: Network | None = None,
    *,
    intervals: float | None = None,
    seed: int = 0,
    unknown: Label | None = None,
    allowed: Any = None,
    viterbi: bool = False,
    transitions: Any = None,
    start: Any = None,
    end: Any = None,
) -> Evaluation | RegressionEvaluation:
    """Evaluate a composition, and each of its modules alone.

    Args:
        composition: the composition.
        examples: (x, y), inputs and labels. Labels are names or indices, (N,), or (N, T) for many outputs; independent
            labels are 0/1 columns (N, C). Indices count the labels of ``against``, or of the composition without it.
            Examples of classes without a module are left out and counted. A DataFrame or a Dataset with columns
            ``text`` and ``label`` is accepted as well. For a regression y holds numbers, one column for each output of
            ``against``, or of the composition without it: (N, C) or (N, T, C). Missing targets are NaN.
        against: the parent network, or another network of the same classes, to compare with. None by default.
        intervals: level of intervals of the scores, in (0, 1), such as 0.95. They come from a bootstrap of 1,000 draws
            over examples. Default None: no intervals.
        seed: seed of the draws, at least 0.
        unknown: the label in y of inputs of no class. They are scored apart: :attr:`Evaluation.unknown` states how well
            the composition rejects them, see :meth:`Composition.predict`. Default None.
        allowed: the classes that the composition and ``against`` may decide for, as for :meth:`Composition.predict`,
            over the labels of the composition. Examples of other classes count as errors. The scores of each module
            alone do not change. Default None: all.
        viterbi: whether taggers with a CRF decide by the best sequence, as :meth:`Composition.viterbi`. Default False.
        transitions: with ``viterbi``, transition scores as for :meth:`Composition.viterbi`. Default None, those of the
            parent's module.
        start: with ``transitions``, scores of the first timestep, (C,). Default None, zeros.
        end: with ``transitions``, scores of the last timestep, (C,). Default None, zeros.

    Returns:
        accuracy, comparison with the network, calibration error, and the scores of each module. For a regression a
        :class:`~unbraid.evaluation.numbers.RegressionEvaluation`: errors of each module and of the network.

    Raises:
        DataError: inputs or labels that do not fit, no example of a class of the composition, or intervals of one
            example.
        ConfigError: ``intervals`` or ``seed`` out of range, ``viterbi`` with ``allowed`` or ``unknown``, or
            ``transitions`` without ``viterbi``.
        IncompatibleModules: ``viterbi`` for modules of several parents or of a network that is no tagger.
        ArgumentError: ``composition`` is not a Composition, ``examples`` is not a pair, or ``against`` is not a
            Network.

    Example:
        >>> import unbraid
        >>> from unbraid.demo.small import small_examples, small_network
        >>> network = small_network()
        >>> x, y = small_examples(network)
        >>> parts = unbraid.decompose(network, (x, y))
        >>> result = unbraid.evaluate(unbraid.compose(parts), (x, y), against=network)
        >>> result.decisions, list(result.modules)
        (120, ['travel', 'banking', 'weather'])
        >>> few = unbraid.compose([parts["travel"], parts["banking"]])
        >>> unbraid.evaluate(few, (x, y), against=network).left_out
        40
        >>> low, high = unbraid.evaluate(few, (x, y), intervals=0.95).intervals.scores["accuracy"]
        >>> 0 <= low <= high <= 1
        True
    """
    _check_composition(composition)
    check_level(intervals, seed)
    if viterbi and (allowed is not None or unknown is not None):
        raise ConfigError("viterbi=True gives whole sequences: leave out allowed= and unknown=.")
    scores = {"transitions": transitions, "start": start, "end": end}
    for name, value in scores.items():
        if value is not None and not viterbi:
            raise ConfigError(f"{name} is given without viterbi=True, which decides by sequences: add it.")
        if value is not None and transitions is None:
            raise ConfigError(f"{name} is given without transitions=: give both, or none for those of the parent.")
    if against is not None:
        check_network(against, "against")
    numbers = composition.task == "regression"
    if not numbers:
        examples = as_pair(examples, composition.labels if against is None else against.labels)
    check_pair(examples, "examples")
    parents = {id(module.parent): module.parent for module in composition.modules_by_label.values()}
    with few_threads([*parents.values(), *([] if against is None else [against])]):
        if numbers:
            if unknown is not None:
                raise IncompatibleModules(
                    "unknown= is for modules of classes, and these predict numbers: leave it out."
                )
            check_restricts(composition.task, allowed)
            if viterbi:
                raise IncompatibleModules("viterbi=True is for taggers, and these modules predict numbers.")
            return evaluate_numbers(composition, examples, against, intervals, seed)
        return evaluate_classes(
            composition, examples, against, intervals, seed, unknown, allowed, scores if viterbi else None
        )


def evaluate_classes(
    composition: Composition,
    examples: tuple[Any, Any],
    against: Network | None,
    level: float | None = None,
    seed: int = 0,
    unknown: Label | None = None,
    allowed: Any = None,
    viterbi: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Implement :func:`evaluate` for modules of classes; ``viterbi`` are the scores of a CRF, None without one."""
    x, y = examples
    free = composition.margins(x)
    margins = allowed_only(free, allowed, composition.labels)
    path = None if viterbi is None else composition.viterbi_index(x, margins, **viterbi)
    if unknown is not None:
        unknown = check_unknown(unknown, composition.labels)
    truth = read_truth(composition, against, composition.align(y, x), len(margins), unknown)
    columns = columns_of(composition, against)
    free, margins = _as_long(free, truth.targets), _as_long(margins, truth.targets)
    used, left_out = truth.used(margins), truth.left_out(margins, columns)
    if not used.any():
        raise DataError(f"no example has a class of the composition: {_why_none(composition, left_out)}")
    margins_used, true = margins[used], truth.right[used]
    voted = composition.referee is not None or composition.uses_domain
    alone = _as_long(composition.own_margins(x), truth.targets)[used] if voted else free[used]
    compared, reason = _monolithic(composition, against, x, true, used, truth.targets, columns, allowed)
    claimed = alone > [composition.calibration[label][1] for label in composition.labels]  # before calibration, above 0
    modules = {}
    for place, (label, module) in enumerate(composition.modules_by_label.items()):
        modules[label] = ModuleScore(
            detection(claimed[..., place], true[..., place]),
            module.retention(),
            cohesion(module, module.parent),
            _jaccard(module, against),
        )
    indices = [m.jaccard for m in modules.values() if m.jaccard is not None]
    decided = composition.decide(margins_used)
    if path is not None:
        decided = _as_long(path[..., None], truth.targets)[used][..., 0].astype(int)
    right, reliable = _right(decided, true), _reliability(composition, margins_used, true)
    confusion = None if composition.independent else Confusion.count(true.argmax(-1), decided)
    accuracy = float(right.mean())
    whole, restricted = (None, None) if compared is None else (float(each.mean()) for each in compared)
    rejection = None if unknown is None else _rejection(composition, x, margins, truth, used, right, unknown)
    found = None
    if level is not None:
        found = class_intervals(right, compared, claimed, true, composition.labels, np.nonzero(used)[0], (level, seed))
    return Evaluation(
        accuracy=accuracy,
        restricted_accuracy=restricted,
        restricted_delta=None if restricted is None else accuracy - restricted,
        monolithic_accuracy=whole,
        delta=None if whole is None else accuracy - whole,
        network_classes=None if against is None else len(against.labels),
        not_compared=reason,
        jaccard=float(np.mean(indices)) if indices else None,
        coupling=coupling(list(composition.modules_by_label.values())),
        calibration_error=reliable.error,
        decisions=int(true.size if composition.independent else used.sum()),
        left_out=left_out.other_label + left_out.no_decision,
        left_out_why=left_out,
        modules=modules,
        emissions=viterbi is None
        and any(_has_transitions(module.parent) for module in composition.modules_by_label.values()),
        intervals=found,
        unknown=rejection,
        details=Details(structure_of(composition.modules_by_label), confusion, reliable),
    )


def _rejection(
    composition: Composition,
    x: Any,
    margins: np.ndarray,
    truth: Truth,
    used: np.ndarray,
    right: np.ndarray,
    label: Label,
) -> UnknownScores:
    """Score the rejection of inputs of no class; ``right`` are the decisions about the used inputs."""
    typical = composition.typicality(x, composition.decide(margins))
    if not truth.unknown.any():
        raise DataError(
            f"no example has the label {quoted(repr(label), 60)} of unknown inputs: add some, or leave it out."
        )
    return unknown_scores(label, composition.threshold, typical[used], right > 0, typical[truth.unknown])


def _has_transitions(parent: Network) -> bool:
    return isinstance(parent.body, TorchBody) and has_transitions(parent.body.module, parent.classes)


def _check_composition(composition: Any) -> None:
    """Raise ArgumentError for anything but a Composition."""
    if not isinstance(composition, Composition):
        advice = "call unbraid.compose(modules) first, as unbraid.evaluate(unbraid.compose(parts), examples)"
        raise wrong_object(composition, "composition", "a Composition", advice)


def _why_none(composition: Composition, left_out: LeftOut) -> str:
    has = [quoted(label, 40) for label in composition.labels[:9]]
    reason = str(left_out) or "all examples have the label of unknown inputs"
    return f"the composition has the classes {has}; {reason}."


def _as_long(found: np.ndarray, targets: Targets) -> np.ndarray:
    """Pad margins or logits (N, [T,] K) to the timesteps of the labels, with NaN."""
    if not targets.many or found.shape[1] == targets.y.shape[1]:
        return found
    missing = targets.y.shape[1] - found.shape[1]
    if missing < 0:
        raise DataError(
            f"labels have {targets.y.shape[1]} timesteps, the modules decide at {found.shape[1]}: give one label for "
            "each timestep."
        )
    return np.pad(found, [(0, 0), (0, missing), (0, 0)], constant_values=np.nan)


def _monolithic(
    composition: Composition,
    network: Network | None,
    x: Any,
    true: np.ndarray,
    used: np.ndarray,
    targets: Targets,
    columns: dict[Label, int | None],
    allowed: Any = None,
) -> tuple[tuple[np.ndarray, np.ndarray] | None, str | None]:
    """Return what the network and the restricted network have right, (M,) each, or the reason why there is nothing.

    The restricted network decides between the classes of the composition only.
    """
    if network is None:
        return None, None
    if network.io.many_outputs != composition.many_outputs:
        return None, f"only one of the two decides at each timestep ({network.io} and {composition.io})"
    known = [column for column in columns.values() if column is not None]
    if len(known) < len(columns):
        missing = next(label for label, column in columns.items() if column is None)
        return None, f"it has no class {quoted(missing, 40)!r}"
    logits = _as_long(network.logits(x), targets)
    if network.binary:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=-1)
    if allowed is not None:
        few = allowed_only(logits[..., known], allowed, composition.labels)
        logits = np.full_like(logits, -np.inf)
        logits[..., known] = few
    if composition.independent:
        shares = _right(logits[used][..., known] > 0, true)
        return (shares, shares), None  # labels do not compete with each other
    place = np.full(len(network.labels), -1)
    place[known] = np.arange(len(known))
    whole = _right(place[logits[used].argmax(-1)], true)
    return (whole, _right(logits[used][..., known].argmax(-1), true)), None


def _right(decided: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Compute which decisions are right, (M,): positions (M,), or the share of booleans (M, K), against true (M, K)."""
    if decided.ndim == true.ndim:
        return np.asarray((decided == true).mean(-1))
    return np.asarray(decided == true.argmax(-1), np.float64)


def _reliability(composition: Composition, margins: np.ndarray, true: np.ndarray) -> Reliability:
    shares = composition.shares(margins)
    if composition.independent:
        both = np.stack([1 - shares, shares], axis=-1).reshape(-1, 2)
        return reliability(both, true.ravel().astype(int))
    return reliability(shares, true.argmax(-1))


def _jaccard(module: ConcernModule, network: Network | None) -> float | None:
    if network is None or module.parent.spec != network.spec or module.weights is not None:
        return None
    return jaccard(module, network)

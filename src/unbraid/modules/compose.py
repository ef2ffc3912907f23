"""Putting modules together with one call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from unbraid.data.targets import Label
from unbraid.errors import ConfigError
from unbraid.modules.arguments import check_pair, named_modules
from unbraid.modules.comparability import vote_problems, warn
from unbraid.modules.composition import Composition, Vote
from unbraid.modules.module import ConcernModule
from unbraid.progress import Progress, silent


def compose(
    modules: Mapping[Label, ConcernModule] | Iterable[ConcernModule],
    vote: Vote = "margin",
    sample: tuple[Any, Any] | None = None,
    calibrate: bool | None = None,
    referee: bool = False,
    progress: Progress = silent,
) -> Composition:
    """Put modules together, of one or of several parents.

    Args:
        modules: a Decomposition, a mapping label -> module, or modules under their own labels.
        vote: ``margin``, or ``probability`` for the release's vote (float64, ties to the first).
        sample: (x, y), a few labelled examples as they come in use, see :meth:`Composition.with_calibration`.
        calibrate: whether to calibrate margins on the sample; by default where the modules have several parents.
        referee: whether to fit a referee on the sample, and always calibrate; see :meth:`Composition.with_referee`.
        progress: see :mod:`unbraid.progress`.

    Raises:
        IncompatibleModules: two modules of one label, modules that read different inputs, or that have no referee.
        DataError: a sample that does not fit.
        ConfigError: ``calibrate`` or ``referee`` without a sample, or another vote.
        ArgumentError: ``modules`` holds something else than modules, or ``sample`` is not a pair.

    Warns:
        UnbraidWarning: modules of several parents that are not calibrated, or whose vocabularies are not known.
    """
    composition = Composition(named_modules(modules), vote)
    if sample is not None:
        check_pair(sample, "sample")
    if (calibrate or referee) and sample is None:
        wanted = "calibrate" if calibrate else "referee"
        raise ConfigError(f"{wanted}=True needs a sample: pass sample=(x, y), a few labelled examples of every class.")
    if referee and sample is not None:
        return composition.with_referee(*sample, progress)
    parents = {module.parent_sha256 for module in composition.modules_by_label.values()}
    fair = len(parents) > 1 if calibrate is None else calibrate
    if fair and sample is not None:
        return composition.with_calibration(*sample, progress)
    warn(vote_problems(composition.modules_by_label, composition.calibration))
    return composition

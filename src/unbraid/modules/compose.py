"""Build a composition with one call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unbraid.data.targets import Label
from unbraid.errors import ConfigError
from unbraid.modules.arguments import check_pair, named_modules
from unbraid.modules.comparability import warn
from unbraid.modules.composition import Composition
from unbraid.modules.module import ConcernModule
from unbraid.modules.voter import Vote
from unbraid.progress import Progress, silent


def compose(
    modules: Mapping[Label, ConcernModule | Mapping[Label, ConcernModule] | Sequence[ConcernModule]]
    | Iterable[ConcernModule],
    vote: Vote = "margin",
    sample: tuple[Any, Any] | None = None,
    calibrate: bool | None = None,
    referee: bool = False,
    progress: Progress = silent,
    domain: bool = True,
) -> Composition:
    """Combine modules of one or of several parent networks into a classifier, or into a regression of one column each.

    Args:
        modules: a Decomposition, a mapping label -> module, or an iterable of modules. A mapping name -> Decomposition
            (or several modules in another form) gives the labels ``name/label``, for networks with equal labels.
        vote: ``margin``, or ``probability`` for the vote of the paper's code. Default ``margin``.
        sample: (x, y), a few labelled examples of each class, from data like that of the later use. None by default.
        calibrate: whether to calibrate margins on the sample, see :meth:`Composition.with_calibration`. Default: only
            for modules of several parents.
        referee: whether to fit a calibration and a referee on the sample, see :meth:`Composition.with_referee`.
        progress: factory of progress bars, see :mod:`unbraid.progress`.
        domain: whether modules of several parents vote with the evidence about the inputs of their parents. It needs no
            labels. Without evidence that all parents have, they vote as with False. Default True.

    Raises:
        IncompatibleModules: two modules with one label, modules that read different inputs, or ``referee`` with modules
            that do not support a referee.
        DataError: the sample does not fit.
        ConfigError: ``calibrate`` or ``referee`` without a sample, or an unknown ``vote``.
        ArgumentError: ``modules`` holds other objects, or ``sample`` is not a pair.

    Warns:
        UnbraidWarning: modules of several parents are not calibrated and have no domain evidence, or have no
            vocabulary.

    Example:
        >>> import unbraid
        >>> from unbraid.demo.small import small_examples, small_network
        >>> network = small_network()
        >>> x, y = small_examples(network)
        >>> parts = unbraid.decompose(network, (x, y))
        >>> unbraid.compose(parts).labels
        ['travel', 'banking', 'weather']
        >>> other = unbraid.decompose(small_network(("sport", "music"), seed=2), (x, ["sport", "music"] * 60))
        >>> sample = (x, ["travel", "sport"] * 60)
        >>> mixed = unbraid.compose([parts["travel"], other["sport"]], sample=sample, referee=True)
        >>> mixed.is_calibrated
        True
        >>> unbraid.compose({"a": parts, "b": parts}).labels[2:4]
        ['a/weather', 'b/travel']
    """
    composition = Composition(named_modules(modules), vote, domain=domain)
    if sample is not None:
        check_pair(sample, "sample")
    if (calibrate or referee) and sample is None:
        wanted = "calibrate" if calibrate else "referee"
        raise ConfigError(f"{wanted}=True needs a sample: pass sample=(x, y), a few labelled examples of each class.")
    if referee and sample is not None:
        return composition.with_referee(*sample, progress)
    parents = {module.parent_sha256 for module in composition.modules_by_label.values()}
    fair = len(parents) > 1 if calibrate is None else calibrate
    if fair and sample is not None:
        return composition.with_calibration(*sample, progress)
    warn(composition.problems())
    return composition

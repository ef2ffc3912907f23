"""Warnings about a composition's vote: margins that are not comparable, and what a change drops."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from torch import nn

from unbraid.data.targets import Label
from unbraid.errors import UnbraidWarning, quoted
from unbraid.modules.module import ConcernModule
from unbraid.modules.voting.calibration import UNTOUCHED, Scale
from unbraid.networks.spec import EmbeddingSpec, TorchSpec

SHOWN = 5  # labels that a message names, at most
REFEREE_DROPPED = (
    "the referee is dropped: it was fitted on the modules as they were. Fit another with refereed(x, y), on the "
    "command line with 'unbraid compose FOLDER --sample FILE --referee -o FOLDER'"
)
CALIBRATE = (
    "Calibrate on a small labelled sample: compose(modules, sample=(x, y)), on the command line 'unbraid compose "
    "FOLDER --sample FILE -o FOLDER'"
)


def vote_problems(modules: Mapping[Label, ConcernModule], calibration: Mapping[Label, Scale]) -> list[str]:
    """What makes the margins of these modules incomparable, one text for each reason.

    Nothing where all modules have one parent and one state of calibration, and nothing where all are calibrated: the
    sample was then read by all of them.

    Args:
        modules: label -> module.
        calibration: label -> temperature and offset.
    """
    parents = {module.parent_sha256 for module in modules.values()}
    plain = [label for label in modules if calibration[label] == UNTOUCHED]
    if not plain:
        return []
    found = []
    independent = all(module.parent.independent for module in modules.values())  # each decides by itself: no vote
    if not independent and len(parents) > 1:
        found.append(
            f"modules of {len(parents)} networks vote together, and their margins are not comparable: "
            f"{_not_calibrated(plain)}. {CALIBRATE}"
        )
    elif not independent and len(plain) < len(modules):
        found.append(f"{_not_calibrated(plain)} as the other modules are. {CALIBRATE}")
    unknown = [label for label, m in modules.items() if _reads_indices(m) and m.parent.vocabulary is None]
    if len(parents) > 1 and unknown:
        found.append(
            f"no vocabulary is known for the networks of {_named(unknown)}: the result is wrong where one index means "
            "different words to different networks. Give each network its own with with_vocabulary(vocabulary)"
        )
    return found


def warn(problems: list[str], stacklevel: int = 3) -> None:
    """One warning of all problems; none without one.

    Args:
        problems: sentences without a full stop.
        stacklevel: as for :func:`warnings.warn`, counted from here: by default the caller of the public method.
    """
    if problems:
        warnings.warn(". ".join(text[0].upper() + text[1:] for text in problems) + ".", UnbraidWarning, stacklevel)


def _named(labels: list[Label]) -> str:
    more = f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else ""
    return f"{', '.join(repr(quoted(v, 40)) for v in labels[:SHOWN])}{more}"


def _not_calibrated(labels: list[Label]) -> str:
    return f"{_named(labels)} {'is' if len(labels) == 1 else 'are'} not calibrated"


def _reads_indices(module: ConcernModule) -> bool:
    """Whether the inputs are indices, as of words, and not numbers that mean the same to every network."""
    spec = module.parent.spec
    if isinstance(spec, TorchSpec):
        return any(isinstance(part, nn.Embedding | nn.EmbeddingBag) for part in module.parent.modules())
    return isinstance(spec.stages[0], EmbeddingSpec)

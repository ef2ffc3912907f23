"""Warnings about the vote of a composition: margins that are not comparable, and a referee that a change drops."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from torch import nn

from unbraid.data.targets import Label
from unbraid.errors import UnbraidWarning, quoted
from unbraid.modules.module import ConcernModule
from unbraid.modules.voting.calibration import UNTOUCHED, Scale
from unbraid.networks.graph_spec import KerasSpec
from unbraid.networks.stage_spec import EmbeddingSpec
from unbraid.networks.torch_spec import TorchSpec

SHOWN = 5  # most labels in a message
REFEREE_DROPPED = (
    "the referee is dropped, because the modules changed. Fit a new one with with_referee(x, y), on the "
    "command line with 'unbraid compose FOLDER --sample FILE --referee -o FOLDER'"
)
CALIBRATE = (
    "Calibrate on a small labelled sample: compose(modules, sample=(x, y)), on the command line 'unbraid compose "
    "FOLDER --sample FILE -o FOLDER'"
)


def vote_problems(
    modules: Mapping[Label, ConcernModule], calibration: Mapping[Label, Scale], separated: bool = False
) -> list[str]:
    """List the reasons why the margins of these modules are not comparable.

    The list is empty if all modules are calibrated. It is also empty if all have one parent and none is calibrated.

    Args:
        modules: label -> module.
        calibration: label -> (temperature, offset).
        separated: whether the vote uses domain evidence that differs for each parent.
    """
    parents = {module.parent_sha256 for module in modules.values()}
    plain = [label for label in modules if calibration[label] == UNTOUCHED]
    if not plain:
        return []
    found = []
    voting = any(module.parent.task == "classification" for module in modules.values())
    if voting and len(parents) > 1 and not separated:
        found.append(
            f"modules of {len(parents)} networks vote together, and their margins are not comparable: "
            f"{_not_calibrated(plain)}. {CALIBRATE}"
        )
    elif voting and len(parents) == 1 and len(plain) < len(modules):
        found.append(f"{_not_calibrated(plain)} as the other modules are. {CALIBRATE}")
    unknown = [label for label, m in modules.items() if _reads_indices(m) and m.parent.vocabulary is None]
    if len(parents) > 1 and unknown:
        found.append(
            f"the networks of {_named(unknown)} have no vocabulary: the result is wrong if one index is a different "
            "word in each network. Set the vocabulary of each network with with_vocabulary(vocabulary)"
        )
    return found


def warn(problems: list[str], stacklevel: int = 3) -> None:
    """Issue one warning with all problems; do nothing without one.

    Args:
        problems: sentences without a full stop.
        stacklevel: as for :func:`warnings.warn`, counted from here. Default: the caller of the public method.
    """
    if problems:
        warnings.warn(". ".join(text[0].upper() + text[1:] for text in problems) + ".", UnbraidWarning, stacklevel)


def _named(labels: list[Label]) -> str:
    more = f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else ""
    return f"{', '.join(repr(quoted(v, 40)) for v in labels[:SHOWN])}{more}"


def _not_calibrated(labels: list[Label]) -> str:
    return f"{_named(labels)} {'is' if len(labels) == 1 else 'are'} not calibrated"


def _reads_indices(module: ConcernModule) -> bool:
    """Return whether the parent reads indices, such as word indices, instead of numeric features."""
    spec = module.parent.spec
    if isinstance(spec, KerasSpec):
        return any(words is not None for words in spec.vocabularies)
    if isinstance(spec, TorchSpec):
        return any(isinstance(part, nn.Embedding | nn.EmbeddingBag) for part in module.parent.modules())
    return isinstance(spec.stages[0], EmbeddingSpec)

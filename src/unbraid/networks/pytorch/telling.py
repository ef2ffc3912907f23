"""Report differences between a network and the user's module, once, when the network is made."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence

from unbraid.errors import UnbraidWarning, quoted
from unbraid.networks.pytorch.answer import Answer
from unbraid.networks.torch_spec import TorchSpec

notes = logging.getLogger("unbraid")


def tell(
    spec: TorchSpec, answer: Answer | None, merged: Sequence[str], half: Sequence[str], others: Sequence[str]
) -> None:
    """Log what leaves the results as they are, and warn of the rest.

    Args:
        spec: description of the module.
        answer: which result comes from the output layer; None if no result can be compared.
        merged: weights that were made plain.
        half: types of half precision that weights had.
        others: other layers whose scores the module returns, if no layer was named.
    """
    for note in merged:
        notes.info("from_torch: %s", note)
    problems = []
    if half:
        problems.append(f"weights of {', '.join(half)} are computed in float32, so scores differ by rounding")
    if spec.run.batch == 1:
        problems.append(
            "the module reads one example a call, so that the network is slow: a forward for batches of any size is "
            "faster"
        )
    if answer is None:
        problems.append(
            f"no result of the module is a function of the scores of head={quoted(spec.head)!r} alone, so that "
            "decisions are those of this layer (its argmax), and are not compared with the module"
        )
    if others:
        names = ", ".join(quoted(name, 40) for name in others[:3])
        problems.append(
            f"the network has the output layer {quoted(spec.head, 40)!r}, and the module also returns the scores of "
            f"{names}: name a layer with head=, or use unbraid.Heads.from_torch for all of them"
        )
    if problems:
        text = ". ".join(problem[0].upper() + problem[1:] for problem in problems)
        warnings.warn(f"{spec.module}: {text}.", UnbraidWarning, stacklevel=4)

"""Folders of compositions of several output layers."""

from __future__ import annotations

from collections.abc import Mapping

from unbraid.errors import IncompatibleModules, quoted
from unbraid.modules.about import NOTHING, About
from unbraid.modules.composition import Composition
from unbraid.modules.module import ConcernModule
from unbraid.storage.folders import consistently
from unbraid.storage.layout import Folder
from unbraid.storage.loading import compositions_of, load_modules
from unbraid.storage.own_modules import OwnModules
from unbraid.storage.saving import save_all


def save_heads(
    folder: Folder, heads: Mapping[str, Composition], about: About = NOTHING, dtype: str = "float32"
) -> None:
    """Write a composition for each head; raise FormatError if ``folder`` holds other files.

    Raises:
        IncompatibleModules: a head has a referee, or heads vote in different ways.
    """
    votes = sorted({composition.vote for composition in heads.values()})
    if len(votes) > 1:
        raise IncompatibleModules(
            f"the output layers vote by {' and by '.join(votes)}: a folder holds one kind of vote."
        )
    refereed = [head for head, composition in heads.items() if composition.referee is not None]
    if refereed:
        raise IncompatibleModules(
            f"output layer {quoted(refereed[0])!r} has a referee: save its composition alone, or use without_referee()."
        )
    modules: list[ConcernModule] = []
    names: list[str] = []
    for head, composition in heads.items():
        modules += [module.renamed(label) for label, module in composition.modules_by_label.items()]
        names += [head] * len(composition)
    scales = [scale for composition in heads.values() for scale in composition.calibration.values()]
    save_all(folder, "heads", modules, False, vote=votes[0], scales=scales, about=about, dtype=dtype, heads=names)


def load_head_compositions(folder: Folder, module: OwnModules = None) -> dict[str, Composition]:
    """Load the composition of each head of a folder that :func:`save_heads` wrote; raise FormatError if damaged."""

    def read() -> dict[str, Composition]:
        manifest, _, modules = load_modules(folder, "heads", module)
        return {str(head): one for head, one in compositions_of(folder, manifest, modules).items()}

    return consistently(folder, read)

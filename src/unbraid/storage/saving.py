"""Write modules, decompositions, compositions and translators into folders, atomically."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from unbraid._version import __version__
from unbraid.config import DecompositionConfig
from unbraid.errors import FormatError, quoted
from unbraid.modules.about import NOTHING, About
from unbraid.modules.composition import Composition
from unbraid.modules.module import ConcernModule
from unbraid.modules.voter import Vote
from unbraid.modules.voting.calibration import UNTOUCHED, Scale
from unbraid.networks.network import Network
from unbraid.networks.torch_spec import TorchSpec
from unbraid.storage.card import CARD, RECIPE, card, plain_scores
from unbraid.storage.folders import MANIFEST, write_folder
from unbraid.storage.halving import as_half, check_stored, halved
from unbraid.storage.layout import MODULES, PARENTS, REFEREE, Folder, body_weights, only_words, vocabulary_file
from unbraid.storage.manifest import FORMAT, Kind, Manifest, ModuleEntry, ParentEntry, named_errors
from unbraid.storage.tuning import can_be_sliced, stored_modules
from unbraid.storage.verification import check_precision, verify


def save_decomposition(
    folder: Folder, network: Network, modules: Sequence[ConcernModule], config: DecompositionConfig,
    about: About = NOTHING, dtype: str = "float32",
) -> None:  # fmt: skip
    """Write a network and its modules; raise FormatError if ``folder`` holds other files."""
    save_all(folder, "decomposition", modules, alone=False, about=about, dtype=dtype)


def save_module(folder: Folder, module: ConcernModule, about: About = NOTHING, dtype: str = "float32") -> None:
    """Write one module with only the weights that it needs; raise FormatError if ``folder`` holds other files."""
    save_all(folder, "module", [module], alone=True, about=about, dtype=dtype)


def save_composition(folder: Folder, composition: Composition, about: About = NOTHING, dtype: str = "float32") -> None:
    """Write a composition, each parent once; raise FormatError if ``folder`` holds other files."""
    modules = [module.renamed(label) for label, module in composition.modules_by_label.items()]
    scales = list(composition.calibration.values())
    composition.check_referee()
    referee = None if composition.referee is None else dict(composition.referee.named_buffers())
    save_all(
        folder, "composition", modules, alone=False, vote=composition.vote, scales=scales, about=about, referee=referee,
        dtype=dtype,
    )  # fmt: skip


def save_languages(folder: Folder, modules: Mapping[str, ConcernModule], about: About = NOTHING) -> None:
    """Write the modules of a translator, each parent once; raise FormatError if ``folder`` holds other files."""
    save_all(folder, "translator", [m.renamed(name) for name, m in modules.items()], alone=False, about=about)


@named_errors()
def save_all(
    folder: Folder,
    kind: Kind,
    modules: Sequence[ConcernModule],
    alone: bool,
    vote: Vote = "margin",
    scales: Sequence[Scale] | None = None,
    about: About = NOTHING,
    referee: dict[str, Tensor] | None = None,
    dtype: str = "float32",
    heads: Sequence[str] = (),
) -> None:
    """Write modules of any kind of folder.

    Args:
        folder: path of the folder.
        kind: kind of the content.
        modules: the modules.
        alone: whether each is saved with only the weights that it needs.
        vote: kind of vote.
        scales: temperature and offset of each module; None for none.
        about: title, description, license and scores for the model card.
        referee: weights of a referee.
        dtype: ``float32`` or ``float16``.
        heads: name of the output layer of each module; empty without names.

    Raises:
        FormatError: ``folder`` holds other files, it cannot be written, or the files would not load again.
    """
    stored_as, convert = (None, _plain) if check_stored(dtype) == "float32" else ("float16", _plain_half)
    if stored_as is not None:
        check_precision([*modules, *_originals(modules)])
        modules = halved(modules, alone)
    parents: list[ParentEntry] = []
    networks: list[Network] = []
    places: dict[Hashable, int] = {}
    weights: dict[str, Tensor] = {}
    entries: list[ModuleEntry] = []
    bits: dict[str, Tensor] = {}
    texts: dict[str, bytes] = {}
    everything = [*modules, *([] if alone else _originals(modules))]
    check_precision(everything)
    stored = stored_modules(everything, alone)
    for number, module in enumerate(stored):
        remnant = module.is_remnant or (alone and can_be_sliced(module))
        # modules of one body, such as one module under several labels, need its weights once
        key: Hashable = (module.parent_sha256, id(module.body)) if remnant else module.parent_sha256
        if key not in places:
            places[key] = len(parents)
            own = only_words(body_weights(module.body), module.head.words) if remnant else module.origin.weights
            weights |= {f"{len(parents)}/{name}": t for name, t in own.items()}
            parents.append(_parent_entry(module, number if remnant else None))
            networks.append(module.parent)
            for words, target in ((module.parent.vocabulary, False), (module.parent.target_vocabulary, True)):
                if words is not None:
                    texts[vocabulary_file(len(parents) - 1, target)] = words.to_json().encode()
                    words.warn_of_function()
        scale = UNTOUCHED if scales is None or number >= len(modules) else scales[number]
        shares, shares_head = _lender(stored[:number], module), _shares_head(module, remnant)
        original = next((n for n, m in enumerate(everything) if m is module.original), None)
        entries.append(_module_entry(module, places[key], scale, shares, original, shares_head))
        if number < len(heads):
            entries[-1] = entries[-1].model_copy(update={"head": heads[number]})
        own = _module_tensors(module, remnant, shares is not None, shares_head)
        bits |= {f"{number}/{name}": t for name, t in own.items()}
    files = {PARENTS: save(convert(weights)), MODULES: save(convert(bits)), **texts}
    if referee is not None:
        files[REFEREE] = save(_plain(referee))
    if about.recipe is not None:
        files[RECIPE] = about.recipe.encode()
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    manifest = Manifest(
        format=FORMAT, unbraid=__version__, kind=kind, files=digests, parents=parents, modules=entries[: len(modules)],
        originals=entries[len(modules) :], vote=vote, scores=plain_scores(about.scores),
        skipped=list(about.skipped), stored_as=stored_as,
    )  # fmt: skip
    try:
        text = {MANIFEST: manifest.to_json(), CARD: card(manifest, modules, about).encode()}
    except ValueError as error:  # a lone surrogate
        raise FormatError(f"a label or a score cannot be written as UTF-8 text: {quoted(error)}") from None
    write_folder(folder, {**files, **text}, lambda place: verify(place, modules, networks))  # the card may be edited


def _parent_entry(module: ConcernModule, sliced_by: int | None) -> ParentEntry:
    parent = module.parent
    return ParentEntry(
        sha256=module.parent_sha256,
        labels=list(parent.labels),
        spec=parent.spec,
        sliced_by=sliced_by,
        vocabulary=None if parent.vocabulary is None else parent.vocabulary.padding,
        target_vocabulary=None if parent.target_vocabulary is None else parent.target_vocabulary.padding,
        facts=parent.facts,
    )


def _module_entry(
    module: ConcernModule, parent: int, scale: Scale, shares: int | None, original: int | None, shares_head: bool
) -> ModuleEntry:
    concern = module.concern
    return ModuleEntry(
        label=module.label,
        index=module.index,
        parent=parent,
        steps=dict(concern.steps),
        mode=concern.mode,
        by_gates=concern.by_gates,
        edges=concern.edges,
        idle=module.head.idle,
        config=module.config,
        compact=module.weights is not None,
        shares=shares,
        original=original,
        temperature=scale[0],
        offset=scale[1],
        words=None if module.head.words is None else len(module.head.words),
        shares_head=shares_head,
        bridged=module.bridges is not None,
    )


def _originals(modules: Iterable[ConcernModule]) -> list[ConcernModule]:
    """List the originals of fused modules without duplicates."""
    return list({id(m.original): m.original for m in modules if m.original is not None}.values())


def _lender(earlier: Sequence[ConcernModule], module: ConcernModule) -> int | None:
    """Return the number of the first module with the same weight tensors; None if there is none."""
    own = module.weights
    return None if own is None else next((n for n, other in enumerate(earlier) if other.weights is own), None)


def _shares_head(module: ConcernModule, remnant: bool) -> bool:
    """Return whether a module of a language has the same output columns as its parent."""
    words, own, parent = module.head.words, module.whole_head, module.origin.weights
    if remnant or words is None:
        return False
    return torch.equal(own.weight, parent["head.weight"][words]) and torch.equal(own.bias, parent["head.bias"][words])


def _module_tensors(module: ConcernModule, remnant: bool, lent: bool, shares_head: bool) -> dict[str, Tensor]:
    tensors = {f"mask/{n}": torch.from_numpy(np.packbits(m)) for n, m in module.concern.kept.items()}
    head = module.head if remnant or _stored_narrow(module) else module.whole_head
    if not remnant and not lent:  # a remnant's own layers are all that is stored of its parent
        tensors |= {f"layer/{n}/{key}": t for n, own in (module.weights or {}).items() for key, t in own.items()}
    tensors |= {f"bridge/{name}": weight for name, weight in (module.bridges or {}).items()}
    if head.words is not None:
        kept = torch.zeros(module.parent.spec.classes, dtype=torch.bool).index_fill(0, head.words.cpu(), True)
        tensors["words"] = torch.from_numpy(np.packbits(kept.numpy()))
    return tensors if shares_head else {**tensors, "head.weight": head.weight.detach(), "head.bias": head.bias.detach()}


def _stored_narrow(module: ConcernModule) -> bool:
    """Return whether the output layer is stored only over the features that the module keeps.

    A reader finds these features from the masks, and needs the layers of the parent for that.
    """
    return module.features is not None and module.head.words is None and not isinstance(module.parent.spec, TorchSpec)


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.cpu().contiguous().clone() for name, tensor in tensors.items()}


def _plain_half(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return _plain(as_half(tensors))

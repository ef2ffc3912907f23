"""Saving and loading: a folder with ``unbraid.json``, ``parent.safetensors``, ``modules.safetensors`` and a model card.

``parent.safetensors`` has each parent's weights once (``P/name``); of a rolled module saved alone, only its slices.
``modules.safetensors`` has, per module ``M``, packed mask bits ``M/mask/layer`` and the two head tensors; weights that
compact modules share are there once. What fused modules were made from is numbered after the modules.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from unbraid._version import __version__
from unbraid.config import DecompositionConfig, Mode
from unbraid.errors import DataError, FormatError
from unbraid.modules.calibration import UNTOUCHED, Scale
from unbraid.modules.card import CARD, NOTHING, RECIPE, About, card, plain_scores
from unbraid.modules.composition import Composition, Vote
from unbraid.modules.concern import Concern, kept_indices
from unbraid.modules.folders import MANIFEST, read_file, recover, write_folder
from unbraid.modules.manifest import FORMAT, Kind, Manifest, ModuleEntry, ParentEntry, parse_manifest
from unbraid.modules.module import ConcernModule, LayerWeights
from unbraid.networks.heads import Head
from unbraid.networks.layers import Layer, sliced
from unbraid.networks.network import Network
from unbraid.networks.recurrent import RecurrentLayer
from unbraid.networks.spec import EncoderDecoderSpec, NetworkSpec, Spec, TorchSpec
from unbraid.vocabulary import Padding, Vocabulary

PARENTS, MODULES = "parent.safetensors", "modules.safetensors"
TARGET = "body.target.weight"  # of an encoder-decoder
SPARSEST = 1000  # declared to stored weights of a sliced module, beyond which a file is not believed
OwnModules = nn.Module | Mapping[str, nn.Module] | None
Folder = str | os.PathLike[str]


def save_decomposition(
    folder: Folder, network: Network, modules: Sequence[ConcernModule], config: DecompositionConfig,
    about: About = NOTHING,
) -> None:  # fmt: skip
    """Write a network and its modules; raises FormatError where something else lies at ``folder``."""
    _save(folder, "decomposition", modules, alone=False, about=about)


def save_module(folder: Folder, module: ConcernModule, about: About = NOTHING) -> None:
    """Write one module with only what it needs; raises FormatError where something else lies at ``folder``."""
    _save(folder, "module", [module], alone=True, about=about)


def save_composition(folder: Folder, composition: Composition, about: About = NOTHING) -> None:
    """Write a composition, each parent once; raises FormatError where something else lies at ``folder``."""
    modules = [module.renamed(label) for label, module in composition.modules_by_label.items()]
    scales = list(composition.calibration.values())
    _save(folder, "composition", modules, alone=False, vote=composition.vote, scales=scales, about=about)


def save_languages(folder: Folder, modules: Mapping[str, ConcernModule], about: About = NOTHING) -> None:
    """Write a translator's modules, each parent once; raises FormatError where something else lies at ``folder``."""
    _save(folder, "translator", [m.renamed(name) for name, m in modules.items()], alone=False, about=about)


def load_modules(
    folder: Folder, kind: Kind | None = None, module: OwnModules = None
) -> tuple[Manifest, list[Network], list[ConcernModule]]:
    """Read any saved folder.

    Args:
        folder: what a ``save`` wrote.
        kind: what is expected there; None: anything.
        module: a fresh instance of the user's own module that a parent is; several parents' by class name.

    Returns:
        the manifest, the parents and the modules.

    Raises:
        FormatError: a file is missing, damaged, of a newer format, or does not fit the others.
    """
    place = Path(os.path.abspath(folder))
    recover(place)
    where = str(place / MANIFEST)
    manifest = parse_manifest(read_file(place, MANIFEST).decode("utf-8", "replace"), where, kind)
    tensors = _tensors(place, manifest, PARENTS)
    bits = _tensors(place, manifest, MODULES)
    try:
        concerns = [_concern(entry, manifest, bits, number) for number, entry in enumerate(manifest.entries)]
        words = {n: _words(m, n, manifest, bits) for n, m in enumerate(manifest.entries) if m.words is not None}
        parents = [_parent(p, n, tensors, concerns, module, words) for n, p in enumerate(manifest.parents)]
        for number, (entry, parent) in enumerate(zip(manifest.parents, parents, strict=True)):
            said = _vocabulary(place, manifest, vocabulary_file(number, target=True), entry.target_vocabulary)
            parent.read_with(_vocabulary(place, manifest, vocabulary_file(number), entry.vocabulary), said)
        modules = _modules(manifest, parents, concerns, bits, words)
    except (FormatError, DataError) as error:
        raise FormatError(f"{place}: {error}") from None
    return manifest, parents, modules


def load_module(folder: Folder, module: OwnModules = None) -> ConcernModule:
    """Read a module that was saved alone.

    Args:
        folder: what its ``save`` wrote.
        module: where its parent is a user's own module: a fresh instance of that class (no code is ever stored).

    Raises:
        FormatError: a file is missing, damaged, of a newer format, or does not fit the instance.
    """
    return load_modules(folder, "module", module)[2][0]


def load_composition(folder: Folder, module: OwnModules = None) -> Composition:
    """Read a composition.

    Args:
        folder: what its ``save`` wrote.
        module: where a parent is a user's own module: a fresh instance of that class; of several, by class name.

    Raises:
        FormatError: a file is missing, damaged, of a newer format, or does not fit the instance.
    """
    manifest, _, modules = load_modules(folder, "composition", module)
    return composition_of(manifest, modules)


def composition_of(manifest: Manifest, modules: Sequence[ConcernModule]) -> Composition:
    """The composition that a folder holds."""
    scales = {entry.label: (entry.temperature, entry.offset) for entry in manifest.modules}
    return Composition({m.label: m for m in modules}, manifest.vote, scales)


def check_folder(folder: Folder) -> list[str]:
    """Make sure that a folder is whole; of a user's own module, whose code it does not hold, its files alone.

    Returns:
        the names of its files.

    Raises:
        FormatError: it is no Unbraid folder, a file is missing or damaged, or one has a name that none of ours has.
    """
    place = Path(os.path.abspath(folder))
    recover(place)
    manifest = parse_manifest(read_file(place, MANIFEST).decode("utf-8", "replace"), str(place / MANIFEST))
    for name, sha256 in manifest.files.items():
        if not is_known(name):
            raise FormatError(f"{place / MANIFEST}: field files: found {name[:60]!r}, which is no file of ours.")
        read_file(place, name, sha256)
    if any(isinstance(parent.spec, TorchSpec) for parent in manifest.parents):
        _tensors(place, manifest, PARENTS)
        _tensors(place, manifest, MODULES)
    else:
        load_modules(place)
    return [MANIFEST, *manifest.files, *([CARD] if (place / CARD).is_file() else [])]


def is_known(name: str) -> bool:
    """Whether a folder of ours may hold a file of this name."""
    return (
        name in (MANIFEST, CARD, RECIPE, PARENTS, MODULES)
        or re.fullmatch(r"vocabulary-\d+(-target)?\.json", name) is not None
    )


def _save(
    folder: Folder,
    kind: Kind,
    modules: Sequence[ConcernModule],
    alone: bool,
    vote: Vote = "margin",
    scales: Sequence[Scale] | None = None,
    about: About = NOTHING,
) -> None:
    parents: list[ParentEntry] = []
    places: dict[str, int] = {}
    weights: dict[str, Tensor] = {}
    entries: list[ModuleEntry] = []
    bits: dict[str, Tensor] = {}
    texts: dict[str, bytes] = {}
    everything = [*modules, *([] if alone else _originals(modules))]
    for number, module in enumerate(everything):
        remnant = is_remnant(module) or (alone and _can_be_sliced(module))
        key = f"{number}" if remnant else module.parent_sha256
        if key not in places:
            places[key] = len(parents)
            own = _only_words(_body_weights(module.body), module.head.words) if remnant else module.parent.weights()
            weights |= {f"{len(parents)}/{name}": t for name, t in own.items()}
            parents.append(_parent_entry(module, number if remnant else None))
            for words, target in ((module.parent.vocabulary, False), (module.parent.target_vocabulary, True)):
                if words is not None:
                    texts[vocabulary_file(len(parents) - 1, target)] = words.to_json().encode()
        scale = UNTOUCHED if scales is None or number >= len(modules) else scales[number]
        shares, shares_head = _lender(everything[:number], module), _shares_head(module, remnant)
        original = next((n for n, m in enumerate(everything) if m is module.original), None)
        entries.append(_module_entry(module, places[key], scale, shares, original, shares_head))
        own = _module_tensors(module, remnant, shares is not None, shares_head)
        bits |= {f"{number}/{name}": t for name, t in own.items()}
    files = {PARENTS: save(_plain(weights)), MODULES: save(_plain(bits)), **texts}
    if about.recipe is not None:
        files[RECIPE] = about.recipe.encode()
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    manifest = Manifest(
        format=FORMAT, unbraid=__version__, kind=kind, files=digests, parents=parents, modules=entries[: len(modules)],
        originals=entries[len(modules) :], vote=vote, scores=plain_scores(about.scores),
    )  # fmt: skip
    described = {MANIFEST: manifest.model_dump_json(indent=1).encode(), CARD: card(manifest, modules, about).encode()}
    write_folder(folder, {**files, **described})  # people edit cards: it has no digest


def is_remnant(module: ConcernModule) -> bool:
    """Whether a module's parent is only what the module itself needs of it."""
    return module.parent_sha256 != module.parent.sha256()


def _can_be_sliced(module: ConcernModule) -> bool:
    """A rolled module is stored as its slices; one of a user's own forward needs that module's other weights anyway."""
    return module.concern.mode is Mode.ROLLED and not isinstance(module.parent.spec, TorchSpec)


def _parent_entry(module: ConcernModule, sliced_by: int | None) -> ParentEntry:
    parent = module.parent
    return ParentEntry(
        sha256=module.parent_sha256,
        labels=list(parent.labels),
        spec=parent.spec,
        sliced_by=sliced_by,
        vocabulary=None if parent.vocabulary is None else parent.vocabulary.padding,
        target_vocabulary=None if parent.target_vocabulary is None else parent.target_vocabulary.padding,
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
    """What fused modules were made from, each once."""
    return list({id(m.original): m.original for m in modules if m.original is not None}.values())


def _lender(earlier: Sequence[ConcernModule], module: ConcernModule) -> int | None:
    """The first module with the very same weights."""
    own = module.weights
    return None if own is None else next((n for n, other in enumerate(earlier) if other.weights is own), None)


def _shares_head(module: ConcernModule, remnant: bool) -> bool:
    """Whether a language's module has its parent's own output columns."""
    words, own, head = module.head.words, module.whole_head, module.parent.head
    if remnant or words is None:
        return False
    return torch.equal(own.weight, head.weight[words]) and torch.equal(own.bias, head.bias[words])


def _module_tensors(module: ConcernModule, remnant: bool, lent: bool, shares_head: bool) -> dict[str, Tensor]:
    tensors = {f"mask/{n}": torch.from_numpy(np.packbits(m)) for n, m in module.concern.kept.items()}
    head = module.head if remnant else module.whole_head
    if not remnant and not lent:  # a remnant's own layers are all that is stored of its parent
        tensors |= {f"layer/{n}/{key}": t for n, own in (module.weights or {}).items() for key, t in own.items()}
    tensors |= {f"bridge/{name}": weight for name, weight in (module.bridges or {}).items()}
    if head.words is not None:
        said = torch.zeros(module.parent.spec.classes, dtype=torch.bool).index_fill(0, head.words.cpu(), True)
        tensors["words"] = torch.from_numpy(np.packbits(said.numpy()))
    return tensors if shares_head else {**tensors, "head.weight": head.weight.detach(), "head.bias": head.bias.detach()}


def _body_weights(body: nn.Module) -> dict[str, Tensor]:
    """Named as the parent's, also where a layer stands inside a Scattered; without bridges, which no parent has."""
    named = {n: p.detach() for n, p in body.named_parameters() if not n.startswith("bridges.")}
    return {f"body.{name.replace('_layer.layer.', '_layer.')}": p for name, p in named.items()}


def _only_words(weights: dict[str, Tensor], words: Tensor | None) -> dict[str, Tensor]:
    """Of the target embedding only the words that a language's module can say."""
    return weights if words is None else weights | {TARGET: weights[TARGET][words]}


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.cpu().contiguous().clone() for name, tensor in tensors.items()}


def _tensors(place: Path, manifest: Manifest, name: str) -> dict[str, Tensor]:
    try:
        return load(read_file(place, name, _digest(place, manifest, name)))
    except SafetensorError as error:
        raise FormatError(f"{place / name}: not a safetensors file ({error}).") from None


def _digest(place: Path, manifest: Manifest, name: str) -> str:
    if name not in manifest.files:
        raise FormatError(f"{place / MANIFEST}: field files: expected {name!r}, found {sorted(manifest.files)}.")
    return manifest.files[name]


def vocabulary_file(parent: int, target: bool = False) -> str:
    """Where a vocabulary of parent number ``parent`` lies, a ``tokenizer.json``: of what it reads or says."""
    return f"vocabulary-{parent}{'-target' if target else ''}.json"


def _vocabulary(place: Path, manifest: Manifest, name: str, padding: Padding | None) -> Vocabulary | None:
    if padding is None:
        return None
    text = read_file(place, name, _digest(place, manifest, name)).decode("utf-8", "replace")
    return Vocabulary.from_json(text, padding, name)


def _concern(entry: ModuleEntry, manifest: Manifest, bits: dict[str, Tensor], number: int) -> Concern:
    spec = manifest.parents[entry.parent].spec
    layers = _layers(spec)
    if set(entry.steps) != set(layers):
        raise FormatError(
            f"module {entry.label!r}: field steps: found {sorted(entry.steps)}, expected {sorted(layers)}."
        )
    kept = {}
    shell = Concern({}, entry.steps, entry.mode, entry.by_gates, entry.edges)
    for name, layer in layers.items():
        shape = (len(layer.cell.gates), layer.units) if layer.cell and shell.has_gates(layer) else (layer.units,)
        if entry.mode is Mode.UNROLLED and (layer.cell is not None or entry.steps[name] > 1):
            shape = (entry.steps[name], *shape)
        size = int(np.prod(shape))
        packed = _tensor(bits, f"{number}/mask/{name}", ((size + 7) // 8,), torch.uint8)
        kept[name] = np.unpackbits(packed.numpy(), count=size).astype(bool).reshape(shape)
    return Concern(kept, entry.steps, entry.mode, entry.by_gates, entry.edges)


def _layers(spec: Spec) -> Mapping[str, Layer]:
    """A parent's layers, without weights."""
    if not isinstance(spec, TorchSpec):
        return Network.skeleton(spec).layers
    with torch.device("meta"):
        return {p.name: Layer(p.name, RecurrentLayer(p.cell, p.inputs, p.units)) for p in spec.layers}


def _parent(
    entry: ParentEntry, number: int, tensors: dict[str, Tensor], concerns: list[Concern], module: OwnModules,
    words: Mapping[int, Tensor],
) -> Network:  # fmt: skip
    prefix = f"{number}/"
    own = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    if entry.sliced_by is not None and not isinstance(entry.spec, TorchSpec):
        full = _expanded(entry.spec, own, concerns[entry.sliced_by], words.get(entry.sliced_by))
        return Network(entry.spec, full, entry.labels)
    instance = module
    if isinstance(module, Mapping):
        instance = module.get(entry.spec.module) if isinstance(entry.spec, TorchSpec) else None
    assert not isinstance(instance, Mapping)
    network = Network(entry.spec, own, entry.labels, instance)
    if network.sha256() != entry.sha256:
        raise FormatError(f"parent {number}: field sha256: the weights are not those that the folder names.")
    return network


def _modules(
    manifest: Manifest,
    parents: list[Network],
    concerns: list[Concern],
    bits: dict[str, Tensor],
    words: Mapping[int, Tensor],
) -> list[ConcernModule]:
    """The modules; their originals are made first."""
    weights: list[LayerWeights | None] = []
    for number, entry in enumerate(manifest.entries):
        own = None
        if entry.compact and manifest.parents[entry.parent].sliced_by is None:
            own = _layer_weights(bits, number, parents[entry.parent]) if entry.shares is None else weights[entry.shares]
        weights.append(own)
    made: dict[int, ConcernModule] = {}
    count = len(manifest.modules)
    for number in [*range(count, len(manifest.entries)), *range(count)]:
        origin = manifest.entries[number].original
        original = None if origin is None else made[origin]
        made[number] = _module(number, manifest, parents, concerns, bits, weights[number], original, words.get(number))
    return [made[number] for number in range(count)]


def _module(
    number: int,
    manifest: Manifest,
    parents: list[Network],
    concerns: list[Concern],
    bits: dict[str, Tensor],
    weights: LayerWeights | None,
    original: ConcernModule | None,
    words: Tensor | None,
) -> ConcernModule:
    entry = manifest.entries[number]
    parent, concern = parents[entry.parent], concerns[number]
    remnant = manifest.parents[entry.parent].sliced_by is not None
    features = _features(parent, concern) if remnant else None
    width = parent.spec.features if features is None else len(features)
    weight = bits.get(f"{number}/head.weight")
    rows = 0 if weight is None or weight.dim() != 2 else weight.shape[0]
    if words is not None:
        rows = len(words)
        if entry.shares_head:
            own = {"weight": parent.head.weight[words], "bias": parent.head.bias[words]}
            bits = bits | {f"{number}/head.{key}": t for key, t in own.items()}
    dtype = parent.head.weight.dtype
    weight = _tensor(bits, f"{number}/head.weight", (max(rows, 1), width), dtype)
    bias = _tensor(bits, f"{number}/head.bias", (max(rows, 1),), dtype)
    if not (torch.isfinite(weight).all() and torch.isfinite(bias).all()):
        raise FormatError(f"module {entry.label!r}: its head holds NaN or infinite values.")
    if features is not None:
        weight = torch.zeros(rows, parent.spec.features).index_copy(1, features, weight)
    head = Head(weight, bias, entry.idle, words)
    sha256 = manifest.parents[entry.parent].sha256
    bridges = _bridges(entry, number, parent, bits)
    return ConcernModule(
        parent, entry.index, concern, head, entry.config, entry.label, sha256, weights, original, bridges
    )


def _layer_weights(bits: dict[str, Tensor], number: int, parent: Network) -> dict[str, dict[str, Tensor]]:
    """A compact module's own tensors; the module checks their shapes."""
    found: dict[str, dict[str, Tensor]] = {}
    for name in parent.layers:
        prefix = f"{number}/layer/{name}/"
        found[name] = {key.removeprefix(prefix): t for key, t in bits.items() if key.startswith(prefix)}
    return found


def _bridges(entry: ModuleEntry, number: int, parent: Network, bits: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """Weights between encoder and decoder; the module checks their shapes."""
    if not entry.bridged:
        return None
    if not isinstance(parent.spec, EncoderDecoderSpec) or entry.mode is Mode.UNROLLED:
        raise FormatError(
            f"module {entry.label!r}: field bridged: found true, expected a rolled module of a translator."
        )
    prefix = f"{number}/bridge/"
    return {key.removeprefix(prefix): t for key, t in bits.items() if key.startswith(prefix)}


def _words(entry: ModuleEntry, number: int, manifest: Manifest, bits: dict[str, Tensor]) -> Tensor:
    """Which of the parent's output columns a language's module keeps, ascending."""
    spec = manifest.parents[entry.parent].spec
    if not isinstance(spec, EncoderDecoderSpec):
        raise FormatError(f"module {entry.label!r}: field words: found {entry.words} for a network without any.")
    packed = _tensor(bits, f"{number}/words", ((spec.classes + 7) // 8,), torch.uint8)
    found = np.flatnonzero(np.unpackbits(packed.numpy(), count=spec.classes))
    if len(found) != entry.words:
        raise FormatError(f"module {entry.label!r}: field words: found {len(found)} words, expected {entry.words}.")
    return torch.from_numpy(found)


def _expanded(
    spec: NetworkSpec | EncoderDecoderSpec, own: dict[str, Tensor], concern: Concern, words: Tensor | None
) -> dict[str, Tensor]:
    """A sliced module's weights in their parent's places, zeros elsewhere.

    Where each weight belongs is found by slicing a network whose weights are their own positions.
    """
    positions = Network.skeleton(spec)
    declared = sum(p.numel() for p in positions.parameters())
    if declared > SPARSEST * sum(t.numel() for t in own.values()) + 10**6:
        raise FormatError(f"field spec: declares {declared} weights, the file holds far fewer.")
    for name, parameter in list(positions.named_parameters()):
        place = nn.Parameter(torch.arange(parameter.numel()).view(parameter.shape), requires_grad=False)
        positions.get_submodule(name.rpartition(".")[0]).register_parameter(name.rpartition(".")[2], place)
    kept = {name: kept_indices(concern, layer) for name, layer in positions.layers.items()}
    small = _only_words(_body_weights(sliced(positions.body, kept)[0]), words)
    full = {}
    for name, parameter in positions.named_parameters():
        values = torch.zeros(parameter.shape)
        if name in small:
            found = _tensor(own, name, tuple(small[name].shape), torch.float32)
            values.view(-1)[small[name].flatten()] = found.flatten()
        full[name] = values
    extra = sorted(set(own) - set(small))
    if extra:
        raise FormatError(f"weights {extra} belong to no layer; expected only {sorted(small)}.")
    return full


def _features(parent: Network, concern: Concern) -> Tensor | None:
    kept = {name: kept_indices(concern, layer) for name, layer in parent.layers.items()}
    return sliced(parent.body, kept)[1]


def _tensor(tensors: dict[str, Tensor], name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    if name not in tensors:
        raise FormatError(f"tensor {name!r} is missing; expected shape {shape}.")
    found = tensors[name]
    if tuple(found.shape) != shape or found.dtype != dtype:
        raise FormatError(f"tensor {name!r} is {found.dtype} {tuple(found.shape)}, expected {dtype} {shape}.")
    return found

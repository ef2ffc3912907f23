"""Make parents and modules from the entries and tensors of a folder; raise FormatError if they do not fit.

Shapes: H units, F features, R head rows, K modules.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from unbraid.config import Mode
from unbraid.errors import FormatError, UnbraidError, quoted
from unbraid.modules.building import LayerWeights
from unbraid.modules.concern import Concern, kept_indices
from unbraid.modules.module import ConcernModule
from unbraid.modules.voting.calibration import LARGEST
from unbraid.modules.voting.referee import Referee
from unbraid.networks.heads import Head
from unbraid.networks.layers import sliced
from unbraid.networks.network import Network
from unbraid.networks.pytorch.codeless import codeless
from unbraid.networks.snapshot import address
from unbraid.networks.spec import needs_module
from unbraid.networks.torch_spec import TorchSpec
from unbraid.storage.expanding import expanded
from unbraid.storage.layout import MODULES, PARENTS
from unbraid.storage.manifest import Manifest, ParentEntry
from unbraid.storage.own_modules import ParentModules
from unbraid.storage.shells import Budget, Shell, check_steps, module_tensors, read_concern, read_words, shell_of
from unbraid.storage.tensor_files import TensorFile, declared_tensors, loaded


@dataclass
class Content:
    """The content of the files of a folder, checked as far as possible without the code of a user's module.

    Attributes:
        manifest: the content of ``unbraid.json``.
        shells: structures of the parents.
        parents: for each parent, name -> tensor.
        modules: for each module and original, name -> tensor.
        concerns: the kept hidden units of each of these.
        words: the output columns that each of these keeps; None for modules that are not of a language.
        budget: memory for all content.
        features: parent and kept hidden units -> indices of the kept features, computed once.
    """

    manifest: Manifest
    shells: list[Shell]
    parents: list[dict[str, Tensor]]
    modules: list[dict[str, Tensor]]
    concerns: list[Concern]
    words: list[Tensor | None]
    budget: Budget
    features: dict[tuple[object, ...], Tensor | None] = field(default_factory=dict)


def read_content(manifest: Manifest, files: dict[str, bytes]) -> Content:
    """Read the tensors of a folder; none may be missing or unknown. Their bytes are removed from ``files``."""
    half = manifest.stored_as == "float16"
    budget = Budget((len(files[PARENTS]) + len(files[MODULES])) * (2 if half else 1))
    shells = [shell_of(p, n, len(files[PARENTS]) * (2 if half else 1), budget) for n, p in enumerate(manifest.parents)]
    entries = manifest.entries
    stored = TensorFile(files.pop(MODULES), MODULES, len(entries), half)
    for number, entry in enumerate(entries):
        check_steps(entry, shells[entry.parent])
        alone = manifest.parents[entry.parent].sliced_by is not None
        expected = module_tensors(entry, shells[entry.parent], alone, stored.declared[number])
        stored.check(number, expected)
    modules = stored.load()
    own = [shells[entry.parent] for entry in entries]
    concerns = [read_concern(e, s, t, budget) for e, s, t in zip(entries, own, modules, strict=True)]
    words = [read_words(e, s, t) for e, s, t in zip(entries, own, modules, strict=True)]
    _check_slices(manifest, concerns, words)
    weights = TensorFile(files.pop(PARENTS), PARENTS, len(shells), half)
    for number, (parent, shell) in enumerate(zip(manifest.parents, shells, strict=True)):
        if shell.skeleton is not None and parent.sliced_by is None:
            weights.check(number, shell.weights())
    return Content(manifest, shells, weights.load(), modules, concerns, words, budget)


def _check_slices(manifest: Manifest, concerns: Sequence[Concern], words: Sequence[Tensor | None]) -> None:
    """Raise FormatError if a module of a sliced parent keeps other nodes or words than the stored slices."""
    for entry, concern, own in zip(manifest.entries, concerns, words, strict=True):
        sliced_by = manifest.parents[entry.parent].sliced_by
        if sliced_by is None:
            continue
        masks, expected = concern.kept, words[sliced_by]
        same = all(np.array_equal(mask, masks[name]) for name, mask in concerns[sliced_by].kept.items())
        if not same or (own is not None and expected is not None and not torch.equal(own, expected)):
            raise FormatError(
                f"module {quoted(entry.label)!r}: it keeps other nodes than the stored slices of module {sliced_by}."
            )


def rebuilt_parents(content: Content, own: ParentModules) -> list[Network]:
    """Make the parents. ``own`` has the instances of users' PyTorch modules."""
    return [_parent(content, number, own) for number in range(len(content.shells))]


def _parent(content: Content, number: int, own: ParentModules) -> Network:
    entry, shell, weights = content.manifest.parents[number], content.shells[number], content.parents[number]
    if entry.sliced_by is not None:
        assert shell.skeleton is not None
        full = expanded(shell.skeleton, weights, content.concerns[entry.sliced_by], content.words[entry.sliced_by])
        return Network(entry.spec, full, entry.labels)
    if isinstance(entry.spec, TorchSpec) and needs_module(entry.spec):
        return _own_parent(entry, entry.spec, number, weights, own)
    network = Network(entry.spec, weights, entry.labels)
    _check_digest(network, entry, number)
    return network


def _own_parent(
    entry: ParentEntry, spec: TorchSpec, number: int, weights: dict[str, Tensor], own: ParentModules
) -> Network:
    """Make a user's PyTorch module with the stored weights, or a codeless one if there is no code."""
    instance = own.instance(number)
    try:
        used = codeless(spec, weights, entry.facts) if instance is None else instance
        network = Network(spec, weights, entry.labels, used)
    except UnbraidError as error:
        if instance is None:
            raise FormatError(f"parent {number}: {error}") from None
        raise own.refusal(f"parent {number}: {error}") from None
    if entry.facts is not None or instance is None:
        network.facts = entry.facts
    _check_digest(network, entry, number)
    _check_own(network, entry, number)
    return network


def _check_digest(network: Network, entry: ParentEntry, number: int) -> None:
    if network.sha256() != entry.sha256:
        raise FormatError(f"parent {number}: field sha256: it does not match the weights.")


def _check_own(network: Network, entry: ParentEntry, number: int) -> None:
    """Check a user's PyTorch module against the manifest; raise FormatError if they differ."""
    assert isinstance(entry.spec, TorchSpec)
    found, expected = tuple(network.head.weight.shape), (entry.spec.classes, entry.spec.features)
    if found != expected:
        raise FormatError(f"parent {number}: its output layer is {found}, field spec states {expected}.")
    for layer in entry.spec.layers:
        if network.layers[layer.name].cell != layer.cell:
            raise FormatError(f"parent {number}: layer {quoted(layer.name)!r} has another cell than in field spec.")


def rebuilt_modules(content: Content, parents: Sequence[Network]) -> list[ConcernModule]:
    """Make the modules, after their originals."""
    manifest = content.manifest
    entries, count = manifest.entries, len(manifest.modules)
    weights = _layer_weights(content, parents)
    shared = [{address(p) for p in parent.parameters()} for parent in parents]
    made: dict[int, ConcernModule] = {}
    bodies: dict[Hashable, ConcernModule] = {}
    for number in [*range(count, len(entries)), *range(count)]:
        origin = entries[number].original
        parent = entries[number].parent
        original = None if origin is None else made[origin]
        key = _body_key(content, number, weights[number])
        like = None if key is None else bodies.get(key)
        one = _module(content, number, parents[parent], weights[number], original, like)
        if like is None:
            content.budget.spend(sum(p.nbytes for p in one.body.parameters() if address(p) not in shared[parent]))
        if key is not None:
            bodies.setdefault(key, one)
        made[number] = one
    return [made[number] for number in range(count)]


def _layer_weights(content: Content, parents: Sequence[Network]) -> list[LayerWeights | None]:
    """Return the weights of the layers of each module; modules that share weights get the same object."""
    found: list[LayerWeights | None] = []
    for number, entry in enumerate(content.manifest.entries):
        own: LayerWeights | None = None
        if entry.shares is not None:
            own = found[entry.shares]
            mine, lent = content.concerns[number].kept, content.concerns[entry.shares].kept
            if any(not np.array_equal(mask, lent[name]) for name, mask in mine.items()):
                raise FormatError(
                    f"module {quoted(entry.label)!r}: field shares: entry {entry.shares} has other nodes."
                )
        elif entry.compact and content.manifest.parents[entry.parent].sliced_by is None:
            layers = parents[entry.parent].layers
            own = {
                name: {
                    key: _of_type(content.modules[number][f"layer/{name}/{key}"], weight.dtype, f"layer {name}, {key}")
                    for key, weight in layer.module.named_parameters()
                }
                for name, layer in layers.items()
            }
        found.append(own)
    return found


def _body_key(content: Content, number: int, weights: LayerWeights | None) -> Hashable:
    """Return a key that modules of one body share; None for a module that has a body of its own.

    They are stored with the same weights, are fused without inputs, or are one sliced module under several labels.
    """
    entry, masks = content.manifest.entries[number], content.concerns[number].kept.values()
    if weights is not None:
        return (entry.parent, id(weights), *(mask.tobytes() for mask in masks))
    fused = entry.original is not None and entry.mode is Mode.ROLLED
    if fused or content.manifest.parents[entry.parent].sliced_by is not None:
        return (entry.parent, *(mask.tobytes() for mask in masks))
    return None


def _module(
    content: Content,
    number: int,
    parent: Network,
    weights: LayerWeights | None,
    original: ConcernModule | None,
    like: ConcernModule | None,
) -> ConcernModule:
    entry, tensors = content.manifest.entries[number], content.modules[number]
    concern, words = content.concerns[number], content.words[number]
    head = _head(content, number, parent)
    bridges = None
    if entry.bridged:
        bridges = {name.removeprefix("bridge/"): t for name, t in tensors.items() if name.startswith("bridge/")}
    sha256 = content.manifest.parents[entry.parent].sha256
    return ConcernModule(
        parent, entry.index, concern, Head(*head, entry.idle, words), entry.config, entry.label, sha256, weights,
        original, bridges, like,
    )  # fmt: skip


def _head(content: Content, number: int, parent: Network) -> tuple[Tensor, Tensor]:
    """Return weight (R, F) and bias (R,) of the output layer of a module, over all features of its parent."""
    entry, tensors = content.manifest.entries[number], content.modules[number]
    if entry.shares_head:
        words = content.words[number]
        assert words is not None
        return parent.head.weight[words], parent.head.bias[words]
    dtype, where = parent.head.weight.dtype, f"module {quoted(entry.label)!r}"
    weight, bias = (_of_type(tensors[f"head.{key}"], dtype, f"{where}: head.{key}") for key in ("weight", "bias"))
    if not (torch.isfinite(weight).all() and torch.isfinite(bias).all()):
        raise FormatError(f"{where}: its head holds NaN or infinite values.")
    if content.manifest.parents[entry.parent].sliced_by is None and weight.shape[1] == parent.spec.features:
        return weight, bias
    features = _features(content, number)
    width = parent.spec.features if features is None else len(features)
    if weight.shape[1] != width:
        raise FormatError(f"{where}: its head reads {weight.shape[1]} features, expected {width}.")
    if features is not None:
        content.budget.spend(4 * len(weight) * parent.spec.features)
        weight = torch.zeros(len(weight), parent.spec.features).index_copy(1, features, weight)
    return weight, bias


def _features(content: Content, number: int) -> Tensor | None:
    """Return the indices of the features of the parent that a rolled module keeps; None for all."""
    skeleton = content.shells[content.manifest.entries[number].parent].skeleton
    assert skeleton is not None
    kept = {name: kept_indices(content.concerns[number], layer) for name, layer in skeleton.layers.items()}
    key = (content.manifest.entries[number].parent, *(indices.numpy().tobytes() for indices in kept.values()))
    if key not in content.features:
        content.features[key] = sliced(skeleton.body, kept)[1]
    return content.features[key]


def _of_type(found: Tensor, dtype: torch.dtype, what: str) -> Tensor:
    if found.dtype != dtype:
        raise FormatError(f"{quoted(what)}: found {found.dtype}, expected {dtype} as the parent has.")
    return found


def rebuilt_referee(content: bytes, where: str) -> Referee:
    """Make the referee of a composition: weight (F, K) and bias (K,) of any size."""
    declared = declared_tensors(content, where, ("F32",))
    shapes = {name: one.shape for name, one in declared.items()}
    if set(shapes) != {"weight", "bias"} or len(shapes["weight"]) != 2 or shapes["bias"] != shapes["weight"][1:]:
        raise FormatError(f"{where}: found {quoted(shapes)}, expected weight (F, K) and bias (K,).")
    tensors = loaded(content, where)
    for name, tensor in tensors.items():
        if not (tensor.abs() <= LARGEST).all():
            raise FormatError(
                f"{where}: {name}: found NaN or values above {LARGEST:g}, expected finite values up to this limit."
            )
    return Referee(tensors["weight"], tensors["bias"])

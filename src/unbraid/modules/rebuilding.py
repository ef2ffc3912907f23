"""Parents and modules from the entries and tensors of a folder; what does not fit raises FormatError."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from unbraid.config import Mode
from unbraid.errors import FormatError
from unbraid.modules.calibration import LARGEST
from unbraid.modules.concern import Concern, kept_indices
from unbraid.modules.layout import body_weights, only_words
from unbraid.modules.manifest import Manifest, ModuleEntry, ParentEntry
from unbraid.modules.module import ConcernModule, LayerWeights
from unbraid.modules.referee import Referee
from unbraid.networks.heads import Head
from unbraid.networks.layers import Layer, sliced
from unbraid.networks.network import Network
from unbraid.networks.recurrent import RecurrentLayer
from unbraid.networks.spec import EncoderDecoderSpec, NetworkSpec, Spec, TorchSpec

SPARSEST = 1000  # declared to stored weights of a sliced module, beyond which a file is not believed


OwnModules = nn.Module | Mapping[str, nn.Module] | None


def rebuilt_concern(entry: ModuleEntry, manifest: Manifest, bits: dict[str, Tensor], number: int) -> Concern:
    """What module ``number`` keeps."""
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


def rebuilt_referee(tensors: Mapping[str, Tensor]) -> Referee:
    """A composition's referee, of whatever size."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if set(shapes) != {"weight", "bias"} or len(shapes["weight"]) != 2 or shapes["bias"] != shapes["weight"][1:]:
        raise FormatError(f"found {str(shapes)[:120]}, expected weight (F, K) and bias (K,).")
    weight, bias = tensors["weight"], tensors["bias"]
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise FormatError(f"{name}: found {tensor.dtype}, expected float32.")
        if not (tensor.abs() <= LARGEST).all():
            raise FormatError(f"{name}: found NaN or values above {LARGEST:g}, expected finite ones up to that.")
    return Referee(weight, bias)


def _layers(spec: Spec) -> Mapping[str, Layer]:
    """A parent's layers, without weights."""
    if not isinstance(spec, TorchSpec):
        return Network.skeleton(spec).layers
    with torch.device("meta"):
        return {p.name: Layer(p.name, RecurrentLayer(p.cell, p.inputs, p.units)) for p in spec.layers}


def rebuilt_parent(
    entry: ParentEntry, number: int, tensors: dict[str, Tensor], concerns: list[Concern], module: OwnModules,
    words: Mapping[int, Tensor],
) -> Network:  # fmt: skip
    """Parent ``number``; of a user's own module with ``module``, whose weights are not believed either."""
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


def rebuilt_modules(
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
    bodies: dict[Hashable, ConcernModule] = {}  # modules that share weights share a body
    count = len(manifest.modules)
    for number in [*range(count, len(manifest.entries)), *range(count)]:
        origin, own = manifest.entries[number].original, weights[number]
        original = None if origin is None else made[origin]
        body = _body_key(manifest.entries[number], concerns[number], own)
        found = _module(
            number, manifest, parents, concerns, bits, own, original, words.get(number), bodies.get(body)
        )  # fmt: skip
        made[number] = found
        if body is not None:
            bodies.setdefault(body, found)
    return [made[number] for number in range(count)]


def _body_key(entry: ModuleEntry, concern: Concern, weights: LayerWeights | None) -> Hashable:
    """The same for modules of one body: those that were stored with the same weights, or fused without inputs."""
    if weights is not None:
        return (entry.parent, id(weights), *(mask.tobytes() for mask in concern.kept.values()))
    if entry.original is not None and entry.mode is Mode.ROLLED:
        return (entry.parent, *(mask.tobytes() for mask in concern.kept.values()))
    return None


def _module(
    number: int,
    manifest: Manifest,
    parents: list[Network],
    concerns: list[Concern],
    bits: dict[str, Tensor],
    weights: LayerWeights | None,
    original: ConcernModule | None,
    words: Tensor | None,
    like: ConcernModule | None,
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
        parent, entry.index, concern, head, entry.config, entry.label, sha256, weights, original, bridges, like
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


def rebuilt_words(entry: ModuleEntry, number: int, manifest: Manifest, bits: dict[str, Tensor]) -> Tensor:
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
    small = only_words(body_weights(sliced(positions.body, kept)[0]), words)
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

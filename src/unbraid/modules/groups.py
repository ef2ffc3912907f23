"""Group the modules of a composition, so that computation that modules of one parent have in common runs once.

Shapes: N examples, T timesteps, F features, K modules of a group, k of them over one body.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from unbraid.config import Mode
from unbraid.modules.concern import removals
from unbraid.modules.module import ConcernModule
from unbraid.modules.small_batches import SmallBatches, small_batches
from unbraid.networks.heads import JoinedHeads
from unbraid.networks.inputs import Inputs, leaves, run_batched
from unbraid.networks.joined import NotJoinable
from unbraid.networks.layers import pruned
from unbraid.networks.removal import Removal
from unbraid.networks.snapshot import own_copy, tables, unchanged
from unbraid.networks.spec import NetworkSpec
from unbraid.networks.stage_spec import DenseSpec, EmbeddingSpec, RecurrentSpec
from unbraid.networks.stages import PrunedDense
from unbraid.networks.torch_spec import TorchSpec

ROWS = 4096  # rows of one batch, summed over the modules that run in it


class Evidence(NamedTuple):
    """The inputs of a referee for N examples with one decision each.

    Attributes:
        margins: (N, k); with one decision per timestep, the largest margin over the timesteps.
        features: for each module the inputs of its output layer (N, F), averaged over timesteps.
        read: blocks (N, D): the inputs of the first layer that modules prune, averaged over timesteps, and the share of
            unknown words (N, 1) if the vocabulary has an index for them.
    """

    margins: Any
    features: list[Any]
    read: list[Any]


class Lane(nn.Module):
    """One body and the modules that use its features.

    Args:
        members: place in the composition -> module. Either rolled modules that share a body, or unrolled modules with
            equal weights, which run in one batch with their own masks.

    Attributes:
        places: positions of the modules in the composition.
        share: largest keep ratio of a layer.
        side_by_side: whether each module has its own features, (k*N, ...), module by module.
    """

    def __init__(self, members: Mapping[int, ConcernModule]) -> None:
        super().__init__()
        self.places, modules = list(members), list(members.values())
        self.heads = nn.ModuleList(m.head for m in modules)
        self.body = modules[0].body
        self.share = max((float(nodes.mean()) for nodes in modules[0].kept_nodes.values()), default=1.0)
        self.side_by_side = len(modules) > 1 and modules[0].concern.mode is Mode.UNROLLED
        self.joined = None
        self._bodies = tuple(m.body for m in modules)  # no submodules: only the masks of the first one run
        if self.side_by_side:
            self.body = _side_by_side(modules)
        elif len(modules) > 1:
            self.joined = JoinedHeads([m.head for m in modules])

    def holds(self) -> bool:
        """Return whether the weights of the modules are unchanged since the lane was made."""
        if self.joined is not None and not self.joined.holds(list(self.heads)):  # type: ignore[arg-type]  # all are heads
            return False
        return all(_same_weights(body, self.body) for body in self._bodies)

    def link(self) -> None:
        """Share the memory of equal weights again, after the modules were moved or copied."""
        if self.joined is not None:
            self.joined = JoinedHeads(list(self.heads))  # type: ignore[arg-type]  # all are heads
        if self.side_by_side:
            lazy, ours = tables(self.body), _weights(self.body)
            for body in self._bodies:
                theirs = _weights(body)
                both = [name for name in lazy if name in theirs and name in ours]
                share_memory([theirs[name] for name in both], [ours[name] for name in both])

    def forward(self, signal: Any) -> Tensor:
        """Compute the margins (N, [T,] k) from the result of the opening of the body."""
        return self.margins(self.features(signal))

    def features(self, signal: Any) -> Tensor:
        """Compute the features, (N, [T,] F), or (k, N, [T,] F) where each module has its own."""
        features: Tensor = self.body.rest(signal)  # type: ignore[operator]  # every body has one
        return features if self.joined is not None else features.unflatten(0, (len(self.heads), -1))

    def margins(self, features: Tensor) -> Tensor:
        """Compute the margins (N, [T,] k) from the features."""
        if self.joined is not None:
            return self.joined(features)
        margins = [head.margin(features[k]) for k, head in enumerate(self.heads)]  # type: ignore[operator]  # a Head
        return torch.stack(margins, dim=-1)


class Group(nn.Module):
    """Modules of one parent that read the same batches.

    Args:
        lanes: for each body, place in the composition -> module.
    """

    def __init__(self, lanes: Iterable[Mapping[int, ConcernModule]]) -> None:
        super().__init__()
        lanes = list(lanes)
        self.places = [place for lane in lanes for place in lane]
        self._members = tuple(module for lane in lanes for module in lane.values())  # not submodules: the heads are
        self.lanes = nn.ModuleList(Lane(lane) for lane in lanes)
        self._openings = tuple(_opening(lane.body) for lane in self._lanes)
        self._small: SmallBatches | None = None
        self._joinable = len(lanes) > 1 and len(lanes) == len(self.places)  # each body has one module

    def holds(self) -> bool:
        """Return whether the weights of common computation are still equal, so that it can run once."""
        first, *others = [_own(parts) for parts in self._openings]
        return all(_alike(first, other) for other in others) and all(lane.holds() for lane in self._lanes)

    def link(self) -> None:
        """Share the memory of equal weights again, after the modules were moved or copied."""
        first, *others = [_own(parts) for parts in self._openings]
        for other in others:
            share_memory(other, first)  # embeddings: see unbraid.networks.snapshot on what may share memory
        for lane in self._lanes:
            lane.link()

    def forward(self, x: Any) -> Tensor:
        """Compute the margins, (N, [T,] K)."""
        signal = self._opening(x)
        if (found := self._joined_features(signal)) is not None and self._small is not None:
            return self._small.margins(found)
        return torch.cat([lane(signal) for lane in self.lanes], dim=-1)

    def evidence(self, x: Any) -> Evidence:
        """Compute the margins and the other inputs of a referee."""
        signal = self._opening(x)
        margins, features = [], []
        joint = self._joined_features(signal)
        if joint is not None and self._small is not None:
            margins, features = [self._small.margins(joint)], list(joint)
        for lane in self._lanes if joint is None else ():
            found = lane.features(signal)
            margins.append(lane.margins(found))
            features += [found] * len(lane.heads) if lane.joined is not None else list(found)
        joined = torch.cat(margins, dim=-1)
        best = joined if joined.dim() == 2 else joined.nan_to_num(-torch.inf).amax(dim=1)
        if not self._has_stages:
            return Evidence(best, [_averaged(f, _spoken(f)) for f in features], self._unknown(x))
        return Evidence(best, [_averaged(f, signal[1]) for f in features], [_averaged(*signal), *self._unknown(x)])

    def margins(self, x: Any) -> np.ndarray:
        """Run :meth:`forward` over all examples in batches; raise DataError if inputs do not fit."""
        return self._batched(self, self.checked(x))

    def checked(self, x: Any) -> Inputs:
        """Check the inputs for all modules; raise DataError if they do not fit."""
        first = self._members[0]  # all were made for the same timesteps, and are on one device
        inputs = first.parent.check(x)
        first.check_steps(inputs)
        return inputs

    def all_evidence(self, inputs: Inputs) -> Evidence:
        """Run :meth:`evidence` over all examples in batches; returns arrays."""
        widths: list[int] = []

        def side_by_side(batch: Any) -> Tensor:
            found = self.evidence(batch)
            blocks = [found.margins, *found.features, *found.read]
            widths[:] = [block.shape[1] for block in blocks]
            return torch.cat(blocks, dim=1)

        joined = self._batched(side_by_side, inputs)
        margins, *blocks = np.split(joined, np.cumsum(widths)[:-1], axis=1)
        return Evidence(margins, blocks[: len(self.places)], blocks[len(self.places) :])

    @property
    def _lanes(self) -> list[Lane]:
        return list(self.lanes)  # type: ignore[arg-type]  # all are lanes

    @property
    def feature_sizes(self) -> list[int]:
        """Sizes F of the features of each module, see :attr:`Evidence.features`."""
        return [module.head.weight.shape[1] for module in self._members]

    @property
    def read_sizes(self) -> list[int]:
        """Sizes D of the blocks of :attr:`Evidence.read`."""
        spec = self._members[0].parent.spec
        stages = spec.stages if isinstance(spec, NetworkSpec) else []
        start = _start(self._members[0])
        first = [stage.inputs for stage in stages[start : start + 1] if isinstance(stage, RecurrentSpec | DenseSpec)]
        return [*first, *([1] if self._tells_unknown else [])]

    def _opening(self, x: Any) -> Any:
        signal = self._lanes[0].body.opening(x)  # type: ignore[operator]  # every body has one
        if len(self.lanes) > 1 and self._has_stages and signal[0].dim() == 3:
            signal = (_by_timesteps(signal[0]), *signal[1:])
        return signal

    def _small_batches(self, signal: Any) -> SmallBatches | None:
        """Return the joined modules if the batch is so small that they are faster; they are made at first use."""
        if not self._joinable or torch.compiler.is_compiling():
            return None
        if self._small is None or not self._small.holds():
            with torch.inference_mode(False):
                self._small = small_batches(self._members)
            self._joinable = self._small is not None
        count = self._lanes[0].body.count(signal)  # type: ignore[operator]  # every body has one
        return self._small if self._small is not None and count <= self._small.largest else None

    def _joined_features(self, signal: Any) -> Tensor | None:
        """Compute the features of all modules at once, (K, N, [T,] F), if the batch is small enough for that."""
        small = self._small_batches(signal)
        try:
            return None if small is None else small.features(signal)
        except NotJoinable:
            self._joinable, self._small = False, None
            return None

    @property
    def _has_stages(self) -> bool:
        """Whether the opening of the body returns values and a mask. For a PyTorch module it returns the inputs."""
        return isinstance(self._members[0].parent.spec, NetworkSpec)

    def _batched(self, function: Callable[[Any], Tensor], inputs: Inputs) -> np.ndarray:
        parent, device = self._members[0].parent, self._members[0].head.weight.device
        return run_batched(function, inputs, device, self._batch(), decided=not parent.io.many_outputs)

    def _unknown(self, x: Any) -> list[Tensor]:
        """Compute the share of unknown words, (N, 1), if the vocabulary has an index for them."""
        if not self._tells_unknown:
            return []
        padding = self._members[0].parent.vocabulary.padding  # type: ignore[union-attr]  # so there is one
        spec = self._members[0].parent.spec
        x = next(leaf for leaf in leaves(x) if isinstance(leaf, Tensor) and leaf.dim())
        if isinstance(spec, TorchSpec) and spec.batch_axis:
            x = x.transpose(0, 1)
        words = (x != padding.index).sum(dim=1, keepdim=True).clamp(min=1)
        return [(x == padding.unknown).sum(dim=1, keepdim=True) / words]

    @property
    def _tells_unknown(self) -> bool:
        parent = self._members[0].parent
        if parent.vocabulary is None or parent.vocabulary.padding.unknown is None:
            return False
        spec = parent.spec
        return list(spec.axes) == [2] if isinstance(spec, TorchSpec) else isinstance(spec.stages[0], EmbeddingSpec)

    def _batch(self) -> int:
        """Choose the batch size: about the memory that the parent needs for 512 examples, so more for narrow layers."""
        copies = max(len(lane.heads) if lane.side_by_side else 1 for lane in self._lanes)
        narrow = len(self.lanes) > 1 and max(lane.share for lane in self._lanes) <= 0.5
        return max(32, ROWS // max(copies, 4 if narrow else 8))


def _averaged(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Average values (N, [T,] F) over the timesteps that the mask (N, T) includes: (N, F)."""
    values = values.nan_to_num(0.0, 0.0, 0.0)
    if values.dim() == 2:
        return values
    if mask is None or mask.shape != values.shape[:2]:
        return values.mean(dim=1)
    counted = mask.unsqueeze(-1).to(values.dtype)
    return (values * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)


def _spoken(features: Tensor) -> Tensor | None:
    """Mark the valid timesteps of a PyTorch module, (N, T): packed sequences are padded with zeros at the end."""
    return None if features.dim() == 2 else (features.isfinite() & (features != 0)).any(dim=-1)


def _by_timesteps(values: Tensor) -> Tensor:
    """Store (N, T, D) timestep by timestep. The kernels of all modules need this order; now it is copied once."""
    return values.transpose(0, 1).contiguous().transpose(0, 1)


def grouped(modules: Sequence[ConcernModule]) -> list[Group]:
    """Make the groups of a composition from its modules, in their order.

    Modules of one parent are in one group if the weights of their common computation are equal. Modules that were
    trained separately run separately.
    """
    found: dict[Hashable, list[list[dict[int, ConcernModule]]]] = {}
    for place, module in enumerate(modules):
        alike = found.setdefault(_group_key(module), [])
        lanes = next((lanes for lanes in alike if _same_opening(next(iter(lanes[0].values())), module)), None)
        if lanes is None:
            alike.append([{place: module}])
            continue
        lane = next((lane for lane in lanes if _same_lane(next(iter(lane.values())), module)), None)
        if lane is None:
            lanes.append({place: module})
        else:
            lane[place] = module
    with torch.inference_mode(False):
        return [Group(lanes) for alike in found.values() for lanes in alike]


def share_memory(tensors: Iterable[Tensor], others: Iterable[Tensor]) -> None:
    """Share the memory of equal tensors until one of them is changed."""
    for tensor, other in zip(tensors, others, strict=False):
        if tensor is not other and unchanged(tensor, other):
            tensor.data = own_copy(other, lazily=True)


def _group_key(module: ConcernModule) -> Hashable:
    concern, device, dtype = module.concern, module.head.weight.device, module.head.weight.dtype
    if concern.mode is Mode.ROLLED:
        words = module.parent.vocabulary
        own = module.origin.sha256  # a module that was saved alone has its own digest
        return own, None if words is None else words.digest, device, dtype, _start(module)
    steps = concern.steps.values()
    return module.parent_sha256, device, dtype, concern.by_gates, concern.edges, *steps, _start(module)


def _start(module: ConcernModule) -> int:
    """Return the number of stages that a module shares; modules that prune a layer before the recurrence share less."""
    body: Any = module.body
    return len(body.opening_stages())


def _same_opening(first: ConcernModule, other: ConcernModule) -> bool:
    return _alike(_own(_opening(first.body)), _own(_opening(other.body)))


def _opening(body: nn.Module) -> tuple[nn.Module, ...]:
    """List the parts with weights that the opening of a body runs."""
    opening: Any = body
    return tuple(part for stage in opening.opening_stages() for part in stage.modules() if part._parameters)


def _own(parts: Iterable[nn.Module]) -> list[Tensor]:
    """List the current parameters of parts. Each prediction needs them, so this must be fast."""
    return [parameter for part in parts for parameter in part._parameters.values() if parameter is not None]


def _same_lane(first: ConcernModule, other: ConcernModule) -> bool:
    """Return whether two modules can share a body: equal weights, and the same hidden units if rolled."""
    if first.concern.mode is Mode.ROLLED and not _same_nodes(first, other):
        return False
    return _same_weights(first.body, other.body)


def _same_nodes(first: ConcernModule, other: ConcernModule) -> bool:
    one, two = first.concern, other.concern
    alike = one.by_gates == two.by_gates and (first.weights is None) == (other.weights is None)
    alike = alike and one.kept.keys() == two.kept.keys()
    return alike and all(np.array_equal(mask, two.kept[name]) for name, mask in one.kept.items())


def _same_weights(body: nn.Module, other: nn.Module) -> bool:
    return body is other or _alike(list(_weights(body).values()), list(_weights(other).values()))


def _weights(body: nn.Module) -> dict[str, Tensor]:
    """Map names to parameters and buffers, without the masks of unrolled modules."""
    found: dict[str, Tensor] = {}
    for path, part in body.named_modules():
        if not isinstance(part, Removal):
            own = {**part._parameters, **({} if isinstance(part, PrunedDense) else part._buffers)}
            found |= {f"{path}.{name}": tensor for name, tensor in own.items() if tensor is not None}
    return found


def _alike(first: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    pairs = zip(first, other, strict=False)
    return len(first) == len(other) and all(one is two or unchanged(one, two) for one, two in pairs)


def _side_by_side(modules: Sequence[ConcernModule]) -> nn.Module:
    """Make one body for unrolled modules of equal weights, with the masks of all of them."""
    parent, device = modules[0].parent, modules[0].head.weight.device
    masks = removals([m.concern for m in modules], parent.layers, device)
    body = pruned(parent.body, masks, len(modules))
    memo: dict[int, Any] = {}
    lazy, first = tables(body), _weights(modules[0].body)
    for name, old in _weights(body).items():
        new = own_copy(first[name], name in lazy)
        memo[id(old)] = nn.Parameter(new, requires_grad=False) if isinstance(old, nn.Parameter) else new
    return copy.deepcopy(body, memo)

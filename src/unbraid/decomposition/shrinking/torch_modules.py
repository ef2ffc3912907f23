"""Smaller copies of a user's nn.Module, of any size from one observation of the parent.

Shapes: N examples, T timesteps, H hidden units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from unbraid.decomposition.reconstruction.importance import strongest
from unbraid.decomposition.shrinking.distilling import distil
from unbraid.decomposition.shrinking.fitting import Sample, build, fit, observe, stack_of
from unbraid.decomposition.shrinking.importance import unit_scores
from unbraid.decomposition.shrinking.linears import fit_linear, linear_paths, refittable
from unbraid.decomposition.shrinking.narrowing import Plan, plan_linears, plan_narrowing, units_of
from unbraid.decomposition.shrinking.own_cells import ShrunkOwnStack, places_of
from unbraid.decomposition.shrinking.running import record, runs
from unbraid.decomposition.shrinking.sources import Source, columns, find_sources, linear_outputs, squared_change
from unbraid.decomposition.shrinking.telling import named, note, note_wrapped, only_linears, unchanged
from unbraid.errors import UnsupportedLayer
from unbraid.networks.inputs import Inputs, leaves, map_tree, to_device
from unbraid.networks.own_cells import form_of
from unbraid.networks.own_stack import OwnStack
from unbraid.networks.precision import HALF, like_weights
from unbraid.networks.pytorch.calling import Caller
from unbraid.networks.pytorch.checking import check_plain, recurrent_weight, whole_layers, without_layers
from unbraid.networks.pytorch.plain import plain_layer
from unbraid.networks.pytorch.replacing import copied
from unbraid.networks.pytorch.subclasses import divided, joined
from unbraid.networks.pytorch.wrapped import ShrunkRecurrent
from unbraid.networks.stack import RecurrentStack
from unbraid.networks.stack import stack_of as replacement_of
from unbraid.networks.torch_spec import TorchRun

SCORED = 200  # examples that score the hidden units
FITTED = 400  # largest number of examples that the layers are fitted on
FITTED_DENSE = 2_000  # the same without a recurrence, where an example is one observation
HELD = 64_000_000  # largest number of values of the parent that are held for them
DECIDED = 4_000  # examples that the output layer is fitted on
TRIED = 16  # examples of a trial
BATCH = 256


class TorchShrinker:
    """Observe a module once, and make smaller copies of it.

    Args:
        module: the user's.
        x: its inputs.
        sources: where its scores are; None searches for them.
        style: ``auto``, ``plain`` or ``wrapped``.
        refine: number of steps of distillation.
        seed: seed of the choice of examples.
        run: how the module has to be called; None: with any number of examples, as they are.
        dense: whether hidden linear layers get smaller too.

    Raises:
        UnsupportedLayer: no layer with hidden units, or a recurrent layer that cannot be made smaller.
        DataError: the module does not run on x.
    """

    def __init__(
        self,
        module: nn.Module,
        x: Inputs,
        sources: Sequence[Source] | None,
        style: str,
        refine: int,
        seed: int,
        run: TorchRun | None = None,
        dense: bool = True,
    ) -> None:
        self.original, self.x, self.style, self.refine, self.seed = divided(module), x, style, refine, seed
        self.module, self.sites, self.dtype = self._opened(module)
        self._caller = Caller(self.module, run or TorchRun())
        first = self._batches(x.take(slice(TRIED)))[0]
        self._tried = self._caller.run.batch or min(TRIED, len(x))
        own = [path for path, part in self.sites.items() if form_of(part) is not None]
        self.linears = refittable(self.module, own)
        self.sources = find_sources(self.module, first) if sources is None else list(sources)
        self.heads = {
            s.path: place for place, s in enumerate(self.sources) if s.path is not None and s.path in self.linears
        }
        self.first, self.recorded = first, record(self.module, first, [*self.sites, *self.linears])
        self.sites = {path: part for path, part in self.sites.items() if path in self.recorded.calls}
        memo = {id(part): self._stack(part) for part in self.sites.values()}
        self.parent = copied(self.module, memo | {id(p): p for p in self.module.parameters()}).requires_grad_(False)
        self.stacks = {path: memo[id(part)] for path, part in self.sites.items()}
        hidden = self._hidden_linears()
        self.hidden = hidden if dense and style != "wrapped" else []
        if not self.sites and not self.hidden:
            cause = f"style={style!r}" if dense else "layers='recurrent'"
            raise only_linears(module, hidden, cause) if hidden else without_layers(module)
        if dense and not self.hidden:
            note_wrapped(hidden)
        self._check_projected()
        self._check_same()
        rows = self._rows(SCORED)
        scored = self._batches(x.take(rows), len(rows))
        self.scores = unit_scores(self.parent, self.stacks, self.hidden, scored, self.sources)
        self.whole: str | None = None  # why the last copy has all units; empty if that is its size
        self._sample: Sample | None = None
        self._decided: tuple[list[Any], list[list[Tensor]]] | None = None

    def _opened(self, module: nn.Module) -> tuple[nn.Module, dict[str, nn.Module], torch.dtype]:
        """Return a copy of the module on the CPU, its recurrent layers by path, and the type of its weights."""
        own = checked_module(module)
        sites: dict[str, nn.Module] = {**whole_layers(own)}
        used = [_like(part) for part in sites.values()] + [p for p in own.parameters() if p.is_floating_point()]
        return own, sites, used[0].dtype if used else torch.float32

    def _hidden_linears(self) -> list[str]:
        """Return the paths of the linear layers whose units may be removed; scores of the module are none."""
        outputs = {source.path for source in self.sources}
        return [
            path
            for path in self.recorded.calls
            if path in self.linears and path not in outputs and units_of(self.module.get_submodule(path)) > 1
        ]

    def _stack(self, part: nn.Module) -> RecurrentStack:
        """Return the stack that runs in place of a recurrent layer."""
        form = form_of(part)
        if form is not None:
            return OwnStack(copied(part), form)
        return replacement_of(part)

    def make(self, keep: float) -> nn.Module:
        """Make a copy of the module whose layers keep the share ``keep`` of their hidden units, in (0, 1].

        Raises:
            UnsupportedLayer: with style="plain", a layer that cannot be narrowed.
        """
        plan, self.whole = self._plan(keep, self._kept(keep)), None
        if not plan.kept:
            self.whole = unchanged(plan)
            return joined(copied(self.original)).eval()
        return self._finished(self._fitted(plan), plan)

    def _fitted(self, plan: Plan) -> nn.Module:
        """Make a smaller copy of the parent, and fit its layers and its output layers."""
        kept, sample = dict(plan.kept), self.sample
        small = build(self.parent, self.stacks, kept, plan, sample)
        loops = [path for path, calls in self.recorded.calls.items() if len(calls) > 1]
        fit(small, self.stacks, kept, plan, list(self.recorded.calls), sample, loops)
        batches, scores = self.decided
        for path, place in self.heads.items():
            wanted = torch.cat([given[place].flatten(0, -2) for given in scores])
            fit_linear(small, path, batches, wanted)
        if self.refine:
            changed = list(dict.fromkeys([*kept, *plan.columns, *self.heads]))
            distil(small, changed, self.sources, batches, scores, self.refine)
        return small

    def change(self, small: nn.Module, x: Inputs) -> float:
        """Compute how much a smaller module differs from the parent.

        Returns:
            the share of other decisions, or the largest :func:`~unbraid.decomposition.shrinking.sources.squared_change`
            of scores that are numbers; the larger one where the module returns both.
        """
        batches = self._batches(x)
        other: list[Tensor] = []
        numbers: list[list[tuple[Tensor, Tensor]]] = [[] for _ in self.sources]
        for ours, theirs in zip(
            self._read(checked_module(small), batches), self._read(self.parent, batches), strict=True
        ):
            for place, (source, one, two) in enumerate(zip(self.sources, ours, theirs, strict=True)):
                decisions = source.decide(one), source.decide(two)
                if decisions[0] is None or decisions[1] is None:
                    numbers[place].append((columns(one), columns(two)))
                else:
                    other.append((decisions[0] != decisions[1]).flatten())
        found = [float(torch.cat(other).float().mean())] if other else []
        pairs = [[torch.cat(part) for part in zip(*one, strict=True)] for one in numbers if one]
        return max([*found, *(squared_change(ours, theirs) for ours, theirs in pairs)])

    @property
    def sample(self) -> Sample:
        """Values of the parent that layers are fitted to."""
        if self._sample is None:
            values = sum(
                self._steps(path) * len(stack.layers) * 4 * stack.hidden_size for path, stack in self.stacks.items()
            )
            for path in self.hidden:
                part = self.module.get_submodule(path)
                assert isinstance(part, nn.Linear)
                values += self._steps(path) * (part.in_features + part.out_features)
            most = FITTED if self.sites else FITTED_DENSE
            rows = self._rows(max(8, min(most, int(HELD * self._tried / max(values, 1)))))
            self._sample = observe(self.parent, self._batches(self.x.take(rows)), self.stacks, self.linears)
        return self._sample

    @property
    def decided(self) -> tuple[list[Any], list[list[Tensor]]]:
        """Examples that the output layer is fitted on, and the scores of the parent."""
        if self._decided is None:
            batches = self._batches(self.x.take(self._rows(DECIDED)))
            self._decided = batches, self._read(self.parent, batches)
        return self._decided

    def _steps(self, path: str) -> int:
        """Return the number of timesteps of all sequences that a layer reads in its longest call; of others in all."""
        calls = self.recorded.calls[path]
        if path in self.stacks and isinstance(self.stacks[path], OwnStack):
            return sum(made.args[0].shape[:-1].numel() for made in calls)
        if path not in self.sites:
            return sum(made.result.shape[:-1].numel() for made in calls)
        if isinstance(self.sites[path], nn.RNNCellBase):
            return sum(len(made.args[0]) for made in calls)
        outputs = [made.result[0] for made in calls]
        return max(len(v.data) if isinstance(v, PackedSequence) else v.shape[:-1].numel() for v in outputs)

    def _kept(self, keep: float, tied: bool = False) -> dict[str, list[Tensor]]:
        """Choose the kept units of smaller recurrent layers. With ``tied``, layers of one size keep the same units."""
        return self._strongest(list(self.stacks), keep, tied)

    def _strongest(self, paths: Sequence[str], keep: float, tied: bool = False) -> dict[str, list[Tensor]]:
        kept = {}
        for path in paths:
            scores, units = self.scores[path], units_of(self.module.get_submodule(path))
            if tied:
                alike = [self.scores[other] for other in paths if np.shape(self.scores[other]) == np.shape(scores)]
                scores = list(np.sum(alike, axis=0))
            projected = path in self.stacks and self.stacks[path].proj_size
            fewest = (projected + 1) / units  # torch has no smaller ones
            share = max(keep, min(fewest, 1.0)) if projected else keep
            chosen = strongest({str(place): own for place, own in enumerate(scores)}, share)
            if len(chosen["0"]) < units:
                kept[path] = list(chosen.values())
        return kept

    def _plan(self, keep: float, kept: dict[str, list[Tensor]]) -> Plan:
        own = {path for path, stack in self.stacks.items() if isinstance(stack, OwnStack)}
        own = {path for path in own if not places_of(self.stacks[path])}  # type: ignore[arg-type]
        if self.style == "wrapped":
            note(Plan({}, reasons={path: "no expansion of its results is known" for path in own & kept.keys()}), own)
            return Plan({path: units for path, units in kept.items() if path not in own})
        outer = {path: own for path, own in kept.items() if not self.stacks[path].proj_size}
        plan = plan_narrowing(self.module, self.first, self.recorded, outer, self._kept(keep, tied=True))
        plan = self._with_linears(plan, keep, list(outer))
        plan = replace(plan, kept={**kept, **plan.kept})  # a projection keeps the size of the outputs
        if self.style == "plain" and plan.reasons:
            path, reason = next(iter(plan.reasons.items()))
            raise UnsupportedLayer(
                f"style='plain': recurrent layer {named(path)!r} cannot give fewer outputs: {named(reason)}. Use "
                "style='auto', which keeps the size of its outputs by a linear expansion."
            )
        note(plan, own)
        left = {path: units for path, units in plan.kept.items() if path not in own or path in plan.narrow}
        return replace(plan, kept=left)  # no expansion is known for other results of own cells

    def _with_linears(self, plan: Plan, keep: float, recurrent: Sequence[str]) -> Plan:
        """Add linear layers to a plan. They may keep the same units as the layers ``recurrent``."""
        linears = self._strongest(self.hidden, keep)
        if not linears:
            return plan
        tied = self._strongest([*recurrent, *self.hidden], keep, tied=True)
        return plan_linears(self.module, self.first, list(self.recorded.calls), plan, linears, tied)

    def _finished(self, small: nn.Module, plan: Plan) -> nn.Module:
        """Put the smaller layers into a copy of the user's module, as torch's own layers."""
        memo: dict[int, Any] = {}
        for path in self.sites:
            part, original = small.get_submodule(path), self.original.get_submodule(path)
            if isinstance(part, OwnStack | ShrunkOwnStack):
                if path in plan.kept or path in plan.columns:
                    cell, like = (
                        copied(part.own_layer.own) if isinstance(part, OwnStack) else part.plain(),
                        _like(original),
                    )
                    memo[id(original)] = cell.to(like.device, like.dtype).requires_grad_(like.requires_grad)
                continue
            inside, stack = stack_of(part)
            assert isinstance(original, nn.RNNBase | nn.RNNCellBase)
            if inside or stack.hidden_size < original.hidden_size or stack.input_size < original.input_size:
                like = _like(original)
                layer: nn.Module = plain_layer(path, stack, like)
                if isinstance(part, ShrunkRecurrent):
                    layer = _framed(part, layer, like)
                memo[id(original)] = layer
        result = copied(self.original, memo).eval()
        for path in dict.fromkeys([*self.heads, *linear_paths(self.stacks, plan)]):
            own, new = result.get_submodule(path), small.get_submodule(path)
            assert isinstance(own, nn.Linear) and isinstance(new, nn.Linear)
            like = own.weight
            own.in_features, own.out_features = new.in_features, new.out_features
            for name, weight in new.named_parameters():
                setattr(own, name, nn.Parameter(weight.detach().to(like.device, like.dtype), like.requires_grad))
        for (path, name), value in plan.attributes.items():
            setattr(result.get_submodule(path), name, value)
        self._check_result(result)
        return joined(result)

    def _check_result(self, result: nn.Module) -> None:
        made = record(checked_module(result), self.first, [])
        shapes = [[tuple(tensor.shape) for tensor in results] for results in (made.results, self.recorded.results)]
        if shapes[0] != shapes[1]:
            raise UnsupportedLayer(
                f"the smaller module returns shapes {shapes[0]}, the module {shapes[1]}: use style='wrapped'."
            )

    def _check_projected(self) -> None:
        """Raise UnsupportedLayer if forward passes states to a layer with a projection, whose cells get smaller."""
        for path, stack in self.stacks.items():
            given = any(leaf is not None for made in self.recorded.calls[path]
                        for leaf in leaves([*made.args[1:], made.kwargs.get("hx")]))  # fmt: skip
            if stack.proj_size and given:
                raise UnsupportedLayer(
                    f"nn.LSTM {path!r} has proj_size={stack.proj_size}, and forward passes its initial states, whose "
                    "size would change: leave them out where they are zeros."
                )

    def _check_same(self) -> None:
        """Check that plain layers of the same weights give the same results; raise UnsupportedLayer if not."""
        results = record(self.parent, self.first, []).results
        for given, wanted in zip(results, self.recorded.results, strict=True):
            if given.shape != wanted.shape or (
                wanted.is_floating_point() and not torch.allclose(given, wanted, rtol=1e-3, atol=1e-4, equal_nan=True)
            ):
                raise UnsupportedLayer(
                    f"{type(self.module).__name__} computes other values with plain layers of the same weights: remove "
                    "hooks and other code that changes the outputs of its recurrent layers, and random numbers."
                )

    def _read(self, module: nn.Module, batches: Sequence[Any]) -> list[list[Tensor]]:
        paths = [source.path for source in self.sources if source.path is not None]
        with torch.no_grad():
            return [
                [source.read(seen, results).clone() for source in self.sources]
                for seen, results in runs(module, batches, paths, linear_outputs)
            ]

    def _rows(self, most: int) -> np.ndarray:
        """Draw at most ``most`` of the examples by ``seed``, in their order."""
        if len(self.x) <= most:
            return np.arange(len(self.x))
        return np.sort(np.random.default_rng(self.seed).permutation(len(self.x))[:most])

    def _batches(self, x: Inputs, size: int = BATCH) -> list[Any]:
        found = []
        for rows, batch in x.by_length(size):
            tree = map_tree(lambda leaf: _converted(leaf, self.dtype), to_device(batch, torch.device("cpu")))
            found += list(self._caller.trees(Inputs(tree, len(rows), x.axis, axes=x.axes)))
        return found


def _converted(leaf: Any, dtype: torch.dtype) -> Any:
    """Convert a leaf of the inputs to the dtype of the weights, if it is a floating-point tensor."""
    return like_weights(leaf, dtype) if isinstance(leaf, Tensor) else leaf


def checked_module(module: nn.Module) -> nn.Module:
    """Copy a module to the CPU in eval mode, in float32 if its weights are of half precision.

    Raises:
        UnsupportedLayer: a recurrent layer that cannot be made smaller.
        FormatError: weights that are not finite.
    """
    whole_layers(module)  # refuse before anything is copied
    own = divided(copied(module)).cpu().eval()
    half = any(tensor.dtype in HALF for tensor in own.state_dict().values() if isinstance(tensor, Tensor))
    own = own.float() if half else own
    check_plain(own)
    return own


def _like(part: nn.Module) -> Tensor:
    """Return a weight whose dtype and device are those of a recurrent layer."""
    found = recurrent_weight(part)
    assert found is not None
    return found


def _framed(part: ShrunkRecurrent, layer: nn.Module, like: Tensor) -> ShrunkRecurrent:
    """Make a smaller layer with the expansion of ``part``, in the dtype and on the device of ``like``."""
    cell = None if part.cell is None else part.cell.detach().clone()
    made = type(part)(layer, part.hidden_size, part.kept.clone(), part.hidden.detach().clone(), cell)
    return made.to(like.device, like.dtype).requires_grad_(like.requires_grad)

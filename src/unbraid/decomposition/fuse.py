"""Fusing: of all modules of one parent one compact network, with one head each over the same features.

The members' scores together say which nodes stay, reconstruction runs on all their observations, and their heads are
refitted at once. No labels: an example counts for the class that the parent itself decides for.
Shapes: N examples, T timesteps, F features, R head rows, C classes, K modules.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from unbraid.config import DecompositionConfig, GateView, Mode, Strategy
from unbraid.data.targets import Label, Targets
from unbraid.decomposition.channeling import channel
from unbraid.decomposition.reconstruction.reconstruct import Reconstruction
from unbraid.decomposition.sampling import choose
from unbraid.errors import ConfigError, DataError, IncompatibleModules
from unbraid.modules.composition import Composition
from unbraid.modules.concern import Concern
from unbraid.modules.module import ConcernModule
from unbraid.networks.heads import Head, distinct_rows
from unbraid.networks.network import Network
from unbraid.networks.precision import check_full
from unbraid.progress import Advance, Progress, silent

Members = dict[Label, ConcernModule]


@torch.inference_mode(False)
@torch.enable_grad()
def fuse(composition: Composition, x: Any, keep: float | None = None, progress: Progress = silent) -> Composition:
    """What :meth:`Composition.fuse` does, with its arguments and errors."""
    if x is not None:
        composition.check_text(x)
    elif keep not in (None, 1):
        raise ConfigError(f"keep={keep} needs inputs to reconstruct on: give x, a sample without labels.")
    parents: dict[str, Members] = {}
    for label, module in composition.without_referee().unfuse().modules_by_label.items():
        if module.is_remnant:
            raise IncompatibleModules(
                f"module {label!r} was saved alone: of its parent only its own slices are left, and fusing needs the "
                "whole parent. Take the module from a saved decomposition or composition."
            )
        for tuned in (module, composition[label]):
            if tuned.tuned:
                raise IncompatibleModules(
                    f"module {label!r} was trained after it was made; fusing starts from its parent, and would lose "
                    "that. Fuse first and train the fused modules, or decompose a network that is trained."
                )
        parents.setdefault(module.parent_sha256, {})[label] = module
    fused: Members = {}
    with progress("fusing", sum(len({m.index for m in members.values()}) for members in parents.values())) as advance:
        for members in parents.values():
            check_full(next(iter(members.values())).origin.network())
            fused |= _whole(members) if x is None else _fused(members, x, keep, advance)
    in_order = {label: fused[label] for label in composition.labels}
    return Composition(in_order, composition.vote, composition.calibration)


def default_keep(used: int, classes: int) -> float:
    """Share of the nodes that ``used`` of a parent's ``classes`` need together."""
    return 0.3 + 0.4 * used / classes


def _fused(members: Members, x: Any, keep: float | None, advance: Advance) -> Members:
    """The members of one parent, over one body."""
    network = next(iter(members.values())).origin.network()
    used = list(dict.fromkeys(module.index for module in members.values()))
    share = default_keep(len(used), network.classes) if keep is None else keep
    configs = [_config(module, share) for module in members.values()]
    inputs = network.check(x)
    targets = _decided(network, x, used)
    rows = choose(targets, configs[0], used, pooled=True).rows
    reconstruction = Reconstruction(network, inputs.take(rows), targets.take(rows), used, configs[0], advance)
    heads = [channel(network, module.index, config) for module, config in zip(members.values(), configs, strict=True)]
    weight, bias, places = distinct_rows(heads)
    made = reconstruction.make_together(
        [m.index for m in members.values()], share, Head(weight, bias), [p.tolist() for p in places]
    )
    found: Members = {}
    for (label, module), config, head, own in zip(members.items(), configs, heads, places, strict=True):
        small = Head(made.head.weight[own], made.head.bias[own], head.idle)
        first = next(iter(found.values()), None)  # all share its body
        found[label] = ConcernModule(
            network, module.index, made.concern, small, config, module.label,
            weights=made.weights, original=module, like=first,
        )  # fmt: skip
    return found


def _whole(members: Members) -> Members:
    """The members of one parent over the parent's whole body."""
    found: Members = {}
    network = next(iter(members.values())).origin.network()
    for label, module in members.items():
        config = _config(module, 1.0)
        everything = {name: np.ones(layer.units, bool) for name, layer in network.layers.items()}
        concern = Concern(everything, module.concern.steps, Mode.ROLLED)
        head = channel(network, module.index, config)
        first = next(iter(found.values()), None)
        found[label] = ConcernModule(
            network, module.index, concern, head, config, module.label, original=module, like=first
        )
    return found


def _config(module: ConcernModule, keep: float) -> DecompositionConfig:
    """How the module was made, but rolled and compact."""
    return module.config.changed(
        mode=Mode.ROLLED,
        strategy=Strategy.RECONSTRUCT,
        gates=GateView.HIDDEN,
        head=module.config.head,
        keep=keep,
        max_loss=None,
    )


def _decided(network: Network, x: Any, used: list[int]) -> Targets:
    """The network's own decisions as labels; raises DataError where a class in use hardly occurs."""
    logits = network.logits(x)
    y = network.decide(logits).astype(np.int64)
    if not network.independent:
        y[np.isnan(logits).any(-1)] = -1  # behind the end of a shorter sequence
    found = Targets(y, network.labels, network.io.many_outputs, network.independent)
    for index in used:
        if (count := int(found.members(index).sum())) < 2:
            raise DataError(
                f"the network itself decides for class {network.labels[index]!r} in {count} of the sample inputs, "
                "expected at least 2: give inputs of every class in use."
            )
    return found

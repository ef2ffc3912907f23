"""Fusing: build one compact network for all modules of a parent. Their output layers read the same features.

The scores of all modules together choose the hidden units that stay. Reconstruction uses the observations of all
modules, and their output layers are refitted together. No labels are needed: the prediction of the parent network
is the label of an example. Shapes: N examples, T timesteps, F features, R head rows, C classes, K modules.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from unbraid.config import DecompositionConfig, GateView, Mode, ReconstructConfig
from unbraid.data.targets import Label, Targets
from unbraid.decomposition.channeling import channel
from unbraid.decomposition.everywhere import everywhere
from unbraid.decomposition.reconstruction.reconstruct import observing_cost
from unbraid.decomposition.strategies import fusing_name, fusing_strategy
from unbraid.errors import ConfigError, DataError, IncompatibleModules
from unbraid.modules.composition import Composition
from unbraid.modules.concern import Concern
from unbraid.modules.module import ConcernModule
from unbraid.networks.network import Network
from unbraid.networks.precision import check_full
from unbraid.networks.threads import few_threads
from unbraid.progress import Advance, Progress, joined, shown

Members = dict[Label, ConcernModule]
OBSERVED = 0.5  # share of the work for one parent before its body is built


@torch.inference_mode(False)
@torch.enable_grad()
def fuse(
    composition: Composition, x: Any, keep: float | None = None, progress: Progress | bool | None = None
) -> Composition:
    """Implement :meth:`unbraid.Composition.fuse`; arguments and errors are documented there."""
    if x is not None:
        composition.check_text(x)
    elif keep not in (None, 1):
        raise ConfigError(f"keep={keep} needs inputs to reconstruct on: give x, a sample without labels.")
    parents: dict[str, Members] = {}
    for label, module in composition.without_referee().unfuse().modules_by_label.items():
        if module.is_remnant:
            raise IncompatibleModules(
                f"module {label!r} was saved alone, without the whole parent network that fusing needs. "
                "Take the module from a saved decomposition or composition."
            )
        for tuned in (module, composition[label]):
            if tuned.tuned:
                raise IncompatibleModules(
                    f"module {label!r} was trained after it was made; fusing starts from its parent and would lose "
                    "the training. Fuse first and train the fused modules, or decompose a trained network."
                )
        parents.setdefault(module.parent_sha256, {})[label] = module
    fused: Members = {}
    with joined(shown(progress), "fusing", {name: float(len(members)) for name, members in parents.items()}) as within:
        for name, members in parents.items():
            check_full(next(iter(members.values())).origin.network())
            with within(name, 1.0) as advance, few_threads([next(iter(members.values())).origin.network()]):
                fused |= _whole(members) if x is None else _fused(members, x, keep, advance)
    in_order = {label: fused[label] for label in composition.labels}
    return composition.with_modules(in_order)


def default_keep(used: int, classes: int) -> float:
    """Return the default keep ratio for ``used`` of the ``classes`` of a parent."""
    return 0.3 + 0.4 * used / classes


def _fused(members: Members, x: Any, keep: float | None, advance: Advance) -> Members:
    """Fuse the modules of one parent into one reconstructed body."""
    network = next(iter(members.values())).origin.network()
    used = list(dict.fromkeys(module.index for module in members.values()))
    share = default_keep(len(used), network.classes) if keep is None else keep
    configs = [_config(module, share) for module in members.values()]
    inputs = network.check(x)
    targets = _decided(network, x, used)
    strategy, cost = fusing_strategy(configs[0]), observing_cost(len(inputs), len(used))
    prepared = strategy.prepare_fusing(
        network, inputs, targets, used, configs[0], lambda amount: advance(OBSERVED * amount / cost)
    )
    return dict(zip(members, prepared.together(list(members.values()), configs, share), strict=True))


def _whole(members: Members) -> Members:
    """Give the modules of one parent the whole body of the parent."""
    found: Members = {}
    network = next(iter(members.values())).origin.network()
    for label, module in members.items():
        config = _config(module, 1.0)
        everything = {name: np.ones(layer.units, bool) for name, layer in network.layers.items() if layer.core}
        concern = Concern(everything, {name: module.concern.steps[name] for name in everything}, Mode.ROLLED)
        head = channel(network, module.index, config)
        first = next(iter(found.values()), None)
        found[label] = ConcernModule(
            network, module.index, concern, head, config, module.label, original=module, like=first
        )
    return found


def _config(module: ConcernModule, keep: float) -> DecompositionConfig:
    """Return the settings of a module, changed to a rolled and reconstructed body of another size."""
    own = module.config
    shared = {name: getattr(own, name) for name in own.model_fields_set & set(ReconstructConfig.model_fields)}
    changes = {"strategy": fusing_name(own), "mode": Mode.ROLLED, "gates": GateView.HIDDEN, "max_loss": None}
    return DecompositionConfig.of(**{**shared, **changes, "head": own.head, "keep": keep})


def _decided(network: Network, x: Any, used: list[int]) -> Targets:
    """Return the predictions of the network as labels; raise DataError if a class in use occurs less than twice."""
    if network.task == "regression":
        return everywhere(network, network.check(x))
    logits = network.logits(x)
    y = network.decide(logits).astype(np.int64)
    if not network.independent:
        y[np.isnan(logits).any(-1)] = -1  # timesteps after the end of a shorter sequence
    found = Targets(y, network.labels, network.io.many_outputs, network.independent)
    for index in used:
        if (count := int(found.members(index).sum())) < 2:
            raise DataError(
                f"the network predicts class {network.labels[index]!r} for {count} of the sample inputs, "
                "expected at least 2: give inputs of every class in use."
            )
    return found

"""Smaller copies of a network of a Keras file. Shapes: N examples, H hidden units, F features, C classes."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from unbraid.config import DecompositionConfig, ReconstructConfig
from unbraid.data.targets import Targets
from unbraid.decomposition.choosing_layers import pruned_layers
from unbraid.decomposition.everywhere import everywhere
from unbraid.decomposition.reconstruction.reconstruct import Reconstruction
from unbraid.decomposition.sampling import chosen_rows
from unbraid.decomposition.shrinking.merged import check_any_smaller, merged_layers
from unbraid.decomposition.shrinking.sources import columns, squared_change
from unbraid.errors import DataError, quoted
from unbraid.networks.heads import Head
from unbraid.networks.inputs import Inputs
from unbraid.networks.layers import Scattered
from unbraid.networks.network import Network
from unbraid.networks.recurrent import RecurrentLayer
from unbraid.networks.spec import NetworkSpec
from unbraid.networks.stage_spec import DenseSpec, RecurrentSpec, StageSpec
from unbraid.networks.stages import Dense, Recurrent, StageSequence


class NetworkShrinker:
    """Observe a network once, and make smaller copies of it.

    Args:
        network: made of a Keras file.
        x: its inputs.
        refine: number of steps of distillation.
        seed: seed of the choice of examples.
        dense: whether hidden dense layers get smaller too.

    Raises:
        DataError: too few examples.
        UnsupportedLayer: no layer can be made smaller.
    """

    whole: ClassVar[None] = None  # why nothing is smaller, as in TorchShrinker; here it is an error

    def __init__(self, network: Network, x: Inputs, refine: int, seed: int, dense: bool = True) -> None:
        assert isinstance(network.spec, NetworkSpec)
        self.network, self.spec = network, network.spec
        layers = "all" if dense else "recurrent"
        config = DecompositionConfig.of(strategy="reconstruct", layers=layers, seed=seed, refine=refine)
        assert isinstance(config, ReconstructConfig)
        merged = [stage.name for stage in merged_layers(network)]
        self.merged = {f"{name}.{side}" for name in merged for side in ("forward", "backward")}
        check_any_smaller(network, pruned_layers(network, config).keys() - self.merged, not dense)
        targets = _decisions(network, x)
        possible = [1] if network.binary else range(network.classes)
        self.used = [j for j in possible if targets.members(j).sum() >= 2]
        if not self.used:
            rare = f"{quoted(network.labels[1])!r}" if network.binary else "no class"
            often = "for fewer than two of the inputs" if network.binary else "for two of the inputs"
            raise DataError(f"the network predicts {rare} {often}: give more inputs, of several classes.")
        rows = chosen_rows(targets, config, self.used)
        self.made = Reconstruction(network, x.take(rows), targets.take(rows), self.used, config)

    def make(self, keep: float) -> Network:
        """Make a network whose layers keep the share ``keep`` of their hidden units, in (0, 1]."""
        network, spec = self.network, self.spec
        if keep == 1:
            return self._network(spec, network.weights())
        if spec.output == "softmax":
            own = [[j, *(c for c in range(spec.classes) if c != j)] for j in self.used]
        else:
            own = [[0 if network.binary else j] for j in self.used]
        made = self.made.fitted_body(self.used, keep, Head(network.head.weight, network.head.bias), own, self.merged)
        body, inputs, head = made.body, made.inputs, made.head
        assert isinstance(body, StageSequence)
        stages = [_stage(stage, part) for stage, part in zip(spec.stages, body.stages, strict=True)]
        weights = {f"body.{name}": value.detach() for name, value in body.state_dict().items()}
        weights |= {"head.weight": head.weight[:, inputs].detach(), "head.bias": head.bias.detach()}
        return self._network(spec.model_copy(update={"stages": stages, "features": len(inputs)}), weights)

    def _network(self, spec: NetworkSpec, weights: dict[str, Tensor]) -> Network:
        made = Network(spec, weights, self.network.labels, vocabulary=self.network.vocabulary)
        made.loss = self.network.loss
        return made.to(self.network.device)


def _stage(stage: StageSpec, part: nn.Module) -> StageSpec:
    """Describe a smaller stage. Layers that were not made smaller lose their frame in ``part``."""
    if isinstance(part, Recurrent):
        for side in ("forward_layer", "backward_layer"):
            if isinstance(layer := getattr(part, side), Scattered):  # all of its units are there
                setattr(part, side, layer.layer)
        layer = part.forward_layer
        assert isinstance(layer, RecurrentLayer) and isinstance(stage, RecurrentSpec)
        return stage.model_copy(update={"inputs": layer.inputs, "units": layer.units})
    if isinstance(part, Dense):
        assert isinstance(stage, DenseSpec)
        return stage.model_copy(update={"inputs": part.weight.shape[1], "units": part.units})
    return stage


def _decisions(network: Network, x: Inputs) -> Targets:
    """Return the decisions of the network as labels; padded timesteps have no label."""
    if network.task == "regression":
        return everywhere(network, x)
    logits = network.logits(x.tree)
    y = network.decide(logits)
    if not network.independent:
        y = np.where(np.isnan(logits).any(-1), -1, y.astype(np.int64))
    return Targets(y, network.labels, network.io.many_outputs, network.independent)


def change(a: Network, b: Network, x: Inputs) -> float:
    """Compute how much two networks differ: the share of other decisions; of numbers see :func:`squared_change`."""
    if a.task == "regression":
        ours, theirs = (columns(torch.from_numpy(network.predict(x.tree))) for network in (b, a))
        return squared_change(ours, theirs)
    one, two = (network.predict_index(x.tree) for network in (a, b))
    counted = one >= 0 if one.dtype.kind == "i" else np.ones(one.shape, bool)
    return 1 - float((one == two)[counted].mean())

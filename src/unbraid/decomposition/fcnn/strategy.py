"""The release of Pan and Rajan (ESEC/FSE 2020) as a strategy. Shapes: N examples, D inputs, H units, C classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from unbraid.config import DecompositionConfig, FcnnConfig, Mode
from unbraid.data.targets import Targets
from unbraid.decomposition.fcnn.rules import Weights, channeled, merge_units, module_layers
from unbraid.decomposition.protocol import MAKING, Strategy
from unbraid.decomposition.sampling import module_classes
from unbraid.errors import ConfigError
from unbraid.modules.concern import Concern
from unbraid.modules.module import ConcernModule
from unbraid.networks.heads import Head
from unbraid.networks.inputs import Inputs, to_device
from unbraid.networks.network import Network
from unbraid.networks.spec import NetworkSpec
from unbraid.networks.stage_spec import DenseSpec, FlattenSpec
from unbraid.networks.stages import Dense
from unbraid.progress import Progress

OBSERVING = "observing"


class FcnnRelease(Strategy):
    """``strategy="fcnn"``: the modules of the release, of a network of dense ReLU layers with a softmax."""

    settings = FcnnConfig
    phases: ClassVar[Mapping[str, float]] = {OBSERVING: 1.0, MAKING: 2.0}

    def prepare(
        self, network: Network, x: Inputs, targets: Targets, config: DecompositionConfig, progress: Progress
    ) -> PreparedFcnn:
        assert isinstance(config, FcnnConfig)
        _check_layers(network)
        found = []
        with progress(OBSERVING, config.first) as advance, torch.inference_mode():
            for batch in x.take(slice(config.first)).batches():
                logits = network(to_device(batch, network.device))
                found.append(torch.softmax(logits, -1).cpu().numpy())
                advance(len(logits))
        return PreparedFcnn(network, x, targets, config, module_classes(targets, config), np.concatenate(found))


@dataclass(frozen=True)
class PreparedFcnn:
    """Make the modules of the release.

    Args:
        network: the parent network.
        x: all given examples.
        targets: their labels.
        config: settings.
        classes: indices of the classes that modules can be made for.
        chances: probabilities of the first examples, (config.first, C).
    """

    network: Network
    x: Inputs
    targets: Targets
    config: FcnnConfig
    classes: list[int]
    chances: np.ndarray

    def module(self, index: int, keep: float | None) -> ConcernModule:
        """Make the module of class ``index``; ``keep`` is always None, because the release has no size."""
        return self._module(index, *self.weights(index))

    def weights(self, index: int) -> tuple[list[Weights], Weights]:
        """Compute the hidden layers of a module, in the sizes of the parent, and its two output columns."""
        with torch.no_grad():
            layers = module_layers(self._layers(), self._read(self._positive(index)), self._read(self._negative(index)))
            hidden, output = layers[:-1], layers[-1]
            if self.config.merge:
                hidden[-1], output = merge_units(hidden[-1], output, index)
            return hidden, channeled(output, index)

    def _module(self, index: int, hidden: list[Weights], output: Weights) -> ConcernModule:
        masks, weights = {}, {}
        below = torch.ones(hidden[0].weight.shape[1], dtype=torch.bool, device=output.weight.device)
        for name, layer in zip(self.network.layers, hidden, strict=True):
            own = layer.weight.any(1) | (layer.bias != 0)  # the value of any other unit is always 0
            own[0] |= not own.any()
            masks[name] = own.cpu().numpy()
            weights[name] = {"weight": layer.weight[own][:, below], "bias": layer.bias[own]}
            below = own
        concern = Concern(masks, dict.fromkeys(masks, 1), Mode.ROLLED)
        head = Head(output.weight, output.bias, self.network.spec.classes - 2)
        return ConcernModule(self.network, index, concern, head, self.config, weights=weights)

    def _layers(self) -> list[Weights]:
        modules = [layer.module for layer in self.network.layers.values()]
        hidden = [Weights(module.weight, module.bias) for module in modules if isinstance(module, Dense)]
        return [*hidden, Weights(self.network.head.weight, self.network.head.bias)]

    def _positive(self, index: int) -> np.ndarray:
        """Return the examples of a class among the first ones that the network is sure of."""
        first = len(self.chances)
        sure = self.targets.members(index)[:first] & (self.chances[:, index] > self.config.confidence)
        return np.flatnonzero(sure)[: self.config.samples_per_class]

    def _negative(self, index: int) -> np.ndarray:
        """Return the first examples of every other class."""
        others = [c for c in range(self.network.classes) if c != index]
        return np.concatenate([np.flatnonzero(self.targets.members(c))[: self.config.others] for c in others])

    def _read(self, rows: np.ndarray) -> Tensor:
        array = torch.from_numpy(np.ascontiguousarray(self.x.take(rows).array)).flatten(1)
        return array.to(self.network.device)


def _check_layers(network: Network) -> None:
    """Raise ConfigError for a network that the release cannot decompose."""
    spec = network.spec
    fits = isinstance(spec, NetworkSpec) and spec.output == "softmax" and spec.shape is not None
    for place, stage in enumerate(spec.stages if isinstance(spec, NetworkSpec) else ()):
        hidden = isinstance(stage, DenseSpec) and stage.activation == "relu"
        fits &= hidden or (isinstance(stage, FlattenSpec) and place == 0)
    if not fits or network.io.many_outputs:
        raise ConfigError(
            "strategy='fcnn' needs a network of dense layers with ReLU and a softmax alone: choose 'reconstruct' or "
            "'paper'."
        )

"""Describe networks and modules, so that two of them can be compared.

Shapes: N examples, T timesteps, K labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from unbraid.data.targets import Label
from unbraid.errors import DataError, wrong_object
from unbraid.modules.arguments import named_modules
from unbraid.modules.compose import compose
from unbraid.modules.composition import Composition
from unbraid.modules.module import ConcernModule
from unbraid.modules.retention import mean_retention
from unbraid.networks.network import Network
from unbraid.networks.outputs import Task
from unbraid.networks.spec import EncoderDecoderSpec
from unbraid.networks.titles import layers_text

DIGEST = 12  # characters of a digest that are shown
Sized = Mapping[str, float | int]


@dataclass(frozen=True)
class Side:
    """One of two objects that are compared.

    Attributes:
        kind: ``network``, ``composition``, ``modules`` or ``module``.
        labels: its labels, in order.
        task: what its outputs are.
        many_outputs: whether it has one decision or row of numbers per timestep.
        modules: label -> module; empty for a network.
        networks: digest -> network: itself, or the parents of the modules.
        model: what runs; None for encoder-decoders and their modules.
    """

    kind: str
    labels: list[Label]
    task: Task
    many_outputs: bool
    modules: Mapping[Label, ConcernModule]
    networks: Mapping[str, Network]
    model: Network | Composition | None

    def settings(self) -> dict[str, Any]:
        """Return name -> setting as a plain value; where modules differ, a list of the different values.

        Settings of modules that have their default are left out, except for the strategy.
        """
        networks = list(self.networks.values())
        found = {
            "kind": self.kind,
            "task": self.task,
            "input/output": _one(str(network.io) for network in networks),
            "network": _one(digest[:DIGEST] for digest in self.networks),
            "layers": _one(_layers(network) for network in networks),
            "output layer": _one(network.spec.output for network in networks),
            "timesteps": _one(getattr(network.spec, "steps", None) for network in networks),
            "vocabulary": _one(None if n.vocabulary is None else n.vocabulary.size for n in networks),
            **_vote(self.model if self.kind == "composition" else None),
        }
        configs = [
            {"strategy": module.config.strategy, **module.config.model_dump(mode="json", exclude_defaults=True)}
            for module in self.modules.values()
        ]
        names = dict.fromkeys(name for config in configs for name in config)
        found |= {name: _one(config.get(name) for config in configs) for name in names}
        return {name: value for name, value in found.items() if value is not None}

    def sizes(self) -> Sized:
        """Return name -> size: number of modules, mean shares that a module keeps, and weights of the networks."""
        whole = sum(sum(p.numel() for p in network.parameters()) for network in self.networks.values())
        found: dict[str, float | int] = {"labels": len(self.labels), "weights of the networks": whole}
        if self.modules:
            kept = mean_retention([module.retention() for module in self.modules.values()])
            return {**found, "hidden units": kept.nodes, "weights": kept.weights, "FLOPs": kept.flops}
        return {**found, "hidden units": 1.0, "weights": 1.0, "FLOPs": 1.0}

    def align(self, y: Any, x: Any) -> Any:
        """Pad lists of labels, one per word, as the words are padded; return other labels unchanged."""
        assert self.model is not None
        if isinstance(self.model, Composition):
            return self.model.align(y, x)
        return self.model.align(y, self.model.check(x), x)

    def scores(self, x: Any) -> np.ndarray:
        """Compute the score of each label, (N, K) or (N, T, K): margins or logits, or the numbers of a regression."""
        assert self.model is not None
        if self.task == "regression":
            return self.model.predict(x)
        if isinstance(self.model, Composition):
            return self.model.margins(x)
        logits = self.model.logits(x)
        return np.concatenate([-logits, logits], axis=-1) if self.model.binary else logits

    def decide(self, scores: np.ndarray, columns: list[int]) -> np.ndarray:
        """Decide between some of the labels, from scores (..., K).

        Returns:
            positions in ``columns`` (...), -1 at padding; for independent labels booleans (..., len(columns)).
        """
        assert self.model is not None
        chosen = scores[..., columns]
        if isinstance(self.model, Network) and self.model.binary:
            return np.where(np.isnan(chosen).any(-1), -1, chosen.argmax(-1))
        return self.model.decide(chosen)

    def claims(self, scores: np.ndarray, column: int) -> np.ndarray:
        """Return where the label of one column is decided for, booleans (...), from scores (..., K)."""
        if len(self.labels) == 1:
            return np.asarray(scores[..., 0] > 0)
        return np.asarray(self.decide(scores, list(range(len(self.labels)))) == column)


def columns_of_labels(first: Side, second: Side) -> list[Label]:
    """Return the labels that numbers and columns of labels count.

    They are those of the network, if all networks of both sides have the same ones, or else those of the first side.
    """
    networks = [*first.networks.values(), *second.networks.values()]
    names = list(networks[0].labels)
    alike = all(network.labels == names for network in networks)
    return names if alike and set(first.labels) <= set(names) else list(first.labels)


def side_of(given: Any, argument: str) -> Side:
    """Describe a network, a composition, one module, or several modules.

    Args:
        given: the object; several modules are a Decomposition, another mapping or a list.
        argument: its name, for messages.

    Raises:
        ArgumentError: another object.
        DataError: no module.
    """
    if isinstance(given, Network):
        model = None if isinstance(given.spec, EncoderDecoderSpec) else given
        own = {given.sha256(): given}
        return Side("network", list(given.labels), given.task, given.io.many_outputs, {}, own, model)
    if not isinstance(given, Composition | ConcernModule | Mapping | list | tuple):
        raise wrong_object(given, argument, "a Network, a Composition, modules of a Decomposition, or one module")
    if isinstance(given, Composition):
        kind, modules = "composition", dict(given.modules_by_label)
    else:
        kind = "module" if isinstance(given, ConcernModule) else "modules"
        modules = named_modules([given] if isinstance(given, ConcernModule) else given)
    if not modules:
        raise DataError(f"{argument} has no module, expected at least one.")
    parents = {module.parent_sha256: module.parent for module in modules.values()}
    runs = not any(isinstance(parent.spec, EncoderDecoderSpec) for parent in parents.values())
    made = (given if isinstance(given, Composition) else compose(modules)) if runs else None
    first = next(iter(modules.values()))
    return Side(kind, list(modules), first.parent.task, first.io.many_outputs, modules, parents, made)


def _vote(composition: Any) -> dict[str, Any]:
    """Return the settings of the vote of a composition; nothing for anything else."""
    if not isinstance(composition, Composition):
        return {}
    referee = composition.referee is not None
    return {"vote": composition.vote, "calibrated": composition.is_calibrated, "referee": referee}


def _layers(network: Network) -> str | None:
    return None if isinstance(network.spec, EncoderDecoderSpec) else layers_text(network.spec)


def _one(values: Iterable[Any]) -> Any:
    """Return the only value, or a list of the different ones."""
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found[0] if len(found) == 1 else found

"""Sizes of the inputs of a network of stages: T timesteps and D features."""

from __future__ import annotations

from unbraid.networks.flow import Flow
from unbraid.networks.spec import NetworkSpec, Spec
from unbraid.networks.stage_spec import DenseSpec, EmbeddingSpec, FlattenSpec, RecurrentSpec


def feature_width(spec: NetworkSpec) -> int | None:
    """Return the number of features D of the first stage with weights; None if a Flatten before it merges D and T."""
    if spec.shape is not None:
        return spec.shape[-1]
    for stage in spec.stages:
        if isinstance(stage, FlattenSpec):
            return None
        if isinstance(stage, RecurrentSpec | DenseSpec):
            return stage.inputs
    return None


def fixed_steps(spec: Spec, features: int | None = None) -> int | None:
    """Return the number of timesteps T that the file or the layer after a Flatten requires; None if T may vary.

    Args:
        spec: description of the network.
        features: number of features D of the inputs, needed if the first stage flattens them.
    """
    if spec.steps is not None or not isinstance(spec, NetworkSpec):
        return spec.steps
    width = feature_width(spec)
    for number, stage in enumerate(spec.stages):
        if isinstance(stage, EmbeddingSpec):
            width = stage.dimension
        elif isinstance(stage, RecurrentSpec | DenseSpec):
            if isinstance(stage, RecurrentSpec) and not stage.sequences:
                return None
            twice = isinstance(stage, RecurrentSpec) and stage.bidirectional and stage.merge == "concat"
            width = stage.units * (2 if twice else 1)
        elif isinstance(stage, FlattenSpec):
            read = [s.inputs for s in spec.stages[number + 1 :] if isinstance(s, RecurrentSpec | DenseSpec)]
            width = features if width is None else width
            return None if width is None else [*read, spec.features][0] // width
    return None


def decides_each_step(spec: NetworkSpec) -> bool:
    """Return whether a network without a recurrence makes one decision for each timestep of its inputs."""
    flow = Flow(spec.steps, None, spec.shape)
    for position, stage in enumerate(spec.stages):
        flow.enter(stage, position)
    return flow.timesteps

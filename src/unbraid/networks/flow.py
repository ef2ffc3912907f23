"""Compute the shape of a signal after each stage of a network, before the network is built.

Shapes: N examples, T timesteps, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from unbraid.errors import FormatError, quoted
from unbraid.networks.stage_spec import (
    ActivationSpec,
    DenseSpec,
    EmbeddingSpec,
    FlattenSpec,
    MaskingSpec,
    RecurrentSpec,
    RepeatSpec,
    StageSpec,
    width_behind,
)


class Flow:
    """The shape of a signal: (N, T, D), or (N, D) after a stage that removes the time axis.

    Args:
        steps: T of the inputs; None if it is not fixed.
        observed: layer name -> T of the layer in the sample; None without a sample.
        shape: sizes of one example; None for words or features with timesteps.

    Attributes:
        timesteps: whether the signal has a time axis.
        width: D; None if it is unknown.
        steps: T; None if it is unknown.
        recurrent: whether there is a recurrent layer before this point.
    """

    def __init__(
        self, steps: int | None, observed: Mapping[str, int] | None = None, shape: Sequence[int] | None = None
    ) -> None:
        self.timesteps, self.recurrent = shape is None or len(shape) == 2, False
        self.width: int | None = None if shape is None else shape[-1] if self.timesteps else prod(shape)
        self.steps = steps
        self._observed = observed
        self._flattened: int | None = None  # D of a signal of unknown T that was flattened to (N, T*D)

    def enter(self, stage: StageSpec, position: int) -> None:
        """Apply a stage to the shape; raise FormatError if the stage cannot read the signal."""
        match stage:
            case EmbeddingSpec():
                if position:
                    raise FormatError(f"embedding {_name(stage)} is not the first layer: it reads word indices.")
                self.width = width_behind(stage, None)
            case MaskingSpec():
                self._needs_timesteps(stage)
            case FlattenSpec():
                self._flatten()
            case RepeatSpec():
                if self.timesteps:
                    raise FormatError(f"layer {_name(stage)} repeats (N, D), the layer before it returns timesteps.")
                self.timesteps, self.steps = True, stage.times
            case RecurrentSpec():
                self._needs_timesteps(stage)
                self.reads(f"layer {_name(stage)}", stage.inputs)
                for name in (
                    [f"{stage.name}.forward", f"{stage.name}.backward"] if stage.bidirectional else [stage.name]
                ):
                    self._observe(name)
                self.timesteps, self.recurrent = stage.sequences, True
                self.width = width_behind(stage, self.width)
            case DenseSpec():
                self.reads(f"layer {_name(stage)}", stage.inputs)
                self._observe(stage.name)
                self.width = width_behind(stage, self.width)
            case ActivationSpec():
                pass

    def reads(self, who: str, inputs: int) -> None:
        """Raise FormatError if the signal does not have ``inputs`` features."""
        if self._flattened is not None:
            if inputs % self._flattened:
                raise FormatError(
                    f"{who} reads {inputs} features, expected a multiple of the {self._flattened} of a timestep."
                )
            self._flattened = None
        elif self.width is not None and inputs != self.width:
            raise FormatError(f"{who} reads {inputs} features, the layer before it has {self.width}.")

    def _needs_timesteps(self, stage: StageSpec) -> None:
        if not self.timesteps:
            raise FormatError(f"layer {_name(stage)} reads timesteps, the layer before it returns one vector.")

    def _flatten(self) -> None:
        if self.timesteps and self.width is not None:
            self._flattened = self.width if self.steps is None else None
            self.width = None if self.steps is None else self.width * self.steps
        self.timesteps = False

    def _observe(self, layer: str) -> None:
        if self._observed is None or layer not in self._observed:
            return
        found, expected = self._observed[layer], self.steps if self.timesteps else 1
        if expected is None:
            self.steps = found
        elif found != expected:
            raise FormatError(f"field steps: layer {quoted(layer)!r} ran over {found} timesteps, expected {expected}.")


def _name(stage: StageSpec) -> str:
    return repr(quoted(stage.name))

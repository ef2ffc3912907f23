"""Stages of a sequential network as modules. Each maps values and a validity mask to values and a validity mask.

Shapes: N examples, T timesteps, D features, H units. A mask is (N, T) booleans, False at a masked timestep, or None. If
K modules run in one batch, values have K*N rows and a mask still has N rows.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from unbraid.networks.cells import ACTIVATIONS, State
from unbraid.networks.precision import like_weights
from unbraid.networks.prunable import first_own
from unbraid.networks.recurrent import RecurrentLayer
from unbraid.networks.stage_spec import (
    ActivationSpec,
    DenseSpec,
    EmbeddingSpec,
    FlattenSpec,
    MaskingSpec,
    RecurrentSpec,
    RepeatSpec,
    StageSpec,
)

Signal = tuple[Tensor, Tensor | None]


class Embedding(nn.Module):
    """An embedding: word indices (N, T) to vectors (N, T, D). An index below 0 masks its timestep."""

    def __init__(self, spec: EmbeddingSpec) -> None:
        super().__init__()
        self.mask_zero = spec.mask_zero
        self.weight = nn.Parameter(torch.zeros(spec.vocabulary, spec.dimension))

    def forward(self, x: Tensor, mask: Tensor | None) -> Signal:
        absent = x < 0
        if bool(absent.any()):
            return nn.functional.embedding(x.clamp(min=0), self.weight), (x > 0) if self.mask_zero else ~absent
        return nn.functional.embedding(x, self.weight), (x != 0) if self.mask_zero else None


class Masking(nn.Module):
    """A mask over timesteps whose features all equal a given value."""

    def __init__(self, spec: MaskingSpec) -> None:
        super().__init__()
        self.value = spec.value

    def forward(self, x: Tensor, mask: Tensor | None) -> Signal:
        valid = (x != self.value).any(dim=-1)
        return x * valid.unsqueeze(-1), valid


class Flatten(nn.Module):
    """A flattening: (N, ...) to (N, D). It drops the mask, as in Keras."""

    def __init__(self, spec: FlattenSpec) -> None:
        super().__init__()

    def forward(self, x: Tensor, mask: Tensor | None) -> Signal:
        return x.flatten(1), None


class Repeat(nn.Module):
    """A repetition: (N, D) to (N, times, D)."""

    def __init__(self, spec: RepeatSpec) -> None:
        super().__init__()
        self.times = spec.times

    def forward(self, x: Tensor, mask: Tensor | None) -> Signal:
        return x.unsqueeze(1).expand(-1, self.times, -1), None


class Activation(nn.Module):
    """An activation that is a layer of its own."""

    def __init__(self, spec: ActivationSpec) -> None:
        super().__init__()
        self.function = ACTIVATIONS[spec.activation]

    def forward(self, x: Tensor, mask: Tensor | None) -> Signal:
        return self.function(x), mask


class Dense(nn.Module):
    """A dense layer: act(W x + b) over the last axis."""

    def __init__(self, spec: DenseSpec) -> None:
        super().__init__()
        self.activation = spec.activation
        self.weight = nn.Parameter(torch.zeros(spec.units, spec.inputs))
        self.bias = nn.Parameter(torch.zeros(spec.units))

    @property
    def units(self) -> int:
        """Number of units H."""
        return self.weight.shape[0]

    @property
    def rectified(self) -> bool:
        """Whether the activation is a ReLU: nodes are compared by active rate."""
        return self.activation == "relu"

    def forward(self, x: Tensor, mask: Tensor | None) -> Signal:
        return ACTIVATIONS[self.activation](nn.functional.linear(x, self.weight, self.bias)), mask


class PrunedDense(nn.Module):
    """A dense layer whose removed nodes are zero. K modules run in one batch with rows (K*N, ...).

    Args:
        dense: layer of the parent.
        kept: masks of the K modules, (K, T or 1, H).
        opens: whether inputs have N rows that the K modules share, because this is their first layer. Default False.
    """

    kept: Tensor

    def __init__(self, dense: Dense, kept: Tensor, opens: bool = False) -> None:
        super().__init__()
        self.dense, self.opens = dense, opens
        self.register_buffer("kept", kept, persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Signal:
        values, mask = self.dense(x, mask)
        values = values.unflatten(0, (1 if self.opens else self.kept.shape[0], -1))
        kept = self.kept.unsqueeze(1) if values.dim() == 4 else self.kept[:, -1:]
        return (values * kept).flatten(0, 1), mask


class Recurrent(nn.Module):
    """A recurrent layer of one or two directions. It returns all outputs, or the last one."""

    def __init__(self, spec: RecurrentSpec) -> None:
        super().__init__()
        self.sequences, self.merge = spec.sequences, spec.merge
        self.forward_layer: nn.Module = RecurrentLayer(spec.cell, spec.inputs, spec.units, spec.reverse)
        self.backward_layer: nn.Module | None = None
        if spec.bidirectional:
            self.backward_layer = RecurrentLayer(spec.cell, spec.inputs, spec.units, not spec.reverse)
        self.flip = spec.reverse and not spec.bidirectional

    def read(self, x: Tensor, mask: Tensor | None) -> list[tuple[Tensor, State]]:
        """Compute the outputs and the last state of each direction."""
        layers = [layer for layer in (self.forward_layer, self.backward_layer) if layer is not None]
        return [layer(x, mask) for layer in layers]

    def forward(self, x: Tensor, mask: Tensor | None) -> Signal:
        (values, state), *backward = self.read(x, mask)
        if self.flip:  # Keras' go_backwards returns outputs in the order of reading
            values = values.flip(1)
        results = [values] if self.sequences else [state[0]]
        results += [values if self.sequences else state[0] for values, state in backward]
        kept = mask if self.sequences else None
        return merged(self.merge, results, kept), kept  # the mask is not reversed, as in Keras


def merged(merge: str, results: list[Tensor], mask: Tensor | None) -> Tensor:
    """Merge the results of the directions of a recurrent layer.

    Args:
        merge: a key of the table of merges.
        results: results of one or two directions.
        mask: (N, T), if the results are sequences. Keras sets merged outputs to zero where it is False.
    """
    if len(results) == 1:
        return results[0]
    result: Tensor = _MERGE[merge](*results)
    if mask is None:
        return result
    here = mask.repeat(result.shape[0] // mask.shape[0], 1)  # K*N rows, ordered by module
    return result * here.unsqueeze(-1)


_MERGE = {
    "concat": lambda a, b: torch.cat([a, b], dim=-1),
    "sum": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "ave": lambda a, b: (a + b) / 2,
}

_BUILD = {
    "embedding": Embedding,
    "masking": Masking,
    "flatten": Flatten,
    "repeat": Repeat,
    "recurrent": Recurrent,
    "dense": Dense,
    "activation": Activation,
}


def build_stage(spec: StageSpec) -> nn.Module:
    """Make the module of one stage."""
    return _BUILD[spec.type](spec)


class StageSequence(nn.Module):
    """Stages in order: inputs (N, T) or (N, T, D) to features of the output layer, (N, F) or (N, T, F).

    Args:
        specs: descriptions of the stages.
        features: number of inputs of the output layer, F.

    Attributes:
        start: index of the first stage that is not part of :meth:`opening`. In a module it is the first stage whose
            units the module chooses.
    """

    def __init__(self, specs: list[StageSpec], features: int) -> None:
        super().__init__()
        self.specs, self.features, self.start = specs, features, first_own(specs)
        self.stages = nn.ModuleList(map(build_stage, specs))

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(self.opening(x))

    def opening(self, x: Tensor) -> Signal:
        """Run the stages before :attr:`start`; the modules of a network share them."""
        if (first := next(self.parameters(), None)) is not None:
            x = like_weights(x, first.dtype)
        return self._through(self.stages[: self.start], (x, None))

    def rest(self, signal: Signal) -> Tensor:
        """Run the other stages on the result of :meth:`opening`; return the features."""
        return self._through(self.stages[self.start :], signal)[0]

    def count(self, signal: Signal) -> int:
        """Return the number of examples N in a result of :meth:`opening`."""
        return len(signal[0])

    def opening_stages(self) -> list[nn.Module]:
        """Return the stages that :meth:`opening` runs."""
        return list(self.stages[: self.start])

    def _through(self, stages: Iterable[nn.Module], signal: Signal) -> Signal:
        for stage in stages:
            signal = stage(*signal)
        return signal

"""Descriptions of the layers of a network in order, as plain data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from unbraid.networks.cells import Cell, Known

Size = Annotated[int, Field(ge=1, le=2**31)]


class PlainSpec(BaseModel):
    """Base of all descriptions: they do not change, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EmbeddingSpec(PlainSpec):
    """An embedding: word indices (N, T) to vectors (N, T, D). With ``mask_zero``, index 0 masks a timestep."""

    type: Literal["embedding"] = "embedding"
    name: str
    vocabulary: Size
    dimension: Size
    mask_zero: bool = False


class MaskingSpec(PlainSpec):
    """A mask over timesteps whose features all equal ``value``; their features are set to zero."""

    type: Literal["masking"] = "masking"
    name: str
    value: float = 0.0


class FlattenSpec(PlainSpec):
    """A flattening: (N, T, D) to (N, T*D)."""

    type: Literal["flatten"] = "flatten"
    name: str


class RepeatSpec(PlainSpec):
    """A repetition: (N, D) to (N, times, D)."""

    type: Literal["repeat"] = "repeat"
    name: str
    times: Annotated[int, Field(ge=1, le=2**16)]  # no weight limits it


class RecurrentSpec(PlainSpec):
    """A recurrent layer of one or two directions. With ``sequences`` it returns all outputs, else the last."""

    type: Literal["recurrent"] = "recurrent"
    name: str
    cell: Cell
    inputs: Size
    units: Size
    sequences: bool
    reverse: bool = False
    bidirectional: bool = False
    merge: Literal["concat", "sum", "mul", "ave"] = "concat"


class DenseSpec(PlainSpec):
    """A dense layer over the last axis, at every timestep if the values have timesteps."""

    type: Literal["dense"] = "dense"
    name: str
    inputs: Size
    units: Size
    activation: Known = "linear"


class ActivationSpec(PlainSpec):
    """An activation that is a layer of its own."""

    type: Literal["activation"] = "activation"
    name: str
    activation: Known


StageSpec = Annotated[
    EmbeddingSpec | MaskingSpec | FlattenSpec | RepeatSpec | RecurrentSpec | DenseSpec | ActivationSpec,
    Field(discriminator="type"),
]


def width_behind(stage: StageSpec, width: int | None) -> int | None:
    """Return the number of features per timestep that a stage computes from ``width`` features."""
    match stage:
        case EmbeddingSpec():
            return stage.dimension
        case RecurrentSpec():
            return stage.units * (2 if stage.bidirectional and stage.merge == "concat" else 1)
        case DenseSpec():
            return stage.units
        case _:
            return width

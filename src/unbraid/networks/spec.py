"""What a network is made of, as plain data: what a folder's JSON holds and what the Keras reader fills in."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from unbraid.networks.cells import Cell, Known

Size = Annotated[int, Field(ge=1, le=2**31)]


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EmbeddingSpec(_Spec):
    """Word indices (N, T) to vectors (N, T, D); with ``mask_zero`` index 0 marks steps that do not count."""

    type: Literal["embedding"] = "embedding"
    name: str
    vocabulary: Size
    dimension: Size
    mask_zero: bool = False


class MaskingSpec(_Spec):
    """Steps whose features all equal ``value`` do not count and are set to zero."""

    type: Literal["masking"] = "masking"
    name: str
    value: float = 0.0


class FlattenSpec(_Spec):
    """(N, T, D) to (N, T*D)."""

    type: Literal["flatten"] = "flatten"
    name: str


class RepeatSpec(_Spec):
    """(N, D) to (N, times, D)."""

    type: Literal["repeat"] = "repeat"
    name: str
    times: Annotated[int, Field(ge=1, le=2**16)]  # no weight vouches for it


class RecurrentSpec(_Spec):
    """A recurrent layer, of one direction or two; ``sequences`` gives all outputs instead of the last."""

    type: Literal["recurrent"] = "recurrent"
    name: str
    cell: Cell
    inputs: Size
    units: Size
    sequences: bool
    reverse: bool = False
    bidirectional: bool = False
    merge: Literal["concat", "sum", "mul", "ave"] = "concat"


class DenseSpec(_Spec):
    """A dense layer over the last axis, at every timestep where there are timesteps."""

    type: Literal["dense"] = "dense"
    name: str
    inputs: Size
    units: Size
    activation: Known = "linear"


class ActivationSpec(_Spec):
    """An activation by itself."""

    type: Literal["activation"] = "activation"
    name: str
    activation: Known


StageSpec = Annotated[
    EmbeddingSpec | MaskingSpec | FlattenSpec | RepeatSpec | RecurrentSpec | DenseSpec | ActivationSpec,
    Field(discriminator="type"),
]


class NetworkSpec(_Spec):
    """Stages in order and, behind them, the output layer.

    Attributes:
        stages: everything before the output layer.
        features: inputs of the output layer.
        classes: C, its columns.
        output: ``softmax`` over C classes, or ``sigmoid``: C independent labels (one column: a binary decision).
        steps: T that the network's file fixes, or None.
    """

    type: Literal["stages"] = "stages"
    stages: list[StageSpec]
    head: str
    features: Size
    classes: Size
    output: Literal["softmax", "sigmoid"] = "softmax"
    steps: Size | None = None


class TorchLayerSpec(_Spec):
    """One direction of one layer of a user's nn.RNN, nn.LSTM or nn.GRU.

    Attributes:
        name: as :attr:`unbraid.Network.layers` calls it.
        site: path of the nn.RNN, nn.LSTM or nn.GRU in the module.
        cell: its cell.
        inputs: D.
        units: H.
    """

    name: str
    site: str
    cell: Cell
    inputs: Size
    units: Size


class TorchSpec(_Spec):
    """A user's own nn.Module: what was found in it. Its code is never stored.

    Attributes:
        module: name of its class.
        layers: its recurrent layers, direction by direction.
        head: path of its output nn.Linear.
        features: inputs of the output layer.
        classes: C, its columns.
        output: ``softmax`` or ``sigmoid``.
        many_outputs: one decision per timestep.
        time_first: features come as (T, N, F).
        axes: number of axes of every input array, in order.
        batch_axis: where the examples lie in inputs of more axes than that.
        steps: always None: T may vary.
    """

    type: Literal["torch"] = "torch"
    module: str
    layers: list[TorchLayerSpec]
    head: str
    features: Size
    classes: Size
    output: Literal["softmax", "sigmoid"]
    many_outputs: bool
    time_first: bool
    axes: list[Annotated[int, Field(ge=1, le=8)]]
    batch_axis: Annotated[int, Field(ge=0, le=1)]
    steps: None = None

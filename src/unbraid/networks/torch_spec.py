"""Descriptions of users' PyTorch modules, as plain data. Their code is never stored."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from unbraid.networks.cells import Cell, OwnCell
from unbraid.networks.outputs import Output
from unbraid.networks.stage_spec import PlainSpec, Size


class TorchLayerSpec(PlainSpec):
    """One direction of one layer of a user's nn.RNN, nn.LSTM or nn.GRU, or an own cell.

    Attributes:
        name: its key in :attr:`unbraid.Network.layers`.
        site: path of the layer or cell in the module.
        cell: the function of one timestep.
        inputs: number of input features D.
        units: number of hidden units H.
    """

    name: str
    site: str
    cell: Annotated[Cell | OwnCell, Field(discriminator="kind")]
    inputs: Size
    units: Size


class TorchDenseSpec(PlainSpec):
    """A hidden nn.Linear of a user's module whose units can be removed.

    Attributes:
        name: path of the layer in the module, and its key in :attr:`unbraid.Network.layers`.
        inputs: number of input features D.
        units: number of units H.
        rows: arrangement of the examples in its inputs. ``first``: (N, ..., D); ``second``: (T, N, ..., D); ``outer``:
            (N*S, ..., D) with the rows of an example together; ``inner``: the same with N rows between them.
        chained: path of the layer that reads its output, behind elementwise functions with f(0) = 0, and nothing else.
            It becomes smaller as well. None: removed units become zeros.
        rectified: whether a ReLU follows.
        after: number of recurrent layers and cells that run before it.
    """

    name: str
    inputs: Size
    units: Size
    rows: Literal["first", "second", "outer", "inner"] = "first"
    chained: str | None = None
    rectified: bool = False
    after: Annotated[int, Field(ge=0, le=2**31)] = 0


class TorchRun(PlainSpec):
    """Calling convention of a user's module and of the output layer in it. Shapes: N examples, T timesteps.

    Attributes:
        layout: inputs of the output layer. ``rows``: (N, F), (N, T, F) or (T, N, F) in one call; ``flat``: (N*T, F) or
            (T*N, F); ``packed``: the data of a PackedSequence; ``calls``: (N, F) in each of T calls.
        pick: the timesteps that decide: ``all``, a single one, or their ``mean``.
        batch: number of examples that every call of the module must have; None for any number.
        unbatched: whether the module reads one example without a batch axis; ``batch`` is 1.
        sorts: whether the module packs sequences and requires them sorted by length.
        keeps: whether the module keeps tensors between calls. They are reset before each call.
        axes: axis of the examples in each input array, None for a constant. None as a whole means ``batch_axis``.
        whole: whether a tuple or list is one argument of the module, instead of all of its arguments.
        lists: positions of input arrays that the module reads as a list of numbers.
        folds: for each recurrent layer that reads several sequences of each example in one call: path -> ``outer`` if
            the sequences of an example are adjacent, ``inner`` if they are N rows apart.
    """

    layout: Literal["rows", "flat", "packed", "calls"] = "rows"
    pick: Literal["all", "first", "last", "mean"] = "all"
    batch: Size | None = None
    unbatched: bool = False
    sorts: bool = False
    keeps: bool = False
    whole: bool = False
    axes: Annotated[list[Annotated[int, Field(ge=0, le=1)] | None], Field(fail_fast=True)] | None = None
    lists: Annotated[list[Annotated[int, Field(ge=0, le=2**16)]], Field(fail_fast=True)] = Field(default_factory=list)
    folds: dict[str, Literal["outer", "inner"]] = Field(default_factory=dict)


class TorchSpec(PlainSpec):
    """Description of a user's nn.Module. Its code is never stored.

    Attributes:
        module: name of the class of the module.
        layers: recurrent layers of the module, direction by direction.
        dense: hidden linear layers of the module, in the order of computation. The JSON omits an empty list.
        head: path of the output nn.Linear.
        features: number of inputs of the output layer, F.
        classes: number of columns of the output layer, C.
        output: as of a :class:`NetworkSpec`.
        many_outputs: whether the network makes one decision per timestep.
        time_first: whether features have the shape (T, N, F).
        axes: number of axes of every input array, in order.
        batch_axis: axis of the examples in inputs that have more axes than ``batch_axis``.
        run: calling convention of the module. The JSON omits it if it is the default.
        steps: always None: T may vary.
    """

    type: Literal["torch"] = "torch"
    module: str
    layers: Annotated[list[TorchLayerSpec], Field(fail_fast=True)]
    dense: Annotated[list[TorchDenseSpec], Field(fail_fast=True)] = Field(default_factory=list)
    head: str
    features: Size
    classes: Size
    output: Output
    many_outputs: bool
    time_first: bool
    axes: Annotated[list[Annotated[int, Field(ge=1, le=8)]], Field(fail_fast=True)]
    batch_axis: Annotated[int, Field(ge=0, le=1)]
    run: TorchRun = TorchRun()
    steps: None = None

    @model_serializer(mode="wrap")
    def _short(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Omit the defaults of ``run`` and ``dense``, because digests of older folders were computed without them."""
        found: dict[str, object] = handler(self)
        if not self.dense:
            found.pop("dense", None)
        if self.run == TorchRun():
            found.pop("run", None)
        return found

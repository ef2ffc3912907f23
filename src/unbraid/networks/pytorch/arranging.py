"""Arrangements of output layer calls: all examples at once, flattened timesteps, packed data, or step by step.

Shapes: N examples, T timesteps, F features of the output layer, M rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from unbraid.networks.inputs import leaves, parts_of

Layout = Literal["rows", "flat", "packed", "calls"]
Pick = Literal["all", "first", "last", "mean"]
PICKS: tuple[Pick, ...] = ("all", "last", "first", "mean")


class Arrangement(NamedTuple):
    """Arrangement of the inputs of an output layer; see :class:`unbraid.networks.torch_spec.TorchRun`.

    Attributes:
        layout: arrangement of examples and timesteps.
        pick: the timesteps that decide.
        time_first: whether timesteps are the outer axis.
        many: whether there is one decision for each timestep.
    """

    layout: Layout
    pick: Pick
    time_first: bool
    many: bool

    def apply(self, calls: Sequence[Tensor], rows: int, packed: PackedSequence | None) -> Tensor:
        """Arrange inputs or outputs of the output layer as (N, F), or (N, T, F) for many decisions.

        Args:
            calls: the values of each call, in order.
            rows: number of examples N.
            packed: the last packed sequence that a recurrent layer returned.
        """
        return self._picked(self._whole(calls, rows, packed))

    def _whole(self, calls: Sequence[Tensor], rows: int, packed: PackedSequence | None) -> Tensor:
        x = calls[-1]
        steps = self.many or self.pick != "all"
        if self.layout == "packed":
            assert packed is not None
            return pad_packed_sequence(packed._replace(data=x), batch_first=True)[0]
        if self.layout == "flat":
            whole = x.unflatten(0, (-1, rows)).transpose(0, 1) if self.time_first else x.unflatten(0, (rows, -1))
            return whole.flatten(1, -2)
        if self.layout == "calls":
            return torch.cat([s for call in calls if (s := _steps(call, rows)) is not None], dim=1)
        if x.dim() == (2 if steps else 1):
            return x.unsqueeze(0)  # the module removed the axis of a single example
        if self.time_first:
            x = x.transpose(0, 1)
        return x.flatten(1, -2) if x.dim() > 3 else x

    def _picked(self, x: Tensor) -> Tensor:
        if self.pick == "all":
            return x
        return x.mean(1) if self.pick == "mean" else x[:, -1 if self.pick == "last" else 0]


def arrangements(calls: Sequence[Tensor], rows: int, packed: PackedSequence | None) -> Iterator[Arrangement]:
    """Yield all arrangements that fit the shapes of the calls, usual arrangements first."""
    if len(calls) > 1:
        if all(_steps(call, rows) is not None for call in calls):
            yield from (Arrangement("calls", pick, False, pick == "all") for pick in PICKS)
        return
    x = calls[0]
    if x.dim() == 1 and rows == 1:
        yield Arrangement("rows", "all", False, False)
    if x.dim() == 2 and x.shape[0] == rows:
        yield Arrangement("rows", "all", False, False)
    if x.dim() >= 3:
        for axis in (0, 1):
            if x.shape[axis] == rows:
                yield from (Arrangement("rows", pick, axis == 1, pick == "all") for pick in PICKS)
    if x.dim() == 2 and packed is not None and x.shape[0] == len(packed.data):
        yield Arrangement("packed", "all", False, True)
    if x.dim() in (2, 3) and x.shape[0] > rows and x.shape[0] % rows == 0:
        for pick in PICKS:
            for time_first in (False, True):
                yield Arrangement("flat", pick, time_first, pick == "all")


def tensors_of(result: Any) -> list[Tensor]:
    """List the tensors of the result of a module; packed sequences are padded."""
    padded: list[Any] = []

    def walk(part: Any) -> Any:
        if isinstance(part, PackedSequence):
            padded.append(pad_packed_sequence(part, batch_first=True)[0])
        elif (parts := parts_of(part)) is None:
            padded.append(part)
        else:
            for value in parts:
                walk(value)

    walk(result)
    return [leaf for leaf in padded if isinstance(leaf, Tensor)]


def returned(result: Any) -> list[Tensor]:
    """List them without gradients. A list of tensors of equal shapes is followed by their stack."""
    tensors = [tensor.detach() for tensor in tensors_of(result)]
    listed = isinstance(result, list | tuple) and len(tensors) > 1 and len(leaves(result)) == len(tensors)
    if listed and len({(t.shape, t.dtype) for t in tensors}) == 1:
        tensors.append(torch.stack(tensors, 1))
    return tensors


def compared(
    arrangement: Arrangement, calls: Sequence[Tensor], results: list[Tensor], rows: int, packed: PackedSequence | None
) -> tuple[Tensor, list[Tensor]]:
    """Return scores and results in one order: (N, [T,] C), or (M, C) for the M timesteps of packed sequences."""
    scores = arrangement.apply(calls, rows, packed)
    if arrangement.layout != "packed" or packed is None:
        return scores, results
    total = len(packed.data)
    _, lengths = pad_packed_sequence(packed, batch_first=True)
    valid = torch.arange(scores.shape[1]) < lengths.unsqueeze(1)
    valid = valid.to(scores.device)

    def real(result: Tensor) -> Tensor:
        if result.dim() >= 2 and result.shape[:2] == valid.shape:
            return result[valid]
        if result.dim() >= 2 and result.shape[:2] == valid.t().shape:
            return result.transpose(0, 1)[valid]
        if result.dim() and result.shape[0] == total:
            return pad_packed_sequence(packed._replace(data=result), batch_first=True)[0][valid]
        return result

    return scores[valid], [real(result) for result in results]


def _steps(call: Tensor, rows: int) -> Tensor | None:
    """Reshape one call to (N, t, F); return None if it does not have N rows."""
    if call.dim() == 1 and rows == 1:
        return call.view(1, 1, -1)
    if call.dim() == 2:
        return call.unsqueeze(1) if call.shape[0] == rows else None
    if call.dim() == 3 and call.shape[0] == rows:
        return call
    return call.transpose(0, 1) if call.dim() == 3 and call.shape[1] == rows else None

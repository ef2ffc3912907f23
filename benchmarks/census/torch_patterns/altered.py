"""Layers that are not plain: projections, normed or masked weights, subclasses, half precision."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from benchmarks.census.torch_patterns.entry import (
    CLASSES,
    FEATURES,
    HIDDEN,
    Entry,
    named,
    series,
    tags,
)
from benchmarks.census.torch_patterns.layers import Base


def _projected(**settings: Any) -> nn.Module:
    both = 2 if settings.get("bidirectional") else 1
    return Base(nn.LSTM(FEATURES, HIDDEN, proj_size=3, batch_first=True, **settings), 3 * both)


class ProjectedTagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.fc = nn.LSTM(FEATURES, HIDDEN, proj_size=4), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        start = torch.zeros(1, x.shape[0], 4), torch.zeros(1, x.shape[0], HIDDEN)
        return self.fc(self.rnn(x.transpose(0, 1), start)[0].transpose(0, 1))


def _weight_norm() -> nn.Module:
    return Base(parametrizations.weight_norm(nn.LSTM(FEATURES, HIDDEN, batch_first=True), "weight_hh_l0"))


def _weight_norm_old() -> nn.Module:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Base(nn.utils.weight_norm(nn.LSTM(FEATURES, HIDDEN, batch_first=True), "weight_hh_l0"))


def _spectral_norm() -> nn.Module:
    return Base(parametrizations.spectral_norm(nn.LSTM(FEATURES, HIDDEN, batch_first=True), "weight_ih_l0"))


def _pruned() -> nn.Module:
    module = Base()
    for name in ("weight_ih_l0", "weight_hh_l0"):
        prune.l1_unstructured(module.rnn, name, 0.4)
    prune.random_unstructured(module.fc, "weight", 0.2)
    return module


def _normed_head() -> nn.Module:
    module = Base()
    module.fc = parametrizations.weight_norm(nn.Linear(HIDDEN, CLASSES))
    return module


class NormedLSTM(nn.LSTM):
    """Adds a layer norm behind the base class."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.norm = nn.LayerNorm(self.hidden_size)

    def forward(self, x: Tensor, hx: Any = None) -> Any:
        out, state = super().forward(x, hx)
        return self.norm(out), state


class DroppedGRU(nn.GRU):
    """Drops inputs before the base class, the same at every timestep."""

    def forward(self, x: Tensor, hx: Any = None) -> Any:
        if self.training:
            x = x * torch.bernoulli(torch.full_like(x[:, :1], 0.7)) / 0.7
        return super().forward(x, hx)


class ListedLSTM(nn.LSTM):
    """Returns its outputs alone, as in a Sequential."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)[0]


class OnOutputs(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(x)[:, -1])


def _half(kind: torch.dtype) -> nn.Module:
    return Base().to(kind)


def _from_half(module: nn.Module, x: Tensor) -> Tensor:
    import copy

    return copy.deepcopy(module).float()(x).argmax(-1)


ENTRIES = [
    Entry("projection", **named("Base(proj_size)", _projected)),
    Entry("projection", **named("Base(proj_size, 2 layers)", lambda: _projected(num_layers=2, bidirectional=True))),
    Entry("projection", ProjectedTagger, tags(series)),
    Entry("normed or masked weights", **named("Base(weight_norm)", _weight_norm)),
    Entry("normed or masked weights", **named("Base(old weight_norm)", _weight_norm_old)),
    Entry("normed or masked weights", **named("Base(spectral_norm)", _spectral_norm)),
    Entry("normed or masked weights", **named("Base(prune)", _pruned)),
    Entry("normed or masked weights", **named("Base(weight_norm on the head)", _normed_head)),
    Entry("subclass of a layer", **named("NormedLSTM", lambda: Base(NormedLSTM(FEATURES, HIDDEN, batch_first=True)))),
    Entry("subclass of a layer", **named("DroppedGRU", lambda: Base(DroppedGRU(FEATURES, HIDDEN, batch_first=True)))),
    Entry(
        "subclass of a layer", **named("ListedLSTM", lambda: OnOutputs(ListedLSTM(FEATURES, HIDDEN, batch_first=True)))
    ),
    *(
        Entry("half precision", **named(f"Base({str(k)[6:]})", lambda k=k: _half(k)), own=_from_half)
        for k in (torch.float16, torch.bfloat16)
    ),
]

"""Cases for the models of torch_models.py: inputs as users pass them, labels, and decisions.

Shapes: N examples, T timesteps, D features, C classes. Token 0 is padding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.measure import torch_models as models
from benchmarks.measure.torch_models import CLASSES, FEATURES, STEPS, WORDS

Made = tuple[Any, np.ndarray]  # inputs of the module, labels


@dataclass(frozen=True)
class Case:
    """A model and its use.

    Attributes:
        build: makes the model with its defaults.
        make: makes N inputs and labels.
        decide: computes class indices (or booleans for each label) from the result of the module.
        labels: whether the labels are independent.
    """

    build: Callable[[], nn.Module]
    make: Callable[[np.random.Generator, int], Made]
    decide: Callable[[Any], Tensor] = lambda raw: raw.argmax(-1)
    labels: bool = False

    def trained(self, seed: int = 0) -> nn.Module:
        """Make a module with random weights that are large enough to give different results for different inputs."""
        torch.manual_seed(seed)
        module = self.build().eval()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(1.8 if parameter.dim() > 1 else 0.5)
            for part in module.modules():
                if isinstance(part, nn.RNN) and part.nonlinearity == "relu":
                    for name, parameter in part.named_parameters():
                        parameter.sub_(0.5 if "bias" in name else 0)  # so that some units are inactive
                if isinstance(part, nn.BatchNorm1d) and part.running_mean is not None and part.running_var is not None:
                    part.running_mean.normal_(0, 0.1)
                    part.running_var.uniform_(0.1, 0.3)
        return module

    def decisions(self, module: nn.Module, x: Any) -> np.ndarray:
        """Compute the decisions of the module in plain PyTorch."""
        with torch.no_grad():
            return self.decide(call(module, x)).numpy()


def call(module: nn.Module, x: Any) -> Any:
    """Call a module as its user does: a tuple has positional arguments, a dict has named arguments."""
    if isinstance(x, dict):
        return module(**x)
    return module(*x) if isinstance(x, tuple) else module(x)


def words(rng: np.random.Generator, n: int, steps: int = STEPS, classes: int = CLASSES, pad: bool = False) -> Made:
    """Make texts in which most words belong to the class of the example (index % C); with ``pad``, zeros follow."""
    y = rng.integers(0, classes, n)
    x = rng.integers(1, WORDS // classes, (n, steps)) * classes + y[:, None]
    x = np.where(rng.random(x.shape) < 0.4, rng.integers(1, WORDS, x.shape), x)
    if pad:
        x = x * (np.arange(steps) < rng.integers(1, steps + 1, n)[:, None])
    return torch.from_numpy(x), y


def with_lengths(rng: np.random.Generator, n: int) -> Made:
    x, y = words(rng, n, pad=True)
    return (x, (x != 0).sum(1)), y


def tags(rng: np.random.Generator, n: int) -> Made:
    """Make texts with one label per word, mostly its index % C; -1 at padding."""
    (x, lengths), _ = with_lengths(rng, n)
    noisy = np.where(rng.random(x.shape) < 0.2, rng.integers(0, CLASSES, x.shape), x.numpy() % CLASSES)
    return (x, lengths), np.where(x.numpy() == 0, -1, noisy)


def series(rng: np.random.Generator, n: int) -> Made:
    """Make waves of four frequencies in noisy channels."""
    y = rng.integers(0, CLASSES, n)
    time = np.arange(STEPS)[None, :, None] + rng.random((n, 1, 1)) * 6
    x = np.sin(time * (0.3 + 0.5 * y[:, None, None]) + np.arange(FEATURES))
    x += 0.5 * rng.normal(size=x.shape)
    return torch.from_numpy(x.astype(np.float32)), y


def _first(make: Callable[..., Made], change: Callable[[Any], Any], **settings: Any) -> Callable[..., Made]:
    def made(rng: np.random.Generator, n: int) -> Made:
        x, y = make(rng, n, **settings)
        return change(x), y

    return made


def _with_static(rng: np.random.Generator, n: int) -> Made:
    x, y = series(rng, n)
    return (x, torch.from_numpy(rng.normal(size=(n, 3)).astype(np.float32))), y


def _pairs(rng: np.random.Generator, n: int) -> Made:
    x, y = words(rng, n)
    return ((x, words(rng, n, 6)[0]),), y


def _binary(rng: np.random.Generator, n: int) -> Made:
    return words(rng, n, classes=2)


def _multilabel(rng: np.random.Generator, n: int) -> Made:
    x, _ = words(rng, n)
    return x, np.stack([(x.numpy() % CLASSES == j).sum(1) >= 3 for j in range(CLASSES)], 1).astype(np.int64)


def _next_word(rng: np.random.Generator, n: int) -> Made:
    walk = np.cumsum(rng.integers(1, 4, (n, STEPS + 1)), 1) % 12
    return torch.from_numpy(walk[:, :-1].copy()), walk[:, 1:]


def _translation(rng: np.random.Generator, n: int) -> Made:
    x, _ = words(rng, n)
    y = x.numpy() % CLASSES
    return (x, torch.from_numpy(np.roll(y, 1, axis=1))), y


CASES: dict[str, Case] = {
    "packed-lstm": Case(models.PackedLSTM, with_lengths),
    "attention-gru": Case(models.AttentionGRU, _first(words, lambda x: x, pad=True)),
    "deep-lstm": Case(models.DeepLSTM, words),
    "time-first": Case(models.TimeFirst, _first(words, lambda x: x.T.contiguous())),
    "tagger": Case(models.Tagger, _first(tags, lambda x: x[0])),
    "packed-tagger": Case(models.PackedTagger, tags),
    "sensors": Case(models.Sensors, _with_static),
    "named-inputs": Case(
        models.NamedInputs,
        _first(words, lambda x: {"input_ids": x, "attention_mask": (x != 0).long()}, pad=True),
    ),
    "batch-dict": Case(models.BatchDict, _first(with_lengths, lambda x: ({"tokens": x[0], "length": x[1]},))),
    "two-encoders": Case(models.TwoEncoders, _pairs),
    "dict-output": Case(models.DictOutput, words, lambda raw: raw["logits"].argmax(-1)),
    "tuple-output": Case(models.TupleOutput, words, lambda raw: raw[0].argmax(-1)),
    "log-softmax": Case(models.LogSoftmax, words),
    "binary": Case(models.Sentiment, _binary, lambda raw: (raw > 0.5).long()),
    "multi-label": Case(models.MultiLabel, _multilabel, lambda raw: raw > 0.5, labels=True),
    "conv-rnn": Case(models.ConvRNN, series),
    "lstm-then-gru": Case(models.LSTMThenGRU, words),
    "pooled": Case(models.Pooled, _first(words, lambda x: x, pad=True)),
    "relu-rnn": Case(models.ReluRNN, series),
    "learned-state": Case(models.LearnedState, series),
    "normed": Case(models.Normed, series),
    "float64": Case(models.Double, with_lengths),
    "residual": Case(models.Residual, words),
    "keeps-attention": Case(models.KeepsAttention, words, lambda raw: raw.logits.argmax(-1)),
    "no-bias": Case(models.NoBias, series),
    "sequential": Case(models.Sequential, words),
    "tied-language-model": Case(models.TiedLanguageModel, _next_word),
    "encoder-decoder": Case(models.EncoderDecoder, _translation),
}

"""Measure the time of one answer: a text in, a label out, as a server would ask for it.

Two bidirectional networks of ten classes with random weights (time does not depend on how they were trained) read
texts of 20 words. Compared are: the parent as plain torch, without reading the text; the parent by ``predict``; ten
modules at 30 % of the units; eleven modules of the two networks with a referee; the ten modules fused into one network,
by ``predict`` and by ONNX Runtime. Times are CPU seconds of one thread: the smallest of many calls.
"""

from __future__ import annotations

import random
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor, nn

from benchmarks import files
from unbraid import Decomposition, Network, UnbraidWarning, Vocabulary, compose, decompose, export_onnx

CLASSES, STEPS, KEEP, CALLS, SAMPLE = 10, 20, 0.3, 60, 2000
FIRST, SECOND = (1000, 128), (1500, 96)  # words and units of the two parents
MODELS: dict[str, tuple[type[nn.RNNBase], bool]] = {
    f"{name}, {form}": (kind, own)
    for form, own in (("plain layers", False), ("own forward", True))
    for name, kind in (("LSTM", nn.LSTM), ("GRU", nn.GRU), ("RNN", nn.RNN))
}


class Intents(nn.Module):
    """An embedding, one recurrent layer in both directions, an output layer.

    Args:
        kind: nn.LSTM, nn.GRU or nn.RNN.
        words: size of the vocabulary.
        units: H.
        scaled: multiply the features by a constant, which makes the network keep this module's own ``forward``.
    """

    def __init__(self, kind: type[nn.RNNBase], words: int, units: int, scaled: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, 64)
        self.rnn = kind(64, units, batch_first=True, bidirectional=True)
        self.out, self.scaled = nn.Linear(2 * units, CLASSES), scaled

    def forward(self, x: Tensor) -> Tensor:
        _, last = self.rnn(self.embedding(x))
        h = last[0] if isinstance(last, tuple) else last
        features = torch.cat([h[0], h[1]], dim=-1)
        scores: Tensor = self.out(1.0 * features if self.scaled else features)
        return scores


def run(again: bool) -> None:
    """Measure all models, if there is no result yet."""
    path = files.RESULTS / "serving.json"
    if path.exists() and not again:
        return
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnbraidWarning)
        files.write(path, {"models": [measured(name) for name in track(list(MODELS), "serving")]})


def measured(name: str) -> dict[str, Any]:
    """Measure one kind of network."""
    (module, first, x, parts), (_, _, _, others) = (
        _parent(name, seed, *size) for seed, size in enumerate((FIRST, SECOND))
    )
    composition = compose(parts)
    fused = composition.fuse(x, keep=KEEP)
    some = {f"a{label}": parts[label] for label in list(parts)[:6]} | {
        f"b{label}": others[label] for label in list(others)[:5]
    }
    texts, labels = _texts(220), [list(some)[i % len(some)] for i in range(220)]
    refereed = compose(some, sample=(texts, labels), referee=True)
    text, row = texts[:1], torch.from_numpy(x[:1])
    calls: dict[str, Callable[[], Any]] = {
        "torch": lambda: module(row),
        "parent": lambda: first.predict(text),
        "composed": lambda: composition.predict(text),
        "referee": lambda: refereed.predict(text),
        "fused": lambda: fused.predict(text),
    }
    with tempfile.TemporaryDirectory() as folder:
        calls["onnx"] = _session(fused, Path(folder) / "fused.onnx", x)
        with torch.no_grad():
            milliseconds = {way: 1000 * _fastest(call) for way, call in calls.items()}
    return {"model": name, "milliseconds": milliseconds}


def _parent(name: str, seed: int, words: int, units: int) -> tuple[nn.Module, Network, Any, Decomposition]:
    """Make a network whose classes are about equally frequent, and decompose it."""
    torch.manual_seed(seed)
    kind, own = MODELS[name]
    module = Intents(kind, words, units, own).eval()
    x = torch.randint(2, words, (SAMPLE, STEPS))
    with torch.no_grad():
        scores = module(x)
        module.out.weight *= 8
        module.out.bias -= 8 * (scores - module.out.bias).mean(0) + module.out.bias
    vocabulary = Vocabulary.from_words([f"w{i}" for i in range(words - 2)], steps=STEPS)
    network = Network.from_torch(module, x[:8], vocabulary=vocabulary)
    array = x.numpy()
    return module, network, array, decompose(network, (array, network.predict_index(array)), keep=KEEP)


def _texts(count: int) -> list[str]:
    chosen = random.Random(0)
    return [" ".join(f"w{chosen.randrange(FIRST[0] - 2)}" for _ in range(12)) for _ in range(count)]


def _session(fused: Any, path: Path, x: Any) -> Callable[[], Any]:
    import onnxruntime

    export_onnx(fused, path, example=x[:2])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options)
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: x[:1]})


def _fastest(call: Callable[[], Any]) -> float:
    call()
    found = []
    for _ in range(CALLS):
        started = time.process_time()
        call()
        found.append(time.process_time() - started)
    return min(found)


if __name__ == "__main__":
    run(again=True)

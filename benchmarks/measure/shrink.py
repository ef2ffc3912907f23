"""Users' PyTorch models made smaller by ``unbraid.shrink``, beside magnitude pruning at the same sizes.

``python -m benchmarks.measure.shrink`` trains the models in minutes. Where Torch-Pruning is installed, it is tried on
the same models. Accuracy is measured on test data that is used nowhere else; times are CPU seconds of one thread.
"""

from __future__ import annotations

import copy
import json
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from benchmarks import files
from benchmarks.datasets import loading as datasets
from unbraid import shrink
from unbraid.networks.pytorch.wrapped import ShrunkRecurrent

KEEPS, REFINE, SAMPLE = (0.5, 0.3, 0.15), 150, 2000
ROWS, EPOCHS, BATCH = 4000, 6, 64
REPEATS, TIMED = 5, 256
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class Classifier(nn.Module):
    """An embedding, a recurrent layer and an output layer, as tutorials have it.

    Args:
        words: size of the vocabulary.
        classes: C.
        kind: nn.LSTM, nn.GRU or nn.RNN.
        hidden: H.
        tagger: one decision per word.
        norm: layer norm before the output layer, which keeps a smaller layer from being plain.
        settings: of the recurrent layer.
    """

    def __init__(
        self,
        words: int,
        classes: int,
        kind: type[nn.RNNBase] = nn.LSTM,
        hidden: int = 128,
        tagger: bool = False,
        norm: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, 64)
        self.rnn = kind(64, hidden, batch_first=True, **settings)
        width = hidden * (2 if self.rnn.bidirectional else 1)
        self.tagger, self.norm = tagger, nn.LayerNorm(width) if norm else nn.Identity()
        self.out = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        outputs = self.rnn(self.embedding(x))[0]
        scores: Tensor = self.out(self.norm(outputs if self.tagger else outputs[:, -1]))
        return scores


MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "clinc, LSTM": ("clinc", {"kind": nn.LSTM}),
    "clinc, GRU": ("clinc", {"kind": nn.GRU}),
    "clinc, RNN": ("clinc", {"kind": nn.RNN}),
    "clinc, 2 LSTM": ("clinc", {"kind": nn.LSTM, "num_layers": 2}),
    "clinc, LSTM, layer norm": ("clinc", {"kind": nn.LSTM, "norm": True}),
    "brown, LSTM, both directions": ("brown", {"kind": nn.LSTM, "tagger": True, "bidirectional": True, "hidden": 64}),
    "brown, GRU": ("brown", {"kind": nn.GRU, "tagger": True}),
    "clinc, 2 GRU": ("clinc", {"kind": nn.GRU, "num_layers": 2}),
    "mathqa, LSTM": ("mathqa", {"kind": nn.LSTM}),
    "mathqa, GRU": ("mathqa", {"kind": nn.GRU}),
}


def run(again: bool) -> None:
    """Measure all models that have no result yet; the file is written after each."""
    path = files.RESULTS / "shrink.json"
    found = [] if again or not path.exists() else json.loads(path.read_text())["models"]
    torch.set_num_threads(1)
    for name in track([name for name in MODELS if name not in {each["model"] for each in found}], "shrink"):
        found.append(measured(name))
        files.write(path, {"models": found})


def measured(name: str, rows: int = ROWS) -> dict[str, Any]:
    """Train one model and make it smaller in every way."""
    data_name, settings = MODELS[name]
    data = datasets.load(data_name, rows=rows)
    x, y = (torch.from_numpy(np.asarray(values)).long() for values in data.train)
    model = trained(x, y, Classifier(data.vocabulary.size, len(data.labels), **settings))
    test = [torch.from_numpy(np.asarray(values)).long() for values in data.test]
    sample = x[torch.from_numpy(np.sort(np.random.default_rng(0).permutation(len(x))[:SAMPLE]))]
    whole = accuracy(model, *test)
    sizes = []
    for keep in KEEPS:
        started = time.perf_counter()
        small = shrink(model, sample, keep)
        seconds = time.perf_counter() - started
        refined, magnitude = shrink(model, sample, keep, refine=REFINE), by_magnitude(model, keep)
        calls = {"full": model, "small": small, "int8": quantized(small), "full int8": quantized(model)}
        sizes.append(
            {
                "keep": keep,
                "seconds": seconds,
                "plain": not any(isinstance(part, ShrunkRecurrent) for part in small.modules()),
                "weights": recurrent_weights(small) / recurrent_weights(model),
                "accuracy": {
                    "small": accuracy(small, *test),
                    "refined": accuracy(refined, *test),
                    "magnitude": accuracy(magnitude, *test),
                    "int8": accuracy(calls["int8"], *test),
                },
                "same_decisions": agreement(small, model, test[0]),
                "latency": {str(n): latencies(calls, test[0][:n]) for n in (1, TIMED)},
            }
        )
    return {"model": name, "accuracy": whole, "sizes": sizes, "torch_pruning": torch_pruning(model, sample[:4])}


def trained(x: Tensor, y: Tensor, model: Classifier) -> Classifier:
    """Train a model with Adam; the same weights each time."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.uniform_(-0.1, 0.1, generator=generator)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    model.train()
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x), generator=generator).split(BATCH):
            optimizer.zero_grad()
            scores = model(x[rows])
            loss = nn.functional.cross_entropy(scores.flatten(0, -2), y[rows].flatten(), ignore_index=-1)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    return model.eval()


def by_magnitude(model: Any, keep: float, seed: int | None = None) -> Any:
    """The units whose weights have the largest norm, cut out without a fit: structured magnitude pruning.

    With a ``seed``, random units instead. The model has its recurrent layers in ``rnn``, its output layer in ``out``.
    """
    small, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed or 0)
    rnn, wide = model.rnn, model.rnn.hidden_size
    size = max(1, round(keep * wide))
    settings = {"nonlinearity": rnn.nonlinearity} if isinstance(rnn, nn.RNN) else {}
    small.rnn = type(rnn)(
        rnn.input_size, size, rnn.num_layers, batch_first=rnn.batch_first, bidirectional=rnn.bidirectional, **settings
    )
    below: Tensor | None = None
    for level in range(rnn.num_layers):
        kept = []
        for side in ("", "_reverse") if rnn.bidirectional else ("",):
            own = {name: getattr(rnn, f"{name}_l{level}{side}").detach() for name in NAMES}
            gates = len(own["weight_hh"]) // wide
            norms = sum(own[name].view(gates, wide, -1).square().sum((0, 2)) for name in NAMES[:2])
            assert isinstance(norms, Tensor)
            norms = norms if seed is None else torch.rand(wide, generator=generator)
            units = norms.argsort(descending=True)[:size].sort().values
            rows = torch.cat([units + gate * wide for gate in range(gates)])
            own = {name: value[rows] for name, value in own.items()}
            own["weight_hh"] = own["weight_hh"][:, units]
            own["weight_ih"] = own["weight_ih"] if below is None else own["weight_ih"][:, below]
            for name, value in own.items():
                getattr(small.rnn, f"{name}_l{level}{side}").data.copy_(value)
            kept.append(units)
        below = torch.cat([units + place * wide for place, units in enumerate(kept)])
    assert below is not None
    small.out = nn.Linear(len(below), model.out.out_features)
    small.out.weight.data, small.out.bias.data = model.out.weight.data[:, below].clone(), model.out.bias.data.clone()
    if isinstance(getattr(model, "norm", None), nn.LayerNorm):
        small.norm = nn.LayerNorm(len(below))
        small.norm.weight.data, small.norm.bias.data = model.norm.weight.data[below], model.norm.bias.data[below]
    return small.eval()


@torch.no_grad()
def decisions(model: nn.Module, x: Tensor) -> Tensor:
    """Class indices, (N,) or (N, T)."""
    return torch.cat([model(part).argmax(-1) for part in x.split(512)])


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of the labels that the model predicts."""
    return float((decisions(model, x) == y)[y >= 0].float().mean())


def agreement(one: nn.Module, two: nn.Module, x: Tensor) -> float:
    """Share of equal decisions."""
    return float((decisions(one, x) == decisions(two, x)).float().mean())


def recurrent_weights(model: nn.Module) -> int:
    """Number of weights of the recurrent layers, and of the expansions behind them."""
    return sum(p.numel() for p in model.rnn.parameters())  # type: ignore[union-attr]


def quantized(model: nn.Module) -> nn.Module:
    """8-bit weights by torch's dynamic quantization, which has no nn.RNN."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: nn.Module = torch.ao.quantization.quantize_dynamic(model, {nn.LSTM, nn.GRU, nn.Linear}, torch.qint8)
    return found


@torch.no_grad()
def latencies(models: dict[str, nn.Module], x: Tensor) -> dict[str, float]:
    """Median CPU seconds of a call, the models by turns."""
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(REPEATS):
        for name, model in models.items():
            times[name].append(_seconds(lambda model=model: model(x)))  # type: ignore[misc]
    return {name: statistics.median(found) for name, found in times.items()}


def _seconds(call: Callable[[], object]) -> float:
    count, started = 0, time.thread_time()
    while time.thread_time() - started < 0.02:
        call()
        count += 1
    return (time.thread_time() - started) / count


def torch_pruning(model: Classifier, x: Tensor) -> str:
    """What Torch-Pruning does to a model at half of the channels: the error, or the layer that it leaves."""
    try:
        import torch_pruning as tp
    except ImportError:
        return "not installed"
    own = copy.deepcopy(model).requires_grad_(True)
    try:
        pruner = tp.pruner.MagnitudePruner(
            own, x, importance=tp.importance.MagnitudeImportance(), pruning_ratio=0.5, ignored_layers=[own.out]
        )
        pruner.step()
        own(x)
    except Exception as error:  # whatever it raises is the result
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:160]
    return f"hidden units {model.rnn.hidden_size} to {own.rnn.hidden_size}"


if __name__ == "__main__":
    run(again=False)

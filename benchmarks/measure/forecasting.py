"""Forecasters and autoencoders of real series: the error of their modules, beside magnitude and random pruning.

Needs the extra ``bench`` (statsmodels). Small networks are trained in minutes on one core. The training ends at the
lowest error on the part for choosing, which also chooses between the ways to decompose. The test part is used only for
the figures.
"""

from __future__ import annotations

import json
import warnings
from itertools import product
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from benchmarks import files
from benchmarks.datasets.series import SERIES, Part, Windows, windows
from benchmarks.measure.shrink import by_magnitude
from unbraid import Composition, Network, UnbraidWarning, compose, decompose, evaluate

KEEPS, HORIZONS, HIDDEN = (0.5, 0.3, 0.15), (1, 12), 32
EPOCHS, PATIENCE, BATCH, RATE, DECAY, REFINE, SEEDS = 100, 12, 64, 3e-3, 1e-4, 100, 3
CELLS: dict[str, type[nn.RNNBase]] = {"LSTM": nn.LSTM, "GRU": nn.GRU, "vanilla": nn.RNN}
WAYS: dict[str, dict[str, Any]] = {
    "column": {},
    "output": {"concern": "output"},
    "refined": {"refine": REFINE, "concern": "output"},
}
MODELS = [f"{name}, horizon {h}, {layers} {cell}" for layers, h, cell, name in product((1, 2), HORIZONS, CELLS, SERIES)]
DETECTORS = [f"{name}, LSTM" for name in ("sunspots", "CO2", "El Nino")]
HALF, HEIGHTS = 0.5, (0.5, 1.0, 1.5)  # size of the autoencoders; heights of anomalies in standard deviations


class Forecaster(nn.Module):
    """Recurrent layers and an output layer.

    Args:
        cell: a key of :data:`CELLS`.
        inputs: D.
        columns: C.
        layers: number of recurrent layers.
    """

    def __init__(self, cell: str, inputs: int, columns: int, layers: int) -> None:
        super().__init__()
        self.rnn = CELLS[cell](inputs, HIDDEN, layers, batch_first=True)
        self.out = nn.Linear(HIDDEN, columns)

    def forward(self, x: Tensor) -> Tensor:
        numbers: Tensor = self.out(self.rnn(x)[0][:, -1])
        return numbers


class Autoencoder(nn.Module):
    """An encoder whose last state is read at each step by a decoder. One number per timestep.

    Args:
        cell: a key of :data:`CELLS`.
    """

    def __init__(self, cell: str) -> None:
        super().__init__()
        self.encoder = CELLS[cell](1, HIDDEN, batch_first=True)
        self.decoder = CELLS[cell](HIDDEN, HIDDEN, batch_first=True)
        self.out = nn.Linear(HIDDEN, 1)

    def forward(self, x: Tensor) -> Tensor:
        code = self.encoder(x)[0][:, -1:]
        numbers: Tensor = self.out(self.decoder(code.expand(-1, x.shape[1], -1))[0])
        return numbers


def run(again: bool) -> None:
    """Measure all models that have no result yet; the file is written after each."""
    path = files.RESULTS / "forecasting.json"
    found: dict[str, Any] = {"models": {}, "detectors": {}}
    if path.exists() and not again:
        found = json.loads(path.read_text())
    torch.set_num_threads(1)
    missing = [("models", name) for name in MODELS] + [("detectors", name) for name in DETECTORS]
    missing = [(kind, name) for kind, name in missing if name not in found[kind]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnbraidWarning)
        for kind, name in track(missing, "forecasting"):
            found[kind][name] = (measured if kind == "models" else detected)(name)
            files.write(path, {kind: found[kind] for kind in ("models", "detectors")})


def measured(name: str) -> dict[str, Any]:
    """Train one forecaster and decompose it in every way."""
    series, horizon, layers, cell = _parts(name)
    data = windows(series, horizon)
    module = trained(Forecaster(cell, data.train[0].shape[-1], len(data.labels), layers), data)
    example = torch.from_numpy(data.train[0][:8])
    network = Network.from_torch(module, example, labels=data.labels, task="regression")
    sizes = {str(keep): _size(module, network, data, keep) for keep in KEEPS}
    whole = {part: mae(network, pair) for part, pair in (("choose", data.choose), ("test", data.test))}
    naive = float(np.abs(data.test[1]).mean())  # the last value of the window as the forecast
    examples = {part: len(getattr(data, part)[0]) for part in ("train", "choose", "test")}
    return {"columns": len(data.labels), "examples": examples, "mae": whole, "naive": naive, "sizes": sizes}


def _size(module: nn.Module, network: Network, data: Windows, keep: float) -> dict[str, Any]:
    """Mean absolute errors of all ways at one size, on the part for choosing and on the test part."""
    found: dict[str, Any] = {}
    composed: dict[str, Composition] = {}
    for way, settings in WAYS.items():
        if len(data.labels) == 1 and way == "output":
            continue  # one column is the whole output
        composed[way] = compose(decompose(network, data.train[0], keep=keep, **settings))
        found[way] = {"choose": mae(composed[way], data.choose), "test": mae(composed[way], data.test)}
    chosen = min(found, key=lambda way: found[way]["choose"])
    result = evaluate(composed[chosen], data.test, against=network, intervals=0.95)
    assert result.intervals is not None
    cut = {"magnitude": [by_magnitude(module, keep)]}
    cut["random"] = [by_magnitude(module, keep, seed) for seed in range(SEEDS)]
    for way, modules in cut.items():
        found[way] = {"test": float(np.mean([_module_mae(each, data.test) for each in modules]))}
    return {"ways": found, "chosen": chosen, "mae_difference": result.intervals.scores["mae_difference"]}


def detected(name: str) -> dict[str, Any]:
    """Train one autoencoder, and measure how well it and its modules find anomalies put into the test part."""
    series, cell = name.rsplit(", ", 1)
    data = windows(series, 1)
    same = Windows(*((x, x[..., 0]) for x, _ in (data.train, data.choose, data.test)), data.labels)
    module = trained(Autoencoder(cell), same)
    network = Network.from_torch(module, torch.from_numpy(data.train[0][:8]), labels=data.labels, task="regression")
    parts = decompose(network, data.train[0], keep=HALF)
    refined = decompose(network, data.train[0], keep=HALF, refine=REFINE)
    ways = {"whole": network, "modules": compose(parts), "refined": compose(refined)}
    found = {}
    for height in HEIGHTS:
        x, marked = with_anomalies(data.test[0], height)
        found[str(height)] = {way: auroc(_missed(model, x), marked) for way, model in ways.items()}
    return {"auroc": found, "examples": len(x), "anomalies": int(marked.sum())}


def trained(module: Any, data: Windows) -> Any:
    """Train a module with Adam; the weights with the lowest error on the part for choosing are kept."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data.uniform_(-0.15, 0.15, generator=generator)
    x, y = map(torch.from_numpy, data.train)
    held, wanted = map(torch.from_numpy, data.choose)
    optimizer = torch.optim.Adam(module.parameters(), RATE, weight_decay=DECAY)
    best, kept, waited = float("inf"), {}, 0
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x), generator=generator).split(BATCH):
            optimizer.zero_grad()
            nn.functional.mse_loss(module(x[rows]).view(y[rows].shape), y[rows]).backward()
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
        with torch.no_grad():
            loss = float(nn.functional.mse_loss(module(held).view(wanted.shape), wanted))
        waited += 1
        if loss < best:
            best, kept, waited = loss, {n: v.clone() for n, v in module.state_dict().items()}, 0
        if waited >= PATIENCE:
            break
    module.load_state_dict(kept)
    return module.eval()


def mae(model: Network | Composition, part: Part) -> float:
    """Mean absolute error over all columns, in standard deviations of the targets."""
    return float(np.abs(model.predict(part[0]) - part[1]).mean())


@torch.no_grad()
def _module_mae(module: nn.Module, part: Part) -> float:
    return float((module(torch.from_numpy(part[0])) - torch.from_numpy(part[1])).abs().mean())


def with_anomalies(x: np.ndarray, height: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Add an anomaly to every second window: a peak, or a shift of the second part.

    Args:
        x: windows (N, T, 1).
        height: of the anomalies, in standard deviations of the inputs.
        seed: of places and signs.

    Returns:
        the windows, and booleans (N,) that mark those with an anomaly.
    """
    rng, found = np.random.default_rng(seed), x.copy()
    marked = np.arange(len(x)) % 2 == 0
    for place in np.flatnonzero(marked):
        start = rng.integers(2, x.shape[1] - 2)
        stop = start + 1 if rng.random() < 0.5 else x.shape[1]
        found[place, start:stop] += height * rng.choice((-1.0, 1.0))
    return found, marked


def auroc(scores: np.ndarray, marked: np.ndarray) -> float:
    """Probability that a marked example has a higher score than another one; ties count half."""
    one, other = scores[marked][:, None], scores[~marked]
    return float((one > other).mean() + (one == other).mean() / 2)


def _missed(model: Network | Composition, x: np.ndarray) -> np.ndarray:
    """Mean squared error of the reconstruction of each window, (N,)."""
    return np.square(model.predict(x)[..., 0] - x[..., 0], dtype=np.float64).mean(1)


def _parts(name: str) -> tuple[str, int, int, str]:
    series, horizon, layers = name.split(", ")
    count, cell = layers.split(" ")
    return series, int(horizon.split(" ")[1]), int(count), cell


if __name__ == "__main__":
    run(again=False)

"""Classify movements from three sensor channels, and replace the worst module of a network trained too briefly."""

import numpy as np
import torch
from torch import nn

import unbraid

# kind -> radians per timestep, amplitude
KINDS = {"still": (0.0, 0.0), "walking": (0.9, 1.0), "running": (1.6, 1.2), "stairs": (0.9, 0.6)}
STEPS = 24


class Movements(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 24, batch_first=True)
        self.out = nn.Linear(48, len(KINDS))

    def forward(self, x):
        states, _ = self.lstm(x)
        return self.out(torch.cat([states[:, -1], states.mean(1)], dim=1))


def recordings(count, seed):
    """Make noisy sine waves in three channels with different phases; each kind has its frequency and amplitude."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, len(KINDS), count)
    speed, height = np.asarray(list(KINDS.values()))[y].T
    phase = np.arange(STEPS) * speed[:, None] + rng.uniform(0, 6.28, count)[:, None]
    x = np.sin(phase[..., None] + np.asarray([0, 0.8, 1.6])) * height[:, None, None]
    return (x + rng.normal(0, 0.2, x.shape)).astype(np.float32), y


def trained(epochs):
    torch.manual_seed(0)
    x, y = recordings(800, seed=1)
    module = Movements()
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(torch.from_numpy(x[rows])), torch.from_numpy(y[rows])).backward()
            nn.utils.clip_grad_norm_(module.parameters(), 1)
            optimizer.step()
    network = unbraid.Network.from_torch(module, example=x[:8], labels=list(KINDS))
    return network, unbraid.decompose(network, (x, y), keep=0.5)


test, few = recordings(600, seed=2), recordings(200, seed=3)
hasty, parts = trained(epochs=3)
_, better = trained(epochs=25)
before = unbraid.evaluate(unbraid.compose(parts), test, against=hasty)
worst = min(before.modules, key=lambda label: before.modules[label].detection.f1)
mixed = unbraid.compose({**parts, worst: better[worst]}, sample=few)  # modules of two networks: calibrate their margins
after = unbraid.evaluate(mixed, test, against=hasty)
f1 = " -> ".join(f"{result.modules[worst].detection.f1:.3f}" for result in (before, after))
print(before, f"{worst!r} replaced: accuracy {after.accuracy:.4f}, its F1 {f1}", sep="\n")

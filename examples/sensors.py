"""Classify movements of two different sensors with modules of two networks, without a label for both.

One network reads an accelerometer at the belt (in g, with gravity in one channel), the other a gyroscope at the wrist
(in rad/s). Each was trained on its own recordings. The modules vote with what these recordings look like.
"""

import numpy as np
import torch
from torch import nn

import unbraid

STEPS, GRAVITY = 24, np.array([0, 0, 1.0])
# movement -> radians per timestep, amplitude; and the mean of the three channels
BELT = {"standing": (0.0, 0.0), "walking": (0.9, 0.5), "running": (1.6, 0.9)}, GRAVITY
WRIST = {"typing": (0.3, 0.3), "waving": (0.8, 1.5), "brushing": (1.9, 0.8)}, np.zeros(3)
FALL = {"falling": (2.6, 2.5)}, GRAVITY


def recordings(sensor, count, seed):
    """Make noisy sine waves in three channels with different phases."""
    kinds, mean = sensor
    y = (rng := np.random.default_rng(seed)).integers(0, len(kinds), count)
    speed, height = np.asarray(list(kinds.values()))[y].T
    phase = np.arange(STEPS) * speed[:, None] + rng.uniform(0, 6.28, count)[:, None]
    x = mean + np.sin(phase[..., None] + np.asarray([0, 0.8, 1.6])) * height[:, None, None]
    return np.float32(x + rng.normal(0, 0.2, x.shape)), np.asarray(list(kinds))[y]


class Movements(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.lstm = nn.LSTM(3, 24, batch_first=True)
        self.out = nn.Linear(48, classes)

    def forward(self, x):
        states, _ = self.lstm(x)
        return self.out(torch.cat([states[:, -1], states.mean(1)], dim=1))


def parts(sensor):
    torch.manual_seed(0)
    (x, names), labels, module = recordings(sensor, 800, seed=1), list(sensor[0]), Movements(len(sensor[0]))
    y, optimizer = torch.tensor([labels.index(name) for name in names]), torch.optim.Adam(module.parameters(), 0.01)
    for _ in range(20):
        for rows in torch.randperm(len(x)).split(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(torch.from_numpy(x[rows])), y[rows]).backward()
            nn.utils.clip_grad_norm_(module.parameters(), 1)
            optimizer.step()
    return unbraid.decompose(unbraid.Network.from_torch(module, x[:8], labels=labels), (x, names), keep=0.5)


both = unbraid.compose([*parts(BELT).values(), *parts(WRIST).values()])
x, y = (np.concatenate(pair) for pair in zip(recordings(BELT, 300, 2), recordings(WRIST, 300, 3), strict=True))
print(f"without evidence: accuracy {(both.without_domain().predict(x) == y).mean():.3f}")
print(f"with evidence: accuracy {unbraid.evaluate(both, (x, y)).accuracy:.3f}")
examples = np.concatenate([x, recordings(FALL, 100, 4)[0]]), np.concatenate([y, ["unknown"] * 100])
print(unbraid.evaluate(both, examples, unknown="unknown").unknown)

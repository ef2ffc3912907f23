"""A user's own PyTorch module, as folders and state dicts need it."""

import torch
from torch import nn

WORDS, CLASSES, STEPS = 20, 3, 4


class Classifier(nn.Module):
    """The smallest module that reads words and decides once."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(WORDS, 2)
        self.rnn = nn.LSTM(2, 3, batch_first=True)
        self.out = nn.Linear(3, CLASSES)

    def forward(self, x):
        return self.out(self.rnn(self.embed(x))[0][:, -1])


def fresh(seed=0):
    """One with random weights."""
    generator = torch.Generator().manual_seed(seed)
    module = Classifier().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return module


def inputs(count=6):
    """Word indices (N, T) and labels (N,)."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(1, WORDS, (count, STEPS), generator=generator)
    return x, torch.arange(count).numpy() % CLASSES

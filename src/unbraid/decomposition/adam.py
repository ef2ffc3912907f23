"""Steps of Adam. Source: Kingma and Ba 2015."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.adam import adam


class Adam:
    """The steps of ``torch.optim.Adam``, which imports the compiler of torch and needs over a second for that.

    Args:
        parameters: the values to train.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self._means = [torch.zeros_like(p) for p in self.parameters]
        self._squares = [torch.zeros_like(p) for p in self.parameters]
        self._steps = [torch.zeros(()) for _ in self.parameters]

    def clear(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Change the parameters that have a gradient, with a learning rate."""
        some = [place for place, parameter in enumerate(self.parameters) if parameter.grad is not None]
        values: list[Tensor] = [self.parameters[place] for place in some]
        gradients = [g for parameter in self.parameters if (g := parameter.grad) is not None]
        means, squares, steps = ([own[place] for place in some] for own in (self._means, self._squares, self._steps))
        adam(
            values, gradients, means, squares, [], steps,
            amsgrad=False, beta1=0.9, beta2=0.999, lr=rate, weight_decay=0.0, eps=1e-8, maximize=False,
        )  # fmt: skip

"""A sliced module's layers fitted once more, on the states that the module itself runs through.

Folding assumes that everything below a layer, and its own past, says what the parent says. It does not, quite, and what
is missing adds up over layers and timesteps. So layer by layer, from the input on: run the module, and fit the layer's
weights by ridge regression, from what it really reads, to the pre-activations that its nodes have in the parent (a step
of dataset aggregation, Ross et al. 2011). No labels and no gradient step.
Shapes: N examples, T timesteps, D inputs, H units, Z entries of z, G gates.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from unbraid.decomposition.reconstruction.moments import before, on_steps, valid_steps, with_one
from unbraid.networks.inputs import Inputs, to_device
from unbraid.networks.layers import Layer, decomposable_layers, gate_rows
from unbraid.networks.recurrent import RecurrentLayer
from unbraid.networks.watching import watched

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # pulls towards the weights before, as shares of the mean diagonal
JUDGING = 4  # one example of so many judges

Seen = tuple[Tensor, Tensor, Tensor | None]  # x (N, T, D), h_{t-1} (N, T, H), which steps are valid


def refit(
    parent: nn.Module, body: nn.Module, kept: Mapping[str, Tensor], x: Inputs, device: torch.device, weights: np.ndarray
) -> None:
    """Fit the recurrent layers of ``body`` in place.

    Args:
        parent: the whole body.
        body: what :func:`unbraid.networks.layers.sliced` made of it; its recurrent layers' weights are its own.
        kept: layer -> indices of its kept nodes, (H',).
        x: examples.
        device: where both bodies are.
        weights: how much each example, or each timestep, counts, (N, 1) or (N, T).
    """
    tree = to_device(next(x.batches(len(x))), device)
    large, small = decomposable_layers(parent), decomposable_layers(body)
    recurrent = {name: layer for name, layer in large.items() if isinstance(layer.module, RecurrentLayer)}
    with torch.inference_mode():
        wanted = _seen(parent, recurrent, tree)
        for name in recurrent:
            whole, cut = large[name].module, small[name].module
            assert isinstance(whole, RecurrentLayer) and isinstance(cut, RecurrentLayer)
            _fit(whole, cut, kept[name], wanted[name], _seen(body, {name: small[name]}, tree)[name], weights)


def _seen(body: nn.Module, layers: Mapping[str, Layer], tree: object) -> dict[str, Seen]:
    def note(layer: Layer, inputs: tuple, output: tuple) -> Seen:
        return inputs[0], before(layer, inputs, output[0]), valid_steps(inputs)

    with watched(layers, note) as seen:
        body(tree)
        return dict(seen)


def _fit(
    large: RecurrentLayer, small: RecurrentLayer, kept: Tensor, parents: Seen, own: Seen, weights: np.ndarray
) -> None:
    """Fit one layer in place.

    Every example counts twice, with the module's own past and with the parent's: fitted on its own past alone, which
    the fit changes, a vanilla layer runs away.
    """
    (x, previous, _), (read, ours, valid) = parents, own
    cell, rows = large.cell, gate_rows(large, kept)
    count = torch.from_numpy(on_steps(weights, x.shape[1])).to(x.device).expand(-1, x.shape[1])
    count = (count if valid is None else count * valid).reshape(-1)
    used = count > 0
    example = torch.arange(len(x), device=x.device).repeat_interleave(x.shape[1])[used].repeat(2)
    count = count[used].repeat(2)

    def fitted(gates: slice, start: Tensor, z: list[Tensor], wanted: Tensor) -> Tensor:
        regression = Regression(start)
        said = wanted[..., gates].flatten(0, 1)[used].repeat(2, 1)
        regression.add(with_one(torch.cat([part.flatten(0, 1)[used] for part in z])), said, example, count)
        return regression.solved()

    def joint(gates: slice, pasts: list[Tensor], wanted: Tensor) -> None:
        bias = cell.input_bias(small.bias_ih, small.bias_hh)[gates].unsqueeze(1)
        start = torch.cat([small.weight_ih[gates], small.weight_hh[gates], bias], 1)
        new = fitted(gates, start, [torch.cat([read, past], -1) for past in pasts], wanted)
        small.weight_ih.data[gates], small.weight_hh.data[gates] = new[:, : small.inputs], new[:, small.inputs : -1]
        small.bias_ih.data[gates], small.bias_hh.data[gates] = new[:, -1], 0

    pasts = [ours, previous[..., kept]]
    from_x = linear(x, large.weight_ih[rows], cell.input_bias(large.bias_ih, large.bias_hh)[rows])
    recurrent = large.weight_hh[rows]
    if cell.kind != "gru":
        joint(slice(None), pasts, from_x + linear(previous, recurrent))
        return
    joint(slice(0, 2 * small.units), pasts, from_x + linear(previous, recurrent))
    candidate = slice(2 * small.units, 3 * small.units)
    if not cell.reset_after:
        reset = large.gates_after(x, previous)[0]
        joint(
            candidate,
            [small.gates_after(read, past)[0] * past for past in pasts],
            from_x + linear(reset * previous, recurrent),
        )
        return
    start = torch.cat([small.weight_ih[candidate], small.bias_ih[candidate].unsqueeze(1)], 1)
    new = fitted(candidate, start, [read, read], from_x)
    small.weight_ih.data[candidate], small.bias_ih.data[candidate] = new[:, :-1], new[:, -1]
    start = torch.cat([small.weight_hh[candidate], small.bias_hh[candidate].unsqueeze(1)], 1)
    new = fitted(candidate, start, pasts, linear(previous, recurrent, large.bias_hh[rows]))
    small.weight_hh.data[candidate], small.bias_hh.data[candidate] = new[:, :-1], new[:, -1]


class Regression:
    """Ridge regression near ``start`` (R, Z), solved in float64; observations are added in batches and not kept.

    How strong the pull towards ``start`` is, a quarter of the examples decides: the rest fits, the quarter judges. Wide
    inputs and few examples would otherwise be learnt by heart.
    """

    def __init__(self, start: Tensor) -> None:
        rows, columns = start.shape
        self.start = start
        self.gram = torch.zeros(2, columns, columns, dtype=torch.float64, device=start.device)  # fitting, judging
        self.miss = torch.zeros(2, columns, rows, dtype=torch.float64, device=start.device)

    def add(self, z: Tensor, wanted: Tensor, example: Tensor, weights: Tensor | None = None) -> None:
        """Observations.

        Args:
            z: what is read, (M, Z).
            wanted: what its products shall be, (M, R).
            example: which example each is of, (M,) whole numbers.
            weights: how much each counts, (M,).
        """
        weighted = z if weights is None else z * weights.unsqueeze(1)
        both = torch.cat([z, wanted - linear(z, self.start)], 1)
        for part, mine in enumerate((example % JUDGING != 0, example % JUDGING == 0)):
            found = (weighted[mine].t() @ both[mine]).double()
            self.gram[part] += found[:, : z.shape[1]]
            self.miss[part] += found[:, z.shape[1] :]

    def solved(self) -> Tensor:
        """The weights (R, Z); ``start`` where no fit is better than it."""
        best = min(RIDGES, key=lambda ridge: self._judged(self._step(self.gram[0], self.miss[0], ridge)))
        if self._judged(self._step(self.gram[0], self.miss[0], best)) >= 0:
            return self.start
        return self.start + self._step(self.gram.sum(0), self.miss.sum(0), best).t().to(self.start.dtype)

    def _step(self, gram: Tensor, miss: Tensor, ridge: float) -> Tensor:
        size = gram.diagonal().mean().clamp(min=1e-12)
        pull = ridge * size * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        return torch.linalg.solve(gram + pull, miss)

    def _judged(self, step: Tensor) -> float:
        """How the squared error of the judging part changes with a step (Z, R)."""
        return float((step * (self.gram[1] @ step - 2 * self.miss[1])).sum())


def _flat(values: Tensor) -> Tensor:
    return values.reshape(-1, values.shape[-1])

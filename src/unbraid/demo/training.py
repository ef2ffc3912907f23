"""Training a network of Unbraid's own stages, for demonstrations and benchmarks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from unbraid.data.targets import Label, read_targets
from unbraid.demo.initial import initial_weights
from unbraid.errors import DataError
from unbraid.networks.network import Network
from unbraid.networks.reading import check_inputs
from unbraid.networks.spec import NetworkSpec
from unbraid.progress import Progress, bar

IGNORED = -1


def train(
    spec: NetworkSpec,
    x: Any,
    y: Any,
    labels: Sequence[Label] | None = None,
    *,
    epochs: int,
    seed: int = 0,
    learning_rate: float = 2e-3,
    batch_size: int = 64,
    clip: float = 1.0,
    threads: int = 1,
    progress: Progress = bar,
) -> Network:
    """A network trained with Adam on cross entropy; on the CPU the same seed gives the same weights.

    Args:
        spec: what to train.
        x: word indices (N, T) or features (N, T, D).
        y: class indices or names (N,), or (N, T) for many outputs, where -1 does not count; for C independent sigmoid
            columns 0 or 1 for each of them, (N, C) or (N, T, C).
        labels: the classes' names; 0..C-1 by default.
        epochs: passes over the examples; 0 gives the weights before training.
        seed: of the first weights and of the examples' order.
        learning_rate: of Adam, above 0.
        batch_size: examples a step, at least 1.
        clip: longest gradient, by Euclidean norm over all weights; vanilla cells diverge without it.
        threads: CPU threads; layers of a hundred units gain little from a second one, and a great deal is lost where
            another program needs its core.
        progress: what tells how far training is.

    Returns:
        the network, frozen and on the CPU; it trains on the first CUDA device where there is one.

    Raises:
        DataError: x, y or the labels do not fit the spec or each other.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = Network(spec, initial_weights(spec, seed), labels)
    inputs = torch.from_numpy(check_inputs(spec, x).array)
    targets = _targets(network, inputs, y)
    network.to(device).requires_grad_(True).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate, fused=True)
    batches = _shuffled(len(inputs), batch_size, epochs, seed)
    with training_settings(threads), progress("training", len(batches)) as advance:
        for batch in batches:
            optimizer.zero_grad()
            _loss(spec, network(inputs[batch].to(device)), targets[batch].to(device)).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
            optimizer.step()
            advance(1)
    return network.cpu().requires_grad_(False).eval()


@contextmanager
def training_settings(threads: int) -> Iterator[None]:
    """While it lasts, so many CPU threads, and gradients through our layers on CUDA as well."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        # cuDNN gives no gradients to a layer that asks for its inference mode, as ours do
        with torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        torch.set_num_threads(before)


def _shuffled(examples: int, batch_size: int, epochs: int, seed: int) -> list[Tensor]:
    """Every step's examples, all epochs in a row."""
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(examples, generator=generator) for _ in range(epochs)]
    return [batch for order in orders for batch in order.split(batch_size)]


def _loss(spec: NetworkSpec, logits: Tensor, targets: Tensor) -> Tensor:
    """The mean over everything that counts: logits (N, [T,] C)."""
    counted = (targets != IGNORED).sum().clamp(min=1)
    if spec.output == "softmax":
        total = cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=IGNORED, reduction="sum")
    else:
        weight = (targets != IGNORED).float()
        total = binary_cross_entropy_with_logits(logits, targets.float(), weight=weight, reduction="sum")
    return total / counted


def _targets(network: Network, inputs: Tensor, y: Any) -> Tensor:
    """What the loss compares logits with: class indices (N, [T]), or 0 and 1 per sigmoid column (N, [T,] C)."""
    sigmoid = network.spec.output == "sigmoid"
    checked = read_targets(
        y,
        network.labels,
        many=network.io.many_outputs,
        independent=sigmoid and not network.binary,
        examples=len(inputs),
    )
    targets = torch.from_numpy(checked.y)
    targets = targets.unsqueeze(-1) if network.binary else targets
    outputs = network(inputs[:1]).shape[1:]
    if targets.shape[1:] != (outputs if sigmoid else outputs[:-1]):
        raise DataError(f"labels have shape {checked.y.shape}, the network's outputs {(len(inputs), *outputs)}.")
    return targets

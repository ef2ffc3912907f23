"""Train a network of stages, for demonstrations and benchmarks.

Shapes: N examples, T timesteps, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from unbraid.data.targets import Label, read_targets
from unbraid.demo.architectures import sequence_spec
from unbraid.demo.initial import initial_weights
from unbraid.demo.names import UNKNOWN, NameExamples
from unbraid.errors import DataError
from unbraid.networks.network import Network
from unbraid.networks.reading import check_inputs
from unbraid.networks.spec import NetworkSpec
from unbraid.progress import Progress, bar, silent

IGNORED = -1
NAME_DIMENSION, NAME_UNITS = 32, 64  # of the network of train_names


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
    """Train a network with Adam on the cross entropy. On the CPU, equal seeds give equal weights.

    Args:
        spec: description of the network.
        x: word indices (N, T) or features (N, T, D).
        y: class indices or names (N,), or (N, T) for many outputs; -1 means no label. For C independent sigmoid columns
            0 or 1, (N, C) or (N, T, C).
        labels: names of the classes; 0..C-1 by default.
        epochs: number of passes over the examples; 0 returns the initial weights.
        seed: seed of the initial weights and of the order of the examples.
        learning_rate: learning rate of Adam, above 0.
        batch_size: number of examples per step, at least 1.
        clip: largest Euclidean norm of the gradient over all weights; vanilla cells diverge without it.
        threads: number of CPU threads. Layers of a hundred units gain little from a second thread.
        progress: factory of progress bars, see :mod:`unbraid.progress`.

    Returns:
        the network, frozen and on the CPU. Training uses the first CUDA device, if there is one.

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


def train_names(data: NameExamples, epochs: int = 1, seed: int = 0, progress: Progress = silent) -> Network:
    """Train a small LSTM on the names of Unicode characters, in seconds.

    The network has an embedding of 32 values, one LSTM layer of 64 units, and one output for each class.

    Args:
        data: the names, see :func:`unbraid.demo.names.load_names`.
        epochs: number of passes over the names, at least 0. One pass over all names takes about five seconds.
        seed: seed of the initial weights and of the order of the names.
        progress: factory of progress bars, see :mod:`unbraid.progress`. No bar by default.

    Returns:
        the network, frozen and on the CPU.

    Example:
        >>> from unbraid.demo.names import load_names
        >>> data = load_names(per_class=50)
        >>> network = train_names(data)
        >>> network.labels[:2]
        ['lowercase letter', 'uppercase letter']
    """
    words, steps = UNKNOWN + 1 + len(data.vocabulary), data.x_train.shape[1]
    spec = sequence_spec("lstm", 1, words, NAME_DIMENSION, NAME_UNITS, len(data.labels), "M:1", steps)
    return train(spec, data.x_train, data.y_train, data.labels, epochs=epochs, seed=seed, progress=progress)


@contextmanager
def training_settings(threads: int) -> Iterator[None]:
    """Set the number of CPU threads, and allow gradients through recurrent layers on CUDA, within this context."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        # cuDNN computes no gradients for layers in inference mode, and recurrent layers use this mode
        with torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        torch.set_num_threads(before)


def _shuffled(examples: int, batch_size: int, epochs: int, seed: int) -> list[Tensor]:
    """Return the indices of the examples of each step, for all epochs."""
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(examples, generator=generator) for _ in range(epochs)]
    return [batch for order in orders for batch in order.split(batch_size)]


def _loss(spec: NetworkSpec, logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the mean loss over labelled decisions from logits (N, [T,] C)."""
    counted = (targets != IGNORED).sum().clamp(min=1)
    if spec.output == "softmax":
        total = cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=IGNORED, reduction="sum")
    else:
        weight = (targets != IGNORED).float()
        total = binary_cross_entropy_with_logits(logits, targets.float(), weight=weight, reduction="sum")
    return total / counted


def _targets(network: Network, inputs: Tensor, y: Any) -> Tensor:
    """Return the targets of the loss: class indices (N, [T]), or 0 and 1 for each sigmoid column (N, [T,] C)."""
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
        raise DataError(
            f"labels have shape {checked.y.shape}, the outputs of the network {(len(inputs), *outputs)}: give one "
            "label for each decision."
        )
    return targets

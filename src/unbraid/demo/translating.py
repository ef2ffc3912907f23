"""Train a multi-target translator with teacher forcing, for demonstrations and benchmarks.

Shapes: N pairs, S source words, T target words, F features, V words of the target vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, dropout, linear

from unbraid.demo.checkpoints import restore, store
from unbraid.demo.initial import initial_weights
from unbraid.demo.training import training_settings
from unbraid.networks.encoder_decoder import EncoderDecoder
from unbraid.networks.network import Network
from unbraid.networks.spec import EncoderDecoderSpec
from unbraid.progress import Progress, bar
from unbraid.translation.pairs import Pairs


def train_translator(
    spec: EncoderDecoderSpec,
    pairs: Pairs,
    *,
    epochs: int,
    seed: int = 0,
    learning_rate: float = 3e-3,
    batch_size: int = 128,
    limit: int | None = None,
    dropped: float = 0.2,
    clip: float = 1.0,
    threads: int = 1,
    checkpoint: Path | None = None,
    progress: Progress = bar,
    told: Callable[[int, float], object] = lambda epoch, loss: None,
) -> Network:
    """Train a network with Adam on the cross entropy of the next word, with a cosine schedule of the learning rate.

    All sentences of a batch have the same number of source words, so that no padding is computed.

    Args:
        spec: description of the network.
        pairs: sentence pairs, as indices of the vocabularies of the network.
        epochs: number of passes over the pairs.
        seed: seed of the initial weights, of the order of the batches and of dropout.
        learning_rate: initial learning rate.
        batch_size: number of pairs per step.
        limit: number of random words that the softmax of a step uses besides the words of the step, in all epochs
            except the last. None uses all V words. The output layer dominates the cost of such a network.
        dropped: dropout rate of embedded values and of features, in [0, 1).
        clip: largest Euclidean norm of the gradient over all weights.
        threads: number of CPU threads.
        checkpoint: a file to resume training from after an interruption; removed at the end.
        progress: factory of progress bars, see :mod:`unbraid.progress`.
        told: called after each epoch with its number and mean loss.

    Returns:
        the network, frozen and on the CPU. Training uses the first CUDA device, if there is one.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = Network(spec, initial_weights(spec, seed)).to(device).requires_grad_(True).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate, fused=True)
    done = 0 if checkpoint is None else restore(checkpoint, network, optimizer)
    steps = sum(1 for _ in _batches(pairs, batch_size, seed))
    with training_settings(threads), progress("training", steps * (epochs - done)) as advance:
        for epoch in range(done, epochs):
            torch.manual_seed(hash((seed, epoch)))  # so that a resumed training gives the same weights
            drawn = limit if epoch + 1 < epochs else None
            losses = []
            for number, rows in enumerate(_batches(pairs, batch_size, seed + 1000 * epoch)):
                share = (epoch + number / steps) / epochs
                optimizer.param_groups[0]["lr"] = learning_rate * (0.02 + 0.98 * (1 + math.cos(math.pi * share)) / 2)
                optimizer.zero_grad()
                loss = _loss(network, pairs.take(rows), drawn, dropped, device)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
                optimizer.step()
                losses.append(float(loss.detach()))
                advance(1)
            told(epoch, float(np.mean(losses)))
            if checkpoint is not None:
                store(checkpoint, network, optimizer, epoch + 1)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return network.cpu().requires_grad_(False).eval()


def _batches(pairs: Pairs, size: int, seed: int) -> Iterator[np.ndarray]:
    """Yield batches of rows with equal source length, in random order; each row occurs once."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(pairs))
    lengths = (pairs.source[order] != 0).sum(1)
    batches = []
    for length in np.unique(lengths):
        rows = order[lengths == length]
        batches += np.array_split(rows, math.ceil(len(rows) / size))
    return (batches[n] for n in rng.permutation(len(batches)))


def _loss(network: Network, pairs: Pairs, limit: int | None, dropped: float, device: torch.device) -> Tensor:
    """Compute the mean cross entropy of the next word over all positions without padding."""
    longest = int((pairs.target != 0).sum(1).max())
    source = torch.from_numpy(pairs.source[:, : int((pairs.source[0] != 0).sum())]).to(device)
    target, following = (torch.from_numpy(a[:, :longest]).to(device) for a in (pairs.target, pairs.following))
    counted = following != 0
    body = network.body
    assert isinstance(body, EncoderDecoder)
    features = dropout(_features(body, source, target, dropped)[counted], dropped)
    wanted = following[counted]
    if limit is None:
        return cross_entropy(network.head(features), wanted)
    drawn = torch.randint(network.spec.classes, (limit,), device=device)
    candidates = torch.unique(torch.cat([wanted, drawn]))
    scores = linear(features, network.head.weight[candidates], network.head.bias[candidates])
    return cross_entropy(scores, torch.searchsorted(candidates, wanted))


def _features(body: EncoderDecoder, source: Tensor, target: Tensor, dropped: float) -> Tensor:
    """Compute features (N, T, F) with dropout, for sources without padding; they are undefined at target padding."""
    x = dropout(body.source(source, None)[0], dropped)
    y = dropout(body.target(target, None)[0], dropped)
    states = []
    for layer in body.encoder:
        x, state = layer(x)
        states.append(state)
    for layer, state in zip(body.decoder, states, strict=True):
        y, _ = layer(y, None, state)
    return y

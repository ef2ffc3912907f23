"""Checkpoints of a training as safetensors files: weights, moments of Adam, number of epochs."""

from __future__ import annotations

import uuid
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def store(path: Path, network: nn.Module, optimizer: torch.optim.Adam, epochs: int) -> None:
    """Write the state after ``epochs`` epochs; the write is atomic."""
    tensors = {f"weight/{name}": p.detach().contiguous() for name, p in network.named_parameters()}
    for name, p in network.named_parameters():
        for key in MOMENTS:
            tensors[f"{key}/{name}"] = optimizer.state[p][key].contiguous()
    tensors["epochs"] = torch.tensor(epochs)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{uuid.uuid4().hex}")
    save_file(tensors, temporary)
    temporary.replace(path)


def restore(path: Path, network: nn.Module, optimizer: torch.optim.Adam) -> int:
    """Read a file of :func:`store`; return the number of epochs, 0 without a file."""
    if not path.exists():
        return 0
    tensors = load_file(path)
    with torch.no_grad():
        for name, p in network.named_parameters():
            p.copy_(tensors[f"weight/{name}"])
            optimizer.state[p] = {key: tensors[f"{key}/{name}"].to(p.device) for key in MOMENTS}
    return int(tensors["epochs"])

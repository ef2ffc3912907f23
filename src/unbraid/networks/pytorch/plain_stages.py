"""Convert the stages of a network to layers of torch, for use without the classes of this library.

Shapes: N examples, T timesteps, D features, H hidden units, F features of the output layer, K modules, R rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from unbraid.errors import UnsupportedLayer
from unbraid.networks.cells import ACTIVATIONS
from unbraid.networks.graph.plain import head_call, plain_graph, plain_recurrent, scores_spec
from unbraid.networks.graph_spec import KerasSpec
from unbraid.networks.heads import Head, margin
from unbraid.networks.pytorch.body import TorchBody
from unbraid.networks.pytorch.plain_body import user_features
from unbraid.networks.pytorch.replacing import copied
from unbraid.networks.recurrent import PrunedRecurrentLayer, RecurrentLayer
from unbraid.networks.stage_spec import StageSpec
from unbraid.networks.stages import Activation, Dense, Embedding, Flatten, Recurrent, Repeat, StageSequence


class PlainRecurrent(nn.Module):
    """One or two nn.LSTM, nn.GRU or nn.RNN layers of equal size, with the outputs of Keras.

    Args:
        layers: one layer for each direction.
        reverse: for each layer, whether it reads backwards.
        sequences: whether to return all outputs instead of the last one.
        flip: whether the outputs of a layer that reads backwards stay in the order of reading.
    """

    def __init__(self, layers: Sequence[nn.RNNBase], reverse: Sequence[bool], sequences: bool, flip: bool) -> None:
        super().__init__()
        self.layers, self.reverse = nn.ModuleList(layers), list(reverse)
        self.sequences, self.flip = sequences, flip

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, D) to (N, T, H) or (N, H), with the outputs of both directions joined."""
        found = []
        for layer, reverse in zip(self.layers, self.reverse, strict=True):
            outputs = layer(x.flip(1) if reverse else x)[0]
            if not self.sequences:
                outputs = outputs[:, -1]
            elif reverse and not self.flip:
                outputs = outputs.flip(1)
            found.append(outputs)
        return torch.cat(found, -1)


class Applied(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor], name: str) -> None:
        super().__init__()
        self.function, self.name = function, name

    def extra_repr(self) -> str:
        """Name the function."""
        return self.name

    def forward(self, x: Tensor) -> Tensor:
        """Apply the function."""
        return self.function(x)


class RepeatVector(nn.Module):
    """A repetition: (N, D) to (N, times, D)."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def forward(self, x: Tensor) -> Tensor:
        """Repeat the vector of each example."""
        return x.unsqueeze(1).expand(-1, self.times, -1)


class PlainMargins(nn.Module):
    """Margins of modules. Each module has a body, and output rows over the features of the body.

    Args:
        bodies: modules that map inputs to features. Several modules may share one.
        body_of: index of the body of each of the K modules.
        heads: output layers of the K modules.
        temperature: divisors of the margins, (K,).
        offset: values added after the division, (K,).
    """

    temperature: Tensor
    offset: Tensor

    def __init__(
        self,
        bodies: Sequence[nn.Module],
        body_of: Sequence[int],
        heads: Sequence[Head],
        temperature: Tensor,
        offset: Tensor,
    ) -> None:
        super().__init__()
        self.bodies, self.body_of = nn.ModuleList(bodies), list(body_of)
        self.rows = nn.ModuleList(_linear(head.weight, head.bias) for head in heads)
        self.idle = [head.idle for head in heads]
        self.register_buffer("temperature", temperature.clone())
        self.register_buffer("offset", offset.clone())

    def forward(self, *x: Tensor) -> Tensor:
        """Compute the margins, (N, K) or (N, T, K), from the inputs in order."""
        features = [body(*x) for body in self.bodies]
        own = zip(self.body_of, self.rows, self.idle, strict=True)
        margins = torch.stack([margin(rows(features[place]), idle) for place, rows, idle in own], -1)
        return margins / self.temperature + self.offset


def plain_network(body: nn.Module, head: nn.Linear) -> nn.Module:
    """Convert the stages or the graph of a network and its output layer, which returns logits.

    Raises:
        UnsupportedLayer: as :func:`plain_stages`.
    """
    if isinstance(body, TorchBody) and isinstance(body.spec, KerasSpec):
        parts = _copied_parts(body) | {body.spec.head: _linear(head.weight, head.bias)}
        scores = scores_spec(body.spec.graph, body.spec.head)
        return plain_graph(scores, parts, scores.output)
    return plain_stages(body).append(_linear(head.weight, head.bias)).eval()


def plain_features(body: nn.Module) -> nn.Module:
    """Convert the body of a network, or of a rolled module of it; it returns the features.

    Raises:
        UnsupportedLayer: as :func:`plain_stages`; or an unrolled module.
    """
    if isinstance(body, TorchBody) and not isinstance(body.spec, KerasSpec):
        return user_features(body)
    if not isinstance(body, TorchBody) or not isinstance(body.spec, KerasSpec):
        return plain_stages(body)
    graph, head = body.spec.graph, body.spec.head
    if body.copies > 1 or any(isinstance(part, PrunedRecurrentLayer) for part in body.modules()):
        raise UnsupportedLayer("an unrolled module has masks of its own at each timestep: use unbraid.export_onnx.")
    parts = _copied_parts(body) | {head: nn.Identity()}
    return plain_graph(graph, parts, graph.calls[head_call(graph, head)].reads[0])


def _copied_parts(body: TorchBody) -> dict[str, nn.Module]:
    return dict(copied(body.module).named_children())


def plain_stages(body: nn.Module) -> nn.Sequential:
    """Convert the stages of a network of a Keras file, or of a rolled module of it, to layers of torch.

    Raises:
        UnsupportedLayer: a stage or a cell for which torch has no layer, or a mask of padded timesteps.
    """
    if not isinstance(body, StageSequence):
        raise UnsupportedLayer(
            "to_torch() copies networks of Keras files and of PyTorch modules and their modules, not encoder-decoders."
        )
    found = nn.Sequential()
    for spec, stage in zip(body.specs, body.stages, strict=True):
        for part in _parts(spec, stage):
            found.append(part)
    return found.requires_grad_(False).eval()


def _parts(spec: StageSpec, stage: nn.Module) -> list[nn.Module]:
    match stage:
        case Embedding() if not stage.mask_zero:
            return [nn.Embedding.from_pretrained(stage.weight.detach().clone())]
        case Flatten():
            return [nn.Flatten(1)]
        case Repeat():
            return [RepeatVector(stage.times)]
        case Activation():
            return [Applied(stage.function, spec.activation)]  # type: ignore[union-attr]
        case Dense():
            own = _linear(stage.weight, stage.bias)
            activation = Applied(ACTIVATIONS[stage.activation], stage.activation)
            return [own] if stage.activation == "linear" else [own, activation]
        case Recurrent():
            sides = [part for part in (stage.forward_layer, stage.backward_layer) if part is not None]
            if len(sides) == 1 or stage.merge == "concat":
                layers = [_layer(part, spec.name) for part in sides]
                backwards = [bool(part.reverse) for part in sides]
                return [PlainRecurrent(layers, backwards, stage.sequences, stage.flip)]
    raise UnsupportedLayer(
        f"layer {spec.name!r} ({spec.type}) is none of torch's layers (it masks padding, is of an unrolled module, "
        "or merges directions otherwise than by concat): use unbraid.export_onnx."
    )


def _layer(part: nn.Module, name: str) -> nn.RNNBase:
    if not isinstance(part, RecurrentLayer) or not part.cell.fused:
        raise UnsupportedLayer(
            f"layer {name!r} has a cell or masks that torch's layers do not compute: use unbraid.export_onnx."
        )
    return plain_recurrent(part)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    layer.weight, layer.bias = (nn.Parameter(p.detach().clone(), requires_grad=False) for p in (weight, bias))
    return layer

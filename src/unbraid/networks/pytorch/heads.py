"""The output layer of a user's module: nn.Linear, or nn.Conv1d with kernel 1. Shapes: N examples, T timesteps."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import conv1d, linear

from unbraid.networks.passes import current

HEADS = (nn.Linear, nn.Conv1d)


def is_head(layer: nn.Module) -> bool:
    """Return whether a layer can be an output layer."""
    if isinstance(layer, nn.Conv1d):
        plain = (layer.kernel_size, layer.stride, layer.dilation, layer.groups) == ((1,), (1,), (1,), 1)
        return plain and layer.padding in ((0,), "same", "valid", 0)
    return isinstance(layer, nn.Linear)


def channels_last(layer: nn.Module, x: Tensor) -> Tensor:
    """Move the features of inputs or outputs of an output layer to the last axis."""
    return x.transpose(-1, -2) if isinstance(layer, nn.Conv1d) and x.dim() > 1 else x


def scores_of(layer: nn.Module, features: Tensor) -> Tensor:
    """Compute the scores of an output layer from features in the last axis."""
    weight = layer.weight.squeeze(-1) if isinstance(layer, nn.Conv1d) else layer.weight
    return linear(features, weight, layer.bias)  # type: ignore[arg-type]  # tensors


class Tap(nn.Linear):
    """An output layer that records every call in the current pass."""

    def __init__(self, original: nn.Linear) -> None:
        nn.Module.__init__(self)  # without the random weights of an nn.Linear
        self.in_features, self.out_features = original.in_features, original.out_features
        self.weight = original.weight
        self.register_parameter("bias", original.bias)

    def forward(self, input: Tensor) -> Tensor:
        return _noted(input, super().forward(input))

    def sliced(self, features: Tensor) -> Tap:
        """Return the same layer over some of its inputs, (F',)."""
        small = Tap(self)
        small.in_features = len(features)
        small.weight = nn.Parameter(self.weight.detach()[:, features], requires_grad=False)
        return small.eval()


class ConvTap(nn.Conv1d):
    """A convolution with kernel 1 as an output layer that records every call in the current pass."""

    def __init__(self, original: nn.Conv1d) -> None:
        super().__init__(1, 1, 1, bias=original.bias is not None, device="meta")
        self.in_channels, self.out_channels = original.in_channels, original.out_channels
        self.weight, self.bias = original.weight, original.bias

    def forward(self, input: Tensor) -> Tensor:
        scores = conv1d(input, self.weight, self.bias)
        _noted(channels_last(self, input), channels_last(self, scores))
        return scores


def tap_of(layer: nn.Module) -> Tap | ConvTap:
    """Make the replacement of an output layer, with the same weights."""
    if isinstance(layer, nn.Conv1d):
        return ConvTap(layer)
    assert isinstance(layer, nn.Linear)
    return Tap(layer)


def copied_linear(layer: nn.Module) -> nn.Linear:
    """Make an nn.Linear that shares the weights, with a bias of zeros if there is none."""
    assert isinstance(layer, nn.Linear | nn.Conv1d)
    weight = layer.weight
    own: nn.Parameter | None = layer.bias  # type: ignore[assignment]  # None with bias=False
    copied = nn.Linear.__new__(nn.Linear)
    nn.Module.__init__(copied)  # without random weights
    copied.out_features, copied.in_features = weight.shape[:2]
    copied.weight = weight if isinstance(layer, nn.Linear) else nn.Parameter(weight.detach().squeeze(-1))
    copied.bias = nn.Parameter(weight.new_zeros(weight.shape[0])) if own is None else own
    return copied


def _noted(features: Tensor, scores: Tensor) -> Tensor:
    if (here := current()) is not None:
        here.head.append((features, scores))
    return scores

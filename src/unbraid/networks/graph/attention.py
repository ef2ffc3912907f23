"""Attention layers. The values that they read come in the order query, value, key, as Keras orders them.

Shapes: N examples, T timesteps of the query, S timesteps of the value and the key, D features, A heads, K key size.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from unbraid.networks.graph.kind import Kind, Mask, Settings, Shapes, Weight, Weights, keep_mask

_FAR = 1e9  # is subtracted from the score of a position that the mask excludes


def _parts(x: list[Tensor], masks: Sequence[Mask]) -> tuple[Tensor, Tensor, Tensor, Mask, Mask]:
    """Query, value, key, and the masks of query and value."""
    if len(x) not in (2, 3) or any(part.dim() != 3 for part in x):
        raise ValueError(f"attention reads {[tuple(part.shape[1:]) for part in x]}, expected 2 or 3 sequences")
    return x[0], x[1], x[-1] if len(x) == 3 else x[1], masks[0], masks[1]


def _causal(scores: Tensor) -> Tensor:
    """True where a timestep of the query may read one of the value, (T, S)."""
    return torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()


def _attend(settings: Settings, scores: Tensor, value: Tensor, query_mask: Mask, value_mask: Mask) -> Tensor:
    """Values weighted by the softmax of the scores (N, T, S)."""
    allowed = [] if value_mask is None else [value_mask.unsqueeze(1)]
    if settings.get("causal", False) or settings.get("use_causal_mask", False):
        allowed.append(_causal(scores))
    if allowed:
        scores = scores - _FAR * (~reduce(torch.logical_and, allowed)).to(scores.dtype)
    result = torch.softmax(scores, -1) @ value
    return result if query_mask is None else result * query_mask.unsqueeze(-1).to(result.dtype)


def _dot_attention(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    query, value, key, query_mask, value_mask = _parts(x, masks)
    if settings.get("score_mode", "dot") == "concat":
        summed = query.unsqueeze(2) + key.unsqueeze(1)
        scores = w["concat_score_weight"] * torch.tanh(w["scale"] * summed if "scale" in w else summed).sum(-1)
    else:
        scores = query @ key.transpose(1, 2)
        scores = scores * w["scale"] if "scale" in w else scores
    return _attend(settings, scores, value, query_mask, value_mask)


def _dot_weights(settings: Settings, shapes: Shapes) -> list[Weight]:
    concat = settings.get("score_mode", "dot") == "concat"
    scale = [Weight("scale", ())] * bool(settings.get("use_scale", False))
    return scale + [Weight("concat_score_weight", ())] * concat


def _additive_attention(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    query, value, key, query_mask, value_mask = _parts(x, masks)
    summed = torch.tanh(query.unsqueeze(2) + key.unsqueeze(1))
    scores = (summed * w["scale"] if "scale" in w else summed).sum(-1)
    return _attend(settings, scores, value, query_mask, value_mask)


def _additive_weights(settings: Settings, shapes: Shapes) -> list[Weight]:
    return [Weight("scale", (shapes[0][-1],))] * bool(settings.get("use_scale", True))


def _multi_head(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    """Scaled dot-product attention of several heads; a mask of the query excludes whole rows."""
    query, value, key, query_mask, value_mask = _parts(x, masks)
    key_mask = masks[2] if len(x) == 3 else None

    def projected(name: str, values: Tensor) -> Tensor:
        """Convert (N, T, D) to (N, A, T, K)."""
        found = torch.einsum("ntd,dak->natk", values, w[f"{name}_kernel"])
        return found + w[f"{name}_bias"].unsqueeze(1) if f"{name}_bias" in w else found

    scores = projected("query", query) @ projected("key", key).transpose(2, 3)
    scores = scores / settings.sizes("key_dim", 1)[0] ** 0.5
    allowed = [mask.unsqueeze(1).unsqueeze(2) for mask in (value_mask, key_mask) if mask is not None]
    if query_mask is not None:
        allowed.append(query_mask.unsqueeze(1).unsqueeze(3))
    if settings.get("use_causal_mask", False):
        allowed.append(_causal(scores))
    if allowed:
        mask = reduce(torch.logical_and, allowed)
        weights = torch.softmax(scores.masked_fill(~mask, -_FAR), -1)
        weights = weights if settings.keras < 3 else weights * mask
    else:
        weights = torch.softmax(scores, -1)
    result = torch.einsum("natk,akd->ntd", weights @ projected("value", value), w["output_kernel"])
    return result + w["output_bias"] if "output_bias" in w else result


def _multi_head_weights(settings: Settings, shapes: Shapes) -> list[Weight]:
    if len(shapes) not in (2, 3) or any(len(shape) != 2 for shape in shapes):
        raise ValueError(f"attention reads {shapes}, expected 2 or 3 sequences")
    if settings.get("attention_axes") not in (None, [1]):
        raise ValueError(f"attention_axes is {settings.get('attention_axes')!r}, expected None")
    heads, size = (settings.sizes(name, 1)[0] for name in ("num_heads", "key_dim"))
    wide = settings.sizes("value_dim", 1, size)[0]
    output = settings.sizes("output_shape", 1, shapes[0][-1])[0]
    found = []
    parts = [
        ("query", shapes[0][-1], (heads, size)),
        ("key", shapes[-1][-1], (heads, size)),
        ("value", shapes[1][-1], (heads, wide)),
    ]
    for name, depth, shape in parts:
        found.append(Weight(f"{name}_kernel", (depth, *shape), f"{name}_dense", 0))
        found += [Weight(f"{name}_bias", shape, f"{name}_dense", 1)] * bool(settings.get("use_bias", True))
    found.append(Weight("output_kernel", (heads, wide, output), "output_dense", 0))
    return found + [Weight("output_bias", (output,), "output_dense", 1)] * bool(settings.get("use_bias", True))


_SHARED = ("use_causal_mask", "causal")

ATTENTION: dict[str, Kind] = {
    "Attention": Kind(_dot_attention, ("use_scale", "score_mode", *_SHARED), _dot_weights, keep_mask, many=True),
    "AdditiveAttention": Kind(_additive_attention, ("use_scale", *_SHARED), _additive_weights, keep_mask, many=True),
    "MultiHeadAttention": Kind(
        _multi_head,
        ("num_heads", "key_dim", "value_dim", "use_bias", "output_shape", "attention_axes", "use_causal_mask"),
        _multi_head_weights,
        keep_mask,
        many=True,
    ),
}

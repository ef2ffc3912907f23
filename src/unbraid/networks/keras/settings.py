"""The settings of a layer that change its result, as plain data."""

from __future__ import annotations

from typing import Any

from unbraid.networks.keras.config import LayerConfig, shown

_IGNORED = frozenset((
    "name", "trainable", "dtype", "seed", "noise_shape", "rate", "dropout", "recurrent_dropout", "momentum", "stddev",
    "batch_input_shape", "batch_shape", "input_dtype", "ragged", "sparse", "activation", "recurrent_activation",
    "unit_forget_bias", "unroll", "stateful", "renorm", "renorm_clipping", "renorm_momentum", "fused",
    "virtual_batch_size", "adjustment", "synchronized", "flash_attention", "implementation", "l1", "l2",
    "time_major", "return_state", "input_shape", "input_dim", "lora_rank", "lora_alpha", "supports_masking", "use_gate",
    "query_shape", "key_shape", "value_shape", "rng_type",
))  # fmt: skip
_ENDINGS = ("_initializer", "_regularizer", "_constraint", "_dropout")
_REFUSED = ("renorm", "fused", "virtual_batch_size", "use_gate", "return_state", "quantization_config")


def plain_settings(layer: LayerConfig, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the settings that a kind of layer reads.

    Args:
        layer: the layer.
        names: names of the settings.

    Raises:
        UnsupportedLayer: a setting that changes the result and is not among the names, or one that is no plain data.
    """
    layer.check_float()
    found: dict[str, Any] = {}
    for name, value in layer.values.items():
        if name in names and not (name == "recurrent_activation" and isinstance(value, dict)):  # a layer, read apart
            if not _is_plain(value):
                raise layer.unsupported(f"has {name} {shown(value)}", "numbers, names and lists of numbers")
            found[name] = value
        elif name in _REFUSED and value not in (None, False):
            raise layer.unsupported(f"has {name} {shown(value)}", f"no {name}")
        elif name not in _IGNORED and not name.endswith(_ENDINGS) and value not in (None, False):
            raise layer.unsupported(f"has the unknown setting {shown(name)}", ", ".join(names) or "no settings")
    return found


def _is_plain(value: Any, depth: int = 0) -> bool:
    if isinstance(value, list):
        return depth < 4 and len(value) <= 2**16 and all(_is_plain(part, depth + 1) for part in value)
    return value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) < 100)

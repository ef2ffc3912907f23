"""What the calls of a Functional model read: values, initial states, masks and settings.

A key is (layer, number of its call, output).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unbraid.errors import FormatError
from unbraid.networks.keras.config import Config, LayerConfig, shown
from unbraid.networks.keras.modern import CUDNN
from unbraid.networks.keras.recurrent import KINDS as RECURRENT

_STATEFUL = (*RECURRENT, *CUDNN, "Bidirectional", "RNN")
_MASKS = {"query_mask": 0, "value_mask": 1, "key_mask": 2}
_READS = ("query", "value", "key")  # arguments by name, in order
_QUIET = ("training", "return_attention_scores")  # settings of a call that must be off

Key = tuple[str, int, int]


@dataclass
class Arguments:
    """What one call reads, before it is resolved; ``listed`` if it reads one list of values."""

    positional: list[Key]
    states: list[Key]
    masks: list[Key | None]
    settings: dict[str, Any]
    listed: bool = False

    @property
    def read(self) -> list[Key]:
        """All values that the call reads."""
        return [*self.positional, *self.states, *(mask for mask in self.masks if mask is not None)]


def arguments_of(layer: LayerConfig, node: Any) -> Arguments:
    """Positional arguments and settings of one call, from Keras 2's lists or Keras 3's objects."""
    if isinstance(node, dict):
        call = Config(layer.file, f"{layer.where}, 'inbound_nodes'", {"args": [], "kwargs": {}} | node)
        positional, settings = call.items("args"), dict(call.child("kwargs").values)
    else:
        if not isinstance(node, list):
            raise FormatError(f"{layer.file}: {layer.where}: a call is {shown(node)}, expected a list or an object.")
        node = [node] if len(node) in (3, 4) and isinstance(node[0], str) else node
        positional = [part[:3] if isinstance(part, list) else part for part in node]
        first = node[0] if node else None
        settings = first[3] if isinstance(first, list) and len(first) == 4 else {}
        settings = dict(Config(layer.file, f"{layer.where}, 'inbound_nodes'", settings).values)
    flat: list[Any] = []
    for argument in positional:
        flat += argument if isinstance(argument, list) and not is_tensor(argument) else [argument]
    for name in _READS:
        if is_tensor(settings.get(name)):
            flat.append(settings.pop(name))
    constants = [argument for argument in flat if not is_tensor(argument)]
    keys = [history(layer, argument) for argument in flat if is_tensor(argument)]
    if layer.kind in ("NotEqual",) and len(constants) == 1 and type(constants[0]) in (int, float):
        settings["constant"] = constants[0]
    elif constants and any(constant is not None for constant in constants):
        raise layer.unsupported(f"reads the constants {shown(constants)}", "layers that read values of layers")
    states: list[Key] = []
    if layer.kind in _STATEFUL:
        keys, states = keys[:1], keys[1:]
        given = settings.pop("initial_state", None)
        states += [history(layer, state) for state in (given if _many(given) else [given] if given else [])]
    masks = _masks(layer, settings)
    listed = any(isinstance(argument, list) and not is_tensor(argument) for argument in positional)
    kept: dict[str, Any] = {k: settings.pop(k) for k in ("constant", "use_causal_mask") if k in settings}
    odd = {k: v for k, v in settings.items() if v is not None and not (k in _QUIET and v is False)}
    if odd.get("training") is True:
        raise layer.unsupported("is called with training=True, so that predictions are random", "calls without it")
    if odd:
        raise layer.unsupported(f"is called with {shown(odd)}", "calls without such settings")
    if not keys:
        raise layer.unsupported("reads no value of another layer", "layers that read values of layers")
    return Arguments(keys, states, masks, kept, listed)


def _masks(layer: LayerConfig, settings: dict[str, Any]) -> list[Key | None]:
    """Return the explicit masks of a call, which Keras 3 stores as values."""
    given = settings.pop("mask", None)
    masks = [None if mask is None else history(layer, mask) for mask in (given if _many(given) else [given])]
    for name, place in _MASKS.items():
        if is_tensor(settings.get(name)):
            masks += [None] * (place + 1 - len(masks))
            masks[place] = history(layer, settings.pop(name))
    return masks if any(mask is not None for mask in masks) else []


def _many(value: Any) -> bool:
    return isinstance(value, list) and not is_tensor(value)


def is_tensor(value: Any) -> bool:
    """Return whether a value is that of a layer, as Keras 2 or 3 writes it."""
    if isinstance(value, dict):
        return value.get("class_name") == "__keras_tensor__"
    return isinstance(value, list) and len(value) in (3, 4) and isinstance(value[0], str) and type(value[1]) is int


def history(reader: Config, value: Any) -> Key:
    """Layer, call and output of a value: ``[name, 0, 0]``, in Keras 3 inside an object."""
    if isinstance(value, dict):
        value = Config(reader.file, reader.where, value).child("config").get("keras_history")
    if not (
        isinstance(value, list)
        and len(value) in (3, 4)
        and isinstance(value[0], str)
        and all(type(number) is int and 0 <= number < 2**20 for number in value[1:3])
    ):
        raise FormatError(f"{reader.file}: {reader.where} reads {shown(value)}, expected e.g. ['lstm', 0, 0].")
    return value[0], value[1], value[2]


def ends(model: Config, field: str) -> list[Any]:
    """Return the inputs or outputs of a model: one, a list, or in Keras 3 a mapping by name."""
    found = model.get(field)
    if isinstance(found, dict):
        return list(found.values())
    found = model.items(field)
    return [found] if is_tensor(found) else found

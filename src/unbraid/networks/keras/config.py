"""Fields of a Keras configuration, checked one by one: the JSON comes from an untrusted source."""

from __future__ import annotations

import math
import reprlib
from typing import Any

from unbraid.errors import FormatError, UnsupportedLayer, quoted
from unbraid.networks.keras.keras1 import renewed

MAX_SIZE = 2**31
MAX_REPEATS = 2**16  # RepeatVector's n is the one size that no weight confirms
MAX_NAME = 1_000

_OWN_MODULES = ("keras", "tensorflow.keras", "tensorflow.python.keras", "tf_keras")


class Config:
    """The fields of one JSON object.

    Args:
        file: name of the file, for messages.
        where: what the object describes, for messages.
        values: the object.

    Raises:
        FormatError: ``values`` is no object; every method: the field is not what it should be.
    """

    def __init__(self, file: str, where: str, values: Any) -> None:
        self.file, self.where = file, where
        if not isinstance(values, dict):
            raise FormatError(f"{file}: {where} is {shown(values)}, expected a JSON object.")
        self.values: dict[str, Any] = values

    def get(self, field: str, default: Any = None) -> Any:
        """Return the field without a check."""
        return self.values.get(field, default)

    def text(self, field: str) -> str:
        """Return a string that is not empty and has no control characters or lone surrogates."""
        value = self.get(field)
        named = isinstance(value, str) and value and len(value) <= MAX_NAME and value.isprintable()
        return value if named else self._refuse(field, f"a name of at most {MAX_NAME} printable characters")

    def flag(self, field: str, default: bool = False) -> bool:
        """True or false."""
        value = self.get(field, default)
        return value if isinstance(value, bool) else self._refuse(field, "true or false")

    def size(self, field: str, largest: int = MAX_SIZE) -> int:
        """Return a whole number from 1 on."""
        value = self.get(field)
        return value if is_size(value, largest) else self._refuse(field, f"a whole number from 1 to {largest}")

    def number(self, field: str) -> float:
        """Return a finite number."""
        value = self.get(field)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self._refuse(field, "a number")
        return float(value)

    def items(self, field: str) -> list[Any]:
        """Return a list."""
        value = self.get(field)
        return value if isinstance(value, list) else self._refuse(field, "a list")

    def child(self, field: str) -> Config:
        """Return a nested object."""
        return Config(self.file, f"{self.where}, {field!r}", self.get(field))

    def unsupported(self, found: str, supported: str) -> UnsupportedLayer:
        """Make the error for a layer that is not supported; it lists what is."""
        return UnsupportedLayer(f"{self.file}: {self.where} {found}; supported: {supported}.")

    def _refuse(self, field: str, expected: str) -> Any:
        found = f"is {shown(self.values[field])}" if field in self.values else "is missing"
        raise FormatError(f"{self.file}: {self.where}: field {field!r} {found}, expected {expected}.")


class LayerConfig(Config):
    """One layer: its class, its name and its settings.

    Args:
        file: name of the file.
        values: the layer as Keras writes it, with ``class_name`` and ``config``.
        keras: major version of the Keras that wrote it.
        place: where it stands, for messages until its name is known.
    """

    def __init__(self, file: str, values: Any, keras: int, place: str) -> None:
        outer = Config(file, place, values)
        self.kind, self.keras, self.outer = outer.text("class_name"), keras, outer
        settings = outer.get("config")
        if isinstance(settings, list):  # a nested Sequential of Keras up to 2.2.2: its layers alone
            settings = {"layers": settings, "name": outer.get("name") or place}
        first = isinstance(settings, dict) and "module" not in outer.values  # Keras 1 stored no modules
        old = renewed(self.kind, settings) if first else None
        if old is not None:
            (self.kind, settings), self.keras = old, 1
            self.outer = Config(file, place, {**outer.values, "class_name": self.kind, "config": settings})
        super().__init__(file, outer.where, settings)
        self.name = self.text("name") if "name" in self.values or "name" not in outer.values else outer.text("name")
        self.where = f"layer {shown(self.name)} ({shown(self.kind).strip(chr(39))})"

    @property
    def custom(self) -> bool:
        """Whether its class is a user's own: nothing of such a layer is ever run."""
        module, registered = self.outer.get("module"), self.outer.get("registered_name")
        if registered not in (None, self.kind):
            return True
        return module is not None and not (isinstance(module, str) and module.startswith(_OWN_MODULES))

    @property
    def described(self) -> str:
        """Its class, as a message names it."""
        kind = shown(self.kind).strip(chr(39))
        return f"custom layer {kind}" if self.custom else kind

    def check_float(self) -> None:
        """Raise UnsupportedLayer for quantized weights."""
        dtype = self.get("dtype")
        quantized = isinstance(dtype, dict) and "Quantized" in str(dtype.get("class_name"))
        if quantized or self.get("quantization_config") is not None:
            raise self.unsupported("is quantized", "float weights")

    def inner(self, field: str) -> LayerConfig:
        """Return the layer that this one wraps."""
        return LayerConfig(self.file, self.get(field), self.keras, f"the layer inside {shown(self.name)}")


def is_size(value: Any, largest: int = MAX_SIZE) -> bool:
    """Return whether a value is a whole number of at least 1; ``True`` is not."""
    return type(value) is int and 1 <= value <= largest


def shown(value: Any) -> str:
    """Shorten a value for a message to 200 printable characters."""
    return quoted(reprlib.repr(value))

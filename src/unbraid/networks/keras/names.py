"""Names as Keras writes them."""

from __future__ import annotations

import re


def snake_case(kind: str) -> str:
    """Return the name of a class in a ``.keras`` file, as Keras writes it."""
    plain = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", kind))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", plain).lower()

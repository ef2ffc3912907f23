"""Facts about a user's nn.Module that a folder stores in addition: name, constructor arguments, tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from torch import nn

from unbraid.errors import DataError, quoted, wrong_object
from unbraid.limits import current

LONGEST_NAME = 100  # largest number of characters
LARGEST = 2**63  # limit of integers that every JSON reader accepts
Rows = Annotated[int, Field(ge=0, le=2**31)]


class TorchFacts(BaseModel):
    """Facts about a user's nn.Module that help to construct it again. They are not part of its digest.

    Attributes:
        name: name of the network that the user gave, or None.
        init: arguments of its constructor as plain JSON; None if they are not known.
        embedding_rows: path of an nn.Embedding or nn.EmbeddingBag -> number of its rows.
        buffers: names of its tensors that are not parameters.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_NAME)] | None = None
    init: dict[str, Any] | None = None
    embedding_rows: dict[str, Rows] = {}
    buffers: list[str] = []


def facts_of(module: nn.Module, name: str | None = None, init: Mapping[str, Any] | None = None) -> TorchFacts:
    """Collect the facts about a user's module.

    Args:
        module: the module, or its copy with replaced recurrent layers.
        name: name of the network, or None.
        init: arguments of its constructor.

    Raises:
        DataError: a name that is empty, too long or not printable, or a value of ``init`` that JSON does not have.
        ArgumentError: ``name`` is not text, or ``init`` is not a mapping.
    """
    parameters = dict(module.named_parameters(remove_duplicate=False))
    return TorchFacts(
        name=_checked_name(name),
        init=_checked_init(init),
        embedding_rows={
            path: part.num_embeddings
            for path, part in module.named_modules()
            if isinstance(part, nn.Embedding | nn.EmbeddingBag)
        },
        buffers=[path for path in module.state_dict() if path not in parameters],
    )


def _checked_name(name: Any) -> str | None:
    if name is None:
        return None
    if not isinstance(name, str):
        raise wrong_object(name, "name", "text")
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise DataError(f"name={quoted(repr(name), 60)}: expected 1 to {LONGEST_NAME} printable characters.")
    return name


def _checked_init(init: Any) -> dict[str, Any] | None:
    if init is None:
        return None
    if not isinstance(init, Mapping):
        raise wrong_object(init, "init", "a dict of the constructor's arguments")
    plain = _plain(init, "init", current().json_depth)
    assert isinstance(plain, dict)
    return plain


def _plain(value: Any, where: str, levels: int) -> Any:
    """Convert a value to plain JSON values; raise DataError if JSON does not have it."""
    if levels == 0:
        raise DataError(f"{quoted(where)}: is nested more than {current().json_depth} levels deep.")
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < LARGEST:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value):
        return str(value)
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {_plain(key, where, 1): _plain(part, f"{where}[{key!r}]", levels - 1) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part, f"{where}[{number}]", levels - 1) for number, part in enumerate(value)]
    raise DataError(
        f"{quoted(where)}: found {quoted(repr(value), 40)}, expected text, finite numbers, booleans, None, and lists "
        "and dicts of them."
    )

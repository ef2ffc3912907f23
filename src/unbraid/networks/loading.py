"""Loading a model file, whatever framework wrote it; nothing in a file is executed."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterable, Sequence
from io import BytesIO
from itertools import islice
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import nn

from unbraid.data.targets import Label
from unbraid.data.vocabulary import Vocabulary
from unbraid.errors import FormatError, quoted, wrong_object
from unbraid.limits import check_expansion, read_regular
from unbraid.networks.keras.loss import Task
from unbraid.networks.keras.reading import load_keras
from unbraid.networks.network import Network


def load(
    path: str | PathLike[str],
    labels: Sequence[Label] | None = None,
    vocabulary: Vocabulary | None = None,
    task: Task | None = None,
) -> Network:
    """Read a trained Keras model from a ``.h5`` or ``.keras`` file; Keras itself is not needed.

    The content of the file decides how it is read, not its name.

    Args:
        path: the file.
        labels: the classes' names in the order of the output columns; 0..C-1 by default.
        vocabulary: how it reads text; without one it reads word indices.
        task: ``"classification"`` reads the outputs as scores of classes. None (the default) decides by the stored
            training loss and the output activation, and refuses a network that may be a regressor.

    Raises:
        FormatError: no such file, damaged, or a torch file (which has no code: see Network.from_torch).
        UnsupportedLayer: a layer that cannot be run exactly, or a network that may be a regressor.
        DataError: labels or a vocabulary that do not fit.
        ConfigError: a task that is not supported.
    """
    return load_keras(path, labels, task).with_vocabulary(vocabulary)


def load_weights(module: nn.Module, path: str | PathLike[str]) -> nn.Module:
    """Fill a module with a state dict, read with ``weights_only=True``.

    Args:
        module: an instance of the user's class.
        path: what ``torch.save(module.state_dict(), path)`` wrote.

    Returns:
        the module.

    Raises:
        FormatError: no such file, too large, damaged, a whole pickled module (refused: it would run code), or other
            weights.
        ArgumentError: ``module`` is not an ``nn.Module``.
    """
    _check_module(module)
    state = _read_state(path)
    where, own = quoted(path), module.state_dict()
    inner = [name for name, part in state.items() if isinstance(part, dict) and set(part) & set(own)]
    if inner:
        raise FormatError(
            f"{where}: a checkpoint of {_few(state)}: save its {_few(inner[:1])} alone, or fill the module with "
            f"load_state_dict(torch.load(path, weights_only=True)[{_few(inner[:1])}])."
        )
    both = [name for name in own if name in state]
    wrong = {
        "missing": [name for name in own if name not in state],
        "of no layer": [name for name in state if name not in own],
        "of another shape": [n for n in both if np.shape(own[n]) != np.shape(state[n])],
        "of another kind": [n for n in both if _kind(own[n]) != _kind(state[n])],
    }
    if any(wrong.values()):
        detail = "; ".join(f"{len(names)} weights {what}: {_few(names)}" for what, names in wrong.items() if names)
        raise FormatError(f"{where}: does not fit {type(module).__name__}: {detail}. Was it made the same way?")
    try:
        module.load_state_dict(state)
    except RuntimeError as error:  # the module's own hooks
        raise FormatError(f"{where}: does not fit {type(module).__name__} ({quoted(error)}).") from None
    return module


def _check_module(module: Any) -> None:
    if not isinstance(module, nn.Module):
        raise wrong_object(module, "module", "an instance of your nn.Module", "load_weights(module, path)")


def _read_state(path: str | PathLike[str]) -> dict[Any, Any]:
    """What a file of torch holds, as plain values; raises FormatError."""
    content = BytesIO(read_regular(path))
    where = quoted(path)
    _check_archive(content, where)
    try:
        state = torch.load(content, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, AttributeError, EOFError):
        raise FormatError(
            f"{where}: not a plain state dict. A module saved whole is a pickle, which runs code when it is read: save "
            "module.state_dict() instead, or pass the module itself to Network.from_torch."
        ) from None
    except Exception as error:  # the reader of torch raises many kinds for damaged files, KeyError and struct.error too
        detail = quoted((str(error).splitlines() or [""])[0])
        raise FormatError(f"{where}: cannot be read ({type(error).__name__}: {detail}): is the file damaged?") from None
    if not isinstance(state, dict):
        raise FormatError(f"{where}: holds {type(state).__name__}, expected a state dict.")
    return state


def _check_archive(content: BytesIO, where: str) -> None:
    """Raise FormatError for a zip archive that would take far more memory than it has bytes."""
    try:
        with zipfile.ZipFile(content) as archive:
            declared = sum(info.file_size for info in archive.infolist())
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        declared = 0  # the older format, or damaged
    check_expansion(declared, content.getbuffer().nbytes, where)
    content.seek(0)


def _kind(value: Any) -> Any:
    """What kind of weight it is: of any float precision, of any integer one, or none that can be copied."""
    if not isinstance(value, torch.Tensor):
        return type(value)
    plain = value.layout == torch.strided and not value.is_meta and not value.is_quantized
    return plain, value.is_floating_point(), value.is_complex()


def _few(names: Iterable[Any]) -> str:
    shown = list(islice(names, 4))
    return ", ".join(repr(quoted(name, 60)) for name in shown[:3]) + (", ..." if len(shown) > 3 else "")

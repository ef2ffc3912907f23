"""Loading a model file, whatever framework wrote it; nothing in a file is executed."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from os import PathLike

import numpy as np
import torch
from torch import nn

from unbraid.data import Label
from unbraid.errors import FormatError
from unbraid.networks.keras import load_keras
from unbraid.networks.keras_loss import Task
from unbraid.networks.network import Network
from unbraid.vocabulary import Vocabulary


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
    return load_keras(path, labels, task).read_with(vocabulary)


def load_weights(module: nn.Module, path: str | PathLike[str]) -> nn.Module:
    """Fill a module with a state dict, read with ``weights_only=True``.

    Args:
        module: an instance of the user's class.
        path: what ``torch.save(module.state_dict(), path)`` wrote.

    Returns:
        the module.

    Raises:
        FormatError: no such file, a whole pickled module (refused: it would run code), or other weights.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, AttributeError, EOFError):
        raise FormatError(
            f"{path}: not a plain state dict. A module saved whole is a pickle, which runs code when it is read: save "
            "module.state_dict() instead, or pass the module itself to Network.from_torch."
        ) from None
    except (OSError, RuntimeError, ValueError) as error:
        detail = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise FormatError(f"{path}: cannot be read ({detail}).") from None
    if not isinstance(state, dict):
        raise FormatError(f"{path}: holds {type(state).__name__}, expected a state dict.")
    inner = [name for name, part in state.items() if isinstance(part, dict) and set(part) & set(module.state_dict())]
    if inner:
        raise FormatError(
            f"{path}: a checkpoint of {list(state)[:6]}: save its {inner[0]!r} alone, or fill the module with "
            f"load_state_dict(torch.load(path, weights_only=True)[{inner[0]!r}])."
        )
    own = module.state_dict()
    wrong = {"missing": sorted(own.keys() - state.keys()), "of no layer": sorted(state.keys() - own.keys())}
    wrong["of another shape"] = [n for n in own if n in state and np.shape(own[n]) != np.shape(state[n])]
    if any(wrong.values()):
        detail = "; ".join(f"{len(names)} weights {what}: {names[:3]}" for what, names in wrong.items() if names)
        raise FormatError(f"{path}: does not fit {type(module).__name__}: {detail}. Was it made the same way?")
    module.load_state_dict(state)
    return module

"""Read trained models and weights from files. No code from a file is executed."""

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
from unbraid.networks.network import Network
from unbraid.networks.outputs import GivenTask


def load(
    path: str | PathLike[str],
    labels: Sequence[Label] | None = None,
    vocabulary: Vocabulary | None = None,
    task: GivenTask | None = None,
    output: str | None = None,
    weights: str | PathLike[str] | None = None,
) -> Network:
    """Read a trained Keras model from a ``.h5`` or ``.keras`` file.

    Keras does not have to be installed. The format is derived from the content of the file, not from its name.

    Args:
        path: the file.
        labels: names of the classes, or of the predicted numbers, in the order of the output columns, (C,); 0..C-1 by
            default.
        vocabulary: converts text to word indices; None for a network that reads numbers only. A ``TextVectorization``
            in the file becomes the vocabulary, if none is given.
        task: ``"classification"`` treats the outputs as scores of classes, ``"regression"`` as numbers. None (the
            default) derives it from the stored training loss and the output activation.
        output: name of the output layer, for a model with several outputs. None for a model with one.
        weights: a file that ``model.save_weights`` wrote; ``path`` is then the JSON of ``model.to_json``. None for a
            file that holds both.

    Returns:
        the network, in eval mode.

    Raises:
        FormatError: the file does not exist, is damaged, or is a PyTorch file (use Network.from_torch).
        UnsupportedLayer: a layer that cannot be computed exactly, or outputs that may be scores or numbers.
        DataError: labels or a vocabulary that do not fit.
        ConfigError: a task that does not exist, or an output that the model does not have.

    Example:
        >>> import unbraid
        >>> network = unbraid.load("model.keras", labels=["travel", "banking"])  # doctest: +SKIP
        >>> unbraid.load("missing.keras")  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        unbraid.errors.FormatError: missing.keras does not exist; expected a Keras model file (.h5 or .keras).
    """
    from unbraid.networks.keras.reading import load_keras  # here, as `import unbraid` need not wait for it

    network = load_keras(path, labels, task, output, weights)
    return network if vocabulary is None else network.with_vocabulary(vocabulary)


def load_weights(module: nn.Module, path: str | PathLike[str]) -> nn.Module:
    """Load a state dict into a module, in place.

    The file is read with ``torch.load(..., weights_only=True)``. The module is not changed if the weights do not fit.

    Args:
        module: an instance of your class.
        path: a file written by ``torch.save(module.state_dict(), path)``.

    Returns:
        the module.

    Raises:
        FormatError: the file does not exist, is too large or damaged, holds a pickled module, or has other weights.
        ArgumentError: ``module`` is not an ``nn.Module``.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> import unbraid
        >>> trained = torch.nn.Linear(2, 3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save(trained.state_dict(), Path(folder) / "weights.pt")
        ...     module = unbraid.load_weights(torch.nn.Linear(2, 3), Path(folder) / "weights.pt")
        >>> torch.equal(module.weight, trained.weight)
        True
    """
    _check_module(module)
    state = _read_state(path)
    where, own = quoted(path), module.state_dict()
    inner = [name for name, part in state.items() if isinstance(part, dict) and set(part) & set(own)]
    if inner:
        raise FormatError(
            f"{where}: a checkpoint with {_few(state)}: save its {_few(inner[:1])} alone, or call "
            f"module.load_state_dict(torch.load(path, weights_only=True)[{_few(inner[:1])}])."
        )
    both = [name for name in own if name in state]
    wrong = {
        "missing": [name for name in own if name not in state],
        "without a layer": [name for name in state if name not in own],
        "of another shape": [n for n in both if np.shape(own[n]) != np.shape(state[n])],
        "of another kind": [n for n in both if _kind(own[n]) != _kind(state[n])],
    }
    if any(wrong.values()):
        detail = "; ".join(f"{len(names)} weights {what}: {_few(names)}" for what, names in wrong.items() if names)
        raise FormatError(
            f"{where}: does not fit {type(module).__name__}: {detail}. Make it with the arguments of the saved module."
        )
    try:
        module.load_state_dict(state)
    except RuntimeError as error:  # the module's own hooks
        raise FormatError(f"{where}: does not fit {type(module).__name__} ({quoted(error)}).") from None
    return module


def _check_module(module: Any) -> None:
    if not isinstance(module, nn.Module):
        raise wrong_object(module, "module", "an instance of your nn.Module", "load_weights(module, path)")


def _read_state(path: str | PathLike[str]) -> dict[Any, Any]:
    """Read the state dict in a file of torch.save; raise FormatError if there is none."""
    content = BytesIO(read_regular(path))
    where = quoted(path)
    _check_archive(content, where)
    try:
        state = torch.load(content, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, AttributeError, EOFError):
        raise FormatError(
            f"{where}: not a state dict. A whole saved module is a pickle, which runs code when it is read: save "
            "module.state_dict() instead, or pass the module to Network.from_torch."
        ) from None
    except Exception as error:  # torch.load raises many kinds for damaged files, also KeyError and struct.error
        detail = quoted((str(error).splitlines() or [""])[0])
        raise FormatError(f"{where}: cannot be read ({type(error).__name__}: {detail}): save it again.") from None
    if not isinstance(state, dict):
        raise FormatError(f"{where}: holds {type(state).__name__}, expected a state dict.")
    return state


def _check_archive(content: BytesIO, where: str) -> None:
    """Raise FormatError for a zip archive that declares far more bytes than it stores."""
    try:
        with zipfile.ZipFile(content) as archive:
            declared = sum(info.file_size for info in archive.infolist())
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        declared = 0  # the older format of torch.save, or a damaged archive
    check_expansion(declared, content.getbuffer().nbytes, where)
    content.seek(0)


def _kind(value: Any) -> Any:
    """Return a value that is equal for weights that can be copied into each other."""
    if not isinstance(value, torch.Tensor):
        return type(value)
    plain = value.layout == torch.strided and not value.is_meta and not value.is_quantized
    return plain, value.is_floating_point(), value.is_complex()


def _few(names: Iterable[Any]) -> str:
    shown = list(islice(names, 4))
    return ", ".join(repr(quoted(name, 60)) for name in shown[:3]) + (", ..." if len(shown) > 3 else "")

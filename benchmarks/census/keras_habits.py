"""Make Keras models as people write them, with random weights, and the predictions of Keras.

``python -m benchmarks.census.keras_habits FOLDER [LIBRARY]`` writes files as :mod:`benchmarks.census.keras_models`.
The constructions are those of public repositories, in sizes of a few units; their code is written anew.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.census.habits.common import BCE, Case, V, modern
from benchmarks.census.habits.layers import odd, operators, signals
from benchmarks.census.habits.series import frames, nested, series
from benchmarks.census.habits.text import text
from benchmarks.census.keras_models import fill

WORDS = ("lstm", "q1", "q2", "words", "chars", "casing", "text", "store")  # names of inputs of indices
NUMBERS = ("tfidf", "image", "static", "numbers")  # names of inputs of numbers beside an Embedding


def cases(keras: Any) -> Iterator[Case]:
    """Name, model and loss of each construction."""
    for made in (series, frames, text, nested, signals, operators, odd):
        yield from made(keras)


def embeds(model: Any) -> bool:
    """Return whether a model has an Embedding, also inside of its layers."""
    for layer in getattr(model, "layers", []):
        inner = getattr(layer, "layer", None)
        if (
            type(layer).__name__ == "Embedding"
            or (inner is not None and (type(inner).__name__ == "Embedding" or embeds(inner)))
            or embeds(layer)
        ):
            return True
    return False


def inputs_of(model: Any, rng: np.random.Generator) -> list[np.ndarray]:
    """Six examples of each input."""
    found = []
    has = embeds(model)
    for tensor in model.inputs:
        shape = [size or 7 for size in tuple(tensor.shape)[1:]]
        name = tensor.name.split(":")[0]
        if name == "mask":
            x = rng.random((6, *shape)) > 0.3
            x[:, 0] = True
        elif name in WORDS or (has and (len(shape) == 1 or shape == [4, 5]) and name not in NUMBERS):
            x = rng.integers(1, 6 if name in ("casing", "store") else V, (6, *shape))
            if len(shape) == 1 and shape[0] > 4:
                x[1, 4:] = 0
                x[2, 5:] = 0
        else:
            x = rng.normal(0, 1, (6, *shape)).astype("float32")
            if any(type(layer).__name__ == "Masking" for layer in model.layers):
                x[1, 4:] = -1 if "mlstm" not in model.name else 0
        found.append(x)
    return found


def plain(values: Any) -> np.ndarray:
    """Return a tensor of any backend as an array."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def answer(model: Any, x: list[np.ndarray]) -> np.ndarray:
    """Return what a model gives; of several outputs the last one."""
    y = model(x if len(x) > 1 else x[0], training=False)
    if isinstance(y, dict):
        y = y["last"]
    return plain(y[-1] if isinstance(y, list | tuple) else y)


def main(folder: str, library: str = "keras", *names: str) -> None:
    """Write all models of one library."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    keras = importlib.import_module(library)
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    tag = "k3" if modern(keras) else "k" + "".join(keras.__version__.split(".")[:2])
    keras.utils.set_random_seed(0)
    for number, (name, model, loss) in enumerate(cases(keras)):
        if names and name not in names:
            continue
        if not names and (place / f"{tag}-{name}-h5.npz").exists():
            continue
        for draw in range(20):
            rng = np.random.default_rng(number + 1000 * draw)
            fill(model, rng)
            x = inputs_of(model, rng)
            y = answer(model, x)
            if y.std(0).max() > 1e-3 and (loss != BCE or y.shape[-1] > 1 or y.min() < 0.5 < y.max()):
                break  # not all units of a ReLU layer are off, and both classes are predicted
        model.compile(loss=loss, optimizer="adam")
        for kind in ("keras", "h5"):
            stem = place / f"{tag}-{name}-{kind}"
            try:
                model.save(stem.with_suffix(f".{kind}"))
            except Exception as error:
                print("NOT SAVED", stem.name, str(error)[:150])
                continue
            np.savez(stem.with_suffix(".npz"), y=y, **{f"x{i}": v for i, v in enumerate(x)})
        print(name, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

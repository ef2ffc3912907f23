"""Networks that are trained once and stored in the cache."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file

from unbraid import Network, Vocabulary
from unbraid.networks.spec import NetworkSpec


def cached(path: Path, trained: Callable[[], Network], labels: Sequence[str], words: Vocabulary | None) -> Network:
    """Return the network of a file, and train and store it first if there is none.

    Args:
        path: path of the weights.
        trained: trains the network.
        labels: names of its classes.
        words: its vocabulary.
    """
    if not path.exists():
        network = trained()
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{uuid.uuid4().hex}")
        save_file(network.weights(), temporary, {"spec": network.spec.model_dump_json()})
        temporary.replace(path)
    with safe_open(path, "pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        spec = NetworkSpec.model_validate(json.loads(file.metadata()["spec"]))
    return Network(spec, weights, labels).with_vocabulary(words)

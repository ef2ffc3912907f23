"""The files of an Unbraid folder: ``unbraid.json``, ``parent.safetensors``, ``modules.safetensors`` and a model card.

``parent.safetensors`` has each parent's weights once (``P/name``); of a rolled module saved alone, only its slices.
``modules.safetensors`` has, per module ``M``, packed mask bits ``M/mask/layer`` and the two head tensors; weights that
compact modules share are there once. What fused modules were made from is numbered after the modules.
``referee.safetensors`` has a composition's referee, if there is one: weight (F, K) and bias (K,).
"""

from __future__ import annotations

import os
import re

from torch import Tensor, nn

MANIFEST, CARD, RECIPE = "unbraid.json", "README.md", "recipe.yaml"
PARENTS, MODULES, REFEREE = "parent.safetensors", "modules.safetensors", "referee.safetensors"
TARGET = "body.target.weight"  # of an encoder-decoder
Folder = str | os.PathLike[str]


def vocabulary_file(parent: int, target: bool = False) -> str:
    """Name of the file with the source or target vocabulary of a parent, a ``tokenizer.json``."""
    return f"vocabulary-{parent}{'-target' if target else ''}.json"


def is_known(name: str) -> bool:
    """Whether a saved folder may hold a file of this name."""
    return (
        name in (MANIFEST, CARD, RECIPE, PARENTS, MODULES, REFEREE)
        or re.fullmatch(r"vocabulary-[0-9]{1,9}(-target)?\.json", name) is not None
    )


def body_weights(body: nn.Module) -> dict[str, Tensor]:
    """Weights of a body under the names of its parent, also inside a Scattered; without bridges."""
    named = {n: p.detach() for n, p in body.named_parameters() if not n.startswith("bridges.")}
    return {f"body.{name.replace('_layer.layer.', '_layer.')}": p for name, p in named.items()}


def only_words(weights: dict[str, Tensor], words: Tensor | None) -> dict[str, Tensor]:
    """Keep only those rows of the target embedding that a module of a language can output."""
    return weights if words is None else weights | {TARGET: weights[TARGET][words]}

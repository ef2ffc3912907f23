"""The files of an Unbraid folder: ``unbraid.json``, ``parent.safetensors``, ``modules.safetensors`` and a model card.

``parent.safetensors`` has the weights of each parent once (``P/name``). For a rolled module saved alone it has only the
slices of that module.
``modules.safetensors`` has, for each module ``M``, packed mask bits ``M/mask/layer`` and the two tensors of the output
layer. Weights that compact modules share are stored once. Originals of fused modules are numbered after the modules.
``domain-P.json`` and ``domain.safetensors`` have the evidence about the inputs of parents.
``referee.safetensors`` has the referee of a composition, if there is one: weight (F, K) and bias (K,).
"""

from __future__ import annotations

import os
import re

from torch import Tensor, nn

MANIFEST, CARD, RECIPE = "unbraid.json", "README.md", "recipe.yaml"
PARENTS, MODULES, REFEREE = "parent.safetensors", "modules.safetensors", "referee.safetensors"
DOMAINS = "domain.safetensors"
TARGET = "body.target.weight"  # of an encoder-decoder
Folder = str | os.PathLike[str]


def vocabulary_file(parent: int, target: bool = False) -> str:
    """Return the name of the ``tokenizer.json`` with the source or target vocabulary of a parent."""
    return f"vocabulary-{parent}{'-target' if target else ''}.json"


def domain_file(parent: int) -> str:
    """Return the name of the file with the domain evidence of a parent, without its arrays."""
    return f"domain-{parent}.json"


def is_known(name: str) -> bool:
    """Return whether a saved folder may have a file of this name."""
    return (
        name in (MANIFEST, CARD, RECIPE, PARENTS, MODULES, REFEREE, DOMAINS)
        or re.fullmatch(r"(domain-[0-9]{1,9}|vocabulary-[0-9]{1,9}(-target)?)\.json", name) is not None
    )


def body_weights(body: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a body by the names of its parent, also inside a Scattered, without bridges."""
    named = {n: p.detach() for n, p in body.named_parameters() if not n.startswith("bridges.")}
    return {f"body.{name.replace('_layer.layer.', '_layer.')}": p for name, p in named.items()}


def only_words(weights: dict[str, Tensor], words: Tensor | None) -> dict[str, Tensor]:
    """Keep only the rows of the target embedding for words that a module of a language can output."""
    return weights if words is None else weights | {TARGET: weights[TARGET][words]}

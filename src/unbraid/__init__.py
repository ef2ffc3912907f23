"""Decompose a trained recurrent network into modules, one per class, to reuse and to replace without retraining.

Implements "Decomposing a Recurrent Neural Network into Modules for Enabling Reusability and Replacement"
(Imtiaz et al., ICSE 2023).
"""

from importlib import import_module
from typing import TYPE_CHECKING

from unbraid._version import __version__

if TYPE_CHECKING:
    from unbraid._public import *

__all__ = [
    "Bins",
    "Comparison",
    "Composition",
    "ConcernModule",
    "Decomposition",
    "DecompositionConfig",
    "Evaluation",
    "Heads",
    "HeadsComposition",
    "HeadsDecomposition",
    "Network",
    "ParentFacts",
    "Prepared",
    "RegressionEvaluation",
    "SizeTable",
    "Strategy",
    "Translator",
    "UnbraidError",
    "UnbraidWarning",
    "Vocabulary",
    "__version__",
    "compare",
    "compose",
    "decompose",
    "decompose_sizes",
    "evaluate",
    "export_keras",
    "export_onnx",
    "half_precision_change",
    "load",
    "load_composition",
    "load_decomposition",
    "load_heads",
    "load_module",
    "load_translator",
    "load_weights",
    "register_cell",
    "register_strategy",
    "shrink",
]

_FILES = ("choices", "config", "errors", "limits", "paths", "progress", "settings")  # they need no torch

if not TYPE_CHECKING:  # so that type checkers refuse other names

    def __getattr__(name: str) -> object:
        """Import a public name, with all others, when it is used first: ``unbraid --help`` need not wait for torch."""
        if name in _FILES:
            return import_module(f"unbraid.{name}")
        if not name.startswith("__"):
            public = vars(import_module("unbraid._public"))
            globals().update({each: public[each] for each in __all__ if each in public})
            if name in globals():  # a public name, or a package that is imported now
                return globals()[name]
        raise AttributeError(f"module 'unbraid' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Decompose a trained recurrent network into modules, one per class, to reuse and to replace without retraining.

Implements "Decomposing a Recurrent Neural Network into Modules for Enabling Reusability and Replacement"
(Imtiaz et al., ICSE 2023).
"""

from unbraid._version import __version__
from unbraid.config import DecompositionConfig
from unbraid.data.vocabulary import Vocabulary
from unbraid.decomposition.bins import Bins
from unbraid.decomposition.decompose import decompose
from unbraid.decomposition.decomposition import Decomposition, load_decomposition
from unbraid.decomposition.protocol import Prepared, Strategy
from unbraid.decomposition.shrinking.shrink import shrink
from unbraid.decomposition.size_table import SizeTable, decompose_sizes
from unbraid.decomposition.strategies import register_strategy
from unbraid.errors import UnbraidError, UnbraidWarning
from unbraid.evaluation.compare import Comparison, compare
from unbraid.evaluation.evaluate import Evaluation, RegressionEvaluation, evaluate
from unbraid.export.keras import export_keras
from unbraid.export.onnx import export_onnx
from unbraid.heads.composition import HeadsComposition, load_heads
from unbraid.heads.decomposition import HeadsDecomposition
from unbraid.heads.networks import Heads
from unbraid.modules.compose import compose
from unbraid.modules.composition import Composition
from unbraid.modules.module import ConcernModule
from unbraid.networks.loading import load, load_weights
from unbraid.networks.network import Network
from unbraid.networks.own_cells import register_cell
from unbraid.storage.halving import half_precision_change
from unbraid.storage.loading import load_composition, load_module
from unbraid.storage.own_modules import ParentFacts
from unbraid.translation.translator import Translator, load_translator

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

"""What the fuzzer uses of the library beside its public names; the only place that imports it."""

from unbraid import hub
from unbraid.concerns.decomposition import Decomposition
from unbraid.data_files import read_examples, read_pair_columns
from unbraid.errors import DataError, FormatError, IncompatibleModules, UnbraidError
from unbraid.modules.card import About
from unbraid.modules.loading import check_folder
from unbraid.modules.manifest import ParentEntry
from unbraid.networks.spec import EmbeddingSpec, EncoderDecoderSpec, RecurrentSpec, TorchSpec
from unbraid.opening import open_path
from unbraid.printing import description, description_text
from unbraid.recipe import build_recipe
from unbraid.translation.pair_files import ready_for
from unbraid.vocabulary import read_vocabulary

__all__ = [
    "About",
    "DataError",
    "Decomposition",
    "EmbeddingSpec",
    "EncoderDecoderSpec",
    "FormatError",
    "IncompatibleModules",
    "ParentEntry",
    "RecurrentSpec",
    "TorchSpec",
    "UnbraidError",
    "build_recipe",
    "check_folder",
    "description",
    "description_text",
    "hub",
    "open_path",
    "read_examples",
    "read_pair_columns",
    "read_vocabulary",
    "ready_for",
]

"""What the fuzzer uses of the library beside its public names; the only place that imports it."""

from unbraid.cli.open_any import open_any
from unbraid.cli.printing import description, description_text
from unbraid.cli.recipes import build_recipe
from unbraid.data.files import read_examples, read_pair_columns
from unbraid.data.vocabulary import read_vocabulary
from unbraid.decomposition.decomposition import Decomposition
from unbraid.errors import DataError, FormatError, IncompatibleModules, UnbraidError
from unbraid.modules.about import About
from unbraid.networks.spec import EncoderDecoderSpec
from unbraid.networks.stage_spec import EmbeddingSpec, RecurrentSpec
from unbraid.networks.torch_spec import TorchSpec
from unbraid.storage import hub
from unbraid.storage.loading import check_folder
from unbraid.storage.manifest import ParentEntry
from unbraid.translation.pair_files import ready_for

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
    "open_any",
    "read_examples",
    "read_pair_columns",
    "read_vocabulary",
    "ready_for",
]

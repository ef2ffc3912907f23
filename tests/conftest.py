"""Fixtures, hypothesis profiles and markers of all tests."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests import jitter

ROOT = Path(__file__).parents[1]
collect_ignore = ["data/keras/make.py", "data/keras/translators/make.py"]  # they need Keras, which no test does

# Files and folders below tests/ that are marked `slow`, so that `make test-fast` leaves them out. Each takes several
# seconds: it starts processes, trains networks, exports models or draws many random examples.
SLOW = (
    "benchmarks",
    "cli/test_app.py",
    "cli/test_flags.py",
    "cli/test_forecasters.py",
    "cli/test_journey.py",
    "cli/test_keras_journey.py",
    "cli/test_numbers.py",
    "cli/test_output.py",
    "cli/test_own_code.py",
    "cli/test_comparing.py",
    "cli/test_recipes.py",
    "cli/test_reporting.py",
    "cli/test_sizes.py",
    "cli/test_terminal.py",
    "data/test_hostile_data.py",
    "data/test_text.py",
    "decomposition/reconstruction/test_reconstruct.py",
    "decomposition/removal/test_observation.py",
    "decomposition/shrinking",
    "decomposition/test_decompose.py",
    "decomposition/test_fuse.py",
    "decomposition/test_languages.py",
    "decomposition/test_numbers.py",
    "decomposition/test_own_words.py",
    "decomposition/test_size_table.py",
    "demo",
    "export",
    "modules/test_composition.py",
    "modules/test_module.py",
    "modules/test_numbers.py",
    "modules/test_owning.py",
    "modules/test_small_batches.py",
    "modules/voting",
    "networks/keras/test_archives.py",
    "networks/keras/test_graphs.py",
    "networks/keras/test_live.py",
    "networks/pytorch/test_answers.py",
    "networks/pytorch/test_argument_forms.py",
    "networks/pytorch/test_modules.py",
    "networks/pytorch/test_own_cells.py",
    "networks/pytorch/test_packages.py",
    "networks/pytorch/test_patterns.py",
    "networks/test_encoder_decoder.py",
    "networks/test_load_weights.py",
    "networks/test_precision.py",
    "report",
    "storage/hub",
    "storage/test_card.py",
    "storage/test_loading.py",
    "storage/test_manifest.py",
    "storage/test_own_modules.py",
    "storage/test_saving.py",
    "storage/test_saving_crash.py",
    "storage/test_saving_file.py",
    "storage/test_saving_readers.py",
    "storage/test_saving_strangers.py",
    "storage/test_saving_verified.py",
    "storage/test_sizes.py",
    "test_docs.py",
    "test_examples.py",
    "test_fuzz.py",
    "test_import.py",
    "test_readme.py",
    "test_release.py",
    "test_sklearn.py",
    "test_wrong_objects.py",
    "translation/test_decoding.py",
    "translation/test_translator.py",
)

jitter.install()  # only if UNBRAID_TEST_JITTER is set
torch.set_num_threads(1)  # the test workers already use all cores
# No profile has a deadline, because a busy processor would exceed it. Only `explore` draws new examples in each run.
settings.register_profile("explore", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("explore"), derandomize=True, max_examples=10)
settings.register_profile("fast", settings.get_profile("same"), max_examples=5)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or "same")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of :data:`SLOW`."""
    slow = [ROOT / "tests" / name for name in SLOW]
    for item in items:
        if any(item.path.is_relative_to(path) for path in slow):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of the authors' models and data, which is not part of the repository; CI requires it."""
    folder = Path(os.environ.get("UNBRAID_SHARED") or ROOT.parent / "shared")
    if not folder.is_dir():
        reason = f"no folder {folder}: set UNBRAID_SHARED to where the authors' models and data are."
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)  # nothing to compare with
    return folder

"""Fixtures, hypothesis profiles and markers of all tests."""

import hashlib
import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests import jitter

ROOT = Path(__file__).parents[1]
ALONE = 1_000  # tests of a run up to which all combinations run
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
# Tests of every combination of some parameters. One of four combinations runs, the same ones each time; all run
# with HYPOTHESIS_PROFILE=explore, which draws more examples as well.
COMBINATIONS = (
    "cli/test_output.py::test_bash_completes_commands_and_options",
    "cli/test_terminal.py::test_a_full_standard_output_is_one_line",
    "cli/test_terminal.py::test_every_command_refuses_bad_files_with_exit_code_2",
    "decomposition/removal/test_observation.py::test_every_node_and_gate_is_seen_as_the_oracle_sees_it",
    "decomposition/shrinking/test_shrink.py::test_cells_levels_directions",
    "decomposition/test_decompose.py::test_masks_equal_the_oracle",
    "decomposition/test_decompose.py::test_masks_of_mixed_networks_equal_the_oracle",
    "decomposition/test_dense.py::test_a_layer_whose_activation_moves_zero_stays_whole",
    "decomposition/test_languages.py::test_refined_modules_lie_nearer_to_their_network_on_other_pairs_too",
    "decomposition/test_numbers.py::test_modules_of_full_size_give_the_numbers_of_the_parent",
    "demo/test_training.py::test_every_architecture_learns",
    "export/test_keras.py::test_keras_gives_the_same",
    "export/test_keras.py::test_keras_gives_the_same_as_a_graph",
    "export/test_numbers.py::test_files_give_the_numbers",
    "export/test_onnx.py::test_every_cell_in_every_network",
    "export/test_onnx.py::test_every_structure",
    "export/test_onnx.py::test_users_own_modules",
    "export/test_own_cells.py::test_unrolled_modules_of_layers_that_a_forward_calls_several_times",
    "export/test_patterns.py::test_a_fresh_network_gives_the_same_probabilities",
    "export/test_patterns.py::test_a_module_of_fixed_batches_gives_a_file_of_that_size",
    "export/test_patterns.py::test_arguments_of_other_forms_become_inputs_of_the_file",
    "export/test_several_vocabularies.py::test_pytorch_networks_and_a_network_of_stages_in_one_file",
    "modules/test_composition.py::test_modules_say_together_what_each_says_alone",
    "modules/test_composition.py::test_untouched_modules_vote_as_the_whole_network_decides",
    "modules/test_numbers.py::test_folders_keep_the_numbers",
    "modules/test_owning.py::test_changing_a_module_changes_no_other_and_is_saved",
    "modules/test_owning.py::test_training_the_network_further_changes_no_module",
    "networks/keras/test_dense.py::test_predictions_and_modules",
    "networks/pytorch/test_dense.py::test_onnx_files_of_smaller_modules",
    "networks/pytorch/test_modules.py::test_saved_modules_come_back_with_the_same_bits",
    "networks/pytorch/test_modules.py::test_untouched_modules_decide_as_the_module_itself",
    "networks/test_devices.py::test_decomposing_on_a_second_device_gives_the_same_bits",
    "networks/test_precision.py::test_all_of_them_run_in_other_precisions",
    "storage/test_saving.py::test_every_architecture_comes_back",
    "storage/test_saving.py::test_everything_comes_back_bit_for_bit",
    "test_release.py::test_composed_accuracy_as_the_release_evaluates_it",
    "test_release.py::test_composed_accuracy_with_the_networks_own_equations",
    "translation/test_translator.py::test_saved_translators_decompositions_and_modules_say_the_same",
)

jitter.install()  # only if UNBRAID_TEST_JITTER is set
torch.set_num_threads(1)  # the test workers already use all cores
# No profile has a deadline, because a busy processor would exceed it. Only `explore` draws new examples in each run.
settings.register_profile("explore", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("explore"), derandomize=True, max_examples=5)
settings.register_profile("fast", settings.get_profile("same"), max_examples=4)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or "same")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests of :data:`SLOW`, and leave out most of :data:`COMBINATIONS`."""
    if os.environ.get("HYPOTHESIS_PROFILE") != "explore" and len(items) > ALONE:
        left_out = [item for item in items if _is_left_out(item.nodeid)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not _is_left_out(item.nodeid)]
    slow = {path for path in {item.path for item in items} if _is_slow(path)}
    for item in items:
        if item.path in slow:
            item.add_marker(pytest.mark.slow)


def _is_slow(path: Path) -> bool:
    return any(path.is_relative_to(ROOT / "tests" / name) for name in SLOW)


def _is_left_out(test: str) -> bool:
    family = test.split("[")[0].removeprefix("tests/")
    return family in COMBINATIONS and hashlib.sha256(test.encode()).digest()[0] % 4 > 0


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

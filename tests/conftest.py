"""What all tests share."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from tests import jitter

ROOT = Path(__file__).parents[1]

jitter.install()  # only where the variable asks for it
torch.set_num_threads(1)  # the test workers share the cores already
settings.register_profile("local", deadline=None, max_examples=50)
settings.register_profile("ci", settings.get_profile("local"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of the authors' models and data, which are no part of the repository; in CI it must be there."""
    folder = Path(os.environ.get("UNBRAID_SHARED") or ROOT.parent / "shared")
    if not folder.is_dir():
        reason = f"no folder {folder}: set UNBRAID_SHARED to where the authors' models and data are."
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)  # nothing to compare with
    return folder

"""What all tests share."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests import jitter

ROOT = Path(__file__).parents[1]

jitter.install()  # only where the variable asks for it
torch.set_num_threads(1)  # the test workers share the cores already
# no limits of time, which a busy processor breaks; the same examples in every run, but for HYPOTHESIS_PROFILE=explore
settings.register_profile("explore", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("explore"), derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or "same")


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

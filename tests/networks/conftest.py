"""Fixtures of the tests of networks."""

import pytest

from tests.networks.keras.making import write_archive, write_h5


@pytest.fixture
def legacy(tmp_path):
    """Write a small .h5, see :func:`write_h5`."""
    return lambda **made: write_h5(tmp_path / "model.h5", **made)


@pytest.fixture
def archive(tmp_path):
    """Write a small .keras, see :func:`write_archive`."""
    return lambda members=None, **made: write_archive(tmp_path / "model.keras", members, **made)

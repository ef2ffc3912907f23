"""Folders of all formats are loaded and give the same decisions as when written (see tests/data/make_folders.py)."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.locations import DATA
from tests.translation import talking
from unbraid import Translator, compose
from unbraid.cli.open_any import open_any, open_classifier
from unbraid.storage.loading import check_folder
from unbraid.storage.manifest import FORMAT

PLACE = DATA
FORMATS = (1, 2)


@pytest.fixture(params=FORMATS)
def folders(request, tmp_path):
    """Copy a folder; loading never writes, but a failing test must not damage the stored folder."""
    return Path(shutil.copytree(PLACE / f"format{request.param}", tmp_path / "kept"))


def test_there_are_folders_of_every_format():
    assert tuple(range(1, FORMAT + 1)) == FORMATS
    for number in FORMATS:
        manifests = list((PLACE / f"format{number}").glob("*/unbraid.json"))
        assert len(manifests) == 5
        for path in manifests:
            manifest = json.loads(path.read_text())
            assert manifest["format"] == number and ("checksum" in manifest) is (number > 1)


@pytest.mark.parametrize("name", ["decomposition", "module", "composition", "fused"])
def test_modules_say_what_they_said(folders, name):
    check_folder(folders / name)
    with np.load(folders / "margins.npz") as data:
        composition = open_classifier(folders / name)[0]
        np.testing.assert_allclose(composition.margins(data["x"]), data[name], rtol=1e-4, atol=1e-5)


def test_a_composition_kept_everything(folders):
    composition = open_any(folders / "composition")
    assert composition.labels == ["home", "travel", "noun"] and composition.vote == "probability"
    assert composition.referee is not None and set(composition.calibration.values()) != {(1.0, 0.0)}
    texts = ["w1 w2 strange", "w30"]
    assert composition.needs_text is False and composition.predict(texts).shape == (2,)


def test_what_was_fused_can_be_taken_apart(folders):
    fused, parts = open_any(folders / "fused"), open_any(folders / "decomposition")
    apart = fused.unfuse()
    with np.load(folders / "margins.npz") as data:
        wanted = compose({label: parts[label] for label in apart.labels})
        np.testing.assert_allclose(apart.margins(data["x"]), wanted.margins(data["x"]), rtol=1e-4, atol=1e-5)


def test_a_translator_says_what_it_said(folders):
    translator = open_any(folders / "translator")
    assert isinstance(translator, Translator)
    for language, wanted in json.loads((folders / "said.json").read_text()).items():
        assert translator.translate(talking.TEXTS, to=language) == wanted

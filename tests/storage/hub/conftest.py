"""A hub on this machine, and a folder to upload."""

import pytest

import unbraid
from tests import factory
from tests.hub_server import hub_server


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Start a hub, and make a client that ignores the settings of this machine and contacts no other server."""
    pytest.importorskip("huggingface_hub")
    from huggingface_hub import constants

    for name, value in {
        "HF_HUB_DISABLE_TELEMETRY": True,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_OFFLINE": False,
        "HF_TOKEN_PATH": str(tmp_path / "no-token"),
        "HF_STORED_TOKENS_PATH": str(tmp_path / "no-tokens"),
        "HF_HUB_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setattr(constants, name, value)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with hub_server() as hub:
        yield hub


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Save a composition; return the folder and its decisions for some inputs."""
    folder = tmp_path_factory.mktemp("saved")
    net = factory.network(("lstm",), "M:1", labels=["a", "b", "c"])
    x, y = factory.examples(net, 40)
    parts = unbraid.decompose(net, (x, y), samples_per_class=10)
    composition = unbraid.compose([parts["a"], parts["c"]])
    composition.save(folder / "faq", license="mit")
    parts.save(folder / "parts")
    return folder, x, composition.margins(x)

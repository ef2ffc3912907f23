"""Upload and download with a hub on this machine (tests/hub_server.py)."""

import json
import socket
import sys

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import unbraid
from tests.hub_server import TOKEN
from tests.manifests import sealed
from unbraid.cli.app import app
from unbraid.errors import FormatError, UnbraidError
from unbraid.storage.hub import HubError, pull, push

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def shared(hub, folder, repo="owner/faq"):
    hub.put(repo, files_of(folder))
    return files_of(folder)


def test_what_is_pushed_comes_back_byte_for_byte(hub, saved, tmp_path):
    folder, x, margins = saved
    assert push(folder / "faq", "owner/faq", token=TOKEN, endpoint=hub.url) == f"{hub.url}/owner/faq"
    assert pull("owner/faq", tmp_path / "new" / "faq", endpoint=hub.url) == tmp_path / "new" / "faq"
    assert files_of(tmp_path / "new" / "faq") == files_of(folder / "faq")
    np.testing.assert_array_equal(unbraid.load_composition(tmp_path / "new" / "faq").margins(x), margins)
    assert b"license: mit" in hub.repos["owner/faq"][-1]["README.md"]


def test_only_files_of_ours_are_pushed(hub, saved, tmp_path):
    folder, _, _ = saved
    unbraid.load_composition(folder / "faq").save(tmp_path / "faq")
    ours = files_of(tmp_path / "faq")
    (tmp_path / "faq" / "secret.txt").write_text("secret")
    (tmp_path / "faq" / "other.safetensors").write_text("secret")
    push(tmp_path / "faq", "owner/faq", token=TOKEN, private=True, endpoint=hub.url)
    assert hub.repos["owner/faq"][-1] == ours
    assert hub.private == {"owner/faq"}


def test_what_is_no_folder_of_ours_is_not_pushed(hub, saved, tmp_path):
    folder, _, _ = saved
    (tmp_path / "else").mkdir()
    damaged = tmp_path / "damaged"
    unbraid.load_composition(folder / "faq").save(damaged)
    (damaged / "modules.safetensors").write_bytes(b"damaged")
    for wrong in (tmp_path / "nowhere", tmp_path / "else", damaged):
        with pytest.raises(FormatError, match=str(wrong)):
            push(wrong, "owner/faq", token=TOKEN, endpoint=hub.url)
    assert not hub.asked


def test_only_files_of_ours_are_pulled(hub, saved, tmp_path):
    folder, _, _ = saved
    ours = shared(hub, folder / "faq")
    hub.put(
        "owner/faq",
        {**ours, "evil.py": b"x", "model.pt": b"x", "big.safetensors": b"x", "sub/unbraid.json": b"x", ".git": b"x"},
    )
    pull("owner/faq", tmp_path / "faq", endpoint=hub.url)
    assert files_of(tmp_path / "faq") == ours
    assert not any("evil" in asked or "big" in asked or "sub" in asked for asked in hub.asked)


def test_a_revision_is_pulled(hub, saved, tmp_path):
    folder, _, _ = saved
    first = shared(hub, folder / "faq")
    shared(hub, folder / "parts")
    pull("owner/faq", tmp_path / "first", revision="v1", endpoint=hub.url)
    assert files_of(tmp_path / "first") == first
    pull("owner/faq", tmp_path / "last", endpoint=hub.url)
    assert unbraid.load_decomposition(tmp_path / "last").labels == ["a", "b", "c"]
    with pytest.raises(HubError, match="no such revision"):
        pull("owner/faq", tmp_path / "none", revision="v9", endpoint=hub.url)


def test_a_card_that_people_edited_is_pulled_as_it_is(hub, saved, tmp_path):
    folder, _, _ = saved
    hub.put("owner/faq", {**files_of(folder / "faq"), "README.md": b"---\nlicense: mit\n---\nedited"})
    pull("owner/faq", tmp_path / "faq", endpoint=hub.url)
    assert (tmp_path / "faq" / "README.md").read_bytes().endswith(b"edited")


def changed(content, change):
    manifest = json.loads(content["unbraid.json"])
    change(manifest)
    return {**content, "unbraid.json": sealed(manifest).encode()}


BAD = {
    "no manifest": (lambda c: {n: v for n, v in c.items() if n != "unbraid.json"}, "holds no unbraid.json"),
    "a damaged file": (lambda c: {**c, "modules.safetensors": b"damaged"}, "is damaged"),
    "a file that is missing": (lambda c: {n: v for n, v in c.items() if n != "parent.safetensors"}, "cannot be read"),
    "a manifest that is none": (lambda c: {**c, "unbraid.json": b"{}"}, "field format"),
    "a newer format": (lambda c: changed(c, lambda m: m.update(format=99)), "upgrade"),
    "a file outside": (lambda c: changed(c, lambda m: m["files"].update({"../x": "0" * 64})), "'../x'"),
    "a strange file": (lambda c: changed(c, lambda m: m["files"].update({"x.py": "0" * 64})), "'x.py'"),
    "what does not fit": (lambda c: changed(c, lambda m: m["parents"][0]["spec"].update(features=7)), "owner/bad"),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_is_no_folder_of_ours_is_not_put_in_place(hub, saved, tmp_path, bad):
    folder, _, _ = saved
    change, says = BAD[bad]
    hub.put("owner/bad", change(files_of(folder / "faq")))
    unbraid.load_composition(folder / "faq").save(tmp_path / "faq")
    before = files_of(tmp_path / "faq")
    for target in ("new", "faq"):
        with pytest.raises(FormatError, match=says) as error:
            pull("owner/bad", tmp_path / target, endpoint=hub.url)
        assert "owner/bad" in str(error.value) and "\n" not in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "cache") == ["faq"]
    assert files_of(tmp_path / "faq") == before


def test_another_folder_is_not_replaced(hub, saved, tmp_path):
    shared(hub, saved[0] / "faq")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(FormatError, match="not an Unbraid folder"):
        pull("owner/faq", tmp_path / "mine", endpoint=hub.url)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


class Own(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.rnn, self.out = torch.nn.Embedding(9, 3), torch.nn.GRU(3, 4), torch.nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.rnn(self.embed(x).transpose(0, 1))[0][-1])


def test_modules_of_a_users_own_network_are_shared_without_its_code(hub, tmp_path):
    torch.manual_seed(0)
    x = torch.arange(60).reshape(20, 3) % 9
    net = unbraid.Network.from_torch(Own(), x[:2])
    parts = unbraid.decompose(net, (x, np.arange(20) % 3), samples_per_class=5)
    parts.save(tmp_path / "own")
    push(tmp_path / "own", "owner/own", token=TOKEN, endpoint=hub.url)
    pull("owner/own", tmp_path / "back", endpoint=hub.url)
    back = unbraid.load_decomposition(tmp_path / "back", module=Own())
    np.testing.assert_array_equal(back[0].margins(x), parts[0].margins(x))
    hub.put("owner/own", {**hub.repos["owner/own"][-1], "parent.safetensors": b"damaged"})
    with pytest.raises(FormatError, match="is damaged"):
        pull("owner/own", tmp_path / "back", endpoint=hub.url)


def test_a_private_repository_needs_a_token(hub, saved, tmp_path, monkeypatch):
    ours = shared(hub, saved[0] / "faq")
    hub.private.add("owner/faq")
    with pytest.raises(HubError, match="you have no access"):
        pull("owner/faq", tmp_path / "faq", endpoint=hub.url)
    pull("owner/faq", tmp_path / "faq", token=TOKEN, endpoint=hub.url)
    assert files_of(tmp_path / "faq") == ours


def closed():
    """Return an address without a server."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


REFUSED = {
    "no repository": (lambda faq, new, url: pull("owner/none", new, endpoint=url), "no repository 'owner/none'"),
    "a wrong token": (lambda faq, new, url: push(faq, "owner/x", token="wrong", endpoint=url), r"'owner/x' \(401\)"),
    "no token": (lambda faq, new, url: push(faq, "owner/x", endpoint=url), r"refuses 'owner/x' \(401\)"),
    "another's name": (lambda faq, new, url: push(faq, "else/x", token=TOKEN, endpoint=url), r"'else/x' \(403\)"),
    "no owner": (lambda faq, new, url: push(faq, "x", token=TOKEN, endpoint=url), "OWNER/NAME"),
    "a path": (lambda faq, new, url: pull("../../x", new, endpoint=url), "OWNER/NAME"),
    "a name that hubs refuse": (lambda faq, new, url: pull("owner/a--b", new, endpoint=url), "OWNER/NAME"),
    "nobody to push to": (lambda faq, new, url: push(faq, "owner/x", endpoint=closed()), "cannot be reached"),
    "nobody to pull from": (lambda faq, new, url: pull("owner/x", new, endpoint=closed()), "cannot be reached"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_is_one_clear_line(hub, saved, tmp_path, what):
    call, says = REFUSED[what]
    with pytest.raises(HubError, match=says) as error:
        call(saved[0] / "faq", tmp_path / "new", hub.url)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300
    assert TOKEN not in str(error.value)


def test_a_hub_that_does_not_work(hub, saved, tmp_path):
    hub.failing = (501, "we are moving house")
    with pytest.raises(HubError, match=r"answered 501 for 'owner/faq': we are moving house"):
        pull("owner/faq", tmp_path / "faq", endpoint=hub.url)
    with pytest.raises(HubError, match="answered 501"):
        push(saved[0] / "faq", "owner/faq", token=TOKEN, endpoint=hub.url)


def test_offline_nobody_is_asked(hub, tmp_path, monkeypatch):
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    _http.close_session()  # the next one knows
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        pull("owner/faq", tmp_path / "faq", endpoint=hub.url)
    assert not hub.asked


def test_without_the_extra_it_says_how_to_get_it(saved, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (lambda: push(saved[0] / "faq", "owner/faq"), lambda: pull("owner/faq", tmp_path / "faq")):
        with pytest.raises(UnbraidError, match=r"pip install 'unbraid\[hub\]'"):
            call()


def test_the_command_line_shares(hub, saved, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", hub.url)  # as HF_ENDPOINT in a new process
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    runner = CliRunner()
    done = runner.invoke(app, ["push", str(saved[0] / "faq"), "owner/faq", "--private"])
    assert done.exit_code == 0 and f"{hub.url}/owner/faq" in done.stdout, done.output
    done = runner.invoke(app, ["pull", "owner/faq", "-o", str(tmp_path / "faq")])
    assert done.exit_code == 0, done.output
    assert files_of(tmp_path / "faq") == files_of(saved[0] / "faq")
    done = runner.invoke(app, ["pull", "owner/none", "-o", str(tmp_path / "none")])
    assert done.exit_code == 2 and "no repository 'owner/none'" in done.stderr
    done = runner.invoke(app, ["push", str(tmp_path), "owner/faq"])
    assert done.exit_code == 2 and "unbraid.json" in done.stderr

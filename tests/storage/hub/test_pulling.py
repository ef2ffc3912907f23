"""Limits of pull, and the hosts that get tokens."""

import os
import signal
import subprocess
import sys

import pytest

from tests.hub_server import TOKEN, hub_server
from unbraid import limits
from unbraid.errors import FormatError
from unbraid.storage.hub import HubError, pull, push

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own
BEARER = f"Bearer {TOKEN}"


@pytest.fixture
def faq(hub, saved):
    """The files of a repository owner/faq."""
    files = {path.name: path.read_bytes() for path in (saved[0] / "faq").iterdir()}
    hub.put("owner/faq", files)
    return files


def downloads(hub):
    return [asked.rsplit("/", 1)[1] for asked in hub.asked if "/resolve/" in asked]


def test_a_stored_token_stays_with_its_own_endpoint(hub, faq, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    pull("owner/faq", tmp_path / "a", endpoint=hub.url)
    assert set(hub.tokens) == {None}
    with pytest.raises(HubError, match=r"'owner/new' \(401\)"):
        push(tmp_path / "a", "owner/new", endpoint=hub.url)
    assert set(hub.tokens) == {None}


def test_a_stored_token_file_stays_too(hub, faq, tmp_path, monkeypatch):
    from huggingface_hub import constants

    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    pull("owner/faq", tmp_path / "a", endpoint=hub.url)
    assert set(hub.tokens) == {None}


def test_an_explicit_token_is_sent_to_an_explicit_endpoint(hub, faq, tmp_path):
    pull("owner/faq", tmp_path / "a", endpoint=hub.url, token=TOKEN)
    assert set(hub.tokens) == {BEARER}


@pytest.mark.parametrize("given", [None, "{url}", "{url}/"])
def test_a_stored_token_is_sent_to_the_default_endpoint(hub, faq, tmp_path, monkeypatch, given):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    pull("owner/faq", tmp_path / "a", endpoint=None if given is None else given.format(url=hub.url))
    assert set(hub.tokens) == {BEARER}


def test_a_redirect_to_another_host_takes_no_token_along(hub, faq, tmp_path):
    with hub_server() as other:
        other.put("owner/faq", faq)
        hub.elsewhere = other.url
        pull("owner/faq", tmp_path / "a", endpoint=hub.url, token=TOKEN)
        assert other.asked and set(other.tokens) == {None}
    assert set(hub.tokens) == {BEARER}


def test_the_total_size_is_checked_before_files_are_downloaded(hub, faq, tmp_path):
    total = sum(map(len, faq.values())) - len(faq["unbraid.json"])
    with (
        limits.override(download_bytes=total - 1),
        pytest.raises(FormatError, match=f"total size is {total}, above the limit of {total - 1}"),
    ):
        pull("owner/faq", tmp_path / "a", endpoint=hub.url)
    assert downloads(hub) == ["unbraid.json"] and not (tmp_path / "a").exists()
    with limits.override(download_bytes=total):
        pull("owner/faq", tmp_path / "a", endpoint=hub.url)


@pytest.mark.parametrize(("name", "limit"), [("modules.safetensors", "file_bytes"), ("README.md", "json_bytes")])
def test_a_declared_size_above_the_limit_of_one_file_is_refused(hub, faq, tmp_path, name, limit):
    hub.declared = {name: 2**40}
    with pytest.raises(FormatError, match=f"{name}: size is {2**40}"):
        pull("owner/faq", tmp_path / "a", endpoint=hub.url)
    assert downloads(hub) == ["unbraid.json"]


@pytest.mark.parametrize("name", ["unbraid.json", "modules.safetensors", "README.md"])
def test_a_file_larger_than_declared_is_refused(hub, faq, tmp_path, name):
    hub.declared = {name: 7}
    with pytest.raises(HubError, match="larger than the 7 bytes"):
        pull("owner/faq", tmp_path / "a", endpoint=hub.url)
    assert not (tmp_path / "a").exists()


def test_where_sizes_are_not_declared_the_limit_holds_all_the_same(hub, faq, tmp_path):
    hub.declared = dict.fromkeys(faq)
    with limits.override(download_bytes=1000), pytest.raises(HubError, match="larger than"):
        pull("owner/faq", tmp_path / "a", endpoint=hub.url)
    pull("owner/faq", tmp_path / "a", endpoint=hub.url)


def test_a_list_of_files_that_is_too_long_is_refused(hub, faq, tmp_path):
    hub.put("owner/faq", faq | {f"{number:0100}": b"" for number in range(100)})
    with limits.override(json_bytes=10_000), pytest.raises(HubError, match=r"list of files of .* is larger"):
        pull("owner/faq", tmp_path / "a", endpoint=hub.url)


def test_a_hub_that_sends_byte_by_byte_ends_with_the_time(hub, faq, tmp_path):
    hub.slow = 0.05  # the manifest alone would take a minute
    with limits.override(download_seconds=1), pytest.raises(HubError, match="took longer than 1 seconds"):
        pull("owner/faq", tmp_path / "a", endpoint=hub.url)


ANSWERS = {
    "a list": b"[]",
    "text": b'"x"',
    "no files": b'{"sha": "%s"}' % (b"0" * 40),
    "names that are numbers": b'{"sha": "%s", "siblings": [{"rfilename": 5}]}' % (b"0" * 40),
    "sizes below 0": b'{"sha": "%s", "siblings": [{"rfilename": "unbraid.json", "size": -1}]}' % (b"0" * 40),
    "a commit that is a path": b'{"sha": "../../x", "siblings": [{"rfilename": "unbraid.json"}]}',
    "no JSON": b"<html>",
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_is_no_list_of_files_is_refused(hub, tmp_path, monkeypatch, answer):
    import tests.hub_server as server

    respond = lambda self, repo, rest, body: self._answer(200, ANSWERS[answer], {"Content-Type": "application/json"})  # noqa: E731
    monkeypatch.setattr(server._Handler, "_model", respond)
    hub.put("owner/faq", {})
    with pytest.raises((HubError, FormatError), match=hub.url) as error:
        pull("owner/faq", tmp_path / "a", endpoint=hub.url)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("endpoint", ["file:///etc", "huggingface.co", "http://", 5, ""])
def test_what_is_no_address_is_refused(hub, tmp_path, endpoint):
    with pytest.raises(HubError, match="expected an address as https"):
        pull("owner/faq", tmp_path / "a", endpoint=endpoint, token=TOKEN)


def test_a_killed_pull_leaves_nothing(hub, faq, tmp_path):
    hub.slow = 0.05
    (tmp_path / "tmp").mkdir()
    code = "import sys; from unbraid.storage.hub import pull; pull('owner/faq', sys.argv[1], endpoint=sys.argv[2])"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "new"), hub.url],
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp"), "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "tmp")},
    )
    while not downloads(hub):
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list((tmp_path / "tmp").iterdir()) and not (tmp_path / "new").exists()

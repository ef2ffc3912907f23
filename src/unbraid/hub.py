"""Sharing folders of modules over the Hugging Face Hub, with the extra ``[hub]``.

What comes from a hub is checked before it takes its place: only files of ours, whole, and loadable.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unbraid._version import __version__
from unbraid.errors import FormatError, UnbraidError
from unbraid.modules.card import RECIPE
from unbraid.modules.folders import MANIFEST, read_file, write_folder
from unbraid.modules.loading import check_folder, is_known

HUB = "https://huggingface.co"
Folder = str | os.PathLike[str]


class HubError(UnbraidError):
    """A hub cannot be reached, or refuses."""


def push(
    folder: Folder, repo: str, *, token: str | None = None, private: bool = False, endpoint: str | None = None
) -> str:
    """Upload a saved folder; files of ours that the repository has and the folder has not are removed there.

    Args:
        folder: what a ``save`` wrote.
        repo: ``OWNER/NAME``; it is made where it does not exist.
        token: of the hub; the one that ``hf auth login`` stored by default.
        private: whether a new repository is private; one that is there stays as it is.
        endpoint: the hub's address; by default ``HF_ENDPOINT`` or the Hugging Face Hub.

    Returns:
        the repository's address.

    Raises:
        FormatError: ``folder`` is no Unbraid folder, or damaged.
        HubError: the hub cannot be reached or refuses, or the extra is missing.
    """
    names = check_folder(folder)
    api, url = _api(repo, endpoint, token)
    with _clear_errors(repo, url):
        if not api.repo_exists(repo):
            api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            allow_patterns=names,
            delete_patterns=["*.safetensors", "vocabulary-*.json", RECIPE],
            commit_message=f"Modules saved with Unbraid {__version__}",
        )
    return f"{url}/{repo}"


def pull(repo: str, folder: Folder, *, revision: str | None = None, endpoint: str | None = None) -> Path:
    """Download a folder of modules, check it, and only then put it in its place, whole or not at all.

    Args:
        repo: ``OWNER/NAME``.
        folder: where it goes; an Unbraid folder that is there is replaced.
        revision: a branch, tag or commit.
        endpoint: the hub's address; by default ``HF_ENDPOINT`` or the Hugging Face Hub.

    Returns:
        ``folder``.

    Raises:
        FormatError: the repository holds no Unbraid folder or a damaged one, or something else lies at ``folder``.
        HubError: the hub cannot be reached, or has no such repository or revision for you, or the extra is missing.
    """
    api, url = _api(repo, endpoint, None)
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        with _clear_errors(repo, url):
            _download(api, repo, revision, place)
        try:
            files = {name: read_file(place, name) for name in check_folder(place)}
        except FormatError as error:
            raise FormatError(str(error).replace(str(place), f"{url}/{repo}")) from None
    write_folder(folder, files)
    return Path(folder)


def _download(api: Any, repo: str, revision: str | None, place: Path) -> None:
    """The files of ours that a repository holds, all of one commit."""
    found = api.model_info(repo, revision=revision)
    names = [file.rfilename for file in found.siblings or [] if is_known(file.rfilename)]
    if MANIFEST not in names:
        raise FormatError(f"{repo} holds no {MANIFEST}: expected a repository that 'unbraid push' made.")
    api.snapshot_download(repo, revision=found.sha, local_dir=place, allow_patterns=names, ignore_patterns=["*/*"])


def _api(repo: str, endpoint: str | None, token: str | None) -> tuple[Any, str]:
    """A client, and the hub's address."""
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", repo, re.ASCII):
        raise HubError(f"found {repo!r}, expected a repository as OWNER/NAME.")
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise HubError("sharing needs huggingface_hub: pip install 'unbraid[hub]'.") from None
    api = HfApi(endpoint=endpoint, token=token, library_name="unbraid", library_version=__version__)
    return api, str(api.endpoint).rstrip("/")


@contextmanager
def _clear_errors(repo: str, url: str) -> Iterator[None]:
    """Whatever the client raises, as one line."""
    try:
        yield
    except UnbraidError:
        raise
    except Exception as error:
        raise HubError(_reason(error, repo, url)) from None


def _reason(error: BaseException, repo: str, url: str) -> str:
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{url}/{repo} has no such revision."
    if isinstance(error, errors.GatedRepoError):
        return f"{url}/{repo} asks for its owner's leave: request it there, then log in with 'hf auth login'."
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{url} has no repository {repo!r}, or none that you may see: check its name, or 'hf auth login'."
    if isinstance(error, errors.LocalTokenNotFoundError) or status in (401, 403):
        return f"{url} refuses {repo!r} ({status or 'no token'}): log in with 'hf auth login', or use a token that may."
    if isinstance(error, errors.HFValidationError):
        return f"found {repo!r}, expected a repository as OWNER/NAME."
    if status is not None:
        said = str(getattr(error, "server_message", None) or "no reason given").splitlines()[0]
        return f"{url} answered {status} for {repo!r}: {said[:200]}"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"{url} is not asked: HF_HUB_OFFLINE is set."
    if isinstance(error, ConnectionError | TimeoutError) or type(error).__module__.startswith(("httpx", "requests")):
        return f"{url} cannot be reached ({type(error).__name__}): check the connection, or HF_ENDPOINT."
    if error.__cause__ is not None:
        return _reason(error.__cause__, repo, url)
    said = (str(error).splitlines() or [""])[0]
    return f"{url}/{repo}: the hub's client failed ({type(error).__name__}: {said[:200]})."

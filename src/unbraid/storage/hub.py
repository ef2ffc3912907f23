"""Share saved folders over the Hugging Face Hub. Needs the extra ``[hub]``.

A download is checked before it replaces a folder: it must be a complete folder that loads. An upload replaces only
files that the manifest of the repository names.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from unbraid import limits
from unbraid._version import __version__
from unbraid.errors import FormatError, UnbraidWarning, quoted
from unbraid.paths import user_path
from unbraid.progress import Progress, silent
from unbraid.storage.card import CARD, is_card
from unbraid.storage.commit import current
from unbraid.storage.folders import MANIFEST, write_folder
from unbraid.storage.hub_client import HubClient, HubError, Listing, NoRepository
from unbraid.storage.layout import is_known
from unbraid.storage.loading import check_folder
from unbraid.storage.manifest_checks import parse_manifest

UNTOUCHED = {CARD, ".gitattributes"}  # files of a new repository
NAMED = 5  # largest number of files in an error message
Folder = str | os.PathLike[str]


def push(
    folder: Folder, repo: str, *, token: str | None = None, private: bool = False, endpoint: str | None = None
) -> str:
    """Upload a saved folder to a repository, as one commit.

    Only files that the ``unbraid.json`` of the repository lists are replaced or deleted. A ``README.md`` that Unbraid
    did not write is kept, with a warning.

    Args:
        folder: path of a saved folder.
        repo: ``OWNER/NAME``. It is created if it does not exist.
        token: access token. Default: the token that ``hf auth login`` stored, which is sent to the default address
            only.
        private: whether a new repository is private. Existing repositories do not change.
        endpoint: address of the hub. Default: ``HF_ENDPOINT`` or the Hugging Face Hub.

    Returns:
        address of the repository.

    Raises:
        FormatError: ``folder`` is not an Unbraid folder, is damaged, or has a link instead of a file.
        HubError: the hub cannot be reached or refuses, the repository holds other files, or the extra is missing.

    Warns:
        UnbraidWarning: the ``README.md`` of the repository is kept.

    Example:
        >>> from unbraid.storage import hub
        >>> hub.push("topics", "me/topics")  # doctest: +SKIP
    """
    content = _content(folder)
    hub = HubClient(repo, endpoint, token)
    listing = _listing(hub, private)
    operations = _operations(hub, listing, content)
    message = f"Modules saved with Unbraid {__version__}"
    with hub.clear_errors():
        hub.api.create_commit(hub.repo, operations, commit_message=message, parent_commit=listing.commit)
    return hub.address


def pull(
    repo: str,
    folder: Folder,
    *,
    revision: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
    progress: Progress = silent,
) -> Path:
    """Download a saved folder, check it, and then write it atomically.

    Sizes are checked before the download, see ``download_bytes`` and ``download_seconds`` of
    :class:`unbraid.limits.Limits`.

    Args:
        repo: ``OWNER/NAME``.
        folder: path of the new folder. An existing Unbraid folder is replaced.
        revision: a branch, tag or commit. Default: the main branch.
        token: access token. Default: the token that ``hf auth login`` stored, which is sent to the default address
            only.
        endpoint: address of the hub. Default: ``HF_ENDPOINT`` or the Hugging Face Hub.
        progress: factory of progress bars, see :mod:`unbraid.progress`.

    Returns:
        ``folder``.

    Raises:
        FormatError: the repository holds no Unbraid folder, or a damaged or too large one, or ``folder`` holds other
            files.
        HubError: the hub cannot be reached, the repository or revision does not exist, the download is larger than
            declared or too slow, or the extra is missing.

    Example:
        >>> from unbraid.storage import hub
        >>> hub.pull("me/topics", "topics")  # doctest: +SKIP
    """
    hub = HubClient(repo, endpoint, token)
    files = _download(hub, revision, progress)

    def verify(place: Path) -> None:
        try:
            check_folder(place)
        except FormatError as error:
            raise FormatError(str(error).replace(str(place), hub.address)) from None

    write_folder(folder, files, verify)
    return user_path(folder)


def _content(folder: Folder) -> dict[str, bytes]:
    """Read the files to upload; links are refused, so that no file outside of the folder is uploaded."""
    place = Path(os.path.abspath(user_path(folder)))
    names = check_folder(place)
    if CARD not in names and os.path.lexists(place / CARD):
        names = [*names, CARD]  # read_regular raises with the reason
    return {name: limits.read_regular(current(place, name), _limit(name), follow=False) for name in names}


def _limit(name: str) -> str:
    """Return the name of the limit for the size of a file."""
    return "file_bytes" if name.endswith(".safetensors") else "json_bytes"


def _listing(hub: HubClient, private: bool) -> Listing:
    """List the files of the repository; create it if it does not exist."""
    try:
        return hub.listing()
    except NoRepository:
        with hub.clear_errors():
            hub.api.create_repo(hub.repo, private=private, exist_ok=True)
        return hub.listing()


def _operations(hub: HubClient, listing: Listing, content: dict[str, bytes]) -> list[Any]:
    """List the changes of a commit that makes ``content`` the content of the repository."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    old = _old_files(hub, listing)
    foreign = sorted(name for name in content if name in listing.sizes and name not in old | {CARD})
    if foreign:
        raise HubError(
            f"{hub.address} holds {_few(foreign)}, which its {MANIFEST} does not list and which would be overwritten: "
            "push to another repository, or move them away first."
        )
    if CARD in content and CARD in listing.sizes and not _is_ours(hub, listing):
        warnings.warn(
            f"{hub.address} has a {CARD} that Unbraid did not write: it is kept. Delete it there and push again to "
            "publish the model card.",
            UnbraidWarning,
            stacklevel=3,
        )
        content = {name: part for name, part in content.items() if name != CARD}
    added = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=part) for name, part in content.items()]
    return [*added, *(CommitOperationDelete(path_in_repo=name) for name in sorted(old - set(content)))]


def _old_files(hub: HubClient, listing: Listing) -> set[str]:
    """Return the names of files that may be replaced; raise HubError for a repository of other files."""
    advice = "push to another repository, or empty it first"
    if MANIFEST not in listing.sizes:
        others = sorted(set(listing.sizes) - UNTOUCHED)
        if others:
            raise HubError(f"{hub.address} holds {_few(others)} and no {MANIFEST}, so it is not Unbraid's: {advice}.")
        return set()
    content = hub.read(listing, MANIFEST, limits.current().json_bytes)
    try:
        manifest = parse_manifest(content, f"{hub.address}/{MANIFEST}")
    except FormatError as error:
        raise HubError(f"the {MANIFEST} there is not valid, so no file is replaced: {advice}. ({error})") from None
    return {MANIFEST, *(name for name in manifest.files if is_known(name))} & set(listing.sizes)


def _is_ours(hub: HubClient, listing: Listing) -> bool:
    """Return whether Unbraid wrote the model card of the repository."""
    return is_card(hub.read(listing, CARD, limits.current().json_bytes).decode("utf-8", "replace"))


def _download(hub: HubClient, revision: str | None, progress: Progress) -> dict[str, bytes]:
    """Download the files that the manifest of a repository lists, all of one commit."""
    listing = hub.listing(revision)
    if MANIFEST not in listing.sizes:
        raise FormatError(f"{hub.address} holds no {MANIFEST}: expected a repository that 'unbraid push' made.")
    files = {MANIFEST: hub.read(listing, MANIFEST, limits.current().json_bytes)}
    manifest = parse_manifest(files[MANIFEST], f"{hub.address}/{MANIFEST}")
    names = [name for name in manifest.files if is_known(name)]
    missing = sorted(set(names) - set(listing.sizes))
    if missing:
        raise FormatError(f"{hub.address}: {_few(missing)} cannot be read: the repository does not hold it.")
    names += [CARD] if CARD in listing.sizes else []
    sizes = {name: listing.sizes[name] or 0 for name in names}
    for name, size in sizes.items():
        limits.check_size(size, _limit(name), f"{hub.address}/{name}")
    limits.check_size(sum(sizes.values()), "download_bytes", hub.address, "total size")
    left = limits.current().download_bytes
    with progress("downloading", sum(sizes.values())) as advance:
        for name in names:
            files[name] = hub.read(listing, name, min(left, getattr(limits.current(), _limit(name))), advance)
            left -= len(files[name])
    return files


def _few(names: list[str]) -> str:
    shown = ", ".join(repr(quoted(name, 60)) for name in names[:NAMED])
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED} more"

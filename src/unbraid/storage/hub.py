"""Sharing folders of modules over the Hugging Face Hub, with the extra ``[hub]``.

What comes from a hub is checked before it takes its place: only files of a saved folder, whole, and loadable.
What goes to a hub replaces only files that the manifest there names.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from unbraid import limits
from unbraid._version import __version__
from unbraid.errors import FormatError, UnbraidWarning, quoted
from unbraid.progress import Progress, silent
from unbraid.storage.card import CARD, is_card
from unbraid.storage.commit import current
from unbraid.storage.folders import MANIFEST, write_folder
from unbraid.storage.hub_client import HubClient, HubError, Listing, NoRepository
from unbraid.storage.layout import is_known
from unbraid.storage.loading import check_folder
from unbraid.storage.manifest_checks import parse_manifest

UNTOUCHED = {CARD, ".gitattributes"}  # files of a repository that does not hold anything yet
NAMED = 5  # files that a refusal names, at most
Folder = str | os.PathLike[str]


def push(
    folder: Folder, repo: str, *, token: str | None = None, private: bool = False, endpoint: str | None = None
) -> str:
    """Upload a saved folder, as one commit.

    Only files that the repository's own ``unbraid.json`` names are replaced or deleted. A ``README.md`` that Unbraid
    did not write stays, with a warning.

    Args:
        folder: what a ``save`` wrote.
        repo: ``OWNER/NAME``; it is made where it does not exist.
        token: of the hub. By default the one that ``hf auth login`` stored; it is sent to the default address only.
        private: whether a new repository is private; an existing one stays as it is.
        endpoint: the hub's address; by default ``HF_ENDPOINT`` or the Hugging Face Hub.

    Returns:
        the repository's address.

    Raises:
        FormatError: ``folder`` is not an Unbraid folder, is damaged, or holds a link in place of a file.
        HubError: the hub cannot be reached or refuses, the repository holds other files, or the extra is missing.
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
    """Download a folder of modules, check it, and only then put it in its place, whole or not at all.

    Sizes are checked before anything is downloaded, see ``download_bytes`` and ``download_seconds`` of
    :class:`unbraid.limits.Limits`.

    Args:
        repo: ``OWNER/NAME``.
        folder: where it goes; an Unbraid folder that is there is replaced.
        revision: a branch, tag or commit.
        token: of the hub. By default the one that ``hf auth login`` stored; it is sent to the default address only.
        endpoint: the hub's address; by default ``HF_ENDPOINT`` or the Hugging Face Hub.
        progress: a progress bar's factory, see :mod:`unbraid.progress`.

    Returns:
        ``folder``.

    Raises:
        FormatError: the repository holds no Unbraid folder, a damaged or too large one, or something else is at
            ``folder``.
        HubError: the hub cannot be reached, has no such repository or revision for you, sends more than it declared,
            or takes too long; or the extra is missing.
    """
    hub = HubClient(repo, endpoint, token)
    files = _download(hub, revision, progress)

    def verify(place: Path) -> None:
        try:
            check_folder(place)
        except FormatError as error:
            raise FormatError(str(error).replace(str(place), hub.address)) from None

    write_folder(folder, files, verify)
    return Path(folder)


def _content(folder: Folder) -> dict[str, bytes]:
    """The files to upload, by name; links are refused, so that nothing from outside the folder is uploaded."""
    place = Path(os.path.abspath(folder))
    names = check_folder(place)
    if CARD not in names and os.path.lexists(place / CARD):
        names = [*names, CARD]  # read_regular names the reason why it is refused
    return {name: limits.read_regular(current(place, name), _limit(name), follow=False) for name in names}


def _limit(name: str) -> str:
    """Name of the limit of a file's size."""
    return "file_bytes" if name.endswith(".safetensors") else "json_bytes"


def _listing(hub: HubClient, private: bool) -> Listing:
    """What the repository holds; it is made where it does not exist."""
    try:
        return hub.listing()
    except NoRepository:
        with hub.clear_errors():
            hub.api.create_repo(hub.repo, private=private, exist_ok=True)
        return hub.listing()


def _operations(hub: HubClient, listing: Listing, content: dict[str, bytes]) -> list[Any]:
    """What a commit changes, so that the repository holds ``content``."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    old = _old_files(hub, listing)
    foreign = sorted(name for name in content if name in listing.sizes and name not in old | {CARD})
    if foreign:
        raise HubError(
            f"{hub.address} holds {_few(foreign)}, which its {MANIFEST} does not name and which would be overwritten: "
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
    """Files that may be replaced: the manifest there and what it names; raises HubError for others' repositories."""
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
    """Whether Unbraid wrote the repository's model card."""
    return is_card(hub.read(listing, CARD, limits.current().json_bytes).decode("utf-8", "replace"))


def _download(hub: HubClient, revision: str | None, progress: Progress) -> dict[str, bytes]:
    """The files that a repository's manifest names, all of one commit."""
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

"""Read from a model hub within limits of size and time. Errors of the client are converted to one line."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from unbraid import limits
from unbraid._version import __version__
from unbraid.errors import UnbraidError, quoted

IDENTITY = {"Accept-Encoding": "identity"}  # transferred sizes are those of the files
LONGEST_REFUSAL = 2**16  # largest number of bytes of an error response that are read


class HubError(UnbraidError):
    """A hub cannot be reached, or refuses a request."""


class NoRepository(HubError):
    """A repository does not exist, or this user has no access to it."""


@dataclass(frozen=True)
class Listing:
    """The files of one commit of a repository.

    Attributes:
        commit: id of the commit.
        sizes: file name -> bytes; None if the hub does not return the size.
    """

    commit: str
    sizes: dict[str, int | None]


class HubClient:
    """Read from one repository, for at most ``download_seconds`` of :class:`unbraid.limits.Limits`.

    Args:
        repo: ``OWNER/NAME``.
        endpoint: address of the hub; None for ``HF_ENDPOINT`` or the Hugging Face Hub.
        token: sent to that address. Without one, a stored token is sent to the default address only.

    Attributes:
        api: the client of ``huggingface_hub``, for writing.
        url: address of the hub.
        address: address of the repository.

    Raises:
        HubError: a wrong repository name or address, or ``huggingface_hub`` is missing.
    """

    def __init__(self, repo: str, endpoint: str | None, token: str | None) -> None:
        if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", str(repo), re.ASCII):
            raise HubError(f"found {quoted(repr(repo))}, expected a repository as OWNER/NAME.")
        if endpoint is not None and not re.match(r"https?://[^/]", str(endpoint)):
            raise HubError(f"found endpoint {quoted(repr(endpoint))}, expected an address as https://HOST.")
        try:
            from huggingface_hub import HfApi
            from huggingface_hub.utils import validate_repo_id
        except ImportError:
            raise HubError("sharing needs huggingface_hub: pip install 'unbraid[hub]'.") from None
        sent = _allowed_token(endpoint, token)
        self.api = HfApi(endpoint=endpoint, token=sent, library_name="unbraid", library_version=__version__)
        self.repo, self.url = str(repo), str(self.api.endpoint).rstrip("/")
        self.address = f"{self.url}/{repo}"
        self._seconds = limits.current().download_seconds
        self._end = time.monotonic() + self._seconds
        with self.clear_errors():
            validate_repo_id(self.repo)

    def listing(self, revision: str | None = None) -> Listing:
        """List the files of a branch, tag or commit; by default of the main branch.

        Raises:
            FormatError, HubError: as :meth:`read`.
        """
        at = "" if revision is None else f"/revision/{quote(revision, safe='')}"
        where = f"the list of files of {self.address}"
        content = self._get(f"{self.url}/api/models/{self.repo}{at}?blobs=true", limits.current().json_bytes, where)
        found = limits.parse_json(content, where)
        try:
            sizes = {file["rfilename"]: file.get("size") for file in found["siblings"] or []}
            commit = found["sha"]
        except (KeyError, TypeError, AttributeError):
            raise HubError(f"{self.url} is not a model hub: its answer is not a list of files.") from None
        known = all(isinstance(n, str) and (s is None or (type(s) is int and s >= 0)) for n, s in sizes.items())
        if not known or not isinstance(commit, str) or not re.fullmatch("[0-9a-f]{40}", commit):
            raise HubError(f"{self.url} is not a model hub: its answer is not a list of files.")
        return Listing(commit, sizes)

    def read(
        self, listing: Listing, name: str, allowed: int, advance: Callable[[float], object] = lambda count: None
    ) -> bytes:
        """Read a file of a commit.

        Args:
            listing: the commit.
            name: name of the file.
            allowed: largest number of bytes to read.
            advance: called with the number of received bytes.

        Raises:
            FormatError: the file is larger than ``allowed`` or than the size that the hub declared.
            HubError: the hub cannot be reached, refuses, or takes too long.
        """
        declared = listing.sizes[name]
        url = f"{self.address}/resolve/{listing.commit}/{quote(name, safe='')}"
        return self._get(url, allowed if declared is None else min(allowed, declared), name, advance)

    def _get(
        self, url: str, allowed: int, where: str, advance: Callable[[float], object] = lambda count: None
    ) -> bytes:
        from huggingface_hub import constants, get_session
        from huggingface_hub.utils import build_hf_headers

        content = bytearray()
        with self.clear_errors():
            headers = build_hf_headers(
                token=self.api.token, library_name="unbraid", library_version=__version__, headers=IDENTITY
            )
            quiet = min(constants.HF_HUB_DOWNLOAD_TIMEOUT, self._left())
            request = {"headers": headers, "timeout": quiet, "follow_redirects": True}  # tokens go to their host only
            with get_session().stream("GET", url, **request) as response:
                _check_status(response)
                for chunk in response.iter_raw():
                    content += chunk
                    if len(content) > allowed:
                        raise HubError(f"{self.address}: {where} is larger than the {allowed} bytes expected of it.")
                    advance(len(chunk))
                    self._left()
        return bytes(content)

    def _left(self) -> float:
        """Return the remaining seconds; raise HubError if there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise HubError(
                f"{self.address}: downloading took longer than {self._seconds} seconds. Raise the limit with "
                "unbraid.limits.override(download_seconds=...)."
            )
        return left

    @contextmanager
    def clear_errors(self) -> Iterator[None]:
        """Convert every error of the client to one line."""
        try:
            yield
        except UnbraidError:
            raise
        except Exception as error:
            from huggingface_hub.errors import RepositoryNotFoundError

            kind = NoRepository if isinstance(error, RepositoryNotFoundError) else HubError
            raise kind(_reason(error, self.repo, self.url)) from None


def _allowed_token(endpoint: str | None, token: str | None) -> str | bool | None:
    """Return the token to send: None for the stored token, False for no token."""
    from huggingface_hub import constants

    own = endpoint is None or endpoint.rstrip("/") == constants.ENDPOINT.rstrip("/")
    return token if token is not None or own else False


def _check_status(response: Any) -> None:
    """Raise the error of the client for a refusal; only the beginning of the response is read."""
    from huggingface_hub.utils import hf_raise_for_status

    if response.status_code < 400:
        return
    body = b""
    for chunk in response.iter_raw():
        body += chunk
        if len(body) > LONGEST_REFUSAL:
            break
    kept = ("x-error-code", "x-error-message", "content-type")
    headers = {name: response.headers[name] for name in kept if name in response.headers}
    short = type(response)(response.status_code, headers=headers, content=body, request=response.request)
    hf_raise_for_status(short)


def _reason(error: BaseException, repo: str, url: str) -> str:
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{url}/{repo} has no such revision."
    if isinstance(error, errors.GatedRepoError):
        return f"{url}/{repo} has restricted access: request access there, then log in with 'hf auth login'."
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{url} has no repository {repo!r}, or you have no access: check its name, or 'hf auth login'."
    if isinstance(error, errors.LocalTokenNotFoundError) or status in (401, 403):
        return f"{url} refuses {repo!r} ({status or 'no token'}): log in with 'hf auth login', or use another token."
    if status == 412:
        return f"{url}/{repo} was changed at the same time by another user: push again."
    if isinstance(error, errors.HFValidationError):
        return f"found {repo!r}, expected a repository as OWNER/NAME."
    if status is not None:
        said = (str(getattr(error, "server_message", None) or "").splitlines() or ["no reason given"])[0]
        return f"{url} answered {status} for {repo!r}: {quoted(said)}"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"{url} is not used, because HF_HUB_OFFLINE is set."
    if isinstance(error, ConnectionError | TimeoutError) or type(error).__module__.startswith(("httpx", "requests")):
        return f"{url} cannot be reached ({type(error).__name__}): check the connection, or HF_ENDPOINT."
    if error.__cause__ is not None:
        return _reason(error.__cause__, repo, url)
    said = (str(error).splitlines() or [""])[0]
    return f"{url}/{repo}: the hub's client failed ({type(error).__name__}: {quoted(said)})."

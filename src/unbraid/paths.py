"""Paths as users write them."""

from __future__ import annotations

import os
from pathlib import Path


def user_path(path: str | os.PathLike[str]) -> Path:
    """Return a path in which ``~`` and ``~user`` at the start are the home folder of the user.

    All functions that take a path of a user call it before they open, check or compare the path. A name of no user
    stays as it is. To use a file or folder whose name starts with ``~``, give its absolute path.

    Args:
        path: the path.

    Raises:
        TypeError: another object.

    Example:
        >>> user_path("parts").name, user_path("~/parts") == Path.home() / "parts"
        ('parts', True)
    """
    return Path(os.path.expanduser(path))

"""Read a vocabulary file and print its assumed settings."""

from __future__ import annotations

from pathlib import Path

from unbraid.cli.terminal import notice
from unbraid.data.vocabulary import Vocabulary, read_vocabulary


def shown_vocabulary(path: str | Path, steps: int | None = None) -> Vocabulary:
    """Read a vocabulary for T = ``steps`` timesteps and print its settings on standard error."""
    found = read_vocabulary(path, steps)
    notice(found.describe(), "vocabulary")
    return found

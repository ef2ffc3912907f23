"""Check where a command writes."""

from __future__ import annotations

import os
from pathlib import Path

from unbraid.errors import ConfigError, quoted


def check_output(output: Path, *inputs: Path | None) -> None:
    """Check that a file to write is none of the files that the command reads.

    Args:
        output: the file to write.
        inputs: files and folders that are read; None for an option that was not given.

    Raises:
        ConfigError: the output is one of the inputs, also by another name.
    """
    for given in inputs:
        if given is not None and os.path.realpath(given) == os.path.realpath(output):
            raise ConfigError(f"--out {quoted(output)} is an input of this command: choose another name.")

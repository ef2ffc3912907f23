"""Refuse options that have no effect on what a command reads."""

from __future__ import annotations

from collections.abc import Mapping

from unbraid.errors import ConfigError


def refuse(options: Mapping[str, object], reason: str) -> None:
    """Raise ConfigError for the first option that was given.

    Args:
        options: name -> value; None, False or an empty list for an option that was not given.
        reason: what the option is for, and what the command found.

    Example:
        >>> refuse({"--task": None, "--module": []}, "is for model files: leave it out.")
    """
    for name, value in options.items():
        if value is not None and value is not False and value != []:
            raise ConfigError(f"{name} {reason}")

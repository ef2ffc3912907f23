"""Short texts of modules and of groups of modules, for ``repr``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unbraid.data.targets import Label
from unbraid.errors import quoted

SHOWN, LABEL = 5, 40  # modules, and characters of a label, that are shown


def name_text(label: Label) -> str:
    """Show a label as ``repr`` does, without control characters, and shortened."""
    return repr(quoted(label, LABEL)) if isinstance(label, str) else repr(label)


def modules_text(kind: str, modules: Mapping[Any, object], *notes: str) -> str:
    """Describe a group of modules, with a line for each of the first ones.

    Args:
        kind: name of the class of the group.
        modules: label -> module.
        notes: more facts for the first line.
    """
    count = f"{len(modules)} module{'' if len(modules) == 1 else 's'}"
    shown = list(modules.items())[:SHOWN]
    lines = [f"{kind}({', '.join([count, *notes])})", *(f"  {name_text(key)}: {module!r}" for key, module in shown)]
    return "\n".join([*lines, *([f"  ... {len(modules) - SHOWN} more"] if len(modules) > SHOWN else [])])

"""YAML from strangers: plain values as they are written, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from unbraid.errors import FormatError

LARGEST = 2**18  # bytes of a file; reading that takes seconds


def read_text(path: str | os.PathLike[str]) -> str:
    """A small text file; raises FormatError where it cannot be read, is no UTF-8 or too large."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error.strerror}); expected a YAML file.") from None
    if len(content) > LARGEST:
        raise FormatError(f"{path}: found more than {LARGEST} bytes, expected a YAML file of a few lines.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: found bytes that are no UTF-8 (at {error.start}), expected a YAML file.") from None


def parse_yaml(text: str, where: str) -> Any:
    """Mappings, lists and text: a value ``no`` is the text "no", not a boolean, and an empty one is "".

    Raises:
        FormatError: no YAML, or YAML with aliases, tags or a key that comes twice.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise FormatError(f"{where}: {_problem(error)}") from None
    except (RecursionError, ValueError):
        raise FormatError(f"{where}: not the YAML that was expected, it is nested too deeply.") from None


class _Loader(yaml.SafeLoader):
    """Safe YAML in which every value is text."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # pyyaml's own

    def compose_node(self, parent: Any, index: Any) -> Any:
        event, odd = self.peek_event(), None
        if self.check_event(yaml.AliasEvent):
            odd = f"an alias *{event.anchor}"
        elif event.tag not in (None, "!"):
            odd = f"a tag {event.tag!r}"
        if odd is not None:
            raise yaml.MarkedYAMLError(problem=f"found {odd}, expected plain values", problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"found key {key.value[:60]!r} twice", problem_mark=key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return super().construct_mapping(node, deep)


def _problem(error: yaml.YAMLError) -> str:
    """One line of what pyyaml says in several."""
    mark = getattr(error, "problem_mark", None)
    said = str(getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML")
    return f"{f'line {mark.line + 1}: ' if mark else ''}{said[:120]}."

"""Read untrusted YAML: plain values only."""

from __future__ import annotations

import os
from typing import Any

import yaml

from unbraid.errors import FormatError, quoted
from unbraid.limits import current, read_regular

LARGEST = 2**18  # largest number of bytes of a file; reading it takes seconds


def read_text(path: str | os.PathLike[str]) -> str:
    """Read a small text file; raise FormatError if it cannot be read, is not UTF-8 or is too large."""
    content = read_regular(path, "json_bytes")
    if len(content) > LARGEST:
        raise FormatError(f"{quoted(path)}: found more than {LARGEST} bytes, expected a YAML file of a few lines.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(
            f"{quoted(path)}: found bytes that are not UTF-8 (at {error.start}), expected a YAML file."
        ) from None


def parse_yaml(text: str, where: str) -> Any:
    """Parse YAML to mappings, lists and text: a value ``no`` is the text "no", and an empty value is "".

    Raises:
        FormatError: not YAML, or YAML with aliases, tags, repeated keys or deep nesting.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise FormatError(f"{where}: {_problem(error)}") from None
    except (RecursionError, ValueError, OverflowError) as error:  # deep nesting, or an invalid character
        raise FormatError(f"{where}: is not YAML that can be read ({type(error).__name__}).") from None


class _Loader(yaml.SafeLoader):
    """Safe YAML in which every value is text."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # pyyaml's own

    depth = 0

    def fetch_flow_collection_start(self, token: Any) -> None:  # the scanner is quadratic in the depth of brackets
        if self.flow_level > current().json_depth:
            raise self._too_deep()
        super().fetch_flow_collection_start(token)

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > current().json_depth:
            raise self._too_deep()
        node = self._plain_node(parent, index)
        self.depth -= 1
        return node

    def _too_deep(self) -> yaml.MarkedYAMLError:
        problem = f"it is nested too deeply, in more than {current().json_depth} levels"
        return yaml.MarkedYAMLError(problem=problem, problem_mark=self.get_mark())

    def _plain_node(self, parent: Any, index: Any) -> Any:
        event, odd = self.peek_event(), None
        if self.check_event(yaml.AliasEvent):
            odd = f"an alias *{event.anchor}"
        elif event.tag not in (None, "!"):
            odd = f"a tag {event.tag!r}"
        if odd is not None:
            raise yaml.MarkedYAMLError(problem=f"found {odd}, expected plain values", problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_scalar(self, node: Any) -> Any:
        value = super().construct_scalar(node)
        if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
            problem = "found half of a surrogate pair, expected whole characters"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return value

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"found key {quoted(key.value, 60)!r} twice", problem_mark=key.start_mark
                )
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return super().construct_mapping(node, deep)


def _problem(error: yaml.YAMLError) -> str:
    """Format an error of pyyaml as one line."""
    mark = getattr(error, "problem_mark", None)
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML")
    return f"{f'line {mark.line + 1}: ' if mark else ''}{quoted(problem, 120)}."

"""Check that a regular expression of a file is safe to run: it must have no construction with exponential time.

The tokenizers library runs patterns with a backtracking engine (Oniguruma). A repeated group, as in ``(a+)+$``, can
take exponential time there. The patterns of known tokenizers use none of the constructions that are refused here.
"""

from __future__ import annotations

import re

PATTERN_CHARS = 1_000
UNBOUNDED = 2  # largest number of repetitions without an upper bound in one alternative
QUANTIFIERS = 6  # largest number of repetitions and optional parts in one alternative

_OPENING = re.compile(r"\(\?[imsu-]*[:=!>]")  # groups that capture nothing, look ahead, or do not backtrack
_POSSESSIVE = re.compile(r"([*+?])\+")
_REPEATED_GROUP = re.compile(r"\)[*+{]")
_REPEATED_TWICE = re.compile(r"[}?*+][*+{]")
_ANY_QUANTIFIER = re.compile(r"[*+?]|\{\d*,?\d*\}")
_UNBOUNDED = re.compile(r"[*+]|\{\d*,\}|\{\d*,?\d{3,}\}")
_ESCAPE = re.compile(r"\\(?:[pPxo]\{[^{}]*\}|[dDwWsShHbBnrtfvae0]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[^a-zA-Z0-9])")


def regex_problem(pattern: str) -> str | None:
    r"""Return the reason to refuse a pattern; None for a safe pattern.

    Example:
        >>> regex_problem(r"\w+|[^\w\s]+") is None
        True
        >>> regex_problem("(a+)+$")
        'repeats a group'
    """
    if len(pattern) > PATTERN_CHARS:
        return f"is longer than {PATTERN_CHARS} characters"
    bare = _without_classes(pattern)
    if bare is None:
        return "has an escape or a character class that is not supported"
    bare = _OPENING.sub("(", bare)
    if "(?" in bare or "(*" in bare:
        return "has a group that is not supported (look-behind, name, condition, option or comment)"
    bare = _POSSESSIVE.sub(r"\1", bare)
    if _REPEATED_GROUP.search(bare) or _REPEATED_TWICE.search(bare):
        return "repeats a group" if _REPEATED_GROUP.search(bare) else "repeats a repetition"
    for part in _alternatives(bare):
        if len(_UNBOUNDED.findall(part)) > UNBOUNDED or len(_ANY_QUANTIFIER.findall(part)) > QUANTIFIERS:
            return f"has more than {UNBOUNDED} repetitions, or {QUANTIFIERS} optional parts, in one alternative"
    return None


def _without_classes(pattern: str) -> str | None:
    """Replace every character class and escape of a pattern by ``c``; return None if one is not supported."""
    found: list[str] = []
    depth = place = 0
    while place < len(pattern):
        character = pattern[place]
        step, letter = 1, "" if depth else character
        if character == "\\":
            escape = _ESCAPE.match(pattern, place)
            if escape is None:
                return None
            step, letter = escape.end() - place, "" if depth else "c"
        elif character == "[":
            depth, letter = depth + 1, ""
        elif character == "]":
            depth, letter = depth - 1, "c" if depth == 1 else ""
            if depth < 0:
                return None
        found.append(letter)
        place += step
    return "".join(found) if depth == 0 else None


def _alternatives(bare: str) -> list[str]:
    """Return the alternatives outside of groups."""
    parts, depth = [""], 0
    for character in bare:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "|" and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts

"""Errors and warnings of the library. Every message states what was received, what was expected and what to do next."""

import difflib
import unicodedata
from collections.abc import Iterable
from typing import Any

QUOTED = 200  # characters of foreign content that a message repeats, at most


def quoted(value: object, limit: int = QUOTED) -> str:
    r"""Foreign content for a message: at most ``limit`` printable characters.

    Control characters, escape codes and lone surrogates are written as escapes, so that a message cannot change the
    terminal that it is printed on.

    Example:
        >>> quoted("a\x1b[31m")
        'a\\x1b[31m'
    """
    shown = printable(str(value)[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


def printable(text: str) -> str:
    r"""Text with control characters, escape codes and lone surrogates written as escapes; spaces of any width stay.

    Example:
        >>> printable("a\tb")
        'a\\tb'
    """
    return "".join(c if _is_printable(c) else c.encode("unicode_escape").decode() for c in text)


def _is_printable(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


class UnbraidError(Exception):
    """Base of every error that Unbraid raises on purpose."""


class FormatError(UnbraidError):
    """A file is not what it should be: the message names the file, the field, what was found and what was expected."""


class UnsupportedLayer(UnbraidError):
    """A model holds a layer (or a setting of one) that Unbraid cannot run exactly."""


class DataError(UnbraidError):
    """Examples or labels do not fit the network or the task."""


class ConfigError(UnbraidError):
    """A setting is outside its range, or two settings contradict each other."""


class IncompatibleModules(UnbraidError):
    """Modules that cannot take part in one composition."""


class ArgumentError(UnbraidError, TypeError):
    """An argument is an object of the wrong class."""


class UnknownLabel(IncompatibleModules, KeyError):
    """No module has the label that was asked for: the message names the nearest known one."""

    __str__ = Exception.__str__  # KeyError shows the repr of its argument


class UnbraidWarning(UserWarning):
    """A result that is probably not what the caller wants: the message names the cause and what to do next.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore", UnbraidWarning)  # silences all warnings of this library
    """


def wrong_object(value: object, argument: str, expected: str, advice: str = "") -> ArgumentError:
    """The error for an argument of the wrong class.

    Args:
        value: what was passed.
        argument: its name, as the user typed it.
        expected: what it may be, with an article.
        advice: what to do next, if there is anything to add.

    Example:
        >>> print(wrong_object(3, "network", "a Network", "call load(path) first"))
        network: expected a Network, got int: call load(path) first.
    """
    return ArgumentError(
        f"{argument}: expected {expected}, got {quoted(type(value).__name__, 60)}{f': {advice}' if advice else ''}."
    )


def unknown_label(label: Any, labels: Iterable[Any], where: str) -> UnknownLabel:
    """The error for a label that no module has.

    Args:
        label: what was asked for.
        labels: the labels that there are.
        where: what has these labels, for the message.

    Example:
        >>> print(unknown_label("weathr", ["travel", "weather"], "the decomposition"))
        the decomposition has no module 'weathr'. Did you mean 'weather'? Its labels: 'travel', 'weather'.
    """
    known = list(labels)
    near = difflib.get_close_matches(str(label)[:QUOTED], [str(v)[:QUOTED] for v in known], 1)
    hint = next((f" Did you mean {_named(v)}?" for v in known if near and str(v)[:QUOTED] == near[0]), "")
    shown = ", ".join(map(_named, known[:12])) + (f" and {len(known) - 12} more" if len(known) > 12 else "")
    return UnknownLabel(f"{where} has no module {_named(label)}.{hint} Its labels: {shown}.")


def _named(label: Any) -> str:
    """A label as Python code, so that 2 and "2" differ."""
    return repr(label) if type(label) is int else f"'{quoted(label, 60)}'"

"""Errors and warnings of the library. Every message states what was received, what was expected and what to do next."""

import difflib
import sys
import unicodedata
import warnings
from collections.abc import Iterable
from typing import Any

QUOTED = 200  # largest number of characters of user input that a message repeats
INNER = ("unbraid", "torch", "contextlib")  # packages whose frames are not those of a user
LONGEST = 1_400  # largest number of characters of a message, without the path that may precede it


def quoted(value: object, limit: int = QUOTED) -> str:
    r"""Shorten user input for a message to at most ``limit`` printable characters.

    Control characters, escape codes and lone surrogates are escaped, so that a message cannot change the terminal.

    Args:
        value: any object; its ``str`` is used.
        limit: largest number of characters.

    Example:
        >>> quoted("a\x1b[31m")
        'a\\x1b[31m'
    """
    shown = printable(str(value)[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


def printable(text: str) -> str:
    r"""Escape control characters, escape codes and lone surrogates; spaces of any width stay.

    Example:
        >>> printable("a\tb")
        'a\\tb'
    """
    return "".join(c if _is_printable(c) else c.encode("unicode_escape").decode() for c in text)


def _message(text: object) -> str:
    r"""Shorten a message that repeats too much user input, and escape characters that are not printable.

    Example:
        >>> len(_message("label " + 5_000 * "x"))
        206
    """
    shown = "\n".join(map(printable, str(text).split("\n")))
    if len(shown) > LONGEST:
        shown = " ".join(quoted(word) if len(word) > QUOTED else word for word in shown.split(" "))
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 3] + "..."


def _is_printable(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


class UnbraidError(Exception):
    """Base class of all errors of Unbraid.

    The message gives the received value, the expected value and the next step.

    Example:
        >>> from unbraid import decompose
        >>> from unbraid.demo.small import small_examples, small_network
        >>> network = small_network()
        >>> try:
        ...     decompose(network, small_examples(network), keep=2.0)
        ... except UnbraidError as error:
        ...     print(type(error).__name__)
        ConfigError
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(_message(message))


class FormatError(UnbraidError):
    """A file is damaged or has an unexpected content. The message names the file, the field, the value and the fix."""


class ModuleNeeded(FormatError):
    """A folder needs instances of the user's PyTorch modules, and they are missing or do not fit.

    Args:
        message: the whole message.
        where: the folder.
        reason: what is wrong, without the call that is needed.
        facts: what the folder stores about each of its PyTorch modules (:class:`unbraid.ParentFacts`).
    """

    def __init__(self, message: str, where: str = "", reason: str = "", facts: Iterable[Any] = ()) -> None:
        super().__init__(message)
        self.where, self.reason, self.facts = where, reason, list(facts)


class UnsupportedLayer(UnbraidError):
    """A model has a layer, or a setting of a layer, that Unbraid cannot compute exactly."""


class DataError(UnbraidError):
    """Examples or labels do not fit the network or the task."""


class ConfigError(UnbraidError):
    """A setting is out of range, or two settings are incompatible."""


class MissingPackage(UnbraidError, ImportError):
    """A module of Unbraid needs a package that is not installed. The message names the command that installs it."""


class NoSize(ConfigError, KeyError):
    """A table of sizes does not have a size, or none that is good enough. The message lists what there is."""

    __str__ = Exception.__str__  # KeyError shows the repr of its argument


class IncompatibleModules(UnbraidError):
    """Modules cannot be combined into one composition."""


class ArgumentError(UnbraidError, TypeError):
    """An argument is an object of the wrong class."""


class UnknownLabel(IncompatibleModules, KeyError):
    """No module has the requested label. The message names the most similar label."""

    __str__ = Exception.__str__  # KeyError shows the repr of its argument


class UnbraidWarning(UserWarning):
    """A result is probably not as intended. The message names the cause and the next step.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore", UnbraidWarning)  # ignores all warnings of Unbraid
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(_message(message))


def warn_caller(message: str) -> None:
    """Issue an UnbraidWarning at the line of the user that called the library, also through decorators of PyTorch."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in INNER:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UnbraidWarning, stacklevel=level)


def wrong_object(value: object, argument: str, expected: str, advice: str = "") -> ArgumentError:
    """Make the error for an argument of the wrong class.

    Args:
        value: the argument that was passed.
        argument: its name.
        expected: the expected class, with an article.
        advice: the next step; optional.

    Example:
        >>> print(wrong_object(3, "network", "a Network", "call load(path) first"))
        network: expected a Network, got int: call load(path) first.
    """
    return ArgumentError(
        f"{argument}: expected {expected}, got {quoted(type(value).__name__, 60)}{f': {advice}' if advice else ''}."
    )


def unknown_label(label: Any, labels: Iterable[Any], where: str) -> UnknownLabel:
    """Make the error for a label that no module has.

    Args:
        label: the requested label.
        labels: the existing labels.
        where: the object with these labels, for the message.

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
    """Format a label as a Python literal, so that 2 and "2" differ."""
    return repr(label) if type(label) is int else f"'{quoted(label, 60)}'"

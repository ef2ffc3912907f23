"""Errors and warnings of the library. Every message states what was received, what was expected and what to do next."""

QUOTED = 200  # characters of foreign content that a message repeats, at most


def quoted(value: object, limit: int = QUOTED) -> str:
    r"""Foreign content for a message: at most ``limit`` printable characters.

    Control characters, escape codes and lone surrogates are written as escapes, so that a message cannot change the
    terminal that it is printed on.

    Example:
        >>> quoted("a\x1b[31m")
        'a\\x1b[31m'
    """
    text = str(value)[: limit + 1]
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


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


class UnbraidWarning(UserWarning):
    """A result that is probably not what the caller wants: the message names the cause and what to do next.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore", UnbraidWarning)  # silences all warnings of this library
    """

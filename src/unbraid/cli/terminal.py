"""Common parts of all commands: safe output, one line for an error, exit codes, ``--quiet`` and ``--max-size``.

Exit codes: 0, 2 for an expected error, 1 if the reader of standard output was closed, 130 after Ctrl-C.
"""

from __future__ import annotations

import inspect
import io
import json
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType

from unbraid import limits
from unbraid.cli.flags import message as as_message
from unbraid.errors import ConfigError, UnbraidError, UnbraidWarning, printable, quoted
from unbraid.paths import user_path
from unbraid.progress import Advance, silent
from unbraid.progress import bar as plain_bar

EXPECTED, GONE, INTERRUPTED = 2, 1, 130
LONGEST = 2_000  # largest number of characters of a shown error

SIZES = "Largest file that is read, stored or decoded, as 500MB or 2GB [default: 16GiB; of JSON and YAML 64MiB]."
MaxSize = Annotated[str | None, typer.Option("--max-size", metavar="SIZE", help=SIZES)]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print errors and results only: no progress, notes or warnings.")
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Print the log of the library, and where an error was raised.")
]
out = Console(soft_wrap=True, markup=False, emoji=False)


@dataclass
class Loudness:
    """How much the running command prints.

    Attributes:
        quiet: whether only errors and results are printed.
        verbose: whether the log and tracebacks are printed.
    """

    quiet: bool = False
    verbose: bool = False


_loudness = Loudness()


def bar(what: str, total: float) -> AbstractContextManager[Advance]:
    """Show progress as :func:`unbraid.progress.bar`, except with ``--quiet``."""
    return (silent if _loudness.quiet else plain_bar)(what, total)


def done(text: str) -> None:
    """Print what a command has written, except with ``--quiet``."""
    if not _loudness.quiet:
        show(text)


def show(text: str | RenderableType) -> None:
    """Print text or a table; control characters in text are shown as escapes."""
    out.print("\n".join(map(printable, text.split("\n"))) if isinstance(text, str) else text)


def emit(as_json: bool, data: dict[str, Any], text: str | RenderableType, result: bool = False) -> None:
    """Print JSON for programs, or text or a table for people.

    Args:
        as_json: whether to print JSON.
        data: the JSON.
        text: what people read.
        result: whether this is what the command is for, which ``--quiet`` prints too. Commands that write a file or a
            folder only describe it.
    """
    if as_json:
        print(json.dumps(data))
    elif result or not _loudness.quiet:
        show(text)


def notice(text: str, kind: str = "note") -> None:
    """Print a line on standard error; with ``--quiet`` only errors."""
    if _loudness.quiet and kind != "error":
        return
    print(f"{kind}: {quoted(text, LONGEST)}", file=sys.stderr)


def guarded(function: Callable[..., None]) -> Callable[..., None]:
    """Make a command of the program: each expected error is one line, with the exit codes of this module.

    The command gets the options ``--quiet`` and ``--verbose``. Paths among its arguments may begin with ``~``.
    """

    @wraps(function)
    def wrapped(*args: Any, quiet: bool = False, verbose: bool = False, **kwargs: Any) -> None:
        _replace_unencodable()
        try:
            with _as_loud_as(quiet, verbose), _warnings_as_lines():
                function(*args, **{name: _expanded(value) for name, value in kwargs.items()})
            if sys.stdout is not None:  # it was closed by the caller
                sys.stdout.flush()
        except UnbraidError as error:
            _end(as_message(error))
        except BrokenPipeError:
            _drop_output()
            raise typer.Exit(GONE) from None
        except OSError as error:
            where = "" if error.filename is None else f"{error.filename}: "
            _end(f"{where}{error.strerror or error}.")
        except MemoryError:
            _end("there is not enough memory for this input.")
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None

    return _with_options(wrapped, function, {"quiet": (Quiet, False), "verbose": (Verbose, False)})


def _expanded(value: Any) -> Any:
    """Expand ``~`` in a path, or in a list of paths. A shell does so only at the start of a word."""
    if isinstance(value, list):
        return [_expanded(each) for each in value]
    return user_path(value) if isinstance(value, Path) else value


def reading(function: Callable[..., None]) -> Callable[..., None]:
    """Make a command that reads files, with the option ``--max-size``."""

    @wraps(function)
    def wrapped(*args: Any, max_size: str | None = None, **kwargs: Any) -> None:
        with _sizes(max_size):
            function(*args, **kwargs)

    return _with_options(wrapped, function, {"max_size": (MaxSize, None)})


def _with_options(
    wrapped: Callable[..., None], function: Callable[..., None], options: Mapping[str, tuple[Any, Any]]
) -> Callable[..., None]:
    """Give a wrapper the signature of its function and more options: name -> (annotation, default)."""
    signature = inspect.signature(function, eval_str=True)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in options.items()
    ]
    parameters = [*signature.parameters.values(), *added]
    wrapped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # read by inspect
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapped


@contextmanager
def _as_loud_as(quiet: bool, verbose: bool) -> Iterator[None]:
    if quiet and verbose:
        raise ConfigError("--quiet and --verbose exclude each other: leave one out.")
    logger, handler = logging.getLogger("unbraid"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    before = logger.level
    _loudness.quiet, _loudness.verbose = quiet, verbose
    if verbose:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
    try:
        yield
    except UnbraidError:
        if verbose:
            traceback.print_exc()
        raise
    finally:
        _loudness.quiet = _loudness.verbose = False
        logger.removeHandler(handler)
        logger.setLevel(before)


@contextmanager
def _sizes(max_size: str | None) -> Iterator[None]:
    if max_size is None:
        yield
        return
    size = limits.parse_size(max_size, "--max-size")
    with limits.override(file_bytes=size, json_bytes=size, free_bytes=size, download_bytes=size):
        yield


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Print each warning of this library as one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", UnbraidWarning)
        usual = warnings.showwarning

        def shown(message: Any, category: type[Warning], *rest: Any, **more: Any) -> None:
            if issubclass(category, UnbraidWarning):
                notice(as_message(message), "warning")
            else:
                usual(message, category, *rest, **more)

        warnings.showwarning = shown
        yield


def _end(message: str) -> None:
    with suppress(OSError):
        notice(message, "error")
    _drop_output()
    raise typer.Exit(EXPECTED) from None


def _replace_unencodable() -> None:
    """Show characters that the encoding of the terminal lacks as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Flush standard output. If that fails, discard it, so that Python does not try again at exit."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError, ValueError):  # no file descriptor
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

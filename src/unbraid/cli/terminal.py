"""Common parts of all commands: safe output, errors as one line with names of flags, exit codes, ``--max-size``.

Exit codes: 0, 2 for an expected error, 1 if the reader of standard output was closed, 130 after Ctrl-C.
"""

from __future__ import annotations

import inspect
import io
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType

from unbraid import limits
from unbraid.cli.flags import message as as_message
from unbraid.errors import UnbraidError, UnbraidWarning, printable, quoted

EXPECTED, GONE, INTERRUPTED = 2, 1, 130
LONGEST = 2_000  # largest number of characters of a shown error

SIZES = "Largest file that is read, stored or decoded, as 500MB or 2GB [default: 16GiB; of JSON and YAML 64MiB]."
MaxSize = Annotated[str | None, typer.Option("--max-size", metavar="SIZE", help=SIZES)]
out = Console(soft_wrap=True, markup=False, emoji=False)


def show(text: str | RenderableType) -> None:
    """Print text or a table; control characters in text are shown as escapes."""
    out.print("\n".join(map(printable, text.split("\n"))) if isinstance(text, str) else text)


def emit(as_json: bool, data: dict[str, Any], text: str | RenderableType) -> None:
    """Print JSON for programs, or text or a table for people."""
    print(json.dumps(data)) if as_json else show(text)


def notice(text: str, kind: str = "note") -> None:
    """Print a line on standard error."""
    print(f"{kind}: {quoted(text, LONGEST)}", file=sys.stderr)


def guarded(function: Callable[..., None]) -> Callable[..., None]:
    """Make a command of the program: each expected error is one line, with the exit codes of this module."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        _replace_unencodable()
        try:
            with _warnings_as_lines():
                function(*args, **kwargs)
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

    return wrapped


def reading(function: Callable[..., None]) -> Callable[..., None]:
    """Make a command that reads files, with the option ``--max-size``."""
    signature = inspect.signature(function, eval_str=True)
    option = inspect.Parameter("max_size", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=MaxSize)

    @wraps(function)
    def wrapped(*args: Any, max_size: str | None = None, **kwargs: Any) -> None:
        with _sizes(max_size):
            function(*args, **kwargs)

    parameters = [*signature.parameters.values(), option]
    wrapped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # read by inspect
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapped


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

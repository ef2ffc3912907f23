"""What came of one input."""

import os
import traceback
import unicodedata
from dataclasses import asdict, dataclass

from tests.fuzz.library import FormatError, UnbraidError

USED, REFUSED, REFUSED_IN_USE = "used", "refused", "refused in use"
FOREIGN, USE_FAILED, LATE = "foreign exception", "use failed", "refused too late"
MESSAGE, OUTSIDE, MEMORY, HANG, CRASH = "bad message", "outside", "memory", "hang", "crash"
GOOD = (USED, REFUSED, REFUSED_IN_USE)
ALL = (*GOOD, FOREIGN, USE_FAILED, LATE, MESSAGE, OUTSIDE, MEMORY, HANG, CRASH)
LONGEST = 1_500  # characters of a message
MEMORY_WORDS = (
    "allocate memory",
    "out of memory",
    "bad_alloc",
    "Unable to allocate",
    "memory allocation of",
)  # HDF5 reports a damaged size as "memory allocation failed"


@dataclass(frozen=True)
class Outcome:
    """What came of one input.

    Attributes:
        index: its number.
        kind: its kind.
        outcome: one of ``ALL``.
        what: type of an exception, a signal, or what was done.
        where: innermost frame of the library.
        message: the first characters of an exception's message.
    """

    index: int
    kind: str
    outcome: str
    what: str = ""
    where: str = ""
    message: str = ""

    @property
    def is_finding(self):
        return self.outcome not in GOOD

    def to_dict(self):
        return asdict(self)


def of_exception(error, index, kind, loaded, place):
    """The outcome of an input that raised, in which ``place``, the input's folder, has no name of its own."""
    if isinstance(error, MemoryError) or any(_is_memory(e) for e in _chain(error)):
        outcome = MEMORY
    elif isinstance(error, UnbraidError):
        outcome = _refusal(error, loaded, kind.strict)
    else:
        outcome = USE_FAILED if loaded else FOREIGN
    message = _safe(error).replace(str(place), "PLACE")[:160]
    return Outcome(index, kind.name, outcome, type(error).__name__, frame(error), message)


def _refusal(error, loaded, strict):
    text = _safe(error)
    if len(text) > LONGEST or not text or not all(c.isprintable() or unicodedata.category(c) == "Zs" for c in text):
        return MESSAGE
    if loaded and strict and isinstance(error, FormatError):
        return LATE
    return REFUSED_IN_USE if loaded else REFUSED


def _safe(error):
    try:
        return str(error)
    except Exception as second:
        return f"{type(second).__name__} in __str__\0"


def _chain(error):
    """An exception and those that it was raised while handling."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_memory(error):
    return isinstance(error, MemoryError) or any(words in _safe(error) for words in MEMORY_WORDS)


def frame(error):
    """``file:function`` of the innermost frame in the library, and where the exception is from if that is elsewhere."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if f"{os.sep}unbraid{os.sep}" in f.filename]
    if own:
        return f"{own[-1].filename.rpartition(f'{os.sep}unbraid{os.sep}')[2]}:{own[-1].name}"
    return f"{os.path.basename(frames[-1].filename)}:{frames[-1].name}" if frames else ""

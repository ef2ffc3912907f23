"""Boundary values that mutations put in place of others."""

import sys
from copy import deepcopy

NUMBERS = [
    0, 1, -1, 2, 3, 4, 5, 7, 8, 16, 63, 64, 127, 128, 255, 256, 1000, 65535, 65536, 10**5, 2**20, 2**20 + 1, 2**24,
    2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, -(2**31), -(2**63), -(2**63) - 1, 10**30,
    0.5, 1.0, 1.5, -0.5, 1e-45, 1e-300, 1e30, 3.5e38, 1e300, sys.float_info.max, float("nan"), float("inf"),
    -float("inf"),
]  # fmt: skip
STRINGS = [
    "", " ", "a", "0", "-1", "1e5", "true", "null", "no", "\0", "a\0b", "\n", "\r\n", "\t", "\ufeff", "\u202e", "é",
    "日本",
    "\ud800", "a\udfffb", "\U0001f600", "\x1b[31m", "\x1b]0;title\x1b\\", "[/red]", "[bold]", "[link=x]y[/link]", "..",
    ".",
    "/", "../outside", "../../outside/file", "a/b", "a\\b", "C:\\a", "/dev/zero", "~", "$HOME", "%s%s%n", "{0}",
    "{0.__class__}",
    "__class__", "__proto__", "__import__", "*", "<b>", "| a |", "---", "# a", "`", "'", '"', "a" * 300, "é" * 300,
    "x" * 5_000, "\U0001f600" * 2_000, "a " * 10_000, "l" * 100_000,
]  # fmt: skip
TYPES = [None, True, False, 0, -1, 1.5, "", "text", [], {}, [0], [[]], {"a": 1}, [None], {"": None}, [1, "a", None]]


def number(rng, old=0):
    """A number near an old one or at a boundary."""
    if rng.random() < 0.4 and isinstance(old, int | float) and abs(old) < 1e15:
        return rng.choice([old + 1, old - 1, -old, old * 2, old // 2, old * 10, float(old), old + 0.5, old * 1000])
    return rng.choice(NUMBERS)


def string(rng, old=""):
    """A string near an old one or an unusual one."""
    if rng.random() < 0.4 and old:
        place = rng.randrange(len(old) + 1)
        return rng.choice(
            [
                old[:place] + rng.choice(STRINGS[:30]) + old[place:],
                old[:place] + old[place + 1 :],
                old + old,
                old.upper(),
                old[::-1],
                " " + old,
            ]
        )
    return rng.choice(STRINGS)


def other(rng):
    """A value of any type, new each time because mutations change values in place."""
    return deepcopy(rng.choice(TYPES))

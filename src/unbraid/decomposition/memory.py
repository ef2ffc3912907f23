"""The memory that a decomposition may take."""

from __future__ import annotations

from pathlib import Path

SHARE = 4  # one part of this number of the free memory is used
UNKNOWN = 8 * 2**30  # bytes of free memory, where the system does not tell
MEMORY = Path("/proc/meminfo")


def budget(memory: int | None) -> int:
    """Return the budget in bytes: the given one, or a quarter of the free memory."""
    return free_memory() // SHARE if memory is None else memory


def free_memory() -> int:
    """Return the number of bytes that a process can take without swapping; 8 GiB if the system does not tell."""
    try:
        lines = MEMORY.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return UNKNOWN
    found = {name: value.split()[0] for name, _, value in (line.partition(":") for line in lines) if value.split()}
    kilobytes = found.get("MemAvailable", "")
    return 1024 * int(kilobytes) if kilobytes.isdecimal() else UNKNOWN

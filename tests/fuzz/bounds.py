"""Bounds on memory and time of one input, and how much memory it took."""

import gc
import os
import resource
import time

ADDRESSES = 2**30  # bytes of address space beyond what the worker had
PEAK = 512 * 2**20  # bytes in memory beyond what the worker had
SECONDS = 10  # of CPU
IDLE = 10  # seconds in which a worker neither answers nor computes: it waits for something
FILE = 2**28  # bytes of one written file


def prepare():
    """In a worker, once."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE, FILE))
    gc.freeze()


def start():
    """Bounds for the next input; returns the bytes in memory now."""
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + SECONDS + 1, most))
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_pages(0) + ADDRESSES, most))
    _reset()
    return _pages(1)


def stop():
    """Without a bound on memory, so that a result can be reported."""
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def peak():
    """Most bytes that were in memory since :func:`start`; 0 where the system does not count them."""
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 0


def computed(process):
    """Seconds of CPU that another process took so far, or the time where the system does not count them."""
    try:
        with open(f"/proc/{process}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return "R" if fields[0] == "R" else int(fields[11]) + int(fields[12])  # one that is kept waiting is no idle one
    except OSError:
        return time.monotonic() // (6 * SECONDS)


def _reset():
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:  # then the peak of the whole worker counts; see workers.py
        pass


def _pages(field):
    """Bytes of address space (0) or in memory (1)."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[field]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

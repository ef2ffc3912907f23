"""Forked workers: each runs a batch of inputs, and an input that ends its worker gets the blame."""

import faulthandler
import json
import os
import select
import signal
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz import bounds, kinds, running
from tests.fuzz.outcomes import CRASH, HANG, MEMORY, Outcome
from tests.fuzz.watching import Watch

BATCH = 250  # inputs of one worker


@dataclass
class Worker:
    """A running worker, as its parent sees it."""

    process: int
    pipe: int
    todo: list[int]
    buffer: bytes = b""
    running: int | None = None
    computed: object = None
    since: float = field(default_factory=time.monotonic)

    def is_idle(self):
        """Whether it has neither reported nor computed anything for too long."""
        computed = bounds.computed(self.process)
        if computed != self.computed or computed == "R":
            self.computed, self.since = computed, time.monotonic()
        return time.monotonic() - self.since > bounds.IDLE


def run_all(seed, indices, processes=1):
    """Yields the outcome of every input, in the order in which they end.

    Args:
        seed: of the run.
        indices: of the inputs.
        processes: how many run side by side.
    """
    waiting = [list(indices[start : start + BATCH]) for start in range(0, len(indices), BATCH)][::-1]
    workers = []
    room = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="unbraid-fuzz-", dir=room) as place:
        while waiting or workers:
            while waiting and len(workers) < processes:
                workers.append(_start(seed, waiting.pop(), Path(place)))
            for worker in _ready(workers):
                ended = yield from _outcomes(worker, seed)
                if ended:
                    workers.remove(worker)
                    if worker.todo:
                        waiting.append(worker.todo)


def _start(seed, todo, place):
    reading, writing = os.pipe()
    sys.stdout.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads
        process = os.fork()
    if process:
        os.close(writing)
        return Worker(process, reading, todo)
    status = 1
    try:
        os.close(reading)
        _work(seed, todo, place / str(os.getpid()), writing)
        status = 0
    finally:
        os._exit(status)


def _work(seed, todo, place, pipe):
    """What a worker does: one line before every input, one with its outcome after it."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    faulthandler.disable()
    warnings.simplefilter("ignore")
    watch = Watch()
    watch.install()
    bounds.prepare()
    for index in todo:
        os.write(pipe, f"{index}\n".encode())
        inside = place / str(index)
        inside.mkdir(parents=True)
        os.chdir(inside)
        try:
            report = running.run(seed, index, inside, watch).to_dict()
        except BaseException:  # of the fuzzer itself
            report = {"failed": traceback.format_exc()}
        os.write(pipe, json.dumps(report).encode() + b"\n")
        os.chdir(place)
        running.clear(inside)


def _ready(workers):
    """Workers with something to read, or that wait for something."""
    readable, _, _ = select.select([worker.pipe for worker in workers], [], [], 1)
    return [w for w in workers if w.pipe in readable or w.is_idle()]


def _outcomes(worker, seed):
    """Yields what a worker reports; returns whether it has ended."""
    if not select.select([worker.pipe], [], [], 0)[0]:
        os.kill(worker.process, signal.SIGKILL)
        os.waitpid(worker.process, 0)
        os.close(worker.pipe)
        yield _blamed(worker, seed, HANG, "waits")
        return True
    content = os.read(worker.pipe, 2**16)
    worker.since = time.monotonic()
    *lines, worker.buffer = (worker.buffer + content).split(b"\n")
    for line in lines:
        if line.isdigit():
            worker.running = int(line)
        else:
            report = json.loads(line)
            if "failed" in report:
                raise RuntimeError(f"the fuzzer failed on input {worker.running}:\n{report['failed']}")
            yield Outcome(**report)
            worker.todo.remove(worker.running)
            worker.running = None
    if content:
        return False
    _, status = os.waitpid(worker.process, 0)
    os.close(worker.pipe)
    if worker.running is not None:
        yield _blamed(worker, seed, *_ending(status))
    elif worker.todo:
        raise RuntimeError(f"a worker ended with {status} before input {worker.todo[0]}")
    return True


def _ending(status):
    """Outcome and reason of a worker's end."""
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    name = signal.Signals(number).name if number else f"exit {os.waitstatus_to_exitcode(status)}"
    return {"SIGXCPU": HANG, "SIGKILL": MEMORY}.get(name, CRASH), name


def _blamed(worker, seed, outcome, what):
    kind = kinds.draw(running.KINDS, kinds.source(seed, worker.running))
    worker.todo.remove(worker.running)
    return Outcome(worker.running, kind.name, outcome, what)

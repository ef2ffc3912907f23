"""Test saving under kills, a full disk, and parallel writers and readers; check that equal modules give equal bytes.

``python -m benchmarks.measure.durability`` stores ``results/durability.json`` after a few minutes. All work is
done in a temporary folder. Each forked process has one thread.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import files
from unbraid import compose, decompose, load_composition, load_decomposition
from unbraid.decomposition.decomposition import Decomposition
from unbraid.demo.architectures import sequence_spec
from unbraid.demo.initial import initial_weights
from unbraid.errors import FormatError
from unbraid.networks.network import Network
from unbraid.storage.folders import write_file

KILLS, FILE_KILLS, SECONDS, THREADS, SIZES = 300, 100, 10.0, 8, 24
PATH = files.RESULTS / "durability.json"
STRANGERS = (".target.old", ".target.new-backup", "notes.txt")  # files of a user next to the folder


def run(again: bool) -> None:
    """Measure in a separate process, which forks."""
    if again or not PATH.exists():
        subprocess.run([sys.executable, "-m", "benchmarks.measure.durability"], cwd=files.ROOT.parent, check=True)


def main() -> None:
    """Measure everything and store the result."""
    torch.set_num_threads(1)
    started = time.monotonic()
    found: dict[str, Any] = {}
    for measure in (killed_saves, killed_files, full_disk, writers_and_readers, threads, determinism):
        with tempfile.TemporaryDirectory() as folder:
            found[measure.__name__] = measure(Path(folder))
        print(f"{measure.__name__}: {found[measure.__name__]}", file=sys.stderr, flush=True)
    files.write(PATH, {**found, "seconds": time.monotonic() - started})


def version(seed: int) -> Decomposition:
    """Make modules of an untrained network; they differ for each seed."""
    spec = sequence_spec("lstm", 2, 400, 24, 32, 5, "M:1", 8)
    return decomposed(Network(spec, initial_weights(spec, seed), [f"class {number}" for number in range(5)]))


def decomposed(network: Network) -> Decomposition:
    """Decompose the network with random words."""
    x = np.random.default_rng(0).integers(1, 400, (200, 8))
    return decompose(network, (x, np.arange(200) % 5), samples_per_class=20, strategy="paper")


class Versions:
    """Two versions of a folder with their files, and a target folder with files of a user next to it."""

    def __init__(self, folder: Path) -> None:
        self.both = [version(0), version(1)]
        self.target = folder / "place" / "target"
        self.files: list[dict[str, bytes]] = []
        for number, parts in enumerate(self.both):
            parts.save(folder / str(number))
            self.files.append(content(folder / str(number)))
        self.digests = [parts.network.sha256() for parts in self.both]
        self.both[0].save(self.target)
        for name in STRANGERS:
            (self.target.parent / name).write_text("a user's")

    def loaded(self) -> int:
        """Return which version is loaded, by its weights; raise FormatError if the folder cannot be loaded."""
        return self.digests.index(load_decomposition(self.target).network.sha256())

    def strangers_lost(self) -> int:
        """Count the files of the user that were removed or changed."""
        kept = [path for name in STRANGERS if (path := self.target.parent / name).is_file()]
        return len(STRANGERS) - sum(path.read_text() == "a user's" for path in kept)

    def left_overs(self) -> int:
        """Count temporary files and folders that remain after a save."""
        beside = set(os.listdir(self.target.parent)) - {*STRANGERS, "target"}
        inside = [name for name in os.listdir(self.target) if name.startswith(".")]
        return len(beside) + len(inside)


def killed_saves(folder: Path) -> dict[str, int]:
    """Send SIGKILL at a random time of a save over a valid folder; count what is loaded and what remains."""
    versions, random = Versions(folder), np.random.default_rng(0)
    longest = max(_seconds(lambda: versions.both[1].save(versions.target)) for _ in range(3))
    versions.both[0].save(versions.target)
    counts, old = Counter[str](), 0
    names = (
        "kills",
        "old",
        "new",
        "damaged",
        "mixed versions",
        "strangers lost",
        "left-overs",
        "left-overs after next",
    )
    counts.update(dict.fromkeys([*names, "finished before the kill"], 0))
    while counts["kills"] < KILLS:
        new = 1 - old
        if not _killed(lambda new=new: versions.both[new].save(versions.target), random.uniform(0, 1.1 * longest)):
            counts["finished before the kill"] += 1
            old = new
            continue
        counts["kills"] += 1
        counts["left-overs"] += versions.left_overs() > 0
        try:
            found = versions.loaded()
        except (FormatError, ValueError):
            counts["damaged"] += 1
            found = new
        counts["old" if found == old else "new"] += 1
        counts["strangers lost"] += versions.strangers_lost()
        kept = {name: value for name, value in content(versions.target).items() if not name.startswith(".")}
        counts["mixed versions"] += kept != versions.files[found]
        old = found
        if counts["kills"] % 2:  # every second save starts with the remains of two kills
            versions.both[old].save(versions.target)
            counts["left-overs after next"] += versions.left_overs()
    return dict(counts)


def killed_files(folder: Path) -> dict[str, int]:
    """Send SIGKILL while single files are written, as by ``export``."""
    target, contents = folder / "file", [bytes([number]) * 2**22 for number in (1, 2)]
    longest = max(_seconds(lambda: write_file(target, contents[0])) for _ in range(3))
    random, counts, old = np.random.default_rng(1), Counter[str](), 0
    counts.update(dict.fromkeys(["kills", "old", "new", "damaged", "left-overs", "left-overs after next"], 0))
    while counts["kills"] < FILE_KILLS:
        new = 1 - old
        killed = _killed(lambda new=new: write_file(target, contents[new]), random.uniform(0, 1.1 * longest))
        found = target.read_bytes()
        if killed:
            counts["kills"] += 1
            counts["left-overs"] += len(os.listdir(folder)) > 1
            counts["old" if found == contents[old] else "new" if found == contents[new] else "damaged"] += 1
            write_file(folder / "other", b"")
            counts["left-overs after next"] += len(os.listdir(folder)) > 2
            os.unlink(folder / "other")
        old = contents.index(found) if found in contents else old
    return dict(counts)


def full_disk(folder: Path) -> dict[str, Any]:
    """Save with little free space: on a small disk if it can be mounted, otherwise with a limit of the file size."""
    versions = Versions(folder)
    sizes = {name: len(value) for name, value in versions.files[1].items()}
    whole, counts = sum(sizes.values()), Counter[str](dict.fromkeys(["refused", "saved", "damaged", "left-overs"], 0))
    with _small_disk(folder / "disk", 4 * whole) as mounted:
        if mounted:
            versions.target = folder / "disk" / "target"
        for step in range(SIZES):
            room = int(1.5 * (whole if mounted else max(sizes.values())) * step / SIZES)
            shutil.rmtree(versions.target, ignore_errors=True)
            versions.both[0].save(versions.target)
            if mounted:
                _fill(folder / "disk" / "filler", room)
                saved = _forked(lambda: versions.both[1].save(versions.target))
            else:
                saved = _forked(lambda room=room: _limited(room, lambda: versions.both[1].save(versions.target)))
            counts["saved" if saved else "refused"] += 1
            counts["left-overs"] += len([name for name in os.listdir(versions.target) if name.startswith(".")])
            try:
                counts["damaged"] += versions.loaded() != (1 if saved else 0)
            except (FormatError, ValueError):
                counts["damaged"] += 1
            (folder / "disk" / "filler").unlink(missing_ok=True)
    return {"how": "small disk" if mounted else "limit of the file size", **counts}


def writers_and_readers(folder: Path) -> dict[str, int]:
    """Run two processes that save into a folder and two that load it, at the same time."""
    versions = Versions(folder)
    end = time.monotonic() + SECONDS

    def write(number: int) -> Counter[str]:
        counts = Counter[str]()
        while time.monotonic() < end:
            counts["saves"] += 1
            try:
                versions.both[(number + counts["saves"]) % 2].save(versions.target)
            except FormatError:
                counts["failed saves"] += 1
        return counts

    def read(_: int) -> Counter[str]:
        counts = Counter[str]()
        while time.monotonic() < end:
            counts["loads"] += 1
            try:
                versions.loaded()
            except (FormatError, ValueError):
                counts["failed loads"] += 1
        return counts

    counts = Counter[str]({"saves": 0, "failed saves": 0, "loads": 0, "failed loads": 0})
    for found in _in_processes([write, write, read, read], folder):
        counts.update(found)
    return {**counts, "left-overs": versions.left_overs()}


def threads(folder: Path) -> dict[str, int]:
    """Run eight threads of one process; each saves and loads the same folder alternately."""
    versions = Versions(folder)
    end, counts, guard = time.monotonic() + SECONDS, Counter[str](), threading.Lock()
    counts.update(dict.fromkeys(["saves", "loads", "failed"], 0))

    def work(number: int) -> None:
        for step in itertools.count(number):
            if time.monotonic() > end:
                return
            try:
                versions.both[step % 2].save(versions.target)
                versions.loaded()
                failed = 0
            except (FormatError, ValueError):
                failed = 1
            with guard:
                counts.update({"saves": 1, "loads": 1, "failed": failed})

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))
    return {**counts, "left-overs": versions.left_overs()}


FRESH = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(int(sys.argv[2]))
from benchmarks.measure.durability import save_all
save_all(Path(sys.argv[1]), Path(sys.argv[3]))
"""


def save_all(folder: Path, network: Path) -> None:
    """Save a folder of each kind from a stored network; load two of them and save them again."""
    parts = decomposed(load_decomposition(network).network)
    parts.save(folder / "decomposition")
    parts["class 1"].save(folder / "module")
    compose(parts).save(folder / "composition")
    load_decomposition(folder / "decomposition").save(folder / "decomposition again")
    load_composition(folder / "composition").save(folder / "composition again")


def determinism(folder: Path) -> dict[str, int]:
    """Decompose a stored network and save it, in new processes with other hash seeds and numbers of threads.

    The network is stored, because torch draws other orthogonal matrices with another number of threads.
    """
    version(0).save(folder / "network")
    settings = list(itertools.product(("0", "1", "random"), ("1", "2")))
    digests, again = set(), 0
    for number, (seed, count) in enumerate(settings):
        place = folder / str(number)
        subprocess.run(
            [sys.executable, "-c", FRESH, str(place), count, str(folder / "network")],
            cwd=files.ROOT.parent, env={**os.environ, "PYTHONHASHSEED": seed}, check=True,
        )  # fmt: skip
        found = {name.name: content(name) for name in sorted(place.iterdir())}
        again += sum(found[name] != found[f"{name} again"] for name in ("decomposition", "composition"))
        digests.add(hashlib.sha256(repr([(n, sorted(f.items())) for n, f in found.items()]).encode()).hexdigest())
    return {"processes": len(settings), "different bytes": len(digests) - 1, "different when loaded and saved": again}


def content(folder: Path) -> dict[str, bytes]:
    """Return the bytes of the files of a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def _seconds(call: Callable[[], object]) -> float:
    started = time.monotonic()
    call()
    return time.monotonic() - started


def _killed(call: Callable[[], object], after: float) -> bool:
    """Run ``call`` in a fork that is killed after some seconds; return whether it was killed before its end."""
    child = os.fork()
    if child == 0:
        try:
            call()
        finally:
            os._exit(0)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def _forked(call: Callable[[], object]) -> bool:
    """Run ``call`` in a fork; return whether it ended without a FormatError."""
    child = os.fork()
    if child == 0:
        status = 2
        try:
            call()
            status = 0
        except FormatError:
            status = 1
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, 1):
        raise SystemExit(f"a save raised another error than FormatError (status {status}).")
    return status == 0


def _limited(size: int, call: Callable[[], object]) -> None:
    import resource  # not on Windows

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    call()


def _in_processes(calls: list[Callable[[int], Counter[str]]], folder: Path) -> Iterator[dict[str, int]]:
    """Run all calls in forks at the same time; return their counts."""
    children = []
    for number, call in enumerate(calls):
        child = os.fork()
        if child == 0:
            try:
                (folder / f"counts{number}").write_text(repr(dict(call(number))))
            finally:
                os._exit(0)
        children.append(child)
    for number, child in enumerate(children):
        os.waitpid(child, 0)
        pairs = (folder / f"counts{number}").read_text().strip("{}").split(", ")
        yield {name.strip("'"): int(value) for name, value in (pair.split(": ") for pair in pairs)}


@contextmanager
def _small_disk(place: Path, size: int) -> Iterator[bool]:
    """Mount a file system of this size at ``place``; yield whether it could be mounted."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(place)], check=True)


def _fill(path: Path, room: int) -> None:
    """Fill the disk of ``path`` except for about ``room`` bytes."""
    free = os.statvfs(path.parent)
    size = max(free.f_bavail * free.f_frsize - room, 0)
    path.write_bytes(bytes(size))


if __name__ == "__main__":
    main()

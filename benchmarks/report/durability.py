"""Build the section of RESULTS.md on the durability of saved folders, from the stored result."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from benchmarks import files
from benchmarks.report.tables import table


def sections() -> Iterable[str]:
    """Yield the section; nothing if there is no result."""
    path = files.RESULTS / "durability.json"
    if not path.exists():
        return
    yield "\n## Durability of saved folders\n"
    yield (
        "*event*: what happens while a folder is saved. *trials*: number of repetitions. *outcome*: state of the\n"
        "folder afterwards. *faults*: number of outcomes that must not occur (to hold: 0). After each trial the\n"
        "folder is loaded and compared with the two saved versions; after a kill it is compared byte for byte.\n"
        "`python -m benchmarks.measure.durability` repeats the measurement.\n"
    )
    yield table(["event", "trials", "outcome", "faults"], _rows(json.loads(path.read_text())))


def _rows(found: dict[str, Any]) -> list[list[str]]:
    saves, single, disk = found["killed_saves"], found["killed_files"], found["full_disk"]
    beside, threads, bytes_ = found["writers_and_readers"], found["threads"], found["determinism"]
    return [
        [
            "SIGKILL at a random time of a save over a good folder",
            f"{saves['kills']} kills",
            f"{saves['old']} old, {saves['new']} new; {saves['left-overs']} with left-overs",
            _faults(saves, "damaged", "mixed versions", "strangers lost", "left-overs after next"),
        ],
        [
            "SIGKILL at a random time while one file is replaced, as by `export`",
            f"{single['kills']} kills",
            f"{single['old']} old, {single['new']} new; {single['left-overs']} with left-overs",
            _faults(single, "damaged", "left-overs after next"),
        ],
        [
            f"full disk ({disk['how']}), between no room and enough",
            f"{disk['saved'] + disk['refused']} saves",
            f"{disk['refused']} refused with the old version whole, {disk['saved']} saved",
            _faults(disk, "damaged", "left-overs"),
        ],
        [
            "two writers and two readers of one folder, processes",
            f"{beside['saves']} saves, {beside['loads']} loads",
            "every load gives one of the two versions",
            _faults(beside, "failed saves", "failed loads", "left-overs"),
        ],
        [
            "eight threads that save and load one folder",
            f"{threads['saves']} saves, {threads['loads']} loads",
            "every load gives one of the two versions",
            _faults(threads, "failed", "left-overs"),
        ],
        [
            "the same network decomposed and saved with other hash seeds and numbers of threads",
            f"{bytes_['processes']} processes",
            "the same bytes in all files",
            _faults(bytes_, "different bytes", "different when loaded and saved"),
        ],
    ]


def _faults(counts: dict[str, int], *names: str) -> str:
    return ", ".join(f"{name} {counts[name]}" for name in names)

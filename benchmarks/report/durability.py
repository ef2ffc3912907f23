"""RESULTS.md's part on what saving withstands, from the stored result alone."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from benchmarks import files
from benchmarks.report.tables import table


def sections() -> Iterable[str]:
    """All of it; nothing where there is no result."""
    path = files.RESULTS / "durability.json"
    if not path.exists():
        return
    yield "\n## Durability of saved folders\n"
    yield (
        "*trials*: how often each event was tried. *outcome*: what was found afterwards. *faults*: outcomes that must\n"
        "not occur (to hold: 0). After each trial the folder is loaded and compared with the two versions that were\n"
        "saved, byte for byte after a kill. `python -m benchmarks.measure.durability` measures it again.\n"
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

"""What an experiment is: one small file in ``experiments/``, a run for each of its layers and seeds.

A run has one result, a JSON in ``results/KIND/``; what has its result is not run again.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from benchmarks import files

FOLDER = files.ROOT / "experiments"
Kind = Literal["decompose", "refine", "reuse", "replace", "reuse_inter", "replace_inter"]


@dataclass(frozen=True)
class Scale:
    """How much is run.

    Attributes:
        name: as on the command line.
        rows: training examples of a data set; None: all.
        layers, seeds: the only ones, where a file names more; None: all of them.
        draws: problems of an experiment for which a network of their own is trained, to compare with.
        folder: of results.
        learnt: training texts of a class for such a network of an inter experiment, at most.
        problems: of an inter experiment, drawn from all; and classes that are exchanged in an intra one, at most.
    """

    name: str
    rows: int | None
    layers: tuple[int, ...] | None
    seeds: tuple[int, ...] | None
    draws: int
    folder: Path
    learnt: int = 1500
    problems: int = 24


SCALES = {
    "quick": Scale("quick", 3000, (1,), (0,), 1, files.cache_folder() / "quick", learnt=200, problems=3),
    "full": Scale("full", None, None, None, 3, files.RESULTS),
}


class Experiment(BaseModel):
    """A file of ``experiments/``: a cell of the paper's tables.

    Attributes:
        kind: what is measured.
        data: one data set, or two of an inter experiment, as ``clinc+brown``.
        cell: vanilla, ReLU, LSTM or GRU.
        layers, seeds: a run for each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    data: str
    cell: str
    layers: tuple[int, ...]
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Run:
    """One measurement."""

    kind: Kind
    data: str
    cell: str
    layers: int
    seed: int
    scale: Scale

    @property
    def name(self) -> str:
        """As ``clinc-LSTM-2-seed0``."""
        return f"{self.data}-{self.cell}-{self.layers}-seed{self.seed}"

    @property
    def path(self) -> Path:
        """Where its result lies."""
        return self.scale.folder / self.kind / f"{self.name}.json"


def read(folder: Path = FOLDER) -> dict[str, Experiment]:
    """All experiments by their files' names, in alphabetical order."""
    found = {}
    for path in sorted(folder.glob("*.toml")):
        try:
            found[path.stem] = Experiment.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except (tomllib.TOMLDecodeError, ValidationError) as error:
            raise SystemExit(f"{path} is no experiment: {str(error)[:300]}") from None
    return found


def runs(scale: Scale, experiments: list[Experiment]) -> list[Run]:
    """Their runs at a scale: seed by seed and from flat to deep, so that an interrupted evaluation has whole tables."""
    found = []
    for e in experiments:
        if e.kind == "refine" and scale.rows is not None:
            continue  # not one of the paper's tables, and what takes the longest
        layers = e.layers if scale.layers is None else [n for n in e.layers if n in scale.layers] or scale.layers[:1]
        seeds = [s for s in e.seeds if scale.seeds is None or s in scale.seeds]
        found += [Run(e.kind, e.data, e.cell, n, s, scale) for n, s in product(layers, seeds)]
    return sorted(found, key=lambda run: (run.seed, run.layers))

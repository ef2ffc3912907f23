"""An experiment is a small file in ``experiments/``, with one run for each of its numbers of layers and seeds.

A run has one result, a JSON file in ``results/KIND/``. Runs with a result are not repeated.
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
    """The amount of work.

    Attributes:
        name: name on the command line.
        rows: number of training examples of a data set; None for all.
        layers, seeds: the layers and seeds that are run; None for all of an experiment.
        draws: number of problems of an experiment for which a network is trained for comparison.
        folder: folder of the results.
        learnt: largest number of training texts per class for such a network of an inter experiment.
        problems: largest number of random problems of an inter experiment, and of replaced classes of an intra one.
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
        kind: name of the measurement.
        data: one data set, or two for an inter experiment, such as ``clinc+brown``.
        cell: vanilla, ReLU, LSTM or GRU.
        layers, seeds: there is one run for each combination.
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
        """Name of the run, such as ``clinc-LSTM-2-seed0``."""
        return f"{self.data}-{self.cell}-{self.layers}-seed{self.seed}"

    @property
    def path(self) -> Path:
        """Path of the result."""
        return self.scale.folder / self.kind / f"{self.name}.json"


def read(folder: Path = FOLDER) -> dict[str, Experiment]:
    """Read all experiments by file name, in alphabetical order."""
    found = {}
    for path in sorted(folder.glob("*.toml")):
        try:
            found[path.stem] = Experiment.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except (tomllib.TOMLDecodeError, ValidationError) as error:
            raise SystemExit(f"{path} is not an experiment: {str(error)[:300]}") from None
    return found


def runs(scale: Scale, experiments: list[Experiment]) -> list[Run]:
    """Return the runs at a scale, by seed and number of layers, so that an interrupted run gives complete tables."""
    found = []
    for e in experiments:
        if e.kind == "refine" and scale.rows is not None:
            continue  # not in the tables of the paper, and the slowest runs
        layers = e.layers if scale.layers is None else [n for n in e.layers if n in scale.layers] or scale.layers[:1]
        seeds = [s for s in e.seeds if scale.seeds is None or s in scale.seeds]
        found += [Run(e.kind, e.data, e.cell, n, s, scale) for n, s in product(layers, seeds)]
    return sorted(found, key=lambda run: (run.seed, run.layers))

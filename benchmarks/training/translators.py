"""The translators of the comparison. They are trained once and stored in a cache outside the repository.

``python -m benchmarks.training.translators`` trains missing models, one after another on one core. An interrupted run
can be resumed. ``--scale paper`` uses the sizes of the paper (for a GPU), ``--only NAME`` trains a single model.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

import typer
from safetensors import safe_open
from safetensors.torch import save_file

from benchmarks.datasets import translation as translation_data
from benchmarks.datasets.translation import SCALES, Corpus, Lines, Words
from benchmarks.files import cache_folder
from benchmarks.training.classifiers import CELLS
from unbraid import Network
from unbraid.demo.architectures import translation_spec
from unbraid.demo.translating import train_translator
from unbraid.networks.spec import EncoderDecoderSpec
from unbraid.progress import silent
from unbraid.translation.pairs import Pairs, find_tag

EPOCHS = 8
DEEP_EPOCHS = 3  # for models of two or more layers
SMALL_EPOCHS = 30  # for data sets of a few thousand lines
LIMIT = 1000  # random words in the softmax of a training step, besides the words of the step


@dataclass(frozen=True)
class Task:
    """Training data of a translator: target language -> data sets of its pairs."""

    source: str
    targets: dict[str, tuple[str, ...]]
    epochs: int = EPOCHS
    recipe: int = 1  # version of the training; with a higher number the models are trained again


TASKS = {
    "tatoeba": Task("en", {"fr": ("tatoeba",), "de": ("tatoeba",), "it": ("tatoeba",)}),
    "uk-alone": Task("en", {"uk": ("uk",)}, 24, recipe=2),
    "uk-fr": Task("en", {"uk": ("uk",), "fr": ("uk",)}, 16, recipe=2),
    "uk-all": Task("en", {"fr": ("tatoeba",), "de": ("tatoeba",), "it": ("tatoeba",), "uk": ("uk",)}),
    "et": Task("et", {"en": ("et",), "de": ("et",), "it": ("et",)}, SMALL_EPOCHS),
    "et-alone": Task("et", {"en": ("et", "et-large")}, SMALL_EPOCHS),
    "et-it": Task("et", {"en": ("et", "et-large"), "it": ("et",)}, SMALL_EPOCHS),
    "et-all": Task("et", {"en": ("et", "et-large"), "de": ("et",), "it": ("et",)}, SMALL_EPOCHS),
}


@dataclass(frozen=True)
class Translation:
    """One trained translator."""

    task: str
    cell: str = "LSTM"
    layers: int = 1
    scale: str = "small"
    seed: int = 0

    @property
    def epochs(self) -> int:
        """Number of passes over the pairs; fewer for models of several layers, to limit the time on two cores."""
        usual = TASKS[self.task].epochs if self.layers == 1 else DEEP_EPOCHS
        return min(usual, SCALES[self.scale].epochs or usual)

    @property
    def name(self) -> str:
        """Name of the model, such as ``tatoeba-LSTM-1``."""
        seed = f"-seed{self.seed}" if self.seed else ""
        return f"{self.task}-{self.cell}-{self.layers}{'' if self.scale == 'small' else '-' + self.scale}{seed}"

    @property
    def path(self) -> Path:
        """Path of the weights."""
        return cache_folder() / f"translation-{self.name}-recipe{TASKS[self.task].recipe}.safetensors"

    def corpora(self) -> list[tuple[str, Corpus]]:
        """Return pairs of target language and sentences."""
        task = TASKS[self.task]
        pairs = [(t, translation_data.corpus(d, task.source)) for t, names in task.targets.items() for d in names]
        return [(language, data.few(SCALES[self.scale].lines)) for language, data in pairs]

    @cache  # noqa: B019  # a few models, until the program ends
    def words(self) -> Words:
        """Make the vocabularies from the training parts only."""
        lines: Lines = {}
        for language, data in self.corpora():
            lines.setdefault(data.source, []).extend(data.train[data.source])
            lines.setdefault(language, []).extend(data.train[language])
        source = TASKS[self.task].source
        return translation_data.words(Corpus(source, lines, {}), list(TASKS[self.task].targets), SCALES[self.scale])

    @cache  # noqa: B019
    def pairs(self, part: str) -> Pairs:
        """Return all pairs of ``train`` or ``test``."""
        steps = SCALES[self.scale].steps
        found = [translation_data.pairs(d, part, [t], self.words(), steps) for t, d in self.corpora()]
        return Pairs.joined(found)

    def spec(self) -> EncoderDecoderSpec:
        """Describe the architecture."""
        scale, vocabularies = SCALES[self.scale], self.words()
        tags = [find_tag(language, vocabularies.target) for language in TASKS[self.task].targets]
        sizes = (vocabularies.source.size, vocabularies.target.size, scale.dimension, scale.units)
        return translation_spec(CELLS[self.cell], self.layers, *sizes, tags)

    def network(self) -> Network:
        """Return the trained network from the cache, or train it."""
        if not self.path.exists():
            self._train()
        with safe_open(self.path, "pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
            spec = EncoderDecoderSpec.model_validate(json.loads(file.metadata()["spec"]))
        return Network(spec, weights).with_vocabulary(self.words().source, self.words().target)

    def _train(self) -> None:
        started = time.perf_counter()

        def told(epoch: int, loss: float) -> None:
            print(f"{self.name}: epoch {epoch + 1}, loss {loss:.3f}, {time.perf_counter() - started:.0f} s", flush=True)

        network = train_translator(
            self.spec(),
            self.pairs("train"),
            epochs=self.epochs,
            batch_size=64 if TASKS[self.task].epochs == SMALL_EPOCHS else 128,
            limit=LIMIT,
            seed=self.seed,
            checkpoint=self.path.with_suffix(".checkpoint"),
            progress=silent,
            told=told,
        )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(f".{uuid.uuid4().hex}")
        save_file(network.weights(), temporary, {"spec": network.spec.model_dump_json()})
        temporary.replace(self.path)


def models(scale: str = "small") -> list[Translation]:
    """Return all models; those of every table come first."""
    found = [Translation("tatoeba", "LSTM", 1, scale)]
    found += [Translation(task, "LSTM", 1, scale) for task in TASKS if task.startswith("et")]
    found += [Translation("tatoeba", cell, 1, scale) for cell in ("GRU", "vanilla")]
    found += [Translation(task, "LSTM", 1, scale) for task in ("uk-alone", "uk-fr")]
    found += [Translation("tatoeba", cell, 2, scale) for cell in ("LSTM", "GRU", "vanilla")]
    return [*found, Translation("uk-all", "LSTM", 1, scale)]


def main(
    scale: Annotated[str, typer.Option(help=f"One of {', '.join(SCALES)}.")] = "small",
    only: Annotated[str, typer.Option(help="Name of one model, such as tatoeba-LSTM-1.")] = "",
) -> None:
    """Train missing models."""
    chosen = [m for m in models(scale) if only in ("", m.name)]
    if not chosen:
        sys.exit(f"no model {only!r}, expected one of {[m.name for m in models(scale)]}.")
    for model in chosen:
        model.network()


if __name__ == "__main__":
    typer.run(main)

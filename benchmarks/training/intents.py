"""The classifiers of CLINC-150. They are trained once and stored in a cache outside the repository.

Each training text is read several times; each time some of its words are replaced by the index of unknown words. So the
networks learn what an unknown word means. The rate was chosen by the accuracy on the held-out part.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.datasets import intents
from benchmarks.files import cache_folder
from benchmarks.training.cache import cached
from unbraid import Network
from unbraid.demo.architectures import sequence_spec
from unbraid.demo.training import train
from unbraid.networks.spec import NetworkSpec
from unbraid.networks.stage_spec import RecurrentSpec
from unbraid.progress import silent

DIMENSION, UNITS = 100, 128
COPIES, BATCH = {False: 12, True: 6}, 64  # passes over the texts, by whether the classes are domains
DROPPED = 0.1  # share of the words that a pass replaces
CELLS = ("LSTM", "GRU", "BiLSTM")
RECIPE = 1  # version of the training; with a higher number all models are trained again


@dataclass(frozen=True)
class IntentModel:
    """One trained classifier.

    Attributes:
        cell: one of :data:`CELLS`.
        domains: whether the classes are the 10 domains. Otherwise they are the 150 intents.
        seed: seed of the training.
    """

    cell: str
    domains: bool
    seed: int = 0

    @property
    def name(self) -> str:
        """Name of the model, such as ``intents-LSTM-seed0``."""
        return f"{'domains' if self.domains else 'intents'}-{self.cell}-seed{self.seed}"

    @property
    def examples(self) -> intents.Intents:
        """The queries that it is trained and tested on."""
        return intents.load(self.domains)

    @property
    def path(self) -> Path:
        """Path of the weights."""
        return cache_folder() / f"{self.name}-recipe{RECIPE}.safetensors"

    def spec(self) -> NetworkSpec:
        """Describe the architecture: an embedding and one recurrent layer."""
        data = self.examples
        kind = "gru" if self.cell == "GRU" else "lstm"
        spec = sequence_spec(
            kind, 1, data.vocabulary.size, DIMENSION, UNITS, len(data.labels), "M:1", intents.STEPS, mask_zero=True
        )
        if self.cell != "BiLSTM":
            return spec
        stages = [
            stage.model_copy(update={"bidirectional": True}) if isinstance(stage, RecurrentSpec) else stage
            for stage in spec.stages
        ]
        return NetworkSpec.model_validate({**spec.model_dump(), "stages": stages, "features": 2 * UNITS})

    def network(self) -> Network:
        """Return the trained network from the cache, or train it."""
        data = self.examples
        return cached(self.path, self._trained, data.labels, data.vocabulary)

    def _trained(self) -> Network:
        data, copies = self.examples, COPIES[self.domains]
        texts, y = data.parts["train"]
        return train(
            self.spec(),
            _with_unknown(data.vocabulary.encode(texts)[0], copies, self.seed),
            np.tile(y, copies),
            data.labels,
            epochs=1,
            batch_size=BATCH,
            seed=self.seed,
            progress=silent,
        )


def _with_unknown(x: np.ndarray, copies: int, seed: int) -> np.ndarray:
    """Copy word indices (N, T) and replace some words of each copy by the index of unknown words."""
    rng = np.random.default_rng(seed)
    return np.concatenate([np.where((x > 1) & (rng.random(x.shape) < DROPPED), 1, x) for _ in range(copies)])

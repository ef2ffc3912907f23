"""Small regression networks and inputs for tests."""

import numpy as np

from tests import factory
from unbraid.networks.outputs import OUTPUTS

KINDS = [name for name, kind in OUTPUTS.items() if kind.numbers]
N, STEPS = 120, 5


def forecaster(cells=("lstm",), io="M:1", *, output="linear", classes=3, units=8, labels=None, seed=0, **more):
    return factory.network(
        cells, io, output=output, classes=classes, units=units, labels=labels, seed=seed, inputs="features", **more
    )


def sample(network, n=N, steps=STEPS, seed=0):
    """Inputs that the network reads."""
    rng = np.random.default_rng(seed)
    if network.io.value.startswith("1"):
        return rng.integers(0, factory.VOCABULARY, (n, factory.WORDS))
    return rng.normal(size=(n, steps, factory.DIMENSION)).astype(np.float32)

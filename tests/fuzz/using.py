"""What a user does with an object after it was loaded: describe it, run it, save it and load that again."""

from io import StringIO

import numpy as np
from rich.console import Console

from tests.fuzz import own_module
from tests.fuzz.library import (
    DataError,
    Decomposition,
    EmbeddingSpec,
    EncoderDecoderSpec,
    IncompatibleModules,
    RecurrentSpec,
    TorchSpec,
    UnbraidError,
    description,
    description_text,
)
from unbraid import Composition, ConcernModule, Network, Translator, compose

TEXTS = ["w1 w2 zzz", "", "I see you w3.", "go home " * 5]
MOST = 2_000_000  # numbers in the inputs of one call; more would measure the inputs, not the file


class SavedOtherwise(Exception):
    """A folder that was saved again gives other outputs."""


def show(opened):
    """``unbraid inspect``."""
    text = description_text(description(opened))
    Console(file=StringIO(), width=100).print(text, **({"markup": False} if isinstance(text, str) else {}))
    repr(opened)


def inputs_of(network):
    """A few inputs as the network reads them; None where they would be large."""
    spec = network.spec
    if isinstance(spec, TorchSpec):
        return own_module.inputs()[0]
    steps = spec.steps or 4
    if steps > MOST // 1000:
        return None
    rng = np.random.default_rng(0)
    if isinstance(spec, EncoderDecoderSpec):
        sizes = {"source": spec.source.vocabulary, "target": spec.target.vocabulary}
        return {side: rng.integers(0, min(size, 2**31), (3, 4)) for side, size in sizes.items()}
    if isinstance(spec.stages[0], EmbeddingSpec):
        return rng.integers(0, min(spec.stages[0].vocabulary, 2**31), (3, steps))
    width = next((stage.inputs for stage in spec.stages if isinstance(stage, RecurrentSpec)), 1)
    return None if steps * width > MOST else rng.normal(size=(3, steps, width)).astype(np.float32)


def run(opened):
    """Outputs of a model for inputs of every kind that it reads; inputs that it refuses are left out."""
    found = []
    if isinstance(opened, Translator):
        return [opened.translate(TEXTS, to=language, longest=5) for language in opened.languages[:3]]
    if isinstance(opened, Decomposition):
        found += run(opened.network)
        opened = composed(opened)
    if opened is None:
        return found
    modules = [opened] if isinstance(opened, Network | ConcernModule) else list(opened.modules_by_label.values())
    networks = [module if isinstance(module, Network) else module.parent for module in modules[:1]]
    for x in [*map(inputs_of, networks), TEXTS]:
        found += _outputs(opened, x)
    return found


def _outputs(model, x):
    if x is None:
        return []
    try:
        if isinstance(model, Network):
            return [model.logits(x), model.predict(x)]
        if isinstance(model, ConcernModule):
            return [model.margins(x)]
        return [model.margins(x), model.predict_proba(x), model.predict(x)]
    except DataError:  # inputs of another kind
        return []


def composed(parts):
    """The modules together, where they can be."""
    try:
        return compose(parts)
    except IncompatibleModules:  # those of a translator
        return None


def same(before, after):
    """Raise SavedOtherwise where two lists of outputs differ."""
    for one, other in zip(before, after, strict=True):
        if not np.array_equal(np.asarray(one), np.asarray(other)) and not _nan(one, other):
            raise SavedOtherwise


def _nan(one, other):
    return np.asarray(one).dtype.kind == "f" and np.array_equal(one, other, equal_nan=True)


def classifier(opened):
    """What labels inputs: a network, or modules together."""
    if isinstance(opened, Decomposition):
        return composed(opened)
    if isinstance(opened, ConcernModule):
        return compose([opened])
    return opened if isinstance(opened, Network | Composition) else None


def quietly(action):
    """Run what may refuse: data that do not fit a model are no finding."""
    try:
        return action()
    except UnbraidError:
        return None

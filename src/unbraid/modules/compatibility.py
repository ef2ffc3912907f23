"""Whether modules read one input, so that they can be put together."""

from __future__ import annotations

from unbraid.config import IOArchitecture
from unbraid.errors import IncompatibleModules
from unbraid.modules.module import ConcernModule
from unbraid.networks.spec import EmbeddingSpec, RecurrentSpec, TorchSpec


def check_compatible(modules: list[ConcernModule]) -> None:
    """Modules of a composition read one input; raises IncompatibleModules with what differs."""
    if not modules:
        raise IncompatibleModules("a composition needs at least one module.")
    for module in modules:
        if module.io is IOArchitecture.ENCODER_DECODER:
            raise IncompatibleModules(f"module {module.label!r} says a language: put it into an unbraid.Translator.")
    if all(m.parent.vocabulary is not None for m in modules):
        return  # they read text, each in its own way
    first = next((m for m in modules if m.parent.spec.steps is not None), modules[0])  # None goes with any T
    for other in modules:
        for what, mine, theirs in zip(("input", "size", "timesteps"), _reads(first), _reads(other), strict=True):
            if mine != theirs and not (what == "timesteps" and None in (mine, theirs)):
                raise IncompatibleModules(
                    f"modules {first.label!r} and {other.label!r} read different inputs: {what} {mine}, {theirs}."
                )


def _reads(module: ConcernModule) -> tuple[str, object, int | None]:
    spec = module.parent.spec
    if isinstance(spec, TorchSpec):
        return "what its own module reads", (spec.axes, spec.batch_axis), None
    stage = spec.stages[0]
    if isinstance(stage, EmbeddingSpec):
        return "word indices", stage.vocabulary, spec.steps
    return "features", next(s.inputs for s in spec.stages if isinstance(s, RecurrentSpec)), spec.steps

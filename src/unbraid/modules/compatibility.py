"""Check that modules read the same input, so that they can form a composition."""

from __future__ import annotations

from unbraid.config import IOArchitecture
from unbraid.errors import IncompatibleModules
from unbraid.modules.module import ConcernModule
from unbraid.networks.graph_spec import KerasSpec
from unbraid.networks.spec import NetworkSpec
from unbraid.networks.stage_spec import EmbeddingSpec, RecurrentSpec
from unbraid.networks.timesteps import feature_width
from unbraid.networks.torch_spec import TorchSpec


def check_compatible(modules: list[ConcernModule]) -> None:
    """Raise IncompatibleModules if modules do not read the same input; the message names the difference."""
    if not modules:
        raise IncompatibleModules("a composition needs at least one module.")
    for module in modules:
        if module.io is IOArchitecture.ENCODER_DECODER:
            raise IncompatibleModules(
                f"module {module.label!r} translates into a language, expected modules of classifiers: use "
                "unbraid.Translator, or 'unbraid compose FOLDER' without a recipe on the command line."
            )
    _check_task(modules)
    if all(m.parent.vocabulary is not None for m in modules):
        _check_places(modules)
        return  # each module reads text with its own vocabulary
    first = next((m for m in modules if m.parent.spec.steps is not None), modules[0])  # None: any T
    for other in modules:
        for what, mine, theirs in zip(("input", "size", "timesteps"), _reads(first), _reads(other), strict=True):
            if mine != theirs and not (what == "timesteps" and None in (mine, theirs)):
                raise IncompatibleModules(
                    f"modules {first.label!r} and {other.label!r} read different inputs: {what} {mine} and {theirs}. "
                    "Compose modules whose networks read the same input."
                )


def _check_task(modules: list[ConcernModule]) -> None:
    """Check that either all modules predict numbers, at the same places, or none does."""
    for other in modules:
        pair = [m.parent.task == "regression" for m in (modules[0], other)]
        if pair[0] != pair[1]:
            kinds = ["predicts a number" if numbers else "decides on a class" for numbers in pair]
            raise IncompatibleModules(
                f"module {modules[0].label!r} {kinds[0]} and module {other.label!r} {kinds[1]}: compose modules of one "
                "task, and make one composition for each output."
            )
        if pair[0] and other.io.many_outputs != modules[0].io.many_outputs:
            raise IncompatibleModules(
                f"modules {modules[0].label!r} ({modules[0].io}) and {other.label!r} ({other.io}) predict numbers, and "
                "only one of them at each timestep: compose modules of one kind of output."
            )


def _check_places(modules: list[ConcernModule]) -> None:
    """Check that each word is at the same timestep for all modules, as a vote for each word requires."""
    if not all(module.io.many_outputs for module in modules):
        return
    padded = [(m.parent.vocabulary.padding, m.parent.spec.steps) for m in modules if m.parent.vocabulary is not None]
    placed = [(padding.side, padding.steps or steps) for padding, steps in padded]
    for other, theirs in zip(modules, placed, strict=True):
        if theirs != placed[0]:
            mine, one = (f"pads at the {side} to {steps or 'the longest text'}" for side, steps in (placed[0], theirs))
            raise IncompatibleModules(
                f"modules {modules[0].label!r} and {other.label!r} read a word at different timesteps: one {mine}, the "
                f"other {one}. Give their networks vocabularies with the same side and steps."
            )


def _reads(module: ConcernModule) -> tuple[str, object, int | None]:
    spec = module.parent.spec
    if isinstance(spec, KerasSpec) and len(spec.graph.inputs) > 1:
        shapes = [given.shape for given in spec.graph.inputs]
        return "arrays of shapes and vocabularies", (shapes, spec.vocabularies), None
    if isinstance(spec, KerasSpec):
        words = spec.vocabularies[0]
        return (
            ("features", spec.graph.inputs[0].shape[1:], None) if words is None else ("word indices", words, spec.steps)
        )
    if isinstance(spec, TorchSpec):
        return "inputs of a PyTorch module", (spec.axes, spec.batch_axis), None
    assert isinstance(spec, NetworkSpec)  # encoder-decoders were refused
    stage = spec.stages[0]
    if isinstance(stage, EmbeddingSpec):
        return "word indices", stage.vocabulary, spec.steps
    if spec.shape is not None:
        return "features", tuple(spec.shape), None
    recurrent = (s.inputs for s in spec.stages if isinstance(s, RecurrentSpec))
    return "features", next(recurrent, feature_width(spec)), spec.steps

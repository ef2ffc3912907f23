"""Results hold plain Python values, so that they print well and can be written as JSON."""

import dataclasses
import json

import pytest

import unbraid
from tests import factory
from unbraid.evaluation.bleu import TranslationScores

PLAIN = {float, int, str, bool, type(None)}


def values(found, place="result"):
    """All values in a tree of dataclasses, mappings and lists, with their places.

    Fields that are not compared hold material for reports: arrays and settings.
    """
    if dataclasses.is_dataclass(found):
        for field in filter(lambda field: field.compare, dataclasses.fields(found)):
            yield from values(getattr(found, field.name), f"{place}.{field.name}")
        for name, member in vars(type(found)).items():
            if isinstance(member, property):
                yield from values(getattr(found, name), f"{place}.{name}")
    elif isinstance(found, dict):
        for key, value in found.items():
            yield f"{place} key", key
            yield from values(value, f"{place}[{key!r}]")
    elif isinstance(found, list | tuple):
        for number, value in enumerate(found):
            yield from values(value, f"{place}[{number}]")
    else:
        yield place, found


def check(found):
    wrong = [f"{place}: {type(value).__name__}" for place, value in values(found) if type(value) not in PLAIN]
    assert not wrong


@factory.UNCALIBRATED
@pytest.mark.parametrize("settings", [{"keep": 0.5}, {"mode": "unrolled"}, {"strategy": "paper", "gates": "each"}])
@pytest.mark.parametrize(("io", "output"), [("M:1", "softmax"), ("M:N", "softmax"), ("M:1", "sigmoid")])
def test_evaluations_hold_plain_values(io, output, settings):
    net = factory.network(("lstm",), io, classes=3, output=output)
    x, y = factory.examples(net, count=30)
    parts = unbraid.decompose(net, (x, y), **settings)
    few = unbraid.compose([parts[label] for label in parts.labels[:2]])
    for model, network in ((few, net), (unbraid.compose(parts), net), (unbraid.compose(parts), None)):
        result = unbraid.evaluate(model, (x, y), against=network)
        check(result)
        check(result.to_dict())
        assert json.loads(json.dumps(result.to_dict())) is not None
    check(parts[parts.labels[0]].retention())


def test_scores_of_translations_are_declared_plain():
    kinds = {field.type for field in dataclasses.fields(TranslationScores)}
    assert kinds <= {"float", "str", "int", "float | None", "str | None"}

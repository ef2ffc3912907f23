"""Modules that are trained together become those that are trained one by one, and none moves away from its parent."""

import dataclasses

import numpy as np
import pytest
import torch

import unbraid
from tests import factory
from unbraid.decomposition.reconstruction import joint_distillation, reconstruct
from unbraid.decomposition.reconstruction.joint_distillation import Student, Teaching, _Alone, _Training
from unbraid.decomposition.reconstruction.objectives import OBJECTIVES
from unbraid.networks.heads import Head
from unbraid.networks.layers import sliced

NETWORKS = {
    "LSTM": {"cells": ("lstm",)},
    "two layers": {"cells": ("gru", "vanilla")},
    "GRU with the product after the gate": {"cells": ("gru-before",)},
    "both directions": {"cells": ("lstm",), "bidirectional": True},
    "backwards": {"cells": ("gru",), "reverse": True},
    "masked": {"cells": ("lstm", "lstm"), "mask": True},
    "tags": {"cells": ("lstm",), "io": "M:N", "mask": True},
    "one input": {"cells": ("vanilla",), "io": "1:N"},
    "dense": {"cells": ("gru",), "hidden": ((4, "relu"),)},
    "independent labels": {"cells": ("lstm",), "output": "sigmoid"},
}


def refined(network, examples, **settings):
    return unbraid.decompose(network, examples, keep=0.5, refine=12, domain=False, **settings)


def weights(parts):
    return {f"{label}.{name}": value for label, part in parts.items() for name, value in part.state_dict().items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_together_as_one_by_one(name, monkeypatch):
    network = factory.network(**NETWORKS[name], units=6, seed=3)
    examples = factory.examples(network, 200)
    joined = []
    of = joint_distillation._Together.of.__func__
    counted = classmethod(lambda cls, *given: joined.append(of(cls, *given)) or joined[-1])
    monkeypatch.setattr(joint_distillation._Together, "of", counted)
    together = weights(refined(network, examples))
    assert joined and None not in joined
    monkeypatch.setattr(reconstruct, "group_size", lambda *given: 1)
    alone = weights(refined(network, examples))
    assert together.keys() == alone.keys()
    for key, value in together.items():
        torch.testing.assert_close(value, alone[key], atol=2e-4, rtol=1e-3)
    plain = weights(unbraid.decompose(network, examples, keep=0.5, domain=False))
    assert any(not torch.equal(value, plain[key]) for key, value in together.items())


def students(count=3, steps=200):
    """Modules with random output rows, and examples of their parent, as the strategy makes them."""
    network = factory.network(("lstm",), units=6, seed=1)
    x, _ = factory.examples(network, steps)
    checked = network.check(x)
    teaching = Teaching(checked, torch.ones(len(x), dtype=torch.bool), network.features(torch.from_numpy(x)).detach())
    found = []
    for index in range(count):
        body, kept = sliced(network.body, {name: torch.tensor([0, 2, 5]) for name in network.recurrent_layers()})
        order = [index, *(j for j in range(3) if j != index)]
        head = Head(network.head.weight[order], network.head.bias[order])
        rows = torch.randn(3, 4, generator=torch.Generator().manual_seed(index))
        found.append(Student(body, kept, True, rows, [range(3)], [head], seed=index))
    return found, tuple(network.recurrent_layers()), teaching


def losses(student, teaching, rows):
    """The mean loss on the held-out examples, as the class defines it."""
    training = _Training(_Alone(student, ()), teaching, OBJECTIVES["classification"])
    training.rows.data[0] = rows
    return float(training._judged(training.held)[0].mean())


def test_no_module_moves_away_from_its_parent_on_held_out_examples():
    found, names, teaching = students()
    before = [losses(student, teaching, student.rows) for student in found]
    rows = joint_distillation.trained(found, names, teaching, 40, OBJECTIVES["classification"])
    after = [losses(student, teaching, own) for student, own in zip(found, rows, strict=True)]
    assert all(new <= old for new, old in zip(after, before, strict=True))
    assert sum(after) < sum(before)


def test_steps_that_only_do_harm_change_nothing():
    objective = OBJECTIVES["classification"]
    objective = dataclasses.replace(objective, steps=dataclasses.replace(objective.steps, rate=1e6))
    found, names, teaching = students()
    before = [[p.clone() for p in student.body.parameters()] for student in found]
    rows = joint_distillation.trained(found, names, teaching, 100, objective)
    for student, own, weights in zip(found, rows, before, strict=True):
        assert torch.equal(own, student.rows)
        assert all(torch.equal(p, old) for p, old in zip(student.body.parameters(), weights, strict=True))


def test_weights_of_the_drawn_examples_undo_how_often_they_are_drawn():
    found, _, teaching = students(1)
    training = _Training(_Alone(found[0], ()), teaching, OBJECTIVES["classification"])
    errors = torch.rand(1, len(training.kept), generator=torch.Generator().manual_seed(0)) ** 4
    rows, weights = training._drawn(errors, 2_000)
    even, batch = training.objective.steps.even, training.objective.steps.batch
    chance = even / len(training.kept) + (1 - even) * errors[0] / errors.sum()
    counts = torch.bincount(rows[0], minlength=len(teaching.x))[training.kept] / (2_000 * batch)
    assert (counts - chance).abs().max() < 0.01
    assert set(rows[0].tolist()) <= set(training.kept.tolist())
    assert abs(float(weights.mean()) - 1) < 0.05  # the expected value of a weight is 1
    values = torch.arange(len(teaching.x), dtype=torch.float32)
    assert abs(float((weights[0] * values[rows[0]]).mean() / values[training.kept].mean()) - 1) < 0.05
    places, same = training._drawn(torch.zeros_like(errors), 1)
    assert places.shape == same.shape == (1, batch) and np.allclose(same, 1)
    _, same = training._drawn(torch.full_like(errors, torch.nan), 1)
    assert np.allclose(same, 1)


def test_processes_make_the_same_refined_modules():
    network = factory.network(("gru",), units=6, classes=5)
    examples = factory.examples(network, 60)
    one, two = weights(refined(network, examples)), weights(refined(network, examples, jobs=2))
    assert all(torch.equal(value, two[key]) for key, value in one.items())


@pytest.mark.parametrize("count", [2, 6])
def test_few_examples(count):
    network = factory.network(("lstm",), classes=2, units=4)
    x, _ = factory.examples(network, count)
    parts = refined(network, (x, np.arange(count) % 2), missing="skip") if count > 3 else None
    if parts is None:
        with pytest.raises(unbraid.UnbraidError):
            refined(network, (x, np.arange(count) % 2))
    else:
        assert all(torch.isfinite(value).all() for value in weights(parts).values())

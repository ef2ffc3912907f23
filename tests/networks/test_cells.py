import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import reference
from tests.factory import CELLS
from unbraid.networks.cells import ACTIVATIONS, CANDIDATE, GATES
from unbraid.networks.recurrent import RecurrentLayer, scan

every_cell = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)


def random_layer(cell, inputs, units, seed, reverse=False):
    generator = torch.Generator().manual_seed(seed)
    layer = RecurrentLayer(cell, inputs, units, reverse).requires_grad_(False)
    for parameter in layer.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.6)
    return layer


def as_oracle(layer):
    gates = {}
    for number, name in enumerate(reference.GATE_NAMES[layer.cell.kind]):
        rows = slice(number * layer.units, (number + 1) * layer.units)
        parts = (layer.weight_ih, layer.weight_hh, layer.bias_ih, layer.bias_hh)
        gates[name] = reference.Gate(*(p[rows].numpy().astype(np.float64) for p in parts))
    return reference.Layer("layer", gates, layer.cell, layer.cell.activation, layer.reverse)


def test_tables_name_the_gates_in_torch_order():
    assert GATES == {"rnn": ("h",), "lstm": ("i", "f", "g", "o"), "gru": ("r", "z", "n")}
    assert all(CANDIDATE[kind] in gates for kind, gates in GATES.items())


@pytest.mark.parametrize(
    ("name", "points"),
    [
        ("hard_sigmoid", {-3: 0, -4: 0, 0: 0.5, 1.5: 0.75, 3: 1, 9: 1}),
        ("hard_sigmoid_keras2", {-2.5: 0, -4: 0, 0: 0.5, 1.5: 0.8, 2.5: 1, 9: 1}),
        ("relu", {-1: 0, 0: 0, 2: 2}),
        ("linear", {-1: -1, 2: 2}),
    ],
)
def test_activations_at_known_points(name, points):
    found = ACTIVATIONS[name](torch.tensor(list(points), dtype=torch.float64))
    np.testing.assert_allclose(found.numpy(), list(points.values()), atol=1e-15)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_equal_the_oracle(name):
    x = torch.linspace(-5, 5, 41, dtype=torch.float64)
    np.testing.assert_allclose(ACTIVATIONS[name](x).numpy(), reference.activate(name, x.numpy()), atol=1e-12)


@every_cell
@settings(max_examples=20)
@given(sizes=st.tuples(st.integers(1, 4), st.integers(1, 5)), seed=st.integers(0, 999))
def test_one_step_from_any_state_equals_the_oracle(cell, sizes, seed):
    inputs, units = sizes
    layer = random_layer(cell, inputs, units, seed)
    rng = np.random.default_rng(seed)
    x, h, c = rng.normal(size=inputs), rng.normal(size=units), rng.normal(size=units)
    state = tuple(
        torch.tensor(s, dtype=torch.float32).view(1, 1, -1) for s in ((h, c) if cell.kind == "lstm" else (h,))
    )
    _, found = scan(layer, torch.tensor(x, dtype=torch.float32).view(1, 1, 1, -1), state)
    wanted_h, wanted_c, _ = reference.one_step(cell, as_oracle(layer).gates, x, h, c)
    np.testing.assert_allclose(found[0].flatten(), wanted_h, atol=1e-5, rtol=1e-5)
    if cell.kind == "lstm":
        np.testing.assert_allclose(found[1].flatten(), wanted_c, atol=1e-5, rtol=1e-5)


def test_both_hard_sigmoids_and_both_gru_forms_are_different_functions():
    x = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(0))
    for one, other in (("lstm", "lstm-hard"), ("gru", "gru-hard"), ("gru", "gru-before")):
        apart = [random_layer(CELLS[name], 3, 5, 1)(x)[0] for name in (one, other)]
        assert (apart[0] - apart[1]).abs().max() > 1e-3

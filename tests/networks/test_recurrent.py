import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import reference
from tests.factory import CELLS
from tests.networks.test_cells import as_oracle, every_cell, random_layer
from unbraid.networks import recurrent
from unbraid.networks.recurrent import PrunedRecurrentLayer, RecurrentLayer, scan
from unbraid.networks.removal import GatesGone, NodesGone, Removal
from unbraid.networks.step_layer import zero_state

TORCH = {"vanilla": torch.nn.RNN, "relu": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
sizes = st.fixed_dictionaries(
    {"n": st.integers(1, 4), "t": st.integers(1, 6), "d": st.integers(1, 4), "h": st.integers(1, 5)}
)
seeds = st.integers(0, 999)
few = settings(max_examples=20)  # for each cell


def drawn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def random_state(cell, seed, n, h):
    return tuple(drawn(seed + i, n, h) for i in range(2 if cell.kind == "lstm" else 1))


def scanned(layer, x, valid=None, initial=None):
    initial = initial or zero_state(layer.cell, len(x), layer.units, x)
    outputs, state = scan(layer, x.unsqueeze(0), tuple(s.unsqueeze(0) for s in initial), valid)
    return outputs[0], tuple(s[0] for s in state)


def assert_same(found, wanted, tolerance=1e-5):
    torch.testing.assert_close(found[0], wanted[0], atol=tolerance, rtol=tolerance)
    for mine, theirs in zip(found[1], wanted[1], strict=True):
        torch.testing.assert_close(mine, theirs, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("name", TORCH)
@few
@given(size=sizes, seed=seeds, start=st.booleans())
def test_a_layer_equals_torch(name, size, seed, start):
    cell, n, h = CELLS[name], size["n"], size["h"]
    options = {"nonlinearity": cell.activation} if cell.kind == "rnn" else {}
    theirs = TORCH[name](size["d"], h, batch_first=True, **options)
    layer = random_layer(cell, size["d"], h, seed)
    theirs.load_state_dict({f"{k}_l0": v for k, v in layer.state_dict().items()})
    x = drawn(seed, n, size["t"], size["d"])
    initial = random_state(cell, seed, n, h) if start else zero_state(cell, n, h, x)
    hx = tuple(s.unsqueeze(0) for s in initial)
    with torch.no_grad():
        outputs, state = theirs(x, hx if cell.kind == "lstm" else hx[0])
    wanted = (outputs, tuple(s[0] for s in (state if cell.kind == "lstm" else (state,))))
    assert_same(layer(x, None, initial if start else None), wanted)
    assert_same(scanned(layer, x, None, initial), wanted)


@pytest.mark.parametrize("name", TORCH)
@few
@given(size=sizes, seed=seeds)
def test_two_directions_equal_torch_bidirectional(name, size, seed):
    cell = CELLS[name]
    options = {"nonlinearity": cell.activation} if cell.kind == "rnn" else {}
    theirs = TORCH[name](size["d"], size["h"], batch_first=True, bidirectional=True, **options)
    there = random_layer(cell, size["d"], size["h"], seed)
    back = random_layer(cell, size["d"], size["h"], seed + 1, reverse=True)
    both = {f"{k}_l0": v for k, v in there.state_dict().items()}
    theirs.load_state_dict(both | {f"{k}_l0_reverse": v for k, v in back.state_dict().items()})
    x = drawn(seed, size["n"], size["t"], size["d"])
    with torch.no_grad():
        outputs, state = theirs(x)
    hidden = state[0] if cell.kind == "lstm" else state
    for layer, part, last in (
        (there, outputs[..., : size["h"]], hidden[0]),
        (back, outputs[..., size["h"] :], hidden[1]),
    ):
        found, states = layer(x)
        torch.testing.assert_close(found, part, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(states[0], last, atol=1e-5, rtol=1e-5)


def test_parameters_have_the_layout_of_torch():
    layer, theirs = RecurrentLayer(CELLS["lstm"], 3, 5), torch.nn.LSTM(3, 5)
    shapes = {name: p.shape for name, p in theirs.named_parameters()}
    assert {f"{name}_l0": p.shape for name, p in layer.named_parameters()} == shapes


@every_cell
@few
@given(size=sizes, seed=seeds, reverse=st.booleans(), masked=st.booleans(), start=st.booleans())
def test_outputs_state_and_gates_equal_the_oracle(cell, size, seed, reverse, masked, start):
    n, t, h = size["n"], size["t"], size["h"]
    layer = random_layer(cell, size["d"], h, seed, reverse)
    oracle = as_oracle(layer)
    x = drawn(seed, n, t, size["d"])
    valid = drawn(seed + 7, n, t) > -0.3 if masked else None
    initial = random_state(cell, seed, n, h) if start else None
    outputs, state = layer(x, valid, initial)
    assert_same(scanned(layer, x, valid, initial), (outputs, state))
    gates = layer.gates(x, outputs, initial[0] if start else None)
    for i in range(n):
        signal = reference.Signal(
            x[i].double().numpy(), np.ones(x[i].shape, bool), valid[i].tolist() if masked else None
        )
        first = tuple(s[i].double().numpy() for s in initial) if start else None
        wanted, _, (last_h, last_c), _, wanted_gates = reference.run_layer(oracle, signal, None, first)
        np.testing.assert_allclose(outputs[i], wanted, atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(state[0][i], last_h, atol=1e-5, rtol=1e-5)
        if cell.kind == "lstm":
            np.testing.assert_allclose(state[1][i], last_c, atol=1e-5, rtol=1e-5)
        for step in range(t):
            for g, name in enumerate(wanted_gates[step] or ()):
                np.testing.assert_allclose(gates[g][i, step], wanted_gates[step][name], atol=1e-5, rtol=1e-5)


@every_cell
@few
@given(size=sizes, seed=seeds, reverse=st.booleans())
def test_steps_that_do_not_count_are_as_if_they_were_not_there(cell, size, seed, reverse):
    layer = random_layer(cell, size["d"], size["h"], seed, reverse)
    x = drawn(seed, size["n"], size["t"], size["d"])
    valid = drawn(seed + 7, size["n"], size["t"]) > 0
    outputs, state = layer(x, valid)
    for i in range(size["n"]):
        if valid[i].any():
            short, last = layer(x[i : i + 1, valid[i]])
            torch.testing.assert_close(outputs[i, valid[i]], short[0], atol=1e-5, rtol=1e-5)
            for mine, theirs in zip(state, last, strict=True):
                torch.testing.assert_close(mine[i], theirs[0], atol=1e-5, rtol=1e-5)
        else:
            assert not outputs[i].any() and not state[0][i].any()


@every_cell
def test_what_a_skipped_step_holds_makes_no_difference(cell):
    layer = random_layer(cell, 2, 3, 0)
    x, valid = drawn(1, 3, 5, 2), torch.tensor([[1, 0, 1, 1, 0], [0, 0, 1, 0, 1], [1, 1, 1, 1, 1]]).bool()
    other = torch.where(valid.unsqueeze(-1), x, torch.full_like(x, 9.0))
    torch.testing.assert_close(layer(x, valid)[0], layer(other, valid)[0], atol=0, rtol=0)


@every_cell
@pytest.mark.parametrize(("d", "h"), [(0, 3), (3, 0), (0, 0)])
def test_a_layer_without_nodes_or_inputs_still_runs(cell, d, h):
    layer = random_layer(cell, d, h, 0)
    x, valid = torch.zeros(4, 5, d), torch.tensor([[1, 1, 0, 1, 1]] * 3 + [[0] * 5]).bool()
    for mask in (None, valid):
        outputs, state = layer(x, mask)
        assert outputs.shape == (4, 5, h) and {s.shape for s in state} == {(4, h)}
        if h:
            assert_same((outputs, state), scanned(layer, x, mask))


@every_cell
@few
@given(size=sizes, seed=seeds, reverse=st.booleans(), masked=st.booleans(), opens=st.booleans())
def test_modules_that_lost_nothing_are_copies_of_the_layer(cell, size, seed, reverse, masked, opens):
    layer = random_layer(cell, size["d"], size["h"], seed, reverse)
    x = drawn(seed, size["n"], size["t"], size["d"])
    valid = drawn(seed + 7, size["n"], size["t"]) > -0.3 if masked else None
    wanted, last = layer(x, valid)
    gated = torch.ones(3, 1, len(cell.gates) * size["h"])
    for removal in (Removal(gated), NodesGone(torch.ones(3, size["t"], size["h"])), GatesGone(gated)):
        modules = PrunedRecurrentLayer(layer, removal, 3, opens)
        outputs, state = modules(x if opens else x.repeat(3, 1, 1), valid)
        assert_same((outputs, state), (wanted.repeat(3, 1, 1), tuple(s.repeat(3, 1) for s in last)))


def test_modules_share_the_parents_weights():
    layer = random_layer(CELLS["lstm"], 2, 3, 0)
    modules = PrunedRecurrentLayer(layer, NodesGone(torch.ones(2, 1, 3)), 2, True)
    assert modules.layer.weight_hh is layer.weight_hh


@pytest.mark.parametrize("units", [7, 15, 30, 32, 38, 48, 61])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_layer_with_idle_units_beside_its_own_is_the_same_layer(cell, units, reverse, monkeypatch):
    monkeypatch.setattr(recurrent, "MANY", 1)
    layer = random_layer(CELLS[cell], 3, units, 0, reverse=reverse)
    x, start = drawn(1, 4, 5, 3), random_state(layer.cell, 2, 4, units)
    valid = torch.tensor([[True] * 5, [True, False, True, True, False], [False] * 5, [False, True, False, False, True]])
    for mask in (None, valid):
        found = layer(x, mask, start)
        assert found[0].shape == (4, 5, units) and found[1][0].shape == (4, units)
        assert_same(found, scanned(layer, x, mask, start))

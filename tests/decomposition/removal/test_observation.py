from pathlib import Path

import numpy as np
import pytest

from tests import factory
from tests.factory import CELLS, IO, observed, watched
from unbraid import DecompositionConfig
from unbraid.data.targets import read_targets
from unbraid.decomposition.removal.pooling import identified
from unbraid.decomposition.sampling import choose

SHAPES = {
    "three layers": {"count": 3},
    "two directions": {"count": 2, "bidirectional": True},
    "hidden dense": {"count": 1, "hidden": ((4, "relu"), (3, "sigmoid"))},
    "masked": {"count": 2, "bidirectional": True, "mask": True, "padded": True, "hidden": ((4, "tanh"),)},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("io", IO)
@pytest.mark.parametrize("cell", CELLS)
def test_every_node_and_gate_is_seen_as_the_oracle_sees_it(cell, io, shape):
    settings = dict(SHAPES[shape])
    w = watched((cell,) * settings.pop("count"), io, count=9, **settings)
    found = factory.seen_by_library(w.net, w.x, list(range(len(w.x))))
    for row, wanted in enumerate(w.seen):
        assert set(found[row]) == set(wanted)
        for name, steps in wanted.items():
            assert len(found[row][name]) == len(steps)
            for (value, gates, counts), (hidden, wanted_gates, wanted_counts) in zip(
                found[row][name], steps, strict=True
            ):
                assert counts == wanted_counts
                np.testing.assert_allclose(value, hidden, atol=1e-5, rtol=1e-5)
                for gate in wanted_gates if counts else ():
                    np.testing.assert_allclose(gates[gate], wanted_gates[gate], atol=1e-5, rtol=1e-5)


def many_examples(**settings):
    net = factory.network(("lstm", "gru"), "M:N", bidirectional=True, hidden=((3, "tanh"),), **settings)
    return net, *factory.examples(net, 1100, padded=bool(settings))


@pytest.mark.parametrize("gates", [False, True])
@pytest.mark.parametrize("mask", [False, True])
def test_batches_join_as_if_there_were_one(mask, gates):
    net, x, _ = many_examples(mask=mask)
    with observed(net, x, gates) as whole:
        for start in range(0, len(x), 275):
            with observed(net, x[start : start + 275], gates) as part:
                for name, layer in part.layers.items():
                    both = whole.layers[name]
                    np.testing.assert_allclose(both.values[..., start : start + 275], layer.values, atol=1e-5)
                    assert (both.valid is None) == (layer.valid is None) == (not mask)
                    if mask:
                        np.testing.assert_array_equal(both.valid[:, start : start + 275], layer.valid)


@pytest.mark.parametrize("mode", ["rolled", "unrolled"])
def test_values_in_a_temporary_file_give_the_same_concerns(mode):
    net, x, y = many_examples(mask=True)
    config = DecompositionConfig.of(strategy="paper", mode=mode)
    targets = read_targets(y, net.labels, many=True)
    sample = choose(targets, config)
    with observed(net, x[sample.rows]) as held, observed(net, x[sample.rows], memory=0) as spilled:
        files = [Path(layer.values.filename) for layer in spilled.layers.values()]
        assert all(isinstance(layer.values, np.memmap) for layer in spilled.layers.values())
        assert not any(isinstance(layer.values, np.memmap) for layer in held.layers.values())
        for name, layer in held.layers.items():
            np.testing.assert_array_equal(layer.values, spilled.layers[name].values)
        found = [identified(net, seen, sample, config) for seen in (held, spilled)]
        found = [{j: each.kept(j) for j in each.classes} for each in found]
    for j, layers in found[0].items():
        for name, kept in layers.items():
            np.testing.assert_array_equal(kept, found[1][j][name])
    assert files and not any(file.exists() or file.parent.exists() for file in files)


def test_only_what_does_not_fit_goes_to_a_file():
    """Each layer may use an equal share of the memory."""
    net, x, _ = many_examples()
    with observed(net, x, memory=10**9) as seen:
        sizes = {name: layer.values.nbytes for name, layer in seen.layers.items()}
    largest = max(sizes.values())
    assert largest > min(sizes.values())
    for spare, spilled in ((0, set()), (-1, {name for name, size in sizes.items() if size == largest})):
        with observed(net, x, memory=(largest + spare) * len(sizes)) as seen:
            assert {name for name, layer in seen.layers.items() if isinstance(layer.values, np.memmap)} == spilled


def test_nothing_stays_attached_to_the_network():
    net, x, _ = many_examples()
    with pytest.raises(ZeroDivisionError), observed(net, x, advance=lambda n: 1 / 0):
        pass
    with observed(net, x):
        pass
    assert not any(module._forward_hooks for module in net.modules())


def test_progress_counts_every_example_once():
    net, x, _ = many_examples()
    told = []
    with observed(net, x, advance=told.append):
        pass
    assert sum(told) == len(x) and len(told) > 1

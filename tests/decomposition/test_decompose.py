import itertools
from functools import cache

import numpy as np
import pytest

import unbraid
from tests import factory, reference
from tests.factory import CELLS, IO, watched
from unbraid import DecompositionConfig
from unbraid.data.targets import read_targets
from unbraid.decomposition.sampling import choose
from unbraid.errors import ConfigError, DataError, UnbraidError

PAPER = {"max_removed": 0.4, "samples_per_class": 6}
RELEASE = {"max_removed": 0.3, "samples_per_class": 5}
SETTINGS = list(itertools.product(("rolled", "unrolled"), ("hidden", "each"), (False, True)))


def configuration(mode, gates, released, **changes):
    if released:
        return DecompositionConfig.release(mode=mode, gates=gates, **RELEASE | changes)
    return DecompositionConfig.of(mode=mode, gates=gates, **PAPER | changes)


def chosen_rows(w, config):
    """Return class -> (positive rows, negative rows) per timestep; random samples are drawn by the library."""
    if config.negatives == "first":
        return reference.sample_first(w.y, w.net.classes, config.samples_per_class, config.padding_label)
    sample = choose(read_targets(w.y, w.net.labels, many=w.net.io.many_outputs), config)
    sides = (sample.positive, sample.negative)
    return {j: tuple([sample.rows[places].tolist() for places in by[j]] for by in sides) for j in sample.positive}


@cache
def seen_of(w_key, rows):
    w = watched(*w_key[0], **dict(w_key[1]))
    return factory.seen_by_library(w.net, w.x, list(rows))


def compare(config, *arguments, **settings):
    """Compare the masks of a decomposition with those of the oracle; return the number of removed nodes (or gates)."""
    w = watched(*arguments, **settings)
    chosen = chosen_rows(w, config)
    targets = read_targets(w.y, w.net.labels, many=w.net.io.many_outputs)
    rows = tuple(choose(targets, config).rows.tolist())
    used = {row for both in chosen.values() for steps in both for step in steps for row in step}
    assert sorted(rows) == sorted(used)
    seen = seen_of((arguments, tuple(sorted(settings.items()))), rows)
    wanted = reference.identify(w.plain, seen, chosen, config)
    parts = unbraid.decompose(w.net, (w.x, w.y), config=config)
    assert parts.labels == [w.net.labels[j] for j in wanted]
    removed = 0
    for j, layers in wanted.items():
        module = parts[w.net.labels[j]]
        assert list(module.concern.kept) == list(layers)
        for name, kept in layers.items():
            found = module.concern.kept[name]
            assert found.shape == kept.shape
            np.testing.assert_array_equal(found, kept, err_msg=f"class {j}, {name}")
            removed += int((~kept).sum())
    return removed


@pytest.mark.parametrize("io", IO)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_masks_equal_the_oracle(cell, count, bidirectional, io):
    """Two of the eight settings each, so that each setting occurs with each cell, depth, direction and architecture."""
    number = sum(map(ord, f"{cell}{count}{bidirectional}{io}"))
    removed = 0
    for offset in (0, 5):
        config = configuration(*SETTINGS[(number + offset) % len(SETTINGS)])
        removed += compare(config, (cell,) * count, io, bidirectional=bidirectional, seed=count)
    assert removed > 0 or "relu" in cell


MIXES = {
    "relu and tanh": {"cells": ("relu", "vanilla", "relu")},
    "vanilla and lstm": {"cells": ("vanilla", "lstm", "vanilla")},
    "lstm and gru": {"cells": ("lstm", "gru", "lstm-hard")},
    "gru and relu lstm": {"cells": ("gru-before", "lstm-relu"), "bidirectional": True},
    "hidden dense": {"cells": ("lstm",), "hidden": ((4, "tanh"),)},
    "two hidden dense": {"cells": ("vanilla", "gru"), "hidden": ((4, "relu"), (3, "sigmoid"))},
    "rectified throughout": {"cells": ("relu", "relu"), "hidden": ((5, "relu"),)},
    "sum": {"cells": ("lstm", "gru"), "bidirectional": True, "merge": "sum"},
    "mul": {"cells": ("vanilla",), "bidirectional": True, "merge": "mul", "hidden": ((3, "linear"),)},
}


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("io", IO)
@pytest.mark.parametrize("mix", MIXES)
def test_masks_of_mixed_networks_equal_the_oracle(mix, io, padded):
    settings = dict(MIXES[mix])
    cells = settings.pop("cells")
    number = sum(map(ord, f"{mix}{io}{padded}"))
    for offset in (0, 5):
        config = configuration(*SETTINGS[(number + offset) % len(SETTINGS)])
        compare(config, cells, io, mask=padded, padded=padded, **settings)


@pytest.mark.parametrize(("mode", "gates", "released"), SETTINGS)
def test_masks_of_every_setting_equal_the_oracle(mode, gates, released):
    for io in IO:
        config = configuration(mode, gates, released)
        assert compare(config, ("lstm", "relu"), io, hidden=((4, "tanh"),), count=40, seed=3) > 0


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize("mode", ["rolled", "unrolled"])
def test_a_padding_label_is_left_out_as_the_oracle_leaves_it_out(mode, released):
    for io in ("M:N", "M:1"):
        config = configuration(mode, "hidden", released, padding_label=0)
        assert compare(config, ("lstm",), io, mask=True, padded=True, classes=4, count=40) > 0


@pytest.mark.parametrize("mode", ["rolled", "unrolled"])
def test_flattened_sequences_equal_the_oracle(mode):
    for released in (False, True):
        assert compare(configuration(mode, "hidden", released), ("gru",), "M:1", flat=True, hidden=((4, "tanh"),)) > 0


def test_rectified_nodes_go_by_both_rules():
    """Without this test, the comparison above could compare empty masks."""
    for mode in ("rolled", "unrolled"):
        paper = configuration(mode, "hidden", False)
        assert sum(compare(paper, ("relu",), "M:1", count=24, units=8, seed=s) for s in range(4)) > 0
        release = configuration(mode, "hidden", True)
        assert sum(compare(release, ("relu",), "M:1", count=24, units=8, seed=s) for s in range(4)) > 0


@pytest.mark.parametrize("scope", ["network", "layer"])
@pytest.mark.parametrize("gates", ["hidden", "each"])
def test_the_cap_counts_over_what_the_scope_says(scope, gates):
    w = watched(("lstm", "lstm"), "M:1", units=10, count=60)
    parts = unbraid.decompose(w.net, (w.x, w.y), scope=scope, gates=gates, max_removed=0.2)
    for module in parts.values():
        gone = [
            (~kept).reshape(-1 if gates == "each" else 1, kept.shape[-1]).sum(1)
            for kept in module.concern.kept.values()
        ]
        per_gate = np.array(gone)  # (layers, gates)
        if scope == "network":  # 10 + 11 nodes, together
            assert (per_gate.sum(0) <= 5).all()
        else:
            assert (per_gate <= [[2], [3]]).all()


def test_nothing_goes_at_a_cap_of_zero():
    w = watched(("lstm", "relu"), "M:1")
    for mode in ("rolled", "unrolled"):
        parts = unbraid.decompose(w.net, (w.x, w.y), mode=mode, max_removed=0)
        assert all(kept.all() for module in parts.values() for kept in module.kept_nodes.values())


def test_the_seed_decides():
    w = watched(("lstm",), "M:1", units=12, count=200)
    one, again, other = (
        unbraid.decompose(w.net, (w.x, w.y), samples_per_class=8, seed=seed, max_removed=0.5) for seed in (1, 1, 2)
    )

    def masks(parts):
        return np.concatenate([kept for module in parts.values() for kept in module.kept_nodes.values()])

    assert (masks(one) == masks(again)).all()
    assert (masks(one) != masks(other)).any()


def test_named_labels_give_the_modules_of_their_indices():
    names = ["no", "yes", "maybe"]
    w = watched(("lstm",), "M:1")
    named = unbraid.Network(w.net.spec, w.net.weights(), names)
    parts = unbraid.decompose(w.net, (w.x, w.y), samples_per_class=6)
    for y in (w.y, [names[j] for j in w.y], np.eye(3)[w.y]):
        found = unbraid.decompose(named, (w.x, y), samples_per_class=6)
        assert found.labels == names and len(found) == 3 and list(found) == names
        for j, name in enumerate(names):
            for layer, kept in parts[j].kept_nodes.items():
                np.testing.assert_array_equal(found[name].kept_nodes[layer], kept)
                assert found[name].index == j and found[name].label == name


def test_decomposing_leaves_the_network_as_it_was():
    w = watched(("gru", "lstm"), "M:1")
    before, digest = w.net.logits(w.x), w.net.sha256()
    parts = unbraid.decompose(w.net, (w.x, w.y), mode="rolled", gates="each", max_removed=0.5)
    for module in parts.values():
        module.predict(w.x)
    np.testing.assert_array_equal(w.net.logits(w.x), before)
    assert w.net.sha256() == digest


def test_independent_labels_get_a_module_each():
    net = factory.network(("lstm",), classes=3, output="sigmoid")
    x, y = factory.examples(net, 40)
    for mode in ("rolled", "unrolled"):
        parts = unbraid.decompose(net, (x, y), mode=mode, max_removed=0)
        np.testing.assert_allclose(
            np.stack([module.predict_proba(x) for module in parts.values()], 1), net.predict_proba(x), atol=1e-6
        )


def test_a_binary_column_gives_two_modules():
    net = factory.network(("lstm",), classes=1, output="sigmoid", labels=["no", "yes"])
    x, y = factory.examples(net, 40)
    for settings in ({}, {"mode": "unrolled"}, {"head": "softmax"}):
        parts = unbraid.decompose(net, (x, y), max_removed=0, **settings)
        assert parts.labels == ["no", "yes"]
        p = net.predict_proba(x)[:, 0]
        np.testing.assert_allclose(parts["yes"].predict_proba(x), p, atol=1e-6)
        np.testing.assert_allclose(parts["no"].predict_proba(x), 1 - p, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mod": "rolled"}, "unknown setting 'mod'.*'mode'"),
        ({"mode": "sideways"}, "mode="),
        ({"max_removed": 1}, "max_removed"),
        ({"max_removed": -0.1}, "max_removed"),
        ({"samples_per_class": 1}, "samples_per_class"),
        ({"overrun": 1}, "overrun"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    w = watched(("lstm",), "M:1")
    with pytest.raises(ConfigError, match=message):
        unbraid.decompose(w.net, (w.x, w.y), **settings)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros(23, int), "23 labels for 24"),
        (np.zeros((24, 4), int), "one label per example"),
        (np.full(24, 3), "labels run from"),
        (["x"] * 24, "labels"),
        (np.full(24, -1), "no example has a label"),
        (np.zeros(24, int), "class 1 has 0"),
        (np.full(24, np.nan), "labels hold"),
    ],
)
def test_labels_that_do_not_fit_are_refused(y, message):
    w = watched(("lstm",), "M:1")
    with pytest.raises(DataError, match=message):
        unbraid.decompose(w.net, (w.x, y), missing="error")


def test_labels_by_timestep_must_line_up_with_the_network():
    w = watched(("lstm",), "M:N")
    with pytest.raises(UnbraidError, match="timesteps"):
        unbraid.decompose(w.net, (w.x, w.y[:, :3]))
    with pytest.raises(DataError, match="one label per timestep"):
        unbraid.decompose(w.net, (w.x, w.y[:, 0]))

"""`unbraid inspect` lists all layers of a model file, whatever its structure."""

import json
from pathlib import Path

import pytest

import unbraid
from tests.cli.shell import run

DATA = Path(__file__).parents[1] / "data" / "keras"
FILES = [
    "graphs/k2-batch_norm_first.keras", "graphs/k2-activation_layers.keras", "graphs/k3-time_nested_cnn.keras",
    "graphs/k3-conv_lstm.keras", "graphs/k2-bidirectional_apart.keras", "habits/k3-lrcn_spatial_dropout.keras",
    "k3-dense.keras", "k2-features.keras",
]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_all_layers_are_listed_in_order(name):
    network = unbraid.load(DATA / name)
    spec = network.spec
    stages = spec.graph.layers if hasattr(spec, "graph") else spec.stages
    shown = json.loads(run("inspect", DATA / name, "--json").stdout)
    assert [layer["name"] for layer in shown["layers"]] == [s.name for s in stages if s.name != spec.head]
    assert shown["head"]["name"] == spec.head and shown["prunable"] == list(network.layers)
    lines = run("inspect", DATA / name).stdout.splitlines()
    outer = [line.split(":")[0].strip() for line in lines if line.startswith("  ") and not line.startswith("    ")]
    assert outer == [layer["name"] for layer in shown["layers"]] + [spec.head]


def test_layers_without_weights_are_shown_with_their_settings():
    shown = run("inspect", DATA / "habits" / "k3-lrcn_spatial_dropout.keras").stdout
    network = unbraid.load(DATA / "habits" / "k3-lrcn_spatial_dropout.keras")
    (inner, *_) = [layer for layer in network.spec.graph.layers if layer.type == "per_timestep"]
    start = shown.index(f"  {inner.name}: at every timestep\n")
    for layer in inner.graph.layers:
        assert f"\n    {layer.name}: {layer.kind}" in shown[start:]
    first = run("inspect", DATA / "graphs" / "k2-batch_norm_first.keras").stdout
    assert "  batch_normalization: BatchNormalization (axis [2], epsilon 0.001, center True, scale True)\n" in first

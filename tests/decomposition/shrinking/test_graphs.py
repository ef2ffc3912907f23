"""shrink and to_torch of Keras models that are graphs, and of their modules."""

import numpy as np
import pytest
import torch
from torch import nn

import unbraid
from tests.locations import DATA
from unbraid.decomposition.shrinking.graphs import GraphShrinker, graph_of
from unbraid.decomposition.shrinking.narrowing import Plan
from unbraid.errors import ConfigError, UnbraidWarning, UnsupportedLayer
from unbraid.networks.graph.recurrence import KerasRecurrent
from unbraid.networks.graph_spec import LayerSpec
from unbraid.networks.stage_spec import DenseSpec, RecurrentSpec

GRAPHS = DATA / "keras" / "graphs"
MERGED = GRAPHS / "k3-bidirectional_norm"
NAMES = ["attention_masked", "backwards_sequences", "bidirectional_states", "conv1d_pool", "dot", "layer_norm",
         "masking_norm", "multi_head_masked", "nested_functional", "rnn_stacked_tagger", "seq2seq_attention",
         "shared_lstm", "two_outputs", "words_and_numbers"]  # fmt: skip
MASKED = ("attention_masked", "backwards_sequences", "layer_norm", "masking_norm", "multi_head_masked",
          "rnn_stacked_tagger", "words_and_numbers")  # fmt: skip


def opened(name, made_by="k3"):
    """A network of a Keras file, and 48 inputs that differ from each other."""
    path = GRAPHS / f"{made_by}-{name}.keras"
    network = unbraid.load(path, output="last" if "two_outputs" in name else None)
    with np.load(path.with_suffix(".npz")) as stored:
        arrays = [stored[key] for key in sorted(stored.files) if key != "y"]
    rng = np.random.default_rng(0)
    arrays = [np.tile(part, (-(-48 // len(part)), *[1] * (part.ndim - 1)))[:48] for part in arrays]
    for part in arrays:
        part[len(part) // 4 :] = rng.permuted(part, axis=0)[len(part) // 4 :]
    return network, tuple(arrays) if len(arrays) > 1 else arrays[0]


def tensors(x):
    """The inputs as the arguments of a module."""
    return [torch.as_tensor(part) for part in (x if isinstance(x, tuple) else (x,))]


@pytest.mark.parametrize("name", NAMES)
def test_the_smaller_network_is_what_was_fitted(name):
    """The oracle is the graph in which expansions are parts of the smaller layers, as they were fitted."""
    network, x = opened(name)
    shrinker = GraphShrinker(network, network.check(x), 0, 0)
    kept = shrinker._kept(0.5)
    fitted = shrinker._fitted(Plan(kept))
    with torch.no_grad():
        expected = fitted(*tensors(x)).numpy()
    small = unbraid.shrink(network, x, 0.5)
    assert type(small) is unbraid.Network and small.labels == network.labels and not small.training
    found = small.predict_proba(x)
    assert found.shape == network.predict_proba(x).shape
    valid = ~np.isnan(found)
    np.testing.assert_allclose(found[valid], expected.reshape(found.shape)[valid], atol=1e-5)
    units = {layer.name: layer.units for layer in network.spec.layers}
    assert kept and all(layer.units == round(units[layer.name] / 2) for layer in small.spec.layers)


@pytest.mark.parametrize("name", NAMES)
def test_everything_kept_is_the_same_network(name):
    network, x = opened(name)
    np.testing.assert_allclose(unbraid.shrink(network, x, 1.0).logits(x), network.logits(x), atol=1e-6)


def test_dense_and_recurrent_layers_behind_get_smaller():
    network, x = opened("nested_functional")
    small = unbraid.shrink(network, x, 0.5)
    assert len(small.spec.graph.calls) == len(network.spec.graph.calls)
    old, new = ({layer.name: layer for layer in each.spec.graph.layers} for each in (network, small))
    read = {name for name, layer in old.items() if isinstance(layer, DenseSpec | RecurrentSpec)}
    assert any(new[name].inputs < old[name].inputs for name in read)
    assert small.spec.features < network.spec.features


def test_layers_that_need_all_units_get_an_expansion():
    network, x = opened("layer_norm")
    small = unbraid.shrink(network, x, 0.5)
    layers = {layer.name: layer for layer in small.spec.graph.layers}
    norms = [name for name, one in layers.items() if isinstance(one, LayerSpec) and one.kind == "LayerNormalization"]
    norm = next(call for call in small.spec.graph.calls if call.layer in norms)
    before = layers[small.spec.graph.calls[norm.reads[0][0] - 1].layer]
    assert isinstance(before, DenseSpec) and before.name.endswith("_units") and before.inputs < before.units


def test_settings_and_saving(tmp_path):
    network, x = opened("conv1d_pool")
    small = unbraid.shrink(network, x, max_loss=0.4, refine=3)
    assert sum(w.numel() for w in small.weights().values()) < sum(w.numel() for w in network.weights().values())
    parts = unbraid.decompose(small, (x, np.arange(len(x)) % network.classes), keep=1.0)
    parts.save(tmp_path / "parts")
    again = unbraid.load_decomposition(tmp_path / "parts")
    composed = unbraid.compose(parts).predict_proba(x)
    np.testing.assert_allclose(unbraid.compose(again).predict_proba(x), composed, atol=1e-6)
    with pytest.raises(ConfigError, match="both set the size"):
        unbraid.shrink(network, x, 0.5, max_loss=0.1)


@pytest.mark.parametrize("strategy", ["paper", "magnitude"])
def test_modules_whose_directions_are_summed_are_written(tmp_path, strategy):
    network, x = summed_network()
    parts = unbraid.decompose(network, (x, np.arange(len(x)) % network.classes), strategy=strategy)
    composed = unbraid.compose(parts)
    unbraid.export_keras(composed, tmp_path / "parts.keras")
    again = unbraid.load(tmp_path / "parts.keras")
    np.testing.assert_allclose(again.predict_proba(x), composed.predict_proba(x), atol=1e-5)


def test_a_gru_that_resets_before_the_product():
    network, x = opened("conv1d_pool")
    spec, old = network.spec, network.spec.layers[0]
    cell = old.cell.model_copy(update={"kind": "gru", "reset_after": False})
    layers = [
        one.model_copy(update={"cell": cell}) if isinstance(one, RecurrentSpec) else one for one in spec.graph.layers
    ]
    changes = {
        "graph": spec.graph.model_copy(update={"layers": layers}),
        "layers": [old.model_copy(update={"cell": cell})],
    }
    gates = 3 * old.units
    weights = {
        name: value[:gates].clone() if f".{old.site}." in name else value for name, value in network.weights().items()
    }
    gru = unbraid.Network(spec.model_copy(update=changes), weights)
    small = unbraid.shrink(gru, x, 0.5)
    assert small.spec.layers[0].units == round(old.units / 2)
    assert np.isfinite(small.logits(x)).all()
    np.testing.assert_allclose(unbraid.shrink(gru, x, 1.0).logits(x), gru.logits(x), atol=1e-6)


def summed_network(merge="sum"):
    """A graph with a bidirectional layer whose directions are merged, and its inputs."""
    network, x = opened("conv1d_pool")
    spec = network.spec
    one = next(layer for layer in spec.graph.layers if isinstance(layer, RecurrentSpec))
    both = one.model_copy(update={"bidirectional": True, "merge": merge})
    graph = spec.graph.model_copy(update={"layers": [both if layer is one else layer for layer in spec.graph.layers]})
    first = spec.layers[0]
    layers = [first.model_copy(update={"name": f"{one.name}.{way}"}) for way in ("forward", "backward")]
    weights = network.weights()
    start = f"body.module.{one.name}.layers."
    weights |= {n.replace(f"{start}0", f"{start}1"): w.clone() for n, w in weights.items() if n.startswith(f"{start}0")}
    return unbraid.Network(spec.model_copy(update={"graph": graph, "layers": layers}), weights), x


@pytest.mark.parametrize("merge", ["sum", "mul", "ave"])
def test_directions_that_are_merged_unit_by_unit(merge):
    merged, x = summed_network(merge)
    told = rf"no layer can be made smaller: .*\(merge_mode='{merge}', 4 units\) keeps all.*merge_mode='concat'"
    with pytest.raises(UnsupportedLayer, match=told):
        unbraid.shrink(merged, x, 0.5)


def test_directions_that_are_summed_keep_their_units_beside_smaller_layers():
    """Of two bidirectional layers, the first one concatenates its directions and gets smaller."""
    network = unbraid.load(MERGED.with_suffix(".keras"))
    with np.load(MERGED.with_suffix(".npz")) as stored:
        x = np.tile(stored["x0"], (8, 1))
    with pytest.warns(UnbraidWarning, match=r"'bidirectional_\d+' \(merge_mode='sum', 3 units\).*Other layers are"):
        small = unbraid.shrink(network, x, 0.5)
    assert [layer.units for layer in network.spec.layers] == [4, 4, 3, 3]
    assert [layer.units for layer in small.spec.layers] == [2, 2, 3, 3]
    assert np.isfinite(small.predict_proba(x)).all()


def test_directions_that_are_two_results_get_smaller():
    network, x = opened("bidirectional_apart", "k2")  # merge_mode=None
    small = unbraid.shrink(network, x, 0.5)
    assert [layer.units for layer in small.spec.layers] == [2, 2]
    assert [layer.units for layer in network.spec.layers] == [4, 4]


@pytest.mark.parametrize("name", NAMES)
def test_a_module_of_torch_gives_the_logits(name):
    network, x = opened(name)
    made = network.to_torch()
    with torch.no_grad():
        found = made(*tensors(x)).numpy()
    wanted = network.logits(x)
    valid = ~np.isnan(wanted)
    np.testing.assert_allclose(found[valid], wanted[valid], atol=1e-5)
    own = [part for part in made.modules() if isinstance(part, KerasRecurrent)]
    plain = [part for part in made.modules() if isinstance(part, nn.RNNBase)]
    assert bool(own) == (name in MASKED) and (plain or name in MASKED)


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_a_module_of_torch_is_quantized_and_saved(tmp_path):
    network, x = opened("conv1d_pool")
    made = unbraid.shrink(network, x, 0.5).to_torch()
    torch.save(made, tmp_path / "small.pt")
    again = torch.load(tmp_path / "small.pt", weights_only=False)
    with torch.no_grad():
        assert torch.equal(again(*tensors(x)), made(*tensors(x)))
        quantized = torch.ao.quantization.quantize_dynamic(made, {nn.LSTM, nn.Linear}, torch.qint8)
        assert quantized(*tensors(x)).shape == made(*tensors(x)).shape
    assert any("quantized" in type(part).__module__ for part in quantized.modules())


@pytest.mark.parametrize("name", ["attention_masked", "bidirectional_states", "conv1d_pool", "words_and_numbers"])
@pytest.mark.parametrize("strategy", ["reconstruct", "paper"])
def test_modules_of_torch_give_the_margins(name, strategy):
    network, x = opened(name)
    parts = unbraid.decompose(network, (x, np.arange(len(tensors(x)[0])) % network.classes), strategy=strategy)
    for model in (unbraid.compose(parts), unbraid.compose(parts).fuse()):
        with torch.no_grad():
            found = model.to_torch()(*tensors(x))
            given = tuple(tensors(x)) if isinstance(x, tuple) else torch.as_tensor(x)
            np.testing.assert_allclose(found.numpy(), model(given).numpy(), atol=1e-5)


def test_unrolled_modules_have_no_copy():
    network, x = opened("conv1d_pool")
    y = np.arange(len(x)) % network.classes
    parts = unbraid.decompose(network, (x, y), strategy="paper", mode="unrolled")
    with pytest.raises(UnsupportedLayer, match=r"unrolled.*export_onnx"):
        parts[network.labels[0]].to_torch()


def test_the_graph_of_a_network_is_a_copy():
    network, x = opened("conv1d_pool")
    graph = graph_of(network)
    for parameter in graph.parameters():
        parameter.data.zero_()
    assert network.logits(x).any()

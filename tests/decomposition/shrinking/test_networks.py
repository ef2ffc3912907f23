"""shrink on networks of Keras files: a smaller network of the same class."""

import numpy as np
import pytest

from tests import factory
from unbraid import Network, Vocabulary, compose, decompose, export_onnx, shrink
from unbraid.demo.small import small_examples, small_network
from unbraid.errors import ConfigError, DataError, UnbraidWarning, UnsupportedLayer
from unbraid.networks.stage_spec import RecurrentSpec


def error(small, network, x):
    """Mean squared error of the scores, as a share of their variance; a softmax ignores a shift of all scores."""
    ours, theirs = (each.logits(x).astype(float) for each in (small, network))
    assert ours.shape == theirs.shape
    if network.spec.output == "softmax":
        ours, theirs = (logits - logits.mean(-1, keepdims=True) for logits in (ours, theirs))
    return np.square(ours - theirs).mean() / np.square(theirs - theirs.mean(0)).mean()


SHAPES = [
    {"cells": ("lstm",)},
    {"cells": ("gru-before", "relu")},
    {"cells": ("lstm-hard",), "io": "M:N", "bidirectional": True},
    {"cells": ("gru", "lstm"), "bidirectional": True, "merge": "sum", "hidden": [(10, "relu")]},
    {"cells": ("vanilla",), "io": "1:N"},
    {"cells": ("gru-hard",), "flat": True},
    {"cells": ("lstm",), "hidden": [(10, "relu")], "output": "sigmoid"},
    {"cells": ("lstm",), "classes": 1, "output": "sigmoid", "reverse": True},
    {"cells": ("gru",), "mask": True, "bidirectional": True},
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.filterwarnings("ignore:bidirectional layer:unbraid.errors.UnbraidWarning")
def test_smaller_networks(shape):
    network = factory.network(**{"units": 12, **shape})
    x, _ = factory.examples(network, 160, padded=shape.get("mask", False))
    assert np.allclose(shrink(network, x, 1.0).logits(x), network.logits(x), atol=1e-5)
    small = shrink(network, x, 0.5)
    assert type(small) is Network and small.labels == network.labels and not small.training
    for stage, wide in zip(small.spec.stages, network.spec.stages, strict=True):
        if isinstance(stage, RecurrentSpec):
            whole = wide.bidirectional and wide.merge != "concat"
            assert stage.units == (wide.units if whole else round(wide.units / 2))
    assert error(shrink(network, x, 0.9), network, x) < 0.3
    again = Network(small.spec, small.weights(), small.labels)
    assert np.array_equal(again.logits(x), small.logits(x))


@pytest.mark.parametrize("merge", ["sum", "mul", "ave"])
def test_directions_that_are_merged_unit_by_unit(merge):
    one = {"cells": ("gru",), "bidirectional": True, "merge": merge, "units": 6}
    network = factory.network(**one)
    x, _ = factory.examples(network, 60)
    told = rf"no layer can be made smaller: .*\(merge_mode='{merge}', 6 units\) keeps all.*merge_mode='concat'"
    for size in ({"keep": 0.5}, {"max_loss": 0.1}):
        with pytest.raises(UnsupportedLayer, match=told):
            shrink(network, x, **size)
    dense = factory.network(**one, hidden=[(10, "relu")])
    with pytest.raises(UnsupportedLayer, match="layers='all' for hidden dense layers"):
        shrink(dense, x, 0.5, layers="recurrent")
    with pytest.warns(UnbraidWarning, match=rf"\(merge_mode='{merge}', 6 units\).*Other layers are smaller"):
        small = shrink(dense, x, 0.5)
    assert [layer.units for layer in small.layers.values()] == [6, 6, 5]
    assert [layer.units for layer in shrink(dense, x, 1.0).layers.values()] == [6, 6, 10]


def test_settings_and_vocabulary():
    words = Vocabulary.from_word_index({f"w{n}": n for n in range(1, 50)})
    network = small_network().with_vocabulary(words)
    texts = [" ".join(f"w{n}" for n in row) for row in np.random.default_rng(0).integers(1, 50, (300, 6))]
    small = shrink(network, texts, max_loss=0.2, refine=5)
    assert small.vocabulary is words
    assert small.spec.features <= network.spec.features
    assert (small.predict(texts) == network.predict(texts)).mean() > 0.6


def test_refused_networks():
    with pytest.raises(ConfigError, match="encoder-decoders cannot be shrunk"):
        shrink(factory.translator(), None)
    with pytest.raises(DataError, match="the network predicts no class for two of the inputs"):
        shrink(small_network(), small_examples(small_network())[0][:1])
    binary = factory.network(classes=1, output="sigmoid")
    x, _ = factory.examples(binary, 40)
    x = x[binary.predict_index(x) == 1][:1]
    with pytest.raises(DataError, match=rf"predicts '{binary.labels[1]}' for fewer than two of the inputs"):
        shrink(binary, x)


def test_the_smaller_network_is_decomposed_and_exported(tmp_path):
    pytest.importorskip("onnx")
    network = small_network()
    x, y = small_examples(network, 300)
    small = shrink(network, x, 0.5)
    parts = decompose(small, (x, y), keep=1.0)
    assert (compose(parts).predict(x) == small.predict(x)).all()
    export_onnx(small, tmp_path / "small.onnx")
    export_onnx(network, tmp_path / "whole.onnx")
    assert (tmp_path / "small.onnx").stat().st_size < (tmp_path / "whole.onnx").stat().st_size

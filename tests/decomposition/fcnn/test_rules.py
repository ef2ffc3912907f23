"""The release of the fully connected predecessor: literal loops give the same weights as the closed form."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import unbraid
from benchmarks.measure import dense
from tests import factory
from unbraid import DecompositionConfig
from unbraid.data.targets import Targets
from unbraid.decomposition.fcnn.rules import Weights, channeled, merge_units, module_layers
from unbraid.decomposition.fcnn.strategy import FcnnRelease
from unbraid.errors import ConfigError
from unbraid.progress import silent


def literal(layers, positive, negative):
    """CI and TI-SNE example by example, in the layout of Keras: kernels (D, H)."""
    kernels = [layer.weight.numpy().T for layer in layers]
    biases = [layer.bias.numpy() for layer in layers]
    own_kernels, own_biases = [np.zeros_like(k) for k in kernels], [np.zeros_like(b) for b in biases]
    last = len(kernels) - 1
    first = True

    def values(x):
        found = []
        for kernel, bias in zip(kernels, biases, strict=True):
            x = x @ kernel + bias  # no ReLU
            found.append(x)
        return found

    for x in positive:
        seen = values(x)
        for number in range(last):
            for unit, value in enumerate(seen[number]):
                if value <= 0:
                    own_kernels[number][:, unit] = 0
                    own_biases[number][unit] = 0
                    if number + 1 < last:
                        own_kernels[number + 1][unit, :] = 0
                    continue
                for row in range(len(kernels[number])):
                    weight, own = kernels[number][row, unit], own_kernels[number][row, unit]
                    if first:
                        own = weight
                    elif weight < 0:
                        own = max(max(own, weight), 0)
                    else:
                        own = min(own, weight)
                    own_kernels[number][row, unit] = own
                own_biases[number][unit] = biases[number][unit]
        own_kernels[last], own_biases[last] = kernels[last].copy(), biases[last].copy()
        first = False
    for x in negative:
        seen = values(x)
        for number in range(last):
            for unit, value in enumerate(seen[number]):
                if value > 0:
                    own_kernels[number][:, unit] = kernels[number][:, unit]
                    own_biases[number][unit] = biases[number][unit]
        scores = np.exp(seen[last] - seen[last].max())
        for column, share in enumerate(scores / scores.sum()):
            if share > 0.5:
                own_kernels[last][:, column] = kernels[last][:, column]
                own_biases[last][column] = biases[last][column]
    return own_kernels, own_biases


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=2, max_size=5),
    counts=st.tuples(st.integers(0, 5), st.integers(0, 4)),
    seed=st.integers(0, 9999),
)
def test_the_closed_form_equals_the_loops(sizes, counts, seed):
    generator = torch.Generator().manual_seed(seed)
    widths = [4, *sizes, 3]
    layers = [
        Weights(torch.randn(b, a, generator=generator), torch.randn(b, generator=generator))
        for a, b in itertools.pairwise(widths)
    ]
    positive, negative = (torch.randn(count, 4, generator=generator) for count in counts)
    found = module_layers(layers, positive, negative)
    kernels, biases = literal(layers, positive.numpy(), negative.numpy())
    for layer, kernel, bias in zip(found, kernels, biases, strict=True):
        np.testing.assert_array_equal(layer.weight.numpy().T, kernel)
        np.testing.assert_array_equal(layer.bias.numpy(), bias)


def test_merging_units_keeps_the_weights_to_the_class():
    generator = torch.Generator().manual_seed(0)
    hidden = Weights(torch.randn(5, 3, generator=generator), torch.randn(5, generator=generator))
    output = Weights(torch.randn(4, 5, generator=generator), torch.randn(4, generator=generator))
    for index in (0, 2):
        weight = output.weight.clone()
        weight[index, 1:4] = torch.tensor([0.01, -0.04, 0.0])
        merged, narrow = merge_units(hidden, Weights(weight, output.bias), index)
        torch.testing.assert_close(merged.weight[1], hidden.weight[1:4].mean(0))
        assert not merged.weight[2:4].any() and torch.equal(merged.weight[[0, 4]], hidden.weight[[0, 4]])
        assert torch.equal(narrow.weight[index], weight[index]) and torch.equal(merged.bias, hidden.bias)
        assert torch.equal(narrow.weight[:, [0, 4]], weight[:, [0, 4]])


@pytest.mark.parametrize(("index", "divisor"), [(0, 3), (2, 4)])
def test_columns_of_a_module(index, divisor):
    output = Weights(torch.arange(8.0).reshape(4, 2), torch.tensor([1.0, 2.0, 4.0, 8.0]))
    found, rest = channeled(output, index), [c for c in range(4) if c != index]
    torch.testing.assert_close(found.weight, torch.stack([output.weight[index], output.weight[rest].mean(0)]))
    torch.testing.assert_close(found.bias, torch.stack([output.bias[index], output.bias[rest].sum() / divisor]))


def test_modules_of_the_strategy_compute_what_their_weights_say(tmp_path):
    net = factory.dense_network(((9, "relu"), (7, "relu")), (2, 3), classes=4)
    x, y = factory.vectors(net, 200)
    config = DecompositionConfig.release(paper="fcnn", confidence=0.3, others=3)
    parts = unbraid.decompose(net, (x, y), config=config)
    prepared = FcnnRelease().prepare(net, net.check(x), Targets(y, net.labels, False, False), config, silent)
    for index, module in parts.items():
        hidden, output = prepared.weights(index)
        values = torch.from_numpy(x).flatten(1)
        for layer in hidden:
            values = torch.relu(values @ layer.weight.t() + layer.bias)
        rows = values @ output.weight.t() + output.bias
        scores = torch.cat([rows, torch.zeros(len(rows), 2)], 1)
        np.testing.assert_allclose(module.predict_proba(x), torch.softmax(scores, 1)[:, 0], atol=1e-5)
    parts.save(tmp_path / "parts")
    loaded = unbraid.load_decomposition(tmp_path / "parts")
    assert loaded.config == parts.config
    np.testing.assert_array_equal(loaded[1].margins(x), parts[1].margins(x))
    assert set(dense.vote(parts, x)) <= set(range(4))


def test_networks_that_the_release_cannot_decompose_are_refused():
    for net in (factory.network(), factory.dense_network(((4, "tanh"),), (3,))):
        x, y = factory.vectors(net) if net.spec.shape else factory.examples(net)
        with pytest.raises(ConfigError, match="dense layers with ReLU"):
            unbraid.decompose(net, (x, y), strategy="fcnn")
    with pytest.raises(ConfigError, match="has no size"):
        DecompositionConfig.of(strategy="fcnn", keep=0.5)
    with pytest.raises(ConfigError, match="expected one of 'rnn', 'fcnn'"):
        DecompositionConfig.release(paper="cnn")


@pytest.mark.parametrize(
    ("way", "name", "classes"),
    [("cm-c", "FMNIST-1", (0, 3, 9)), ("cm-rie", "FMNIST-1", (0, 6)), ("cm-rie", "FMNIST-4", (0, 1, 5))],
)
def test_modules_of_the_release_are_rebuilt_exactly(way, name, classes, shared):
    net, (given, held) = dense.network(name), dense.images("FMNIST")
    config = DecompositionConfig.release(paper="fcnn", merge=way == "cm-rie")
    targets = Targets(given[1], net.labels, False, False)
    prepared = FcnnRelease().prepare(net, net.check(given[0]), targets, config, silent)
    for index in classes:
        theirs = unbraid.load(shared / "reference" / "fcnn" / "modules" / way / name / f"module{index}.h5")
        hidden, output = prepared.weights(index)
        for layer, other in zip(hidden, theirs.layers.values(), strict=True):
            torch.testing.assert_close(layer.weight, other.module.weight, atol=1e-6, rtol=0)
            torch.testing.assert_close(layer.bias, other.module.bias, atol=1e-6, rtol=0)
        other = 1 if index == 0 else 0
        torch.testing.assert_close(output.weight, theirs.head.weight[[index, other]], atol=1e-6, rtol=0)
        torch.testing.assert_close(output.bias, theirs.head.bias[[index, other]], atol=1e-6, rtol=0)
        module = prepared.module(index, None)
        chances = theirs.predict_proba(held[0][:200])[:, index]
        np.testing.assert_allclose(module.predict_proba(held[0][:200]), chances, atol=1e-5)

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import unbraid
from tests import factory, reference
from tests.factory import CELLS
from unbraid import ConcernModule, DecompositionConfig, compose, decompose
from unbraid.data.targets import read_targets
from unbraid.decomposition.removal.observation import observe
from unbraid.decomposition.removal.strategy import _leave_out_padding
from unbraid.decomposition.sampling import choose
from unbraid.errors import ConfigError, DataError, FormatError, IncompatibleModules

stacks = st.lists(st.sampled_from(list(CELLS)), min_size=1, max_size=2).map(tuple)
CAP = 0.4


def setting(strategy="paper", **changes):
    return DecompositionConfig.of(**{"strategy": strategy, "max_removed": CAP, "samples_per_class": 5, **changes})


def seen_by_library(net, x, gates):
    """Convert an observation to the form of the oracle (in float32, single roundings decide what is an outlier)."""
    found = {row: {} for row in range(len(x["source"]))}
    inputs = net.check(x)
    with observe(net, inputs) as hidden, observe(net, inputs, gates=True) as gated:
        _leave_out_padding(hidden, net, inputs)
        for layer in reference.plain_translator(net).layers:
            h, g = hidden.layers[layer.name], gated.layers[layer.name]
            for row in found:
                found[row][layer.name] = [
                    (
                        h.values[:, t, row].astype(np.float64),
                        {
                            name: g.values[k * layer.units : (k + 1) * layer.units, t, row].astype(np.float64)
                            for k, name in enumerate(layer.gates)
                        },
                        bool(h.valid[t, row]),
                    )
                    for t in range(h.values.shape[1])
                ]
    return found


@settings(max_examples=20)
@given(cells=stacks, encoder=st.booleans(), mask=st.booleans(), seed=st.integers(0, 999))
def test_what_is_observed_equals_the_oracle_and_padding_never_counts(cells, encoder, mask, seed):
    net = factory.translator(cells, encoder_too=encoder, mask=mask, seed=seed)
    x, _ = factory.sentence_pairs(net, 5, seed)
    plain, found = reference.plain_translator(net), seen_by_library(net, x, False)
    for row in range(5):
        _, wanted = reference.teach(plain, x["source"][row], x["target"][row])
        for layer in plain.layers:
            for (value, gates, counts), (own, own_gates, own_counts) in zip(
                found[row][layer.name], wanted[layer.name], strict=True
            ):
                assert counts == own_counts
                if counts:
                    np.testing.assert_allclose(value, own, rtol=1e-4, atol=1e-5)
                    for gate, wanted_gate in own_gates.items():
                        np.testing.assert_allclose(gates[gate], wanted_gate, rtol=1e-4, atol=1e-5)


@settings(max_examples=25)
@given(
    cells=stacks,
    mode=st.sampled_from(["rolled", "unrolled"]),
    gates=st.sampled_from(["hidden", "each"]),
    release=st.booleans(),
    encoder=st.booleans(),
    seed=st.integers(0, 999),
)
def test_modules_are_the_oracles(cells, mode, gates, release, encoder, seed):
    assume(not (encoder and release))  # refused: the release takes decoders alone apart
    net = factory.translator(cells, encoder_too=encoder, seed=seed)
    x, y = factory.sentence_pairs(net, 18, seed)
    config = (DecompositionConfig.release if release else DecompositionConfig.of)(
        strategy="paper", mode=mode, gates=gates, encoder=encoder, max_removed=CAP, samples_per_class=5, seed=seed
    )
    parts = decompose(net, (x, y), config=config)
    sample = choose(read_targets(y, net.labels, many=False), config)
    rows = {j: tuple([sample.rows[side[j][0]]] for side in (sample.positive, sample.negative)) for j in range(3)}
    wanted = reference.identify(
        reference.plain_translator(net),
        seen_by_library(net, x, gates == "each"),
        rows,
        config.changed(observed="all"),
    )
    assert list(parts) == list(factory.LANGUAGES)
    for index, module in enumerate(parts.values()):
        assert module.config.encoder is encoder
        for name, kept in wanted[index].items():
            np.testing.assert_array_equal(module.concern.kept[name].reshape(kept.shape), kept)


def test_a_module_with_nothing_removed_says_what_the_network_says():
    net = factory.translator(("lstm", "gru"))
    x, y = factory.sentence_pairs(net)
    for mode in ("rolled", "unrolled"):
        for module in decompose(net, (x, y), strategy="paper", mode=mode, max_removed=0).values():
            tensors = {k: torch.from_numpy(v) for k, v in x.items()}
            torch.testing.assert_close(module.head(module.body(tensors)), net(tensors))


@pytest.mark.parametrize("cell", list(CELLS))
def test_reconstructed_modules_keep_the_wanted_nodes_and_lose_nothing_at_full_size(cell):
    net = factory.translator((cell, cell), units=6)
    x, y = factory.sentence_pairs(net, 60)
    tensors = {k: torch.from_numpy(v) for k, v in x.items()}
    said = tensors["target"] != 0
    for module in decompose(net, (x, y), strategy="reconstruct", keep=1.0).values():
        found, wanted = (m(tensors).numpy()[said.numpy()] for m in (lambda v, m=module: m.head(m.body(v)), net))
        np.testing.assert_allclose(found, wanted, rtol=1e-2, atol=1e-2)
    for module in decompose(net, (x, y), strategy="reconstruct", keep=0.5).values():
        assert [int(mask.sum()) for mask in module.kept_nodes.values()] == [3, 4]
        assert module.head.weight.shape == (20, 4)
        assert 0 < module.retention().weights < 1


def test_reconstruction_is_better_than_cutting_alone():
    """On sentences of its language, a reconstructed module of half the nodes is closer to the network."""
    net = factory.translator(("lstm",), units=12)
    x, y = factory.sentence_pairs(net, 120)
    tensors = {k: torch.from_numpy(v[y == "fr"]) for k, v in x.items()}
    said = tensors["target"] != 0
    wanted = net(tensors)[said]
    module = decompose(net, (x, y), strategy="reconstruct", keep=0.5)["fr"]
    body, left = module.parent.body, torch.from_numpy(np.flatnonzero(module.kept_nodes["decoder0"]))
    from unbraid.networks.layers import sliced

    cut = sliced(body, {"decoder0": left})[0]
    plain = torch.nn.functional.linear(cut(tensors), net.head.weight[:, left], net.head.bias)[said]
    ours = module.head(module.body(tensors))[said]
    assert (ours - wanted).square().mean() < 0.5 * (plain - wanted).square().mean()


@pytest.mark.parametrize("strategy", ["paper", "reconstruct"])
def test_own_words_are_those_of_the_examples(strategy):
    net = factory.translator(("gru",), units=6)
    x, y = factory.sentence_pairs(net, 12)
    every = decompose(net, (x, y), strategy=strategy, words="all")
    own = decompose(net, (x, y), strategy=strategy, words="own")
    for tag, module in zip(net.spec.languages, own.values(), strict=True):
        held = set(x["target"][y == tag.name].ravel().tolist()) | {0, tag.start, tag.end}
        assert module.head.words.tolist() == sorted(held)
        torch.testing.assert_close(module.head.weight, every[tag.name].head.weight[module.head.words])
        assert every[tag.name].head.words.tolist() == list(range(20))
        assert module.retention().weights < every[tag.name].retention().weights


def test_what_makes_no_sense_is_refused():
    net = factory.translator()
    x, y = factory.sentence_pairs(net)
    with pytest.raises(ConfigError, match="keep="):
        decompose(net, (x, y), strategy="reconstruct", max_loss=0.1)
    with pytest.raises(ConfigError, match="refine=3 belongs to"):
        decompose(net, (x, y), strategy="paper", refine=3)
    with pytest.raises(ConfigError, match="encoder=True belongs to"):
        decompose(net, (x, y), strategy="reconstruct", encoder=True)
    with pytest.raises(DataError, match="'es'"):
        decompose(net, (x, np.where(y == "fr", "es", y)), strategy="paper")
    with pytest.raises(DataError, match="with_languages"):
        decompose(factory.translator(languages=()), (x, y), strategy="paper")
    with pytest.raises(IncompatibleModules, match="Translator"):
        compose(decompose(net, (x, y), strategy="paper"))


def gap(net, module, x):
    """Compute the mean Kullback-Leibler divergence of the next-word probabilities of network and module."""
    tensors = {k: torch.from_numpy(v) for k, v in x.items()}
    said = tensors["target"] != 0
    wanted, found = (
        torch.log_softmax(scores[said], -1) for scores in (net(tensors), module.head(module.body(tensors)))
    )
    return float((wanted.exp() * (wanted - found)).sum(-1).mean())


@pytest.mark.parametrize("cell", ["vanilla", "relu", "lstm", "gru", "gru-before"])
def test_refined_modules_lie_nearer_to_their_network_on_other_pairs_too(cell):
    net = factory.translator((cell, cell), units=12)
    x, y = factory.sentence_pairs(net, 240)
    plain, refined = (decompose(net, (x, y), keep=0.3, refine=steps) for steps in (0, 40))
    unseen, languages = factory.sentence_pairs(net, 240, seed=1)
    for label in factory.LANGUAGES:
        own = {k: v[languages == label] for k, v in unseen.items()}
        assert gap(net, refined[label], own) < gap(net, plain[label], own)
        assert (refined[label].kept_nodes["decoder0"] == plain[label].kept_nodes["decoder0"]).all()


def test_refining_follows_from_its_seed_and_padding_never_counts():
    net = factory.translator(("gru",), units=8)
    x, y = factory.sentence_pairs(net, 240)
    before = {k: v.clone() for k, v in net.weights().items()}
    longer = x | {"target": np.pad(x["target"], ((0, 0), (0, 3)))}
    tensors = {k: torch.from_numpy(v) for k, v in x.items()}
    said = []
    for pairs, seed in [(x, 3), (x, 3), (x, 4), (longer, 3)]:
        module = decompose(net, (pairs, y), keep=0.5, refine=5, seed=seed)["fr"]
        said.append(module.head(module.body(tensors)))
    assert torch.equal(said[0], said[1]) and not torch.allclose(said[0], said[2], atol=1e-4)
    torch.testing.assert_close(said[0], said[3])
    assert all(torch.equal(v, before[k]) for k, v in net.weights().items())


def test_a_translator_too_is_reconstructed_by_default():
    net = factory.translator(("gru",))
    module = decompose(net, factory.sentence_pairs(net))["fr"]
    assert module.config.strategy == "reconstruct" and module.weights is not None


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_refined_modules_come_back_from_disk_bridges_and_all(cell, tmp_path):
    net = factory.translator((cell, cell), units=8)
    x, y = factory.sentence_pairs(net, 120)
    parts = decompose(net, (x, y), keep=0.5, refine=8)
    parts.save(tmp_path / "parts")
    parts["fr"].save(tmp_path / "alone")
    tensors = {k: torch.from_numpy(v) for k, v in x.items()}
    loaded = unbraid.load_decomposition(tmp_path / "parts")["fr"]
    alone = unbraid.load_module(tmp_path / "alone")
    alone.save(tmp_path / "again")
    for module in (loaded, alone, unbraid.load_module(tmp_path / "again")):
        assert torch.equal(module.body(tensors), parts["fr"].body(tensors))
        assert {n: w.shape for n, w in module.bridges.items()} == {
            f"decoder{n}": (2 if cell == "lstm" else 1, 4, 8 + n) for n in range(2)
        }
    weights = parts["fr"].retention().weights
    assert weights > decompose(net, (x, y), keep=0.5)["fr"].retention().weights
    assert loaded.retention().weights == weights


def test_bridges_that_do_not_fit_are_refused():
    net = factory.translator(("gru",), units=8)
    module = decompose(net, factory.sentence_pairs(net, 120), keep=0.5, refine=2)["fr"]
    rest = (module.parent, module.index, module.concern, module.whole_head, module.config)
    for wrong in ({}, {"decoder0": torch.zeros(1, 8, 8)}, {"decoder0": torch.full((1, 4, 8), torch.nan)}):
        with pytest.raises(FormatError, match=r"bridge to layer 'decoder0'.*\(1, 4, 8\)"):
            ConcernModule(*rest, weights=module.weights, bridges=wrong)

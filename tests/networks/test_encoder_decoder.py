import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests import factory, reference
from tests.factory import CELLS
from unbraid import Network
from unbraid.config import IOArchitecture
from unbraid.errors import DataError, FormatError, UnsupportedLayer
from unbraid.modules.concern import removals
from unbraid.networks.layers import pruned, sliced
from unbraid.networks.spec import EncoderDecoderSpec, LanguageTag

stacks = st.lists(st.sampled_from(list(CELLS)), min_size=1, max_size=3).map(tuple)


def concern_of(net, x, mode="rolled", seed=0, **settings):
    return factory.random_concern(net, x, mode, seed=seed, **settings)


def first(x, rows):
    return {key: values[:rows] for key, values in x.items()}


@settings(max_examples=25)
@given(cells=stacks, mask=st.booleans(), reverse=st.booleans(), seed=st.integers(0, 999))
def test_teacher_forced_scores_equal_the_oracle(cells, mask, reverse, seed):
    net = factory.translator(cells, mask=mask, reverse=reverse, seed=seed)
    x, _ = factory.sentence_pairs(net, 5, seed)
    plain, scores = reference.plain_translator(net), net.logits(x)
    assert net.io is IOArchitecture.ENCODER_DECODER
    for row in range(5):
        wanted, _ = reference.teach(plain, x["source"][row], x["target"][row])
        np.testing.assert_allclose(scores[row, : len(wanted)], wanted, rtol=1e-4, atol=1e-5)
        assert not net.features({k: torch.from_numpy(v) for k, v in x.items()})[row, len(wanted) :].any()


@settings(max_examples=25)
@given(cells=stacks, seed=st.integers(0, 999))
def test_steps_with_a_carried_state_equal_teacher_forcing(cells, seed):
    net = factory.translator(cells, seed=seed)
    x = {k: torch.from_numpy(v) for k, v in factory.sentence_pairs(net, 6, seed)[0].items()}
    forced, states = net.features(x), net.body.encode(x["source"])
    for t in range(x["target"].shape[1]):
        features, states = net.body.step(x["target"][:, t], states, t)
        here = x["target"][:, t] != 0
        torch.testing.assert_close(features[here], forced[here, t], rtol=1e-4, atol=1e-6)


@settings(max_examples=40)
@given(
    cells=stacks,
    mode=st.sampled_from(["rolled", "unrolled"]),
    by_gates=st.booleans(),
    edges=st.sampled_from(["all", "release"]),
    encoder=st.booleans(),
    seed=st.integers(0, 999),
)
def test_modules_equal_the_oracle_forced_and_step_by_step(cells, mode, by_gates, edges, encoder, seed):
    assume(not (encoder and edges == "release"))  # refused: the release takes decoders alone apart
    net = factory.translator(cells, encoder_too=encoder, seed=seed)
    x, _ = factory.sentence_pairs(net, 4, seed)
    concern = concern_of(net, x, mode, seed, by_gates=by_gates, edges=edges)
    body = pruned(net.body, removals([concern], net.layers, net.device), 1)
    tensors = {k: torch.from_numpy(v) for k, v in x.items()}
    scores = net.head(body(tensors)).numpy()
    plain, removed = reference.plain_translator(net), factory.as_removed(concern)
    states = body.encode(tensors["source"])
    for t in range(tensors["target"].shape[1]):
        features, states = body.step(tensors["target"][:, t], states, t)
        here = tensors["target"][:, t] != 0
        stepped = net.head(features)[here].numpy()
        np.testing.assert_allclose(stepped, scores[here.numpy(), t], rtol=1e-4, atol=1e-5)
    for row in range(4):
        if edges == "release" and 0 in x["target"][row]:
            continue
        wanted, _ = reference.teach(plain, x["source"][row], x["target"][row], removed)
        np.testing.assert_allclose(scores[row, : len(wanted)], wanted, rtol=1e-4, atol=1e-5)


@settings(max_examples=25)
@given(cells=stacks, encoder=st.booleans(), seed=st.integers(0, 999))
def test_slices_say_what_masks_say(cells, encoder, seed):
    net = factory.translator(cells, encoder_too=encoder, seed=seed)
    x, _ = factory.sentence_pairs(net, 4, seed)
    concern = concern_of(net, x, seed=seed)
    tensors = {k: torch.from_numpy(v) for k, v in x.items()}
    masked = pruned(net.body, removals([concern], net.layers, net.device), 1)(tensors)
    kept = {name: torch.from_numpy(np.flatnonzero(mask)) for name, mask in concern.kept.items()}
    small, left = sliced(net.body, kept)
    torch.testing.assert_close(small(tensors), masked[..., left], rtol=1e-4, atol=1e-6)
    assert [layer.units for layer in small.decoder] == [len(kept[spec.name]) for spec in net.spec.decoder]


@pytest.mark.parametrize("encoder", [False, True])
def test_modules_side_by_side_are_each_alone(encoder):
    net = factory.translator(("lstm", "gru"), encoder_too=encoder)
    x, _ = factory.sentence_pairs(net, 5)
    concerns = [concern_of(net, x, "unrolled", seed) for seed in range(3)]
    tensors = {k: torch.from_numpy(v) for k, v in x.items()}
    together = pruned(net.body, removals(concerns, net.layers, net.device), 3)(tensors).unflatten(0, (3, 5))
    for k, concern in enumerate(concerns):
        alone = pruned(net.body, removals([concern], net.layers, net.device), 1)(tensors)
        torch.testing.assert_close(together[k], alone)


def test_layers_are_the_decoders_unless_the_encoder_is_asked_for():
    assert list(factory.translator(("lstm", "gru")).layers) == ["decoder0", "decoder1"]
    both = factory.translator(("lstm",), encoder_too=True)
    assert list(both.layers) == ["encoder0", "decoder0"]
    assert both.sha256() != factory.translator(("lstm",)).sha256()


def changed(**changes):
    spec = factory.translator(("lstm",)).spec
    return EncoderDecoderSpec.model_validate({**spec.model_dump(), **changes})


@pytest.mark.parametrize(
    ("changes", "error", "part"),
    [
        ({"features": 9}, FormatError, "output layer reads 9"),
        ({"classes": 21}, FormatError, "has 20 words, the output layer 21"),
        ({"languages": [LanguageTag(name="fr", start=2, end=20)]}, FormatError, "the last token 20"),
        ({"languages": [LanguageTag(name="fr", start=2, end=2)]}, FormatError, "two different"),
        ({"encoder": [{"name": "e", "cell": {"kind": "gru"}, "inputs": 3, "units": 4, "sequences": True}]}, FormatError,
         "differ"),
        ({"decoder": [{"name": "d", "cell": {"kind": "lstm"}, "inputs": 3, "units": 4, "sequences": True,
                       "bidirectional": True}]}, UnsupportedLayer, "bidirectional"),
        ({"decoder": [{"name": "d", "cell": {"kind": "lstm"}, "inputs": 5, "units": 4, "sequences": True}]},
         FormatError, "reads 5 features"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(changes, error, part):
    with pytest.raises(error, match=part):
        Network.skeleton(changed(**changes))


@pytest.mark.parametrize(
    ("x", "part"),
    [
        ({"source": [[1]]}, "expected sentence pairs"),
        ({"source": [[1]], "target": [[2], [2]]}, "one for each"),
        ({"source": [[1, 2]], "target": [[2, 0, 7]]}, "on the right only"),
        ({"source": [[1, 2]], "target": [[0, 2, 7]]}, "on the right only"),
        ({"source": [[12]], "target": [[2]]}, "embedding 'source' has"),
        ({"source": [[1]], "target": [[20]]}, "embedding 'target' has"),
        ("text", "expected sentence pairs"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(x, part):
    with pytest.raises(DataError, match=part):
        factory.translator().check(x)
    with pytest.raises(DataError, match="sentences"):
        factory.translator().predict({"source": [[1]], "target": [[2]]})

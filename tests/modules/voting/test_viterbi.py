"""Viterbi decoding, against all paths one by one and against the CRF of the parent."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import unbraid
from benchmarks.census.torch_patterns.calls import CRFTagger
from unbraid import Network, compose, decompose
from unbraid.demo.small import small_modules
from unbraid.errors import ConfigError, DataError, IncompatibleModules, UnbraidError
from unbraid.modules.voting.viterbi import best_paths
from unbraid.networks.pytorch.transitions import Transitions

pytestmark = pytest.mark.filterwarnings("ignore::unbraid.UnbraidWarning")


class CRF(nn.Module):
    """Scores named as in pytorch-crf."""

    def __init__(self, classes):
        super().__init__()
        self.transitions = nn.Parameter(3 * torch.randn(classes, classes))
        self.start_transitions, self.end_transitions = (nn.Parameter(3 * torch.randn(classes)) for _ in range(2))

    def decode(self, emissions):
        """All paths, one by one."""
        return [self.best(scores) for scores in emissions.detach()]

    def best(self, scores):
        steps, classes = scores.shape
        start, end, between = (p.detach() for p in (self.start_transitions, self.end_transitions, self.transitions))

        def total(path):
            pairs = itertools.pairwise(path)
            found = start[path[0]] + end[path[-1]] + sum(between[a, b] for a, b in pairs)
            return float(found + sum(scores[t, k] for t, k in enumerate(path)))

        return list(max(itertools.product(range(classes), repeat=steps), key=total))


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.emission, self.crf = nn.GRU(4, 6, batch_first=True), nn.Linear(6, 3), CRF(3)

    def forward(self, x):
        return self.crf.decode(self.emission(self.gru(x)[0]))


def tagger(kind=Tagger, **settings):
    """A tagger with a CRF, unchanged modules of it, its inputs and labels."""
    torch.manual_seed(4)
    module = kind().eval()
    with torch.no_grad():
        module.emission.weight.mul_(4)
    x = 2 * torch.randn(40, 4, 4) if kind is Tagger else torch.randint(0, 20, (40, 4))
    network = Network.from_torch(module, x[:6], head="emission", labels=["a", "b", "c"])
    y = np.array(network.labels)[np.random.default_rng(0).integers(0, 3, (40, 4))]
    parts = decompose(network, (x, y), keep=1.0, head="softmax", **settings)
    return module, network, parts, x, y


@pytest.mark.parametrize("seed", range(5))
def test_paths_are_the_best_of_all(seed):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(6, 4, 3))
    given = Transitions(2 * rng.normal(size=(3, 3)), rng.normal(size=3), rng.normal(size=3))
    valid = rng.random((6, 4)) < 0.7
    valid[0], valid[1] = True, False
    found = best_paths(scores, given, valid)
    for n in range(6):
        at = np.flatnonzero(valid[n])
        assert (found[n, ~valid[n]] == -1).all()
        if not len(at):
            continue

        def total(path, n=n, at=at):
            between = sum(given.matrix[a, b] for a, b in itertools.pairwise(path))
            return given.start[path[0]] + given.end[path[-1]] + between + sum(scores[n, at, list(path)])

        assert tuple(found[n, at]) == max(itertools.product(range(3), repeat=len(at)), key=total)


def test_unchanged_modules_decode_as_the_crf_of_their_parent(tmp_path):
    module, network, parts, x, _ = tagger()
    wanted = np.array(["a", "b", "c"])[np.array(module(x))]
    composition = compose(parts)
    np.testing.assert_array_equal(composition.viterbi(x), wanted)
    assert (composition.predict(x) != wanted).any()
    np.testing.assert_array_equal(composition.predict(x), network.predict(x))
    composition.save(tmp_path / "tagger")
    again = unbraid.load_composition(tmp_path / "tagger", module=Tagger())
    np.testing.assert_array_equal(again.viterbi(x), wanted)


def test_scores_of_another_implementation_are_passed():
    module, _, parts, x, _ = tagger(CRFTagger)
    with torch.no_grad():
        module.transitions.mul_(30)
        wanted = np.array(["a", "b", "c"])[module(x).numpy()]
    composition = compose(parts)
    np.testing.assert_array_equal(composition.viterbi(x, module.transitions), wanted)
    with pytest.raises(DataError, match=r"named as in pytorch-crf.*pass transitions=, \(3, 3\)"):
        composition.viterbi(x)


def test_paths_that_equal_the_argmax_of_the_example_are_no_decisions_to_compare():
    torch.manual_seed(4)
    module = CRFTagger().eval()  # its weak transitions change few paths
    x = torch.randint(0, 20, (200, 4))
    with torch.no_grad():
        same = (module(x) == module.emission(module.lstm(module.embed(x))[0]).argmax(-1)).all(1)
        emissions = module.emission(module.lstm(module.embed(x))[0]).argmax(-1)
    assert 6 <= int(same.sum()) < 200
    network = Network.from_torch(module, x[same][:6], head="emission")
    np.testing.assert_array_equal(network.predict_index(x), emissions.numpy())
    again = Network(network.spec, network.weights(), network.labels, CRFTagger())
    again.predict_index(x[same][:6])
    np.testing.assert_array_equal(again.predict_index(x), emissions.numpy())


def test_a_part_of_the_labels_in_another_order():
    module, _, parts, x, _ = tagger()
    pair = compose([parts["c"], parts["a"]])
    emissions = np.log(1 / (1 + np.exp(-pair.margins(x).astype(np.float64))))
    crf = module.crf
    order = [2, 0]
    given = Transitions(
        crf.transitions.detach().numpy()[np.ix_(order, order)],
        crf.start_transitions.detach().numpy()[order],
        crf.end_transitions.detach().numpy()[order],
    )
    wanted = np.array(["c", "a"])[best_paths(emissions, given, np.ones((40, 4), bool))]
    np.testing.assert_array_equal(pair.viterbi(x), wanted)


def test_padding_is_left_out():
    _, _, parts, x, _ = tagger()
    composition = compose(parts)
    valid = np.arange(4) < np.arange(1, 41)[:, None] % 4 + 1
    found = composition.viterbi(x, valid=valid)
    assert (found[~valid] == "").all() and (found[valid] != "").all()
    np.testing.assert_array_equal(found[1, :3], composition.viterbi(x[1:2, :3])[0])


def test_what_cannot_be_decoded_is_refused():
    _, _, parts, x, _ = tagger()
    composition = compose(parts)
    for wrong in (np.zeros((2, 2)), np.full((3, 3), np.nan), "abc", [["a"] * 3] * 3, np.full((3, 3), np.inf)):
        with pytest.raises(DataError, match="expected numbers"):
            composition.viterbi(x, wrong)
    with pytest.raises(DataError, match="start has shape"):
        composition.viterbi(x, np.zeros((3, 3)), start=[1, 2])
    for valid in (np.ones((40, 3), bool), np.ones((40, 4))):
        with pytest.raises(DataError, match="expected booleans"):
            composition.viterbi(x, valid=valid)
    small, texts, _ = small_modules()
    with pytest.raises(IncompatibleModules, match="for taggers"):
        compose(small).viterbi(texts)


def test_labels_of_several_parents_are_refused():
    _, _, parts, x, y = tagger()
    torch.manual_seed(9)
    network = Network.from_torch(Tagger().eval(), x[:6], head="emission", labels=["a", "b", "c"])
    more = decompose(network, (x, y), keep=1.0)
    mixed = compose([parts["a"], more["b"]])
    with pytest.raises(UnbraidError, match="several parents"):
        mixed.viterbi(x)


def test_an_evaluation_tells_how_a_network_with_a_crf_decides():
    _, network, parts, x, y = tagger()
    result = unbraid.evaluate(compose(parts), (x, y), against=network)
    assert result.emissions and "argmax of emission scores" in str(result)
    small, texts, labels = small_modules()
    plain = unbraid.evaluate(compose(small), (texts, labels))
    assert not plain.emissions and "emission" not in str(plain)


def test_an_evaluation_of_the_best_sequences():
    _, network, parts, x, y = tagger()
    composition = compose(parts)
    result = unbraid.evaluate(composition, (x, y), against=network, viterbi=True)
    assert result.accuracy == (composition.viterbi(x) == y).mean() != (composition.predict(x) == y).mean()
    assert not result.emissions
    plain = unbraid.evaluate(composition, (x, y), against=network)
    assert plain.accuracy == (composition.predict(x) == y).mean()
    assert plain.monolithic_accuracy == result.monolithic_accuracy
    with pytest.raises(ConfigError, match="leave out allowed= and unknown="):
        unbraid.evaluate(composition, (x, y), viterbi=True, allowed=[True, True, False])
    small, texts, labels = small_modules()
    with pytest.raises(IncompatibleModules, match="for taggers"):
        unbraid.evaluate(compose(small), (texts, labels), viterbi=True)


def test_an_evaluation_of_allowed_labels():
    small, texts, labels = small_modules()
    composition = compose(small)
    parent = next(iter(small.values())).parent
    names, y = np.array(composition.labels), np.asarray(labels)
    mask = np.array([name in ("travel", "weather") for name in names])
    each = np.random.default_rng(0).random((len(texts), len(names))) < 0.5
    each[np.arange(len(texts)), np.arange(len(texts)) % len(names)] = True
    plain = unbraid.evaluate(composition, (texts, y), against=parent)
    for allowed in (mask, each, [["banking"]] * len(texts)):
        result = unbraid.evaluate(composition, (texts, y), against=parent, allowed=allowed)
        right = composition.predict(texts, allowed) == np.array(parent.labels)[y] if y.dtype.kind == "i" else (
            composition.predict(texts, allowed) == y)  # fmt: skip
        assert result.accuracy == pytest.approx(right.mean())
        assert result.restricted_accuracy == result.monolithic_accuracy
        assert result.decisions == plain.decisions
        assert [m.detection for m in result.modules.values()] == [m.detection for m in plain.modules.values()]
    with pytest.raises(DataError, match="allowed has no class"):
        unbraid.evaluate(composition, (texts, y), allowed=np.zeros(3, bool))

import copy
import re
import threading
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.measure.torch_cases import CASES, call
from benchmarks.measure.torch_models import PackedLSTM, Tagger
from benchmarks.measure.torch_refusals import REFUSED, Classifier, sentence
from benchmarks.measure.torch_runs import decided
from unbraid import (
    Network,
    UnbraidError,
    Vocabulary,
    compose,
    decompose,
    errors,
    evaluate,
    load_decomposition,
    load_module,
)
from unbraid.decomposition.removal.observation import observe
from unbraid.errors import DataError
from unbraid.networks.recurrent import RecurrentLayer

COUNT, STEPS, HIDDEN = 60, 9, 6
FEW = {"samples_per_class": 12}


@cache
def made(name):
    """Make the module of a case, its network, inputs and labels."""
    case = CASES[name]
    module = case.trained()
    x, y = case.make(np.random.default_rng(0), COUNT)
    return module, Network.from_torch(module, example=case.make(np.random.default_rng(1), 6)[0]), x, y


@pytest.mark.parametrize("mode", ["rolled", "unrolled"])
@pytest.mark.parametrize("name", CASES)
def test_untouched_modules_decide_as_the_module_itself(name, mode):
    module, network, x, y = made(name)
    for head in ("mean", "softmax"):
        parts = decompose(network, (x, y), mode=mode, head=head, max_removed=0, **FEW)
        np.testing.assert_array_equal(decided(CASES[name], parts, x), CASES[name].decisions(module, x))


@pytest.mark.parametrize("name", CASES)
def test_probabilities_are_those_of_plain_pytorch(name):
    module, network, x, _ = made(name)
    with torch.no_grad():
        raw = call(module, x)
    raw = raw["logits"] if isinstance(raw, dict) else raw[0] if isinstance(raw, tuple) else raw
    own = torch.sigmoid(raw) if network.spec.output == "sigmoid" else torch.softmax(raw, -1)
    if name in ("binary", "multi-label"):  # they end in a sigmoid
        own = raw
    np.testing.assert_allclose(network.predict_proba(x).reshape(own.shape), own, atol=1e-5)


@pytest.mark.parametrize("gates", ["hidden", "each"])
@pytest.mark.parametrize("mode", ["rolled", "unrolled"])
@pytest.mark.parametrize("name", CASES)
def test_saved_modules_come_back_with_the_same_bits(name, mode, gates, tmp_path):
    _, network, x, y = made(name)
    parts = decompose(network, (x, y), mode=mode, gates=gates, max_removed=0.3, **FEW)
    parts.save(tmp_path / "parts")
    again = load_decomposition(tmp_path / "parts", module=CASES[name].build())
    first = next(iter(parts))
    parts[first].save(tmp_path / "module")
    alone = load_module(tmp_path / "module", module=CASES[name].build())
    for label, part in parts.items():
        np.testing.assert_array_equal(again[label].margins(x), part.margins(x))
    np.testing.assert_array_equal(alone.margins(x), parts[first].margins(x))
    assert 0.3 < parts[first].retention().recurrent_weights < 1


@pytest.mark.parametrize("name", ["packed-lstm", "packed-tagger", "two-encoders", "learned-state", "residual"])
def test_rolled_modules_are_slices_and_equal_the_masked_network(name):
    _, network, x, y = made(name)
    part = next(iter(decompose(network, (x, y), max_removed=0.3, **FEW).values()))
    layers = {n: layer.module for n, layer in network.layers.items()}
    sizes = [m.units for m in part.body.modules() if isinstance(m, RecurrentLayer)]
    assert sizes == [int(part.kept_nodes[n].sum()) for n in layers]
    assert sum(sizes) < sum(layer.units for layer in layers.values())
    masked = copy.deepcopy(network)
    for n, layer in masked.layers.items():  # a node without any edge says act(0) = 0
        gone = torch.from_numpy(~np.tile(part.kept_nodes[n], len(layer.cell.gates)))
        for parameter in layer.module.parameters():
            parameter[gone] = 0
        for first in [getattr(masked.body.module, state, None) for state in ("h0", "c0")]:
            if first is not None:  # the learned state of a node that is gone
                first[..., torch.from_numpy(~part.kept_nodes[n])] = 0
    with torch.no_grad():
        features = masked.body(network.check(x).batches().__next__())
        torch.testing.assert_close(part.whole_head.margin(features), torch.from_numpy(part.margins(x)))


@pytest.mark.parametrize("name", [n for n in CASES if n != "multi-label"])
def test_evaluation_knows_the_monolithic_accuracy(name):
    module, network, x, y = made(name)
    result = evaluate(compose(decompose(network, (x, y), mode="unrolled", max_removed=0, **FEW)), (x, y), network)
    counted = y >= 0
    own = CASES[name].decisions(module, x)
    assert result.monolithic_accuracy == result.accuracy == pytest.approx((own == y)[counted].mean())
    assert result.decisions == counted.sum()


def test_modules_in_one_batch_equal_each_alone():
    for name in ("packed-tagger", "time-first", "learned-state", "conv-rnn"):
        _, network, x, y = made(name)
        parts = decompose(network, (x, y), mode="unrolled", gates="each", max_removed=0.3, **FEW)
        margins = compose(parts).margins(x)
        for place, part in enumerate(parts.values()):
            np.testing.assert_allclose(margins[..., place], part.margins(x), atol=1e-5)


def test_gates_are_seen_with_the_state_that_the_module_gives():
    module, network, x, _ = made("learned-state")
    with observe(network, network.check(x), gates=True) as seen:
        found = seen.layers["lstm"].values[:, 0]  # (4H, N) at the first step
    lstm = module.lstm
    with torch.no_grad():
        given = x[:, 0] @ lstm.weight_ih_l0.T + lstm.bias_ih_l0
        i, f, g, o = (given + module.h0[0] @ lstm.weight_hh_l0.T + lstm.bias_hh_l0).T.chunk(4)
    np.testing.assert_allclose(found, torch.cat([i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()]), atol=1e-5)


def test_text_reaches_a_module_that_takes_lengths():
    words = [f"w{i}" for i in range(58)]
    module = CASES["packed-lstm"].trained()
    x = (torch.randint(1, 60, (4, 9)), torch.tensor([9, 3, 5, 1]))
    network = Network.from_torch(module, x, vocabulary=Vocabulary.from_words(words, steps=9))
    texts = [" ".join(words[(7 * n + k) % 58] for k in range(n + 2)) for n in range(20)]
    found, lengths = network.vocabulary.encode(texts)
    own = module(torch.from_numpy(found), torch.from_numpy(lengths)).argmax(-1)
    np.testing.assert_array_equal(network.predict_index(texts), own)


def test_one_example_may_lose_its_axis():
    class Squeezed(Classifier):
        def forward(self, x):
            return self.fc(self.rnn(self.embedding(x))[1][0].squeeze())

    x = torch.randint(1, 60, (513, STEPS))  # batches of 512
    network = Network.from_torch(Squeezed(), x[:4])
    assert network.predict(x).shape == (513,)
    np.testing.assert_allclose(network.logits(x[:1]), network.logits(x[:2])[:1], atol=1e-6)


def test_float64_stays_float64(tmp_path):
    class Doubled(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(5, HIDDEN, batch_first=True, bidirectional=True)
            self.fc = nn.Linear(2 * HIDDEN, 3)
            self.double()

        def forward(self, x):
            return self.fc(self.gru(x)[0])

    torch.manual_seed(0)
    x, y = np.random.default_rng(0).normal(size=(30, STEPS, 5)), np.arange(30 * STEPS).reshape(30, STEPS) % 3
    network = Network.from_torch(Doubled(), x[:4])
    for mode in ("rolled", "unrolled"):
        part = decompose(network, (x, y), mode=mode, **FEW)[1]
        part.save(tmp_path / mode)
        again = load_module(tmp_path / mode, module=Doubled().float())
        assert part.margins(x).dtype == again.margins(x).dtype == np.float64
        np.testing.assert_array_equal(part.margins(x), again.margins(x))


def test_the_users_module_is_left_alone():
    module = PackedLSTM().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    x = (torch.randint(1, 60, (8, STEPS)), torch.tensor([3, 9, 1, 4, 2, 5, 9, 9]))
    compose(decompose(Network.from_torch(module, x), (x, [0, 1, 2, 3] * 2), max_removed=0.3)).predict(x)
    assert module.training and all(p.requires_grad for p in module.parameters())
    assert type(module.lstm) is nn.LSTM and type(module.fc) is nn.Linear
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_a_forward_that_fails_later_says_why():
    class Picky(Tagger):
        def forward(self, sentence):
            if sentence.max() >= 50:
                raise AssertionError
            if sentence.shape[1] < 3:
                raise KeyError
            return super().forward(sentence)

    network = Network.from_torch(Picky(), torch.arange(24).view(4, 6))
    for x, why in ((torch.full((2, 6), 59), "AssertionError"), (torch.ones(2, 2, dtype=torch.long), "KeyError")):
        with pytest.raises(DataError, match=f"own forward failed on these inputs: {why}"):
            network.logits(x)


@pytest.mark.parametrize("given", REFUSED)
def test_what_is_refused_is_refused_in_short_sentences(given):
    said = sentence(REFUSED[given])
    kind, _, text = said.partition(": ")
    assert issubclass(getattr(errors, kind, type(None)), UnbraidError), said
    assert 20 < len(text) < 320


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("DataParallel", "pass its .module"),
        ("torch.compile", "compiled: pass the nn.Module"),
        ("no recurrent layer", r"has no recurrent layer \(it holds \['Embedding', 'Flatten', 'Linear'\]\)"),
        ("two heads", r"several layers fit: \['fc', 'other'\]\): name it with head="),
        ("subclass of nn.Linear as head", "MaskedLinear with a custom forward"),
        ("batch items interact (mean)", "examples of a batch change each other's results"),
        ("batch items interact (attention)", "examples of a batch change each other's results"),
        ("dropout in eval mode", "each time it runs on the same example"),
        ("batch_first forgotten", "is batch_first=True missing"),
        ("hook on the layer", "remove hooks"),
        ("NaN weights", "FormatError: weight 'rnn.bias_hh_l0' holds NaN"),
        ("a class, not an instance", "got the class Classifier: pass a trained instance"),
        ("a path", "got a path: .*load_weights"),
        ("example of one", "at least two different"),
        ("example of equal rows", "same example several times"),
        ("load: a whole module", r"from_torch\(module, example=...\)"),
        ("load_weights: a whole module", "pickle, which runs code when it is read"),
        ("load_weights: a checkpoint", "save its 'model_state_dict' alone"),
        ("load_module: other sizes", r"\{'lstm': \(12, 8\)\}, expected \{'lstm': \(12, 16\)\}"),
    ],
)
def test_sentences_say_what_was_found_and_what_to_do(given, words):
    assert re.search(words, sentence(REFUSED[given]))


class Started(Classifier):
    """Gets initial states as an argument."""

    def forward(self, x, h, c):
        return self.fc(self.rnn(self.embedding(x), (h, c))[0][:, -1])


def test_initial_states_of_another_size_are_refused_before_torchs_kernels_read_beyond_them():
    words = torch.randint(1, 60, (8, 5))
    network = Network.from_torch(Started(), (words, torch.zeros(1, 8, 10), torch.zeros(1, 8, 10)))
    assert network.logits((words, torch.zeros(1, 8, 10), torch.zeros(1, 8, 10))).shape == (8, 4)
    for count in (1, 3, 400):
        more = torch.randint(1, 60, (count, 5))
        with pytest.raises(DataError, match=rf"the arrays of the inputs hold \[{min(count, 8)}, {max(count, 8)}\] ex"):
            network.logits((more, torch.zeros(1, 8, 10), torch.zeros(1, 8, 10)))


class Masked(Classifier):
    def forward(self, x):
        return super().forward(x).index_fill(-1, torch.tensor([0, 1, 3]), -1e9)


class Cooled(Classifier):
    def forward(self, x):
        return super().forward(x) / 4


class Idle(Classifier):
    def __init__(self):
        super().__init__()
        self.unused = nn.GRU(8, 10)


class Locked(Classifier):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


def test_what_follows_the_output_layer_may_not_decide_otherwise():
    torch.manual_seed(0)
    words = torch.randint(1, 60, (40, 5))
    with pytest.raises(errors.UnsupportedLayer, match="after head='fc' the module changes its decisions"):
        Network.from_torch(Masked(), words, head="fc")
    cooled = Cooled()
    decided = Network.from_torch(cooled, words, head="fc").predict_index(words)
    assert np.array_equal(decided, cooled.eval()(words).argmax(-1))


@pytest.mark.parametrize(("made", "said"), [(Idle, r"\['unused'\] do not run"), (Locked, "Locked cannot be copied")])
def test_modules_that_keep_what_does_not_belong_to_them_are_refused(made, said):
    with pytest.raises(errors.UnsupportedLayer, match=said):
        Network.from_torch(made(), torch.randint(1, 60, (8, 5)))


def test_inputs_of_unequal_length_are_refused():
    torch.manual_seed(0)
    words = torch.randint(1, 60, (60, 9))
    lengths = torch.randint(1, 10, (60,))
    network = Network.from_torch(PackedLSTM(), (words, lengths))
    for x in ((words, lengths[:50]), (words[:50], lengths)):
        with pytest.raises(DataError):
            network.predict(x)


def test_a_packed_tagger_is_judged_on_sequences_shorter_than_the_labels():
    _, network, (x, lengths), y = made("packed-tagger")
    parts = decompose(network, ((x, lengths), y), **FEW)
    short = np.flatnonzero(np.asarray(lengths) < STEPS)
    few = (x[short], lengths[short])
    whole = evaluate(compose(parts), ((x, lengths), y), against=network)
    found = evaluate(compose(parts), (few, y[short]), against=network)
    assert len(short) < COUNT and found.decisions == (y[short] >= 0).sum() < whole.decisions
    decided_alone = compose(parts).predict_index(few)
    rights = decided_alone == y[short][:, : decided_alone.shape[1]]
    assert found.accuracy == pytest.approx(rights.sum() / found.decisions)
    with pytest.raises(DataError, match="labels have 3 timesteps"):
        evaluate(compose(parts), ((x, lengths), y[:, :3]))
    beyond = np.where(y < 0, 0, y)  # labels where packed sequences have ended already
    judged = evaluate(compose(parts), (few, beyond[short]), against=network)
    assert np.isfinite(judged.calibration_error) and judged.left_out == (STEPS - decided_alone.shape[1]) * len(short)

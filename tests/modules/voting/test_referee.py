"""A referee is fitted on a small sample, is at least as good as calibration, and is saved in folders."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import unbraid
from tests import factory
from tests.manifests import edit
from unbraid import Composition, compose, decompose
from unbraid.cli.open_any import open_any
from unbraid.data.vocabulary import Vocabulary
from unbraid.errors import ConfigError, DataError, FormatError, IncompatibleModules
from unbraid.export.onnx_model import OnnxModel
from unbraid.modules.groups import Evidence
from unbraid.modules.voting import referee
from unbraid.storage.loading import check_folder

SECRET = 7  # texts of the second problem hold this word


@pytest.fixture
def mixed():
    """Make modules of networks with one and with many outputs, and examples that their margins confuse."""
    parts = []
    for seed, io in enumerate(("M:1", "M:N")):
        network = factory.network(("gru",), io, seed=seed)
        parts.append(decompose(network, factory.examples(network, 60, seed), strategy="paper", samples_per_class=20))
    composition = Composition({"one": parts[0][0], "other": parts[0][1], "many": parts[1][1]})
    return composition, *texts(120, 3), *texts(60, 4)


def texts(count, seed):
    """Make words (N, T) and the right modules (N,). The texts of the third module are different, the others random."""
    rng = np.random.default_rng(seed)
    x, y = rng.integers(20, factory.VOCABULARY, (count, factory.WORDS)), rng.integers(0, 2, count)
    y[::2] = 2
    x[::2, 1] = SECRET
    return x, y


def best(votes, columns, right, width):
    """Maximise the posterior with an optimizer of torch; return the weights (F, K) and the bias (K,)."""
    votes, columns, right = (torch.from_numpy(a) for a in (votes, columns, right))
    weight = torch.zeros(columns.shape[1] + 1, votes.shape[1], dtype=torch.float64, requires_grad=True)
    ones = torch.cat([columns, torch.ones(len(columns), 1)], 1)
    search = torch.optim.LBFGS([weight], max_iter=2000, tolerance_change=1e-14, line_search_fn="strong_wolfe")

    def loss():
        search.zero_grad()
        found = torch.nn.functional.cross_entropy(votes + width * ones @ weight, right, reduction="sum")
        found = found + (weight**2).sum() / 2
        found.backward()
        return found

    search.step(loss)
    return width * weight.detach().numpy()


@settings(max_examples=8)
@given(st.integers(0, 999), st.integers(2, 4), st.integers(1, 30), st.sampled_from(referee.WIDTHS[1:]))
def test_the_weights_are_those_that_another_optimizer_finds(seed, classes, size, width):
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.arange(20) % classes)
    block = rng.normal(size=(20, size)) + truth[:, None] * rng.normal(size=size)
    margins = rng.normal(size=(20, classes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(referee, "WIDTHS", (width,))
        patch.setattr(referee, "PRECISION", 1e-12)
        found = referee.fit(margins, [block], truth, range(margins.shape[1]))
    votes = -np.logaddexp(0, -margins)
    columns = (block - block.mean(0)) / np.sqrt(block.var(0).sum())
    wanted = best(votes, columns, truth, width)
    np.testing.assert_allclose(
        block @ found.weight.numpy() + found.bias.numpy(), columns @ wanted[:-1] + wanted[-1], atol=2e-2, rtol=2e-2
    )


def test_where_nothing_is_gained_the_calibrated_vote_stays():
    rng = np.random.default_rng(0)
    truth = np.arange(40) % 4
    margins = np.where(np.arange(4) == truth[:, None], 1.0, -1.0)
    margins[::10] *= -1  # a tenth is wrong, and nothing says why
    noise = [rng.normal(size=(40, 30)) for _ in range(4)]
    found = referee.fit(margins, noise, truth, range(4))
    votes = torch.from_numpy(margins).float()
    said = found(votes, [torch.from_numpy(block).float() for block in noise])
    assert torch.equal(said.argmax(-1), votes.argmax(-1))


def test_constants_count_nothing():
    truth = np.arange(12) % 2
    found = referee.fit(np.zeros((12, 2)), [np.full((12, 3), 5.0), truth[:, None].astype(float)], truth, [0, 1])
    assert not found.weight[:3].any() and found.weight[3].any()
    assert torch.isfinite(found.weight).all()


@pytest.mark.parametrize(("numbers", "apart"), [(30, 1e-4), (600, 0.05)])
def test_large_samples_are_told_apart_in_their_largest_directions(monkeypatch, numbers, apart):
    """All directions are used for blocks of few columns; with many columns, the others change little."""
    rng = np.random.default_rng(3)
    truth = np.arange(400) % 4
    kinds = np.repeat(rng.normal(size=(4, 8)), 100, axis=0).reshape(4, 100, 8).swapaxes(0, 1).reshape(400, 8)
    block = (kinds + rng.normal(size=(400, 8))) @ rng.normal(size=(8, numbers))
    block += 0.02 * rng.normal(size=block.shape)  # small differences in all directions
    margins = rng.normal(size=(400, 4))
    some = referee.fit(margins, [block], truth, range(margins.shape[1]))
    monkeypatch.setattr(referee, "MOST", 1000)
    every = referee.fit(margins, [block], truth, range(margins.shape[1]))
    assert every.weight.abs().max() > 0.01
    inputs = torch.from_numpy(margins).float(), [torch.from_numpy(block)]
    shares = [judge(*inputs).softmax(-1) for judge in (some, every)]
    assert (shares[0] - shares[1]).abs().max() < apart


def test_a_referee_tells_whose_input_it_is_where_calibration_cannot(mixed):
    plain, x, y, x_test, y_test = mixed
    fair, judged = plain.with_calibration(x, y), plain.with_referee(x, y)
    third = y_test == 2
    apart = [float(((c.predict_index(x_test) == 2) == third).mean()) for c in (plain, fair, judged)]
    assert apart[2] > 0.9 > apart[1] and apart[2] > apart[0]
    assert judged.calibration == fair.calibration
    np.testing.assert_allclose(judged.without_referee().margins(x_test), fair.margins(x_test))
    again = plain.with_referee(x, y)
    np.testing.assert_array_equal(again.margins(x_test), judged.margins(x_test))


def test_margins_are_the_log_odds_of_its_probabilities(mixed):
    plain, x, y, x_test, _ = mixed
    judged = plain.with_referee(x, y)
    margins, shares = judged.margins(x_test), judged.predict_proba(x_test)
    np.testing.assert_allclose(shares.sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(shares, 1 / (1 + np.exp(-margins)), rtol=1e-4, atol=1e-6)
    with torch.inference_mode():
        np.testing.assert_allclose(judged(torch.from_numpy(x_test)).numpy(), margins, rtol=1e-4, atol=1e-4)
    assert list(judged.predict(x_test)) == [judged.labels[n] for n in margins.argmax(-1)]


def test_evidence_is_what_the_modules_see(mixed):
    plain, x, _, _, _ = mixed
    found = plain.evidence(x)
    np.testing.assert_allclose(found.margins, plain.margins(x), rtol=1e-5, atol=1e-6)
    with torch.inference_mode():
        for module, block in zip(plain.modules_by_label.values(), found.features, strict=True):
            own = module.body(torch.from_numpy(x))
            np.testing.assert_allclose(block, own if own.dim() == 2 else own.mean(1), rtol=1e-5, atol=1e-6)
    for module, block in zip((plain["one"], plain["many"]), found.read, strict=True):
        words = module.parent.body.stages[0].weight.numpy()
        np.testing.assert_allclose(block, words[x].mean(1), rtol=1e-5, atol=1e-6)


def test_padded_steps_do_not_count():
    network = factory.network(("gru",), "M:N", mask=True)
    x, y = factory.examples(network, 60, 0)
    x[:, -1] = 0
    modules = list(decompose(network, (x, y), strategy="paper", samples_per_class=20).values())
    found = Composition(dict(enumerate(modules))).evidence(x)
    words = network.body.stages[0].weight.numpy()
    counted = (x != 0)[..., None]
    np.testing.assert_allclose(found.read[0], (words[x] * counted).sum(1) / counted.sum(1), rtol=1e-5, atol=1e-6)
    with torch.inference_mode():
        own = modules[0].body(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found.features[0], (own * counted).sum(1) / counted.sum(1), rtol=1e-5, atol=1e-6)


def test_unknown_words_of_text_are_counted():
    network = factory.network(("gru",), labels=["a", "b", "c"])
    known = Vocabulary.from_words([f"w{n}" for n in range(40)], steps=factory.WORDS)
    parts = decompose(network, factory.examples(network, 60, 0), strategy="paper", samples_per_class=20)
    network.with_vocabulary(known)
    found = compose(parts).evidence(["w1 w2", "w1 strange", "strange strange stranger", "w3 w4 w5 odd"])
    np.testing.assert_allclose(found.read[1].ravel(), [0, 0.5, 1, 0.25])


@pytest.mark.parametrize("mode", ["rolled", "unrolled"])
def test_all_ways_of_running_side_by_side_give_each_modules_features(mode):
    network = factory.network(("lstm", "vanilla"))
    x, y = factory.examples(network, 60, 0)
    parts = decompose(network, (x, y), strategy="paper", mode=mode, samples_per_class=20)
    for composition in (compose(parts), compose(parts).fuse() if mode == "rolled" else compose(parts)):
        found = composition.evidence(x)
        assert isinstance(found, Evidence)
        with torch.inference_mode():
            for module, block in zip(composition.modules_by_label.values(), found.features, strict=True):
                np.testing.assert_allclose(block, module.body(torch.from_numpy(x)), rtol=1e-4, atol=1e-5)


def test_it_is_saved_and_comes_back_bit_for_bit(mixed, tmp_path):
    plain, x, y, x_test, _ = mixed
    judged = plain.with_referee(x, y)
    judged.save(tmp_path / "x")
    assert "A referee decides" in (tmp_path / "x" / "README.md").read_text()
    for back in (unbraid.load_composition(tmp_path / "x"), open_any(tmp_path / "x")):
        np.testing.assert_array_equal(back.margins(x_test), judged.margins(x_test))
    plain.save(tmp_path / "plain")
    assert "referee" not in (tmp_path / "plain" / "README.md").read_text()
    assert unbraid.load_composition(tmp_path / "plain").referee is None


@factory.UNCALIBRATED
def test_changes_leave_the_referee_behind(mixed):
    plain, x, y, _, _ = mixed
    judged = plain.with_referee(x, y)
    changed = [
        judged.drop("one"), judged.add(plain["one"], label="x"), judged.replace("one", plain["other"]),
        judged.with_calibration(x, y), judged.unfuse(), judged.without_referee(),
    ]  # fmt: skip
    assert judged.referee is not None and all(c.referee is None for c in changed)
    assert changed[-1].calibration == judged.calibration


def test_modules_alone_are_judged_as_before(mixed):
    plain, x, y, x_test, y_test = mixed
    judged = plain.with_referee(x, y)
    before, after = (unbraid.evaluate(c, (x_test, y_test)) for c in (judged.without_referee(), judged))
    assert after.accuracy > before.accuracy and after.detection == before.detection


def test_compose_fits_one_on_request(mixed):
    plain, x, y, x_test, _ = mixed
    judged = compose(plain.modules_by_label, sample=(x, y), referee=True)
    np.testing.assert_array_equal(judged.margins(x_test), plain.with_referee(x, y).margins(x_test))
    with pytest.raises(ConfigError, match="referee=True needs a sample"):
        compose(plain.modules_by_label, referee=True)


def test_examples_are_weighed_some_at_a_time(mixed, monkeypatch):
    plain, x, y, x_test, _ = mixed
    judged = plain.with_referee(x, y)
    wanted = judged.margins(x_test)
    monkeypatch.setattr("unbraid.modules.voter.ROWS", 7)
    np.testing.assert_allclose(judged.margins(x_test), wanted, rtol=1e-4, atol=1e-5)


def test_what_it_cannot_decide_is_refused(mixed):
    plain, x, y, _, _ = mixed
    with pytest.raises(IncompatibleModules, match="there is only 'one'"):
        Composition({"one": plain["one"]}).with_referee(x, np.zeros(len(x), int))
    network = factory.network(("gru",), "M:N")
    x_many, y_many = factory.examples(network, 60, 0)
    parts = decompose(network, (x_many, y_many), strategy="paper", samples_per_class=20)
    with pytest.raises(IncompatibleModules, match=r"decide at each timestep: use with_calibration"):
        compose(parts).with_referee(x_many, y_many)
    with pytest.raises(DataError, match="no example of"):
        plain.with_referee(x[y != 1], y[y != 1])
    with pytest.raises(ConfigError, match=r"expected \d+ and 2"):
        Composition({"one": plain["one"], "many": plain["many"]}, referee=plain.with_referee(x, y).referee)


def test_a_referee_is_exported(mixed, tmp_path):
    plain, x, y, _, _ = mixed
    pytest.importorskip("onnxruntime")
    refereed = plain.with_referee(x, y)
    unbraid.export_onnx(refereed, tmp_path / "x.onnx")
    outputs = OnnxModel(tmp_path / "x.onnx").run(x)
    np.testing.assert_allclose(outputs["margins"], refereed.margins(x), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(outputs["probabilities"], refereed.predict_proba(x), atol=1e-5)


BROKEN = {
    "another size": (lambda t: {**t, "weight": t["weight"][1:]}, "expected"),
    "NaN": (lambda t: {**t, "weight": t["weight"] * float("nan")}, "NaN"),
    "no bias": (lambda t: {"weight": t["weight"]}, "expected weight"),
    "another shape": (lambda t: {**t, "bias": t["weight"].clone()}, "expected weight"),
    "float64": (lambda t: {**t, "bias": t["bias"].double()}, "expected float32"),
    "another kind of number": (lambda t: {**t, "bias": t["bias"].to(torch.float8_e4m3fn)}, "expected float32"),
    "a number that overflows": (lambda t: {**t, "bias": t["bias"] + 3e38}, "above 1e"),
    "nothing": (lambda t: {}, "expected weight"),
    "a number": (lambda t: {**t, "weight": torch.zeros(())}, "expected weight"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_damaged_one_is_refused(mixed, tmp_path, what):
    plain, x, y, _, _ = mixed
    plain.with_referee(x, y).save(tmp_path / "x")
    path = tmp_path / "x" / "referee.safetensors"
    assert set(check_folder(tmp_path / "x")) >= {path.name}
    change, said = BROKEN[what]
    save_file({k: v.contiguous() for k, v in change(load_file(path)).items()}, path)
    with pytest.raises(FormatError, match=r"referee\.safetensors"):
        unbraid.load_composition(tmp_path / "x")  # its digest does not fit
    edit(tmp_path / "x")
    with pytest.raises(FormatError, match=rf"referee\.safetensors: .*{said}"):
        unbraid.load_composition(tmp_path / "x")
    with pytest.raises(FormatError, match=r"referee\.safetensors"):
        check_folder(tmp_path / "x")


def test_what_is_wrong_with_a_calibration_is_not_the_referees(mixed, tmp_path):
    mixed[0].save(tmp_path / "x")
    edit(tmp_path / "x", lambda manifest: manifest["modules"][0].update(temperature=1e-9))
    with pytest.raises(FormatError, match=r"unbraid\.json: calibration of 'one'"):
        unbraid.load_composition(tmp_path / "x")


def test_a_parent_that_was_loaded_twice_is_one(tmp_path):
    network, other = factory.network(("gru",), seed=1), factory.network(("gru",), seed=2)
    examples = factory.examples(network, 60, 0)
    for net, name in ((network, "p"), (other, "q")):
        parts = decompose(net, examples, strategy="paper", samples_per_class=20)
        net.with_vocabulary(Vocabulary.from_words([f"w{n}" for n in range(40)], steps=factory.WORDS))
        parts.save(tmp_path / name)
    twice = [unbraid.load_decomposition(tmp_path / "p") for _ in range(2)]
    third = unbraid.load_decomposition(tmp_path / "q")
    judged = Composition({"a": twice[0][0], "b": twice[1][1], "c": third[2]}).with_referee(*examples)
    judged.save(tmp_path / "x")
    back = unbraid.load_composition(tmp_path / "x")
    np.testing.assert_array_equal(back.margins(examples[0]), judged.margins(examples[0]))


def test_a_vocabulary_that_comes_later_is_told(mixed, tmp_path):
    plain, x, y, _, _ = mixed
    judged = plain.with_referee(x, y)
    plain["one"].parent.with_vocabulary(Vocabulary.from_words(["a", "b"], steps=factory.WORDS))
    for use in (lambda: judged.margins(x), lambda: judged(torch.from_numpy(x)), lambda: judged.save(tmp_path / "x")):
        with pytest.raises(ConfigError, match=r"Call with_referee\(\) again"):
            use()
    assert not (tmp_path / "x").exists()


class Packed(torch.nn.Module):
    """Reads packed sequences, and decides once or at each timestep."""

    def __init__(self, many):
        super().__init__()
        self.many, self.rnn, self.head = many, torch.nn.GRU(5, 6, batch_first=True), torch.nn.Linear(6, 3)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        outputs, last = self.rnn(packed)
        return self.head(pad_packed_sequence(outputs, batch_first=True)[0] if self.many else last[-1])


def test_users_own_modules_with_several_inputs(tmp_path):
    rng = np.random.default_rng(0)
    x, lengths, y = rng.normal(size=(60, 7, 5)).astype(np.float32), rng.integers(2, 8, 60), np.arange(60) % 3
    x[:, 0, 0] += 3 * y
    lengths[0] = 7
    parts = {}
    for many in (False, True):
        torch.manual_seed(many)
        own = Packed(many)
        network = unbraid.Network.from_torch(own, (torch.from_numpy(x[:6]), torch.from_numpy(lengths[:6])))
        steps = np.where(np.arange(7) < lengths[:, None], y[:, None], -1)
        parts[many] = decompose(network, ((x, lengths), steps if many else y), keep=0.5)
    judged = Composition({"a": parts[False][0], "b": parts[False][1], "c": parts[True][2]}).with_referee(
        (x, lengths), y
    )
    margins = judged.margins((x, lengths))
    assert np.isfinite(margins).all() and (margins.argmax(-1) == y).mean() > 0.6
    some = np.argsort(lengths)[:5]  # shorter than the longest of the sample
    alone = judged.evidence((x[some], lengths[some])).features
    together = judged.evidence((x, lengths)).features
    for one, all_of_them in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, all_of_them[some], rtol=1e-4, atol=1e-5)


def test_modules_of_higher_precision():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    x, y = rng.integers(1, 30, (60, 4)), np.arange(60) % 3
    parts = []
    for _ in range(2):
        own = torch.nn.Sequential(torch.nn.Embedding(30, 5), Last(), torch.nn.Linear(6, 3)).double()
        parts.append(decompose(unbraid.Network.from_torch(own, torch.from_numpy(x[:6])), (x, y), keep=0.5))
    judged = Composition({"a": parts[0][0], "b": parts[0][1], "c": parts[1][2]}).with_referee(x, y)
    assert np.isfinite(judged.margins(x)).all()


class Reader(torch.nn.Module):
    """Reads words, batch or time first. Decides once, or at each timestep with NaN at padding."""

    def __init__(self, time_first=False, many=False):
        super().__init__()
        self.many, self.words = many, torch.nn.Embedding(50, 5)
        self.rnn, self.head = torch.nn.GRU(5, 6, batch_first=not time_first), torch.nn.Linear(6, 3)

    def forward(self, tokens):
        outputs, last = self.rnn(self.words(tokens))
        if not self.many:
            return self.head(last[-1])
        return self.head(torch.where((tokens != 0)[..., None], outputs, torch.tensor(float("nan"))))


def reader(x, y, seed, given=lambda x: x, **settings):
    """Make modules of a Reader with a vocabulary of the words w0 to w39."""
    torch.manual_seed(seed)
    vocabulary = Vocabulary.from_words([f"w{n}" for n in range(40)], steps=x.shape[1])
    example = given(torch.from_numpy(x[:6]))
    network = unbraid.Network.from_torch(Reader(**settings), example, vocabulary=vocabulary)
    return decompose(network, (given(x), y), keep=0.5)


@pytest.mark.parametrize("given", ["batch first", "time first", "by name"])
def test_unknown_words_of_users_own_modules_are_counted_by_example(given):
    rng = np.random.default_rng(0)
    x, y = rng.integers(2, 40, (60, 7)), np.arange(60) % 3
    x[:, 0] = 1  # the unknown word
    x[:30, 1] = 1
    as_read = {
        "batch first": lambda x: x,
        "time first": lambda x: x.T.copy() if isinstance(x, np.ndarray) else x.T.contiguous(),
        "by name": lambda x: {"tokens": x},
    }[given]
    parts = [reader(x, y, seed, as_read, time_first=given == "time first") for seed in (1, 2)]
    mixed = Composition({"a": parts[0][0], "b": parts[0][1], "c": parts[1][2]})
    np.testing.assert_allclose(mixed.evidence(as_read(x)).read[0].ravel(), [2 / 7] * 30 + [1 / 7] * 30, rtol=1e-6)
    assert mixed.with_referee(as_read(x), y).margins(as_read(x)).shape == (60, 3)


def test_timesteps_that_say_nan_do_not_count():
    rng = np.random.default_rng(0)
    x, y = rng.integers(2, 40, (60, 7)), np.arange(60) % 3
    one = reader(x, y, 1)
    many = reader(x, np.repeat(y[:, None], 7, 1), 2, many=True)
    padded = np.where(np.arange(7) < 7 - np.arange(60)[:, None] % 4, x, 0)
    mixed = Composition({"a": one[0], "b": one[1], "c": many[2]})
    plain, found = mixed.margins(padded), mixed.evidence(padded)
    np.testing.assert_allclose(found.margins, plain, rtol=1e-5, atol=1e-6)
    assert all(np.isfinite(block).all() for block in (*found.features, *found.read))
    assert np.isfinite(mixed.with_referee(padded, y).margins(padded)).all()


class Last(torch.nn.Module):
    """Returns the last output only."""

    def __init__(self):
        super().__init__()
        self.rnn = torch.nn.GRU(5, 6, batch_first=True)

    def forward(self, x):
        return self.rnn(x)[0][:, -1]

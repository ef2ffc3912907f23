"""Results of PyTorch modules, compared with the logits of their output layer."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from unbraid import Network, compose, decompose, evaluate, load_decomposition
from unbraid.errors import DataError, UnbraidWarning, UnsupportedLayer

FEATURES, HIDDEN, CLASSES, STEPS = 4, 8, 3, 6


class Plain(nn.Module):
    def __init__(self, classes=CLASSES):
        super().__init__()
        self.rnn, self.out = nn.GRU(FEATURES, HIDDEN, batch_first=True), nn.Linear(HIDDEN, classes)

    def last(self, x):
        return self.rnn(x)[1][0]

    def forward(self, x):
        return self.out(self.last(x))


class Corrected(Plain):
    """Adds a second layer to the logits, like an adapter of low rank."""

    def __init__(self, classes=CLASSES):
        super().__init__(classes)
        self.low = nn.Sequential(nn.Linear(HIDDEN, 2), nn.Linear(2, classes))

    def forward(self, x):
        last = self.last(x)
        return self.out(last) + self.low(last)


class CorrectedProbabilities(Corrected):
    def forward(self, x):
        return torch.softmax(super().forward(x), -1)


class WithPrior(Plain):
    def forward(self, x):
        return self.out(self.last(x)) + torch.where(x[:, :1, 0] > 1, torch.tensor([9.0, 0, 0]), torch.zeros(1))


class CorrectedLabels(Corrected):
    def forward(self, x):
        return torch.sigmoid(super().forward(x))


class Sorting(Plain):
    """Sorts by length, packs, and restores the order after the output layer."""

    def forward(self, x, n):
        order = n.argsort(descending=True, stable=True)
        packed = pack_padded_sequence(x[order], n[order], batch_first=True)
        return self.out(self.rnn(packed)[1][0])[order.argsort()]


class SortingBefore(Plain):
    """Restores the order before the output layer."""

    def forward(self, x, n):
        order = n.argsort(descending=True, stable=True)
        packed = pack_padded_sequence(x[order], n[order], batch_first=True)
        return self.out(self.rnn(packed)[1][0][order.argsort()])


def inputs(count=200, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, STEPS, FEATURES, generator=generator)


def seeded(kind, *args):
    torch.manual_seed(1)
    return kind(*args).eval()


def agreeing(module, x, labels=False):
    """Make four examples for which the module decides like its output layer."""
    with torch.no_grad():
        own, scores = module(x), module.out(module.last(x))
    same = ((own > 0.5) == (scores > 0)).all(-1) if labels else own.argmax(-1) == scores.argmax(-1)
    return torch.nonzero(same)[:4, 0]


@pytest.mark.parametrize("kind", [Corrected, CorrectedProbabilities, WithPrior, CorrectedLabels])
def test_scores_that_are_changed_behind_the_head_are_refused_with_the_share(kind):
    module, x = seeded(kind), inputs()
    labels = kind is CorrectedLabels
    output = "sigmoid" if labels else None
    network = Network.from_torch(module, x[agreeing(module, x, labels)], head="out", output=output)
    with torch.no_grad():
        own, scores = module(x), module.out(module.last(x))
    wrong = (own > 0.5) != (scores > 0) if labels else own.argmax(-1) != scores.argmax(-1)
    assert 0 < wrong.sum() < wrong.numel()
    told = rf"'out' differ in {int(wrong.sum())} of {wrong.numel()} decisions \(\d+\.\d%\)"
    y = np.eye(CLASSES, dtype=int)[np.arange(200) % CLASSES] if labels else np.arange(200) % CLASSES
    with pytest.raises(DataError, match=told):
        network.predict(x)
    for strategy in ("reconstruct", "paper"):
        with pytest.raises(DataError, match="result and its output layer 'out' differ"):
            decompose(network, (x, y), strategy=strategy)
    few = agreeing(module, x, labels)
    if not labels:
        parts = decompose(network, (x[few].repeat(3, 1, 1), np.arange(12) % CLASSES))
        with pytest.raises(DataError, match=r"result and its output layer .* differ"):
            evaluate(compose(parts), (x, y), against=network)


def test_a_temperature_behind_the_head_changes_no_decision():
    class Cooled(Plain):
        def forward(self, x):
            return super().forward(x) / 3

    module, x = seeded(Cooled), inputs()
    network = Network.from_torch(module, x[:4], head="out")
    np.testing.assert_array_equal(network.predict_index(x), module(x).argmax(-1))


class Turning(Plain):
    """Returns the scores in another order than it reads the examples."""

    def forward(self, x):
        order = x[:, 0, 0].argsort()
        return self.out(self.last(x[order]))[order.argsort()]


def test_rows_in_another_order_behind_the_head_are_refused():
    module, x = seeded(Turning), inputs()
    example = x[:4][x[:4, 0, 0].argsort()]
    try:
        network = Network.from_torch(module, example)
    except (DataError, UnsupportedLayer):
        return  # at once is better
    with pytest.raises(DataError, match="reorders"):
        network.logits(x)


@pytest.mark.parametrize("kind", [Sorting, SortingBefore])
@pytest.mark.parametrize("example", ["longest", "falling", "mixed"])
@pytest.mark.parametrize("settings", [{}, {"head": "out"}])
def test_modules_that_sort_by_length_decide_as_they_do_alone(kind, example, settings):
    module, x = seeded(kind), inputs()
    n = torch.randint(2, STEPS + 1, (200,), generator=torch.Generator().manual_seed(0))
    falling = n[:40].argsort(descending=True, stable=True)[::10]
    rows = {"longest": torch.nonzero(n == STEPS)[:4, 0], "falling": falling, "mixed": torch.arange(4)}[example]
    network = Network.from_torch(module, (x[rows], n[rows]), **settings)
    np.testing.assert_array_equal(network.predict_index((x, n)), module(x, n).argmax(-1))
    parts = decompose(network, ((x, n), np.arange(200) % CLASSES), keep=1.0)
    alone = decompose(network, ((x[:60], n[:60]), np.arange(60) % CLASSES), strategy="paper", max_removed=0.3)
    for part in (*parts.values(), *alone.values()):
        one_by_one = np.concatenate([part.margins((x[i : i + 1], n[i : i + 1])) for i in range(12)])
        np.testing.assert_allclose(part.margins((x[:12], n[:12])), one_by_one, atol=1e-5)


def test_a_loaded_network_is_compared_as_well(tmp_path):
    module, x = seeded(Corrected), inputs()
    few = agreeing(module, x)
    network = Network.from_torch(module, x[few], head="out")
    decompose(network, (x[few].repeat(3, 1, 1), np.arange(12) % CLASSES)).save(tmp_path / "parts")
    again = load_decomposition(tmp_path / "parts", module=Corrected())
    with pytest.raises(DataError, match=r"result and its output layer .* differ"):
        again.network.predict(x)


class Agent(Plain):
    """Returns a value and an action; the layer of the value is not an output layer."""

    def __init__(self, answer):
        super().__init__()
        self.critic, self.answer = nn.Linear(HIDDEN, 1), answer

    def forward(self, x):
        last = self.last(x)
        return self.critic(last), self.answer(self.out(last))


@pytest.mark.parametrize(
    "answer",
    [lambda s: s.argmax(-1), lambda s: s.softmax(-1), lambda s: s.log_softmax(-1), lambda s: s],
    ids=["argmax", "softmax", "log_softmax", "scores"],
)
def test_a_critics_value_is_not_taken_for_the_output_layer(answer):
    with pytest.warns(UnbraidWarning, match="also returns the scores of"):
        network = Network.from_torch(seeded(Agent, answer), inputs(6))
    assert (network.spec.head, network.classes, network.spec.output) == ("out", CLASSES, "softmax")


def test_the_layer_whose_decision_is_returned_is_preferred():
    class Two(Plain):
        def __init__(self):
            super().__init__()
            self.other = nn.Linear(HIDDEN, 5)

        def forward(self, x):
            last = self.last(x)
            return self.other(last), self.out(last).softmax(-1)

    class Both(Two):
        def forward(self, x):
            return tuple(scores.softmax(-1) for scores in (self.other(self.last(x)), self.out(self.last(x))))

    with pytest.warns(UnbraidWarning, match="also returns the scores of other"):
        assert Network.from_torch(seeded(Two), inputs(6)).spec.head == "out"
    with pytest.raises(DataError, match=r"several layers fit: \['other', 'out'\]\): name it with head="):
        Network.from_torch(seeded(Both), inputs(6))


def test_one_linear_column_is_a_regression():
    class Squashed(Plain):
        def forward(self, x):
            return super().forward(x).sigmoid().squeeze(-1)

    class Held(Plain):
        def forward(self, x):
            return (super().forward(x) > 0).long()

    x = inputs(40)
    for settings in ({}, {"head": "out"}, {"output": "softmax"}):
        with pytest.raises(DataError, match=r"regression output.*task='regression', or head='out', output='sigmoid'"):
            Network.from_torch(seeded(Plain, 1), x, **settings)
    module = seeded(Plain, 1)
    network = Network.from_torch(module, x, output="sigmoid")
    np.testing.assert_array_equal(network.predict_index(x), (module(x)[:, 0] > 0).long())
    for kind in (Squashed, Held):
        network = Network.from_torch(seeded(kind, 1), x)
        assert network.binary
        np.testing.assert_array_equal(network.predict_index(x), (seeded(kind, 1)(x).ravel() > 0.5).long())


def test_forwards_that_change_the_kind_of_tensors_are_refused():
    class Inferring(Plain):
        @torch.inference_mode()
        def forward(self, x):
            return super().forward(x)

    class Casting(Plain):
        def forward(self, x):
            with torch.autocast("cpu", torch.bfloat16):
                return super().forward(x)

    class CastingHead(Plain):
        def forward(self, x):
            last = self.last(x)
            with torch.autocast("cpu", torch.bfloat16):
                return self.out(last)

    for kind, told in ((Inferring, "inference_mode"), (Casting, "autocast"), (CastingHead, "autocast")):
        for settings in ({}, {"head": "out"}):
            with pytest.raises(UnsupportedLayer, match=told):
                Network.from_torch(seeded(kind), inputs(6), **settings)


def test_a_network_that_is_made_in_inference_mode_can_be_decomposed():
    with torch.inference_mode():
        network = Network.from_torch(Plain().eval(), inputs(6))
    assert not any(p.is_inference() for p in network.parameters())
    assert len(decompose(network, (inputs(30), np.arange(30) % CLASSES))) == CLASSES


def test_packed_sequences_are_examples_of_networks_that_read_them():
    module, x = seeded(Plain), inputs(4)
    packed = pack_padded_sequence(x, torch.tensor([6, 5, 4, 3]), batch_first=True)
    with pytest.raises(DataError, match="example does not run"):
        Network.from_torch(module, [[packed]])
    network = Network.from_torch(module, x)
    for use in (network.predict, network.logits, lambda x: decompose(network, (x, [0, 1, 2, 0]))):
        with pytest.raises(DataError, match=r"arrays of \[3, 1\] axes, expected \[3\]"):
            use(packed)


def test_lazy_layers_are_refused_by_name():
    lazy = Plain()
    lazy.out = nn.LazyLinear(CLASSES)
    normed = Plain()
    normed.norm = nn.LazyBatchNorm1d()
    for module, name in ((lazy, "out.weight"), (normed, "norm.")):
        with pytest.raises(UnsupportedLayer, match=rf"'{name}.*no shape yet"):
            Network.from_torch(module, inputs(4))


@pytest.mark.parametrize(
    "error", [KeyError("x"), AssertionError(), ZeroDivisionError("1/0"), StopIteration(), OSError(2)]
)
def test_whatever_a_forward_raises_is_quoted(error):
    class Failing(Plain):
        def forward(self, x):
            if (x > 90).any():
                raise error
            return super().forward(x)

    told = str(error).splitlines()[0] if str(error) else type(error).__name__
    with pytest.raises(DataError) as found:
        Network.from_torch(Failing(), inputs(5) + 100)
    assert told in str(found.value)
    network = Network.from_torch(Failing(), inputs(4))
    with pytest.raises(DataError) as found:
        network.predict(inputs(5) + 100)
    assert told in str(found.value)


def test_long_messages_and_escape_codes_of_a_forward_are_cut_and_escaped():
    class Failing(Plain):
        def forward(self, x):
            raise ValueError("\x1b[31m" + "x" * 5000)

    with pytest.raises(DataError) as found:
        Network.from_torch(Failing(), inputs(4))
    assert len(str(found.value)) < 300 and "\x1b" not in str(found.value)


def test_a_list_of_one_tensor_is_told_apart_from_one_argument():
    class Batch(Plain):
        def forward(self, batch):
            return super().forward(batch[0])

    module, x = seeded(Batch), inputs(40)
    own = module([x]).argmax(-1)
    listed = Network.from_torch(module, [x[:4]])
    assert listed.spec.run.whole
    np.testing.assert_array_equal(listed.predict_index([x]), own)
    np.testing.assert_array_equal(Network.from_torch(module, ([x[:4]],)).predict_index(([x],)), own)

"""Progress: one bar over all phases, shown where somebody can see it."""

import io
import sys
from contextlib import contextmanager
from itertools import pairwise

import pytest
import torch
from rich.console import Console

import unbraid
from tests import factory
from unbraid import progress
from unbraid.decomposition import size_table
from unbraid.decomposition.adam import Adam
from unbraid.decomposition.protocol import MAKING
from unbraid.decomposition.reconstruction import joint_distillation, reconstruct
from unbraid.errors import ArgumentError
from unbraid.progress import bar, eager_bar, joined, shown, silent


class Recorded:
    """A factory of bars that keeps what they are told."""

    def __init__(self):
        self.bars = []

    @contextmanager
    def __call__(self, what, total):
        done = [0.0]
        self.bars.append((what, total, done))
        yield lambda amount: done.append(done[-1] + amount)

    def only(self):
        ((what, total, done),) = self.bars
        return what, total, done


SETTINGS = {
    "reconstruct": {"keep": 0.5}, "refined": {"keep": 0.5, "refine": 3}, "searched": {"max_loss": 0.3},
    "paper": {"strategy": "paper"}, "unrolled": {"mode": "unrolled"}, "some": {"keep": 0.5, "classes": [0, 2]},
}  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_one_bar_counts_the_whole_decomposition(settings):
    net = factory.network(("lstm",), "M:1", classes=3)
    told = Recorded()
    made = []
    module = unbraid.ConcernModule.__init__

    def counted(self, *arguments, **more):
        made.append(told.only()[2][-1])
        module(self, *arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unbraid.ConcernModule, "__init__", counted)
        parts = unbraid.decompose(net, factory.examples(net, count=60), progress=told, **settings)
    what, total, done = told.only()
    assert what == "decomposing" and done[-1] == pytest.approx(total)
    assert all(b > a for a, b in pairwise(done))
    assert len(made) >= len(parts) and made[-1] > made[0] > 0  # the bar moves while modules are made
    assert len(done) > 2 * len(parts)


@pytest.mark.parametrize("domain", [True, False])
def test_one_bar_counts_all_sizes_and_their_evidence(domain, monkeypatch):
    net, told, before = factory.network(("lstm",), "M:1", classes=3), Recorded(), []
    gather = size_table.gather

    def counted(*arguments):
        before.append(told.only()[2][-1])
        gather(*arguments)
        before.append(told.only()[2][-1])

    monkeypatch.setattr(size_table, "gather", counted)
    unbraid.decompose_sizes(net, factory.examples(net, count=60), [0.5, 0.25], progress=told, domain=domain)
    what, total, done = told.only()
    assert what == "decomposing" and done[-1] == pytest.approx(total)
    assert all(b > a for a, b in pairwise(done))
    assert len(before) == (4 if domain else 0)
    assert all(after > start for start, after in zip(before[::2], before[1::2], strict=True))


@pytest.mark.parametrize("concern", [None, "output"])
def test_the_bar_moves_with_every_gradient_step(concern, monkeypatch):
    net = factory.network(("lstm",), "M:1", classes=3, output="linear" if concern else "softmax")
    told, at_steps, step = Recorded(), [], Adam.step

    def counted(self, *arguments):
        at_steps.append(told.only()[2][-1])
        return step(self, *arguments)

    monkeypatch.setattr(Adam, "step", counted)
    x, y = factory.examples(net, count=60)
    settings = {"concern": concern} if concern else {}
    unbraid.decompose(net, x if concern else (x, y), keep=0.5, refine=30, progress=told, **settings)
    _, total, done = told.only()
    assert len(at_steps) >= 20  # the first comparison does not end the training
    assert all(b > a for a, b in pairwise(at_steps)) and done[-1] == pytest.approx(total)


def test_a_training_that_ends_early_reports_all_steps(monkeypatch):
    monkeypatch.setattr(joint_distillation, "PATIENCE", 1)
    monkeypatch.setattr(joint_distillation, "EVERY", 2)
    monkeypatch.setattr(Adam, "step", lambda self, rate: None)  # no module becomes better
    net = factory.network(("lstm",), "M:1", classes=3)
    found, trained = [], joint_distillation.trained

    def counted(students, names, teaching, steps, objective, advance):
        own = []
        rows = trained(students, names, teaching, steps, objective, own.append)
        found.append((own, len(students), steps))
        return rows

    monkeypatch.setattr(reconstruct, "trained", counted)
    unbraid.decompose(net, factory.examples(net, count=60), keep=0.5, refine=10)
    assert found and [(sum(own), own[:2]) for own, _, _ in found] == [
        (steps * count, [count] * 2) for _, count, steps in found
    ]


def test_languages_are_counted():
    net = factory.translator()
    for settings in ({"keep": 0.5}, {"keep": 0.5, "refine": 2}, {"strategy": "paper"}):
        told = Recorded()
        unbraid.decompose(net, factory.sentence_pairs(net), progress=told, **settings)
        _, total, done = told.only()
        assert done[-1] == pytest.approx(total) and done == sorted(done)


def test_fusing_is_counted():
    net = factory.network(("lstm",), "M:1", classes=3, units=6)
    x, y = factory.examples(net, count=80)
    with torch.no_grad():  # so that the network decides for every class
        net.head.bias -= torch.from_numpy(net.logits(x).mean(0))
    told = Recorded()
    unbraid.compose(unbraid.decompose(net, (x, y), keep=0.5)).fuse(x, progress=told)
    what, total, done = told.only()
    assert what == "fusing" and done[-1] == pytest.approx(total) and done == sorted(done)


def test_a_strategy_of_ones_own_may_open_any_phases():
    class Mine(type(unbraid.decomposition.strategies._STRATEGIES["reconstruct"])):
        def prepare(self, network, x, targets, config, progress):
            for name in ("first", "second"):
                with progress(name, 4) as advance:
                    advance(2)
            return super().prepare(network, x, targets, config, progress)

    told = Recorded()
    net = factory.network(("lstm",), "M:1", classes=3)
    unbraid.register_strategy("phased", Mine)
    unbraid.decompose(net, factory.examples(net, count=40), strategy="phased", keep=0.5, progress=told)
    _, total, done = told.only()
    assert done[-1] == pytest.approx(total) and done == sorted(done)


def test_joined_phases_share_a_bar_by_their_weights():
    told = Recorded()
    with joined(told, "work", {"a": 1, "b": 3}) as within:
        with within("a", 10) as advance:
            advance(5)
            assert told.only()[2][-1] == pytest.approx(0.125)
        assert told.only()[2][-1] == pytest.approx(0.25)  # a phase that reported too little is full at its end
        with within("b", 1) as advance:
            advance(7)
            assert told.only()[2][-1] == pytest.approx(1)
        with within("unknown", 0) as advance:
            advance(1)
    assert told.only()[2][-1] == pytest.approx(1)


def test_a_bar_is_not_full_after_an_error():
    told = Recorded()
    with pytest.raises(ZeroDivisionError), joined(told, "work", {MAKING: 1}) as within, within(MAKING, 2) as advance:
        advance(1)
        raise ZeroDivisionError
    assert told.only()[2][-1] == pytest.approx(0.5)


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(progress, "time", found)
    return found


def lines(stream, make, clock, seconds):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        with make("working", 10) as advance:
            for _ in range(10):
                clock.now += seconds / 10
                advance(1)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("make", "stream", "seconds", "seen"),
    [
        (bar, Terminal, 60, True), (bar, Terminal, 1.9, False), (bar, io.StringIO, 60, False),
        (silent, Terminal, 60, False), (eager_bar, Terminal, 0.1, True), (eager_bar, io.StringIO, 0.1, True),
    ],
)  # fmt: skip
def test_a_bar_appears_where_it_is_useful(make, stream, seconds, seen, clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    text = lines(stream(), make, clock, seconds)
    assert ("working" in text) is seen
    assert ("elapsed" in text and "remaining" in text) is seen


@pytest.mark.parametrize("widgets", [False, True])
def test_a_notebook_shows_the_bar(widgets, clock, monkeypatch):
    """Without ipywidgets rich shows nothing, so the bar is written as text then."""
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr(progress.importlib.util, "find_spec", lambda name: object() if widgets else None)
    console = progress._console()
    assert console.is_jupyter is widgets and (console.is_terminal or widgets)
    if not widgets:
        monkeypatch.setenv("TERM", "xterm")
        assert "working" in lines(io.StringIO(), bar, clock, 60)


def test_what_a_progress_argument_means():
    assert [shown(value) for value in (None, True, False, silent)] == [bar, eager_bar, silent, silent]
    with pytest.raises(ArgumentError, match="progress: expected None, True, False"):
        unbraid.decompose(factory.network(), ([], []), progress=3)
    assert isinstance(progress._console(), Console)

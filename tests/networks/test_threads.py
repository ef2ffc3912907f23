"""Threads of torch inside decompose, fuse and evaluate."""

import threading

import pytest
import torch

import unbraid
from tests import factory
from unbraid.demo.architectures import sequence_spec
from unbraid.demo.initial import initial_weights
from unbraid.networks.network import Network
from unbraid.networks.threads import WIDE, few_threads, given_threads

NARROW = factory.network(("lstm",), "M:1", classes=3)


@pytest.fixture(autouse=True)
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    assert torch.get_num_threads() == 3  # whatever a test did
    torch.set_num_threads(before)


def test_one_thread_inside_and_the_old_number_after_it():
    with few_threads([NARROW]):
        assert (torch.get_num_threads(), given_threads()) == (1, 3)
        with few_threads([NARROW]):
            assert (torch.get_num_threads(), given_threads()) == (1, 3)
        assert torch.get_num_threads() == 1
    assert (torch.get_num_threads(), given_threads()) == (3, 3)


def test_the_number_is_restored_after_an_error():
    with pytest.raises(ZeroDivisionError), few_threads([NARROW]), few_threads([NARROW]):
        raise ZeroDivisionError
    assert given_threads() == 3


def test_a_wide_layer_keeps_its_threads():
    spec = sequence_spec("gru", 1, 9, 2, WIDE, 2, "M:1", 3)
    wide = Network(spec, initial_weights(spec, 0))
    for networks in ([wide], [NARROW, wide]):
        with few_threads(networks):
            assert torch.get_num_threads() == 3
    with few_threads([NARROW]), few_threads([wide]):
        assert torch.get_num_threads() == 1


def test_blocks_of_several_threads_restore_the_number():
    """Whichever block ends first: the second one starts while the first one runs, and ends after it."""
    entered, left = threading.Event(), threading.Event()

    def second():
        with few_threads([NARROW]):
            entered.set()
            left.wait(10)

    thread = threading.Thread(target=second)
    with few_threads([NARROW]):
        thread.start()
        entered.wait(10)
    left.set()
    thread.join()
    assert torch.get_num_threads() == 3


def test_the_public_functions_run_in_one_thread(monkeypatch):
    seen = []
    forward = Network.features
    monkeypatch.setattr(Network, "features", lambda self, x: seen.append(torch.get_num_threads()) or forward(self, x))
    x, y = factory.examples(NARROW, count=60)
    parts = unbraid.decompose(NARROW, (x, y), keep=0.5)
    whole = unbraid.compose(parts)
    unbraid.evaluate(whole, (x, y), against=NARROW)
    with pytest.raises(unbraid.UnbraidError):
        unbraid.decompose(NARROW, (x, y[:3]))
    assert seen and set(seen) == {1}
    NARROW.predict(x)
    assert seen[-1] == 3


def test_the_result_does_not_depend_on_the_number():
    x, y = factory.examples(NARROW, count=60)
    one = unbraid.decompose(NARROW, (x, y), strategy="paper")
    torch.set_num_threads(1)
    other = unbraid.decompose(NARROW, (x, y), strategy="paper")
    torch.set_num_threads(3)
    for label in one:
        assert (one[label].margins(x) == other[label].margins(x)).all()

"""Several processes make the same modules as one, and leave nothing behind."""

import multiprocessing
import os
import pickle
import signal
import warnings

import numpy as np
import pytest
import torch

import unbraid
from unbraid.decomposition import processes
from unbraid.decomposition.processes import at_work, each
from unbraid.demo.small import small_examples, small_network
from unbraid.errors import ConfigError, DataError, UnbraidError

NETWORK = small_network()
EXAMPLES = small_examples(NETWORK)


class Unpicklable(Exception):
    def __init__(self, one, two):
        super().__init__(one)
        self.lock = multiprocessing.Lock()


class Tiny(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.hidden, self.head = torch.nn.LSTM(3, 6, batch_first=True), torch.nn.Linear(6, 5), None
        self.head = torch.nn.Linear(5, 3)

    def forward(self, x):
        return self.head(torch.relu(self.hidden(self.lstm(x)[0][:, -1])))


def tiny():
    torch.manual_seed(0)
    x = torch.randn(60, 4, 3)
    network = unbraid.Network.from_torch(Tiny().eval(), x[:6])
    return network, (x, np.arange(60) % 3)


def same(one, other):
    assert one.labels == other.labels
    for label in one.labels:
        ours, theirs = one[label].state_dict(), other[label].state_dict()
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
        kept = other[label].kept_nodes
        assert all((nodes == kept[name]).all() for name, nodes in one[label].kept_nodes.items())


@pytest.fixture(autouse=True)
def none_left():
    before = multiprocessing.active_children()  # tests of the benchmarks leave processes of joblib
    yield
    assert set(multiprocessing.active_children()) <= set(before)


@pytest.mark.parametrize("settings", [{}, {"memory": 1}, {"head": "fitted"}])
def test_modules_are_the_same_to_the_bit(settings):
    settings |= {"keep": 0.4}
    one = unbraid.decompose(NETWORK, EXAMPLES, **settings)
    same(one, unbraid.decompose(NETWORK, EXAMPLES, jobs=2, **settings))


def test_modules_of_a_users_module_and_sizes_are_the_same():
    network, examples = tiny()
    one, two = (unbraid.decompose_sizes(network, examples, [0.3, 0.6], jobs=jobs) for jobs in (1, 3))
    for keep in (0.3, 0.6):
        same(one[keep], two[keep])


@pytest.mark.parametrize("strategy", ["paper", "magnitude"])
def test_other_strategies_use_one_process(strategy, monkeypatch):
    monkeypatch.setattr(processes, "_forked", None)
    same(*(unbraid.decompose(NETWORK, EXAMPLES, strategy=strategy, jobs=jobs) for jobs in (1, 2)))


def test_processes_that_are_started_anew_make_the_same_modules(monkeypatch):
    """The work is pickled as for another process, but done in this one: starting processes takes seconds."""
    whole = processes._all
    monkeypatch.setattr(processes, "FORKED", False)
    monkeypatch.setattr(processes, "BACKEND", "sequential")
    monkeypatch.setattr(processes, "_all", lambda function, items: whole(pickle.loads(pickle.dumps(function)), items))
    network, examples = tiny()
    same(*(unbraid.decompose(network, examples, keep=0.4, jobs=jobs) for jobs in (1, 2)))


def test_results_are_in_order_and_warnings_are_passed_on():
    def warned(item):
        if item == 3:
            warnings.warn("three", UserWarning, stacklevel=1)
        return -item

    with processes.processes(3), pytest.warns(UserWarning, match="three"):
        assert list(each(warned, range(7))) == [-item for item in range(7)]


@pytest.mark.parametrize("items", [2, 5, 40])
def test_processes_start_at_once_and_give_results_in_order(items):
    here = os.getpid()
    with processes.processes(2), at_work(lambda item: (item, os.getpid()), range(items)) as found:
        assert len(multiprocessing.active_children()) >= 2
        given = list(found)
    assert [item for item, _ in given] == list(range(items))
    assert here not in {process for _, process in given}


def test_an_error_beside_the_processes_ends_them():
    with processes.processes(2), pytest.raises(DataError), at_work(abs, [1, -2, 3]):
        raise DataError("stopped")


def test_a_process_that_ended_early_is_an_error():
    ends = pytest.raises(UnbraidError, match="exit code 3")
    with processes.processes(2), ends, at_work(lambda item: os._exit(3), range(40)) as found:
        list(found)


@pytest.mark.parametrize(
    ("error", "expected", "text"),
    [
        (DataError("no examples"), DataError, "no examples"),
        (Unpicklable("locked", 2), UnbraidError, "locked"),
        (KeyError("name"), KeyError, "name"),
    ],
)
def test_errors_of_a_process_are_raised(error, expected, text):
    def failing(item):
        if item == 4:
            raise error
        return item

    with processes.processes(2), pytest.raises(expected, match=text):
        list(each(failing, range(9)))


def test_a_process_that_is_killed_is_an_error():
    def killed(item):
        if item == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    with processes.processes(2), pytest.raises(UnbraidError, match="ended with exit code -9"):
        list(each(killed, range(3)))


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupt_leaves_no_process(error):
    def interrupted(item):
        return item

    def consume():
        for found in each(interrupted, range(50)):
            if found == 2:
                raise error

    with processes.processes(2), pytest.raises(error):
        consume()


def test_progress_reaches_its_end():
    done = []

    class Bar:
        def __init__(self, what, total):
            done.append(0.0)

        def __enter__(self):
            return lambda amount: done.append(amount)

        def __exit__(self, *error):
            return None

    unbraid.decompose(NETWORK, EXAMPLES, jobs=2, progress=Bar)
    assert sum(done) == pytest.approx(1) and len(done) > len(NETWORK.labels)


@pytest.mark.parametrize("jobs", [0, -2, 1.5, True, "2", None])
def test_other_numbers_of_processes_are_refused(jobs):
    with pytest.raises(ConfigError, match="jobs="):
        unbraid.decompose(NETWORK, EXAMPLES, jobs=jobs)


def test_a_process_for_each_core():
    assert processes.checked_jobs(-1) >= 1 and processes.checked_jobs(3) == 3

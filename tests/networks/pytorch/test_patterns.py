"""How people write recurrent classifiers: a part of the census, and what its patterns have in common."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.census import pytorch as census
from benchmarks.census.torch_patterns import ENTRIES
from benchmarks.census.torch_patterns.cells import CellLoop, CellTagger
from benchmarks.census.torch_patterns.packing import SortedByCaller, SortsByWords
from benchmarks.census.torch_patterns.states import FixedBuffer, Stateful, StatesTimeFirst
from tests.locations import ROOT
from unbraid import Network, compose, decompose, shrink
from unbraid.decomposition.removal.observation import observe
from unbraid.errors import DataError, UnbraidError, UnbraidWarning
from unbraid.networks.pytorch.memory import Memory
from unbraid.networks.pytorch.merging import full_precision, plain

pytestmark = pytest.mark.filterwarnings("ignore::unbraid.UnbraidWarning", "ignore:LSTM with projections:UserWarning")

BY_NAME = {entry.name: entry for entry in ENTRIES}
FEW = {"samples_per_class": 12}


def made(name, count=60):
    """An entry, its module, network, inputs and labels."""
    entry = BY_NAME[name]
    module = entry.module()
    example, _ = entry.make(np.random.default_rng(1), entry.examples)
    x, y = entry.make(np.random.default_rng(0), count)
    return entry, module, Network.from_torch(module, example, **(entry.settings or {})), x, y


def test_the_census_is_large_enough():
    patterns = {entry.pattern for entry in ENTRIES}
    assert len(ENTRIES) >= 80 and len(patterns) >= 25 and len(BY_NAME) == len(ENTRIES)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_decisions_are_those_of_the_module(entry):
    if entry.refused is not None:
        example, _ = entry.make(np.random.default_rng(1), entry.examples)
        with pytest.raises(UnbraidError, match=entry.refused) as told:
            Network.from_torch(entry.module(), example)
        assert len(str(told.value)) < 400
        return
    entry, module, network, x, y = made(entry.name, 40)
    census._equal(network.predict_index(x), entry.decisions(module, x), y)


@pytest.mark.parametrize(
    "name",
    ["LSTMCellTagger", "HeadInLoopLast", "SiameseFolded", "Hierarchical", "SortsAndRestoresScores", "FixedInInit",
     "StatefulBuffer", "StatesTimeFirst", "PackedData", "Sentiment", "Base(proj_size, 2 layers)", "NormedLSTM",
     "ListOfLengthsSorted", "OneSentenceClass", "CRFListed", "Characters"],
)  # fmt: skip
def test_a_class_works_from_end_to_end(name, tmp_path):
    steps = census.measure(BY_NAME[name], tmp_path, unseen=30)
    assert set(steps.values()) == {"ok"} or set(census.refusals(steps)) == {"shrink"}, steps
    found = census._load({name: str(tmp_path)})
    assert found == {name: "ok"}


def test_saved_modules_load_in_a_fresh_process(tmp_path):
    names = ["CellsStacked", "Channels", "Base(weight_norm)"]
    folders = {name: tmp_path / str(place) for place, name in enumerate(names)}
    for name, folder in folders.items():
        folder.mkdir()
        steps = census.measure(BY_NAME[name], folder, unseen=30)
        assert set(steps.values()) == {"ok"} or set(census.refusals(steps)) == {"shrink"}, steps
    assert census.loaded(folders) == dict.fromkeys(names, "ok")


@pytest.mark.parametrize("gates", ["hidden", "each"])
@pytest.mark.parametrize(
    "name", ["CellTagger", "StepByStep", "Conditional", "Hierarchical", "SiameseFolded", "Channels", "FixedInInit",
             "OneSentence", "SortedTagger", "HeadInLoop", "FlatAndBack"]
)  # fmt: skip
def test_unrolled_modules_side_by_side_equal_each_alone(name, gates):
    _, _, network, x, y = made(name)
    parts = decompose(network, (x, y), mode="unrolled", gates=gates, max_removed=0.3, **FEW)
    margins = compose(parts).margins(x)
    for place, part in enumerate(parts.values()):
        np.testing.assert_allclose(margins[..., place], part.margins(x), atol=1e-5)


@pytest.mark.parametrize("name", ["CellTagger", "StepByStep", "Hierarchical", "SiameseFolded", "FixedInInit",
                                  "OneSentence", "SortsAndRestoresScores"])  # fmt: skip
def test_modules_from_which_nothing_is_removed_equal_the_network(name):
    _, _, network, x, y = made(name)
    for settings in ({"mode": "unrolled"}, {"mode": "rolled"}):
        parts = decompose(network, (x, y), max_removed=0, head="softmax", **settings, **FEW)
        found = np.stack([part.margins(x) for part in parts.values()], -1)
        z = torch.from_numpy(network.logits(x)).double()
        others = torch.stack([z[..., [k for k in range(z.shape[-1]) if k != j]].logsumexp(-1) for j in range(3)], -1)
        np.testing.assert_allclose(found, (z - others).numpy(), atol=1e-4)


def test_cells_are_observed_over_all_calls():
    module = CellTagger().eval()
    x = torch.randint(1, 20, (30, 5))
    network = Network.from_torch(module, x[:6])
    with observe(network, network.check(x)) as seen:
        values = seen.layers["cell"].values.copy()
    h = torch.zeros(30, 6)
    with torch.no_grad():
        for t in range(5):
            h = module.cell(module.embed(x[:, t]), h)
            np.testing.assert_allclose(values[:, t], h.T, atol=1e-6)


def test_gates_of_cells_are_observed_with_the_state_of_each_call():
    module = CellLoop(nn.LSTMCell).eval()
    x = torch.randn(20, 3, 4)
    network = Network.from_torch(module, x[:6])
    with observe(network, network.check(x), gates=True) as seen:
        values = seen.layers["cell"].values.copy()  # (4H, T, N)
    h = c = torch.zeros(20, 6)
    cell = module.cell
    with torch.no_grad():
        for t in range(3):
            i, f, g, o = (x[:, t] @ cell.weight_ih.T + cell.bias_ih + h @ cell.weight_hh.T + cell.bias_hh).chunk(4, 1)
            wanted = torch.cat([i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()], 1)
            np.testing.assert_allclose(values[:, t], wanted.T, atol=1e-5)
            h, c = cell(x[:, t], (h, c))


def test_sequences_of_an_example_are_observed_one_after_the_other():
    for name, order in (("Hierarchical", "outer"), ("Channels", "inner")):
        _, _, network, x, _ = made(name, 20)
        site = "words" if name == "Hierarchical" else "rnn"
        assert network.spec.run.folds == {site: order}
        with observe(network, network.check(x)) as seen:
            values = seen.layers[site].values.copy()
        alone = np.concatenate([_values(network, site, x[i : i + 1]) for i in range(20)], -1)
        np.testing.assert_allclose(values, alone, atol=1e-6)


def _values(network, site, x):
    with observe(network, network.check(x)) as seen:
        return seen.layers[site].values.copy()


def test_examples_are_observed_in_their_order_where_batches_are_sorted():
    module = SortedByCaller().eval()
    x, n = torch.randint(1, 20, (30, 5)), torch.randint(1, 6, (30,))
    network = Network.from_torch(module, (x[:6], n[:6]))
    with observe(network, network.check((x, n))) as seen:
        values, valid = seen.layers["rnn"].values.copy(), seen.layers["rnn"].valid.copy()
    np.testing.assert_array_equal(valid.sum(0), n)
    with torch.no_grad():
        for place in range(30):
            wanted, _ = module.rnn(module.embed(x[place : place + 1, : n[place]]))
            np.testing.assert_allclose(values[:, : n[place], place], wanted[0].T, atol=1e-6)


@pytest.mark.parametrize("kind", [SortedByCaller, SortsByWords])
@pytest.mark.parametrize("count", [1, 2, 7, 513])
def test_any_number_of_unsorted_sequences_is_read(kind, count):
    module = kind().eval()
    n = torch.randint(1, 6, (600,), generator=torch.Generator().manual_seed(0))
    x = torch.randint(1, 20, (600, 5)) * (torch.arange(5) < n[:, None])
    given = (lambda rows: (x[rows], n[rows])) if kind is SortedByCaller else (lambda rows: x[rows])
    network = Network.from_torch(module, given(slice(0, 6)))
    found = network.logits(given(slice(0, count)))
    with torch.no_grad():
        for row in range(0, count, 50):
            own = module(*given(slice(row, row + 1))) if kind is SortedByCaller else module(given(slice(row, row + 1)))
            np.testing.assert_allclose(found[row : row + 1], own, atol=1e-5)


@pytest.mark.parametrize("count", [1, 5, 6, 7, 40])
def test_a_fixed_batch_size_reads_any_number_of_examples(count):
    module = FixedBuffer().eval()
    x = torch.randn(40, 5, 4)
    network = Network.from_torch(module, x[:6])
    assert network.spec.run.batch == 6
    with torch.no_grad():
        own = torch.cat([module(x[i].expand(6, -1, -1))[:1] for i in range(count)])
    np.testing.assert_allclose(network.logits(x[:count]), own, atol=1e-5)


def test_a_stateful_module_starts_each_batch_from_its_first_state():
    module = Stateful().eval()
    x = torch.randn(12, 5, 4)
    network = Network.from_torch(module, x[:6])
    assert network.spec.run.keeps and module.hidden[0].abs().sum() == 0
    np.testing.assert_array_equal(network.logits(x), network.logits(x))
    np.testing.assert_allclose(network.logits(x)[6:], network.logits(x[6:]), atol=1e-6)


def test_states_are_taken_along_their_second_axis():
    module = StatesTimeFirst().eval()
    x, h = torch.randn(5, 600, 4), torch.randn(1, 600, 6)
    network = Network.from_torch(module, (x[:, :6], h[:, :6]))
    with torch.no_grad():
        np.testing.assert_allclose(network.logits((x, h)), module(x, h)[0].transpose(0, 1), atol=1e-5)
    with pytest.raises(DataError, match="599"):
        network.predict((x, h[:, 1:]))


@pytest.mark.parametrize("layers", [1, 2, 6])
def test_as_many_layers_as_examples_are_told_apart(layers):
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.fc = nn.GRU(4, 6, layers, batch_first=True), nn.Linear(6, 3)

        def forward(self, x, h):
            return self.fc(self.rnn(x, h)[0][:, -1])

    torch.manual_seed(0)
    module, x, h = Deep().eval(), torch.randn(9, 5, 4), torch.randn(layers, 9, 6)
    network = Network.from_torch(module, (x[:6], h[:, :6]))
    with torch.no_grad():
        np.testing.assert_allclose(network.logits((x, h)), module(x, h), atol=1e-5)


@pytest.mark.parametrize("name", ["Base(weight_norm)", "Base(old weight_norm)", "Base(spectral_norm)", "Base(prune)"])
def test_the_users_weights_stay_as_they_are(name):
    module = BY_NAME[name].module()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    x = torch.randn(20, 5, 4)
    own = module(x)
    network = Network.from_torch(module, x[:6])
    after = module.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(after[key], value) for key, value in before.items())
    torch.testing.assert_close(module(x), own)
    np.testing.assert_allclose(network.logits(x), own.detach(), atol=1e-5)
    assert not any("original" in key or "_orig" in key for key in network.state_dict())


def test_what_was_made_plain_is_told():
    notes = plain(BY_NAME["Base(prune)"].module())
    assert notes == [
        "layer 'rnn': pruning masks merged into its weights", "layer 'fc': pruning masks merged into its weights",
    ]  # fmt: skip
    assert full_precision(BY_NAME["Base(float16)"].module()) == ["torch.float16"]
    whole = BY_NAME["Base(LSTM)"].module()
    assert plain(whole) == full_precision(whole) == []


def test_merged_weights_are_logged_once(caplog):
    caplog.set_level("INFO", "unbraid")
    _, _, network, x, _ = made("Base(prune)")
    network.predict(x)
    assert [record.message for record in caplog.records if record.name == "unbraid"] == [
        "from_torch: layer 'rnn': pruning masks merged into its weights",
        "from_torch: layer 'fc': pruning masks merged into its weights",
    ]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Base(float16)", "Base: Weights of torch.float16 are computed in float32"),
        ("Base(bfloat16)", "Weights of torch.bfloat16"),
        ("OneSentence", "one example a call"),
        ("BatchOfOne", "one example a call"),
        ("CRFTagger", "head='emission' alone, so that decisions are those of this layer"),
        ("CRFOneSentence", r"one example a call.*No result of the module is a function"),
    ],
)
def test_what_a_network_does_otherwise_is_told_once(name, says):
    entry = BY_NAME[name]
    example, _ = entry.make(np.random.default_rng(1), entry.examples)
    with pytest.warns(UnbraidWarning, match=says) as told:
        Network.from_torch(entry.module(), example, **(entry.settings or {}))
    assert len(told) == 1 and told[0].filename == __file__


@pytest.mark.parametrize("name", ["Base(LSTM)", "FixedInInit", "SortedByCaller", "FlatLogSoftmax", "PackedData"])
def test_a_usual_network_is_made_without_a_warning(name):
    entry = BY_NAME[name]
    example, _ = entry.make(np.random.default_rng(1), entry.examples)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Network.from_torch(entry.module(), example, **(entry.settings or {}))


@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("settings", [{}, {"num_layers": 2}, {"num_layers": 2, "bidirectional": True}])
def test_projections_compute_as_torch_does(settings, start):
    from unbraid.networks.stack import RecurrentStack

    torch.manual_seed(0)
    own = nn.LSTM(4, 6, proj_size=3, batch_first=True, **settings).double()
    count = own.num_layers * (2 if own.bidirectional else 1)
    x = torch.randn(7, 5, 4, dtype=torch.float64)
    state = tuple(torch.randn(count, 7, size, dtype=torch.float64) for size in (3, 6)) if start else None
    out, last = own(x, state)
    found, final = RecurrentStack(own)(x, state)
    torch.testing.assert_close(found, out)
    torch.testing.assert_close(final, last)


def test_memory_resets_tensors_and_leaves_other_attributes():
    class Keeps(nn.Module):
        def __init__(self):
            super().__init__()
            self.state, self.log, self.count = torch.zeros(2), {"last": torch.ones(1)}, 0
            self.register_buffer("total", torch.zeros(3))

    module = Keeps()
    memory = Memory(module)
    assert not memory.changed()
    module.state += 1
    module.log["last"] = torch.zeros(1)
    module.total += 2
    module.new = torch.ones(1)
    assert memory.changed()
    memory.restore()
    assert not memory.changed() and not hasattr(module, "new")
    assert module.state.sum() == module.total.sum() == 0 and module.log["last"] == 1


def test_batch_objects_are_refused_with_advice():
    class Batch:
        text = torch.ones(4, 5)

    with pytest.raises(DataError, match=r"example holds Batch, .*SimpleNamespace"):
        Network.from_torch(BY_NAME["BatchObject"].module(), Batch())


def test_the_census_runs_as_a_script():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.census.pytorch", "--fast", "TiedScores", "Base(RNN)"],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert "1 of 1 work" in done.stdout and "1 are refused" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["SortedByCaller", "FixedInInit", "StatefulBuffer", "OneSentence", "PackedDataLog",
                                  "HeadInLoopListed", "ConvHead"])  # fmt: skip
def test_a_network_is_shrunk_in_the_way_its_module_is_called(name):
    entry, module, network, x, _ = made(name)
    whole = shrink(network, x, keep=1.0)
    np.testing.assert_array_equal(entry.decisions(whole, x), entry.decisions(module, x))
    small = shrink(network, x, keep=0.5)
    assert type(small) is type(module)
    sizes = [p.hidden_size for m in (module, small) for p in m.modules() if isinstance(p, nn.RNNBase)]
    assert sizes[1] == sizes[0] // 2
    assert entry.decisions(small, x).shape == entry.decisions(module, x).shape


@pytest.mark.parametrize("name", ["SortedByCaller", "FixedInInit", "OneSentence"])
def test_a_module_that_needs_another_call_is_not_shrunk_alone(name):
    _, module, _, x, _ = made(name)
    with pytest.raises(UnbraidError, match=r"shrink its network: unbraid.shrink\(unbraid.Network.from_torch"):
        shrink(module, x, keep=0.5)


def test_what_a_module_keeps_between_calls_does_not_change_its_smaller_copy():
    _, module, network, x, _ = made("StatefulBuffer")
    first = shrink(network, x, keep=0.5).state_dict()
    with torch.no_grad():
        module(x[:6])  # its states are others now, but the network was made before
    second = shrink(network, x, keep=0.5).state_dict()
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=0, atol=0)

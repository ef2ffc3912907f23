"""Cells and layers of users' own classes: against nn.LSTMCell, literal loops, and their own forward."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.census import pytorch as census
from benchmarks.census.torch_patterns import ENTRIES
from benchmarks.census.torch_patterns.own_cells import (
    GATES,
    HardLSTM,
    JoinedRNN,
    Layered,
    LinearGRU,
    LinearLSTM,
    Loop,
    MinGRU,
    NormLSTM,
)
from tests.locations import ROOT
from unbraid import Network, compose, decompose, load_decomposition, register_cell
from unbraid.cli.printing import description, description_text
from unbraid.decomposition.reconstruction.layer_refit import refit
from unbraid.errors import ArgumentError, ConfigError, DataError, FormatError, UnbraidError, UnsupportedLayer
from unbraid.networks.layers import sliced
from unbraid.networks.own_cells import form_of
from unbraid.networks.own_layer import OwnLayer
from unbraid.storage.loading import load_modules

BY_NAME = {entry.name: entry for entry in ENTRIES}
OWN = [entry.name for entry in ENTRIES if entry.pattern.startswith("own ")]
FEW = {"samples_per_class": 12}


def made(name, count=60):
    """A module of the census, its network, inputs and labels."""
    entry = BY_NAME[name]
    module = entry.module()
    example, _ = entry.make(np.random.default_rng(1), entry.examples)
    x, y = entry.make(np.random.default_rng(0), count)
    return module, Network.from_torch(module, example), x, y


def twins():
    """A module with a hand-written LSTM, the same with nn.LSTMCell, and their inputs."""
    module, network, x, y = made("LinearLSTM")

    class Plain(Loop):
        def __init__(self):
            super().__init__(nn.LSTMCell, 2)

    plain = Plain().eval()
    own = module.cell
    cell = plain.cell
    with torch.no_grad():
        for mine, theirs in ((cell.weight_ih, own.x2h.weight), (cell.weight_hh, own.h2h.weight),
                             (cell.bias_ih, own.x2h.bias), (cell.bias_hh, own.h2h.bias),
                             (plain.fc.weight, module.fc.weight), (plain.fc.bias, module.fc.bias)):  # fmt: skip
            mine.copy_(theirs)
    return network, Network.from_torch(plain, x[:6]), x, y


@pytest.mark.parametrize("mode", ["rolled", "unrolled"])
def test_a_hand_written_lstm_is_decomposed_like_that_of_torch(mode):
    own, plain, x, y = twins()
    for settings in ({"strategy": "paper", "max_removed": 0.4}, {"strategy": "random", "keep": 0.5}):
        mine, theirs = (decompose(network, (x, y), mode=mode, **settings, **FEW) for network in (own, plain))
        for label, part in mine.items():
            np.testing.assert_array_equal(part.kept_nodes["cell"], theirs[label].kept_nodes["cell"])
            np.testing.assert_allclose(part.margins(x), theirs[label].margins(x), atol=1e-4)


def test_both_choose_the_same_units_for_compact_modules():
    own, plain, x, y = twins()
    mine, theirs = (decompose(network, (x, y), keep=0.5, **FEW) for network in (own, plain))
    for label, part in mine.items():
        np.testing.assert_array_equal(part.kept_nodes["cell"], theirs[label].kept_nodes["cell"])
        assert part.body.stacks()["cell"].own_layer.own.h2h.weight.shape == (12, 3)


class TwoMinGRUs(nn.Module):
    def __init__(self):
        super().__init__()
        self.below, self.above, self.fc = MinGRU(4, 6), MinGRU(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.fc(self.above(self.below(x))[:, -1])


@pytest.mark.parametrize("name", ["LinearLSTM", "JoinedRNN", "LinearGRU", "HardDecoder", "TwoMinGRUs"])
def test_units_that_repeat_others_are_folded_into_them(name):
    """Units 3 to 5 repeat units 0 to 2, so that three units can compute the same as six."""
    torch.manual_seed(2)
    module = TwoMinGRUs().eval() if name == "TwoMinGRUs" else BY_NAME[name].module()
    x = torch.randn(200, 5, 4)
    for part in list(module.modules()):
        if form_of(part) is not None:
            repeated = OwnLayer(part, form_of(part)).sliced(torch.tensor([0, 1, 2, 0, 1, 2]))
            part.load_state_dict(repeated.own.state_dict())
    network = Network.from_torch(module, x[:6])
    kept = {name: torch.arange(3) for name in network.layers}
    body, _ = sliced(network.body, kept)
    wanted = torch.from_numpy(network.features(x).numpy())[..., :3]
    cut = float((body(x)[..., :3] - wanted).square().mean())
    refit(network.body, body, kept, network.check(x), network.device, np.ones((len(x), 1), np.float32))
    fitted = float((body(x)[..., :3] - wanted).square().mean())
    assert fitted < cut / 100


@pytest.mark.parametrize("name", ["LinearLSTM", "NormLSTM", "JoinedRNN", "LinearGRU"])
def test_unrolled_modules_equal_a_literal_loop_with_masks(name):
    module, network, x, y = made(name, 20)
    part = next(iter(decompose(network, (x, y), strategy="paper", mode="unrolled", max_removed=0.5, **FEW).values()))
    kept = torch.from_numpy(part.kept_nodes["cell"]).float()
    layer, states = OwnLayer(module.cell, form_of(module.cell)), (torch.zeros(20, 6),) * module.states
    with torch.no_grad():
        for t in range(x.shape[1]):
            states = layer.step(x[:, t], tuple(s * kept[t] for s in states))
            states = tuple(s * kept[t] for s in states)
        np.testing.assert_allclose(part.margins(x), part.head.margin(states[0]), atol=1e-5)


@pytest.mark.parametrize("name", OWN)
def test_modules_side_by_side_equal_each_alone(name):
    _, network, x, y = made(name)
    for settings in ({"mode": "unrolled", "strategy": "paper", "max_removed": 0.3}, {"keep": 0.5}):
        parts = decompose(network, (x, y), **settings, **FEW)
        margins = compose(parts).margins(x)
        for place, part in enumerate(parts.values()):
            np.testing.assert_allclose(margins[..., place], part.margins(x), atol=1e-5)


@pytest.mark.parametrize("name", OWN)
def test_modules_from_which_nothing_is_removed_equal_the_network(name):
    _, network, x, y = made(name)
    for mode in ("rolled", "unrolled"):
        parts = decompose(network, (x, y), strategy="paper", mode=mode, max_removed=0, head="softmax", **FEW)
        found = np.stack([part.margins(x) for part in parts.values()], -1)
        z = torch.from_numpy(network.logits(x)).double()
        others = torch.stack([z[..., [k for k in range(3) if k != j]].logsumexp(-1) for j in range(3)], -1)
        np.testing.assert_allclose(found, (z - others).numpy(), atol=1e-4)


@pytest.mark.parametrize("name", ["LinearLSTM", "NormLSTM", "HardLSTM, 2 layers", "MinGRU, 2 layers", "HardDecoder"])
def test_own_cells_work_from_end_to_end(name, tmp_path):
    steps = census.measure(BY_NAME[name], tmp_path, unseen=30)
    assert all(text == "ok" for text in steps.values()), steps


def test_modules_with_own_cells_load_in_a_fresh_process(tmp_path):
    folders = {}
    for place, name in enumerate(["NormLSTM", "MinTagger"]):
        folders[name] = tmp_path / str(place)
        folders[name].mkdir()
        census.measure(BY_NAME[name], folders[name], unseen=30)
    assert census.loaded(folders) == dict.fromkeys(folders, "ok")


def test_a_class_that_is_not_registered_is_named_when_a_folder_is_loaded(tmp_path):
    _, network, x, y = made("LinearLSTM")
    decompose(network, (x, y), keep=0.5, **FEW).save(tmp_path / "parts")
    code = (
        "import sys, torch, unbraid\n"
        "from torch import nn\n"
        "class LinearLSTM(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.x2h, self.h2h = nn.Linear(4, 24), nn.Linear(6, 24)\n"
        "class Loop(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.cell, self.fc = LinearLSTM(), nn.Linear(6, 3)\n"
        "try:\n"
        "    unbraid.load_decomposition(sys.argv[1], module=Loop())\n"
        "except unbraid.UnbraidError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "parts")], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert "unbraid.register_cell for LinearLSTM" in done.stdout


def test_folders_are_opened_without_the_code_of_their_cells(tmp_path):
    _, network, x, y = made("HardLSTM, 2 layers")
    parts = decompose(network, (x, y), keep=0.5, **FEW)
    parts.save(tmp_path / "parts")
    _, (parent,), modules = load_modules(tmp_path / "parts", "decomposition", None, True)
    assert list(parent.layers) == ["below", "above"]
    assert modules[0].retention() == parts[parts.labels[0]].retention()
    with pytest.raises(UnbraidError, match="without its code"):
        modules[0].margins(x)
    half = next(iter(decompose(network, (x, y), strategy="paper", max_removed=0.5, **FEW).values()))
    half.save(tmp_path / "half")
    assert load_modules(tmp_path / "half", "module", None, True)[2][0].concern.kept.keys() == {"below", "above"}


def test_other_forms_than_the_stored_ones_are_refused(tmp_path):
    class Own(JoinedRNN):
        pass

    form = {"both.weight": ("units", "inputs+units"), "both.bias": "units"}
    register_cell(Own, states=1, units="hidden", prune=form)
    module = Loop(Own).eval()
    x = torch.randn(30, 4, 4)
    network = Network.from_torch(module, x[:6])
    decompose(network, (x, network.predict(x)), keep=0.5, missing="skip", **FEW).save(tmp_path / "parts")
    register_cell(Own, states=1, units="hidden", prune={**form, "both.weight": ("units", "units+inputs")})
    with pytest.raises(UnbraidError, match="in another order"):
        load_decomposition(tmp_path / "parts", module=Loop(Own))


def test_manifests_with_impossible_cells_are_refused(tmp_path):
    _, network, x, y = made("LinearLSTM")
    decompose(network, (x, y), keep=0.5, **FEW).save(tmp_path / "parts")
    manifest = tmp_path / "parts" / "unbraid.json"
    text = manifest.read_text()
    for old, new in (
        ('"4*units"', '"9*units"'),
        ('"4*units"', '"units of"'),
        ('"name":"x2h.weight"', '"name":"h2h.weight"'),
        ('"states":2', '"states":0'),
    ):
        changed = text.replace(old, new)
        if changed == text:
            changed = text.replace(old.replace(":", ": "), new.replace(":", ": "))
        assert changed != text
        manifest.write_text(changed)
        with pytest.raises(FormatError):
            load_modules(tmp_path / "parts", "decomposition", None, True)


def test_the_strength_of_edges_and_the_weights_of_units_are_those_of_the_matrices():
    own, plain, _, _ = twins()
    mine, theirs = own.recurrent_layers()["cell"], plain.recurrent_layers()["cell"]
    torch.testing.assert_close(mine.strength, theirs.strength)
    assert mine.incoming.shape == (6, 4 * (4 + 1 + 6 + 1))
    assert mine.weight_count(6) == sum(p.numel() for p in mine.parameters())
    assert mine.weight_count(3) == sum(p.numel() for p in mine.sliced(torch.arange(3)).parameters())


@pytest.mark.parametrize("kind", [LinearLSTM, NormLSTM, HardLSTM, JoinedRNN, LinearGRU, MinGRU])
def test_smaller_cells_equal_the_cell_whose_other_units_do_not_exist(kind):
    torch.manual_seed(3)
    cell = kind(4, 6).eval()
    layer, kept = OwnLayer(cell, form_of(cell)), torch.tensor([4, 0, 3])
    small = layer.sliced(kept)
    assert small.own.hidden == small.units == 3
    if kind in (NormLSTM, HardLSTM):
        return  # norms of fewer units, and states that another test compares
    x, states = torch.randn(5, 4), tuple(torch.randn(5, 6) for _ in range(layer.form.states))
    only = torch.zeros(6).index_fill(0, kept, 1)
    with torch.no_grad():
        wanted = layer.step(x, tuple(s * only for s in states))
        found = small.step(x, tuple(s[:, kept] for s in states))
    for new, old in zip(found, wanted, strict=True):
        torch.testing.assert_close(new, old[:, kept])


def registered(**changes):
    """Register a class with wrong settings; returns a module of it."""

    class Own(LinearLSTM):
        pass

    register_cell(Own, **{"states": 2, "units": "hidden", "prune": GATES, **changes})
    return Loop(Own, 2).eval()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"units": "width"}, "Own.width is None"),
        ({"prune": {**GATES, "x2h.weight": ("4*units", "units")}}, "x2h.weight.*size 4"),
        ({"prune": {**GATES, "x2h.weight": ("3*units", "inputs")}}, "axis of size 24"),
        ({"prune": {**GATES, "other.weight": ("units",)}}, "no weight 'other.weight'"),
        ({"prune": {**GATES, "h2h.weight": "4*units"}}, "names 1 axes"),
        ({"prune": {key: axes for key, axes in GATES.items() if "weight" in key}}, "fails|in another order"),
        ({"prune": {"h2h.weight": ("4*units", "units")}}, "no axis of Own has inputs"),
        ({"states": 1}, "fails|gives"),
        ({"step": lambda cell, x, states: cell(x, states)[0]}, "one step of Own gives"),
        ({"step": lambda cell, x, states: (states[0], states[1])}, "neither its outputs nor one of its states"),
    ],
)
def test_forms_that_do_not_fit_are_refused_when_the_network_is_made(changes, text):
    with pytest.raises(UnsupportedLayer, match=text) as told:
        Network.from_torch(registered(**changes), torch.randn(5, 4, 4))
    assert len(str(told.value)) < 400


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"states": 0}, ConfigError),
        ({"states": "h"}, ConfigError),
        ({"prune": {"x2h.weight": ("4*units", "features")}}, ConfigError),
        ({"prune": {"x2h.weight": ("4*units", None)}}, ConfigError),
        ({"prune": {"x2h.weight": ("*", "inputs")}}, ConfigError),
        ({"prune": {"x2h.weight": 3}}, ConfigError),
        ({"prune": ["x2h.weight"]}, ArgumentError),
        ({"units": 6}, ArgumentError),
        ({"step": "forward"}, ArgumentError),
    ],
)
def test_wrong_settings_are_refused_when_a_class_is_registered(changes, kind):
    with pytest.raises(kind):
        registered(**changes)
    with pytest.raises(ArgumentError):
        register_cell(LinearLSTM(4, 6), states=2, units="hidden", prune=GATES)


def test_states_that_do_not_start_as_zeros_are_refused():
    class Learned(HardLSTM):
        def forward(self, x, state=None):
            return super().forward(x, state or (x.new_ones(len(x), self.hidden),) * 2)

    register_cell(
        Learned, states=2, units="hidden", step=lambda layer, x, states: layer(x.unsqueeze(1), states)[1],
        prune={"w": ("inputs", "4*units"), "u": ("units", "4*units"), "b": "4*units"},
    )  # fmt: skip
    with pytest.raises(UnsupportedLayer, match="from zeros"):
        Network.from_torch(Layered(Learned).eval(), torch.randn(5, 4, 4))


def test_what_own_cells_do_not_have_is_refused_with_a_sentence():
    _, network, x, y = made("LinearLSTM")
    with pytest.raises(ConfigError, match="edges='all'"):
        decompose(network, (x, y), strategy="paper", mode="unrolled", edges="release", **FEW)
    assert isinstance(network.to_torch().cell, LinearLSTM)


def test_forward_reads_attributes_of_an_own_cell():
    class Named(LinearLSTM):
        scale = 0.5

    class Reads(Loop):
        def start(self, x):
            return (x.new_zeros(len(x), self.cell.hidden),) * 2

        def forward(self, x):
            return super().forward(x * self.cell.scale)

    register_cell(Named, states=2, units="hidden", prune=GATES)
    torch.manual_seed(0)
    module, x = Reads(Named, 2).eval(), torch.randn(60, 3, 4)
    network = Network.from_torch(module, x[:6])
    for settings in ({"keep": 0.5}, {"strategy": "paper"}):
        parts = decompose(network, (x, np.arange(60) % 3), **settings, **FEW)
        assert np.isfinite(compose(parts).margins(x)).all()
    with pytest.raises(AttributeError, match="absent"):
        _ = next(iter(parts.values())).body.stacks()["cell"].absent


def test_more_tensors_than_states_are_refused():
    class Masked(Loop):
        def forward(self, x):
            state = self.start(x)
            for step in x.unbind(1):
                state = self.cell(step, (state, state))
            return self.fc(state)

    class Own(JoinedRNN):
        def forward(self, x, both):
            return super().forward(x, both[0] if isinstance(both, tuple) else both)

    register_cell(Own, states=1, units="hidden", prune={"both.weight": ("units", "inputs+units"), "both.bias": "units"})
    with pytest.raises(UnbraidError, match="expected none or 1 states") as told:
        Network.from_torch(Masked(Own).eval(), torch.randn(5, 4, 4))
    assert not isinstance(told.value, DataError) or "Own" in str(told.value)


def test_descriptions_and_cards_name_the_class_of_a_cell(tmp_path):
    _, network, x, y = made("LinearLSTM")
    text = str(description_text(description(network)))
    assert "cell: LinearLSTM (inputs 4, units 6)" in text
    decompose(network, (x, y), keep=0.5, **FEW).save(tmp_path / "parts")
    assert "LinearLSTM 6" in (tmp_path / "parts" / "README.md").read_text()

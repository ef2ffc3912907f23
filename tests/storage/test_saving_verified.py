"""A saved folder has the weights in memory; otherwise the save fails and the old folder stays."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import unbraid
from tests import factory
from tests.storage.test_saving import decomposed, files
from unbraid import compose, decompose
from unbraid.errors import DataError, FormatError, UnbraidWarning
from unbraid.networks.network import Network
from unbraid.storage import saving, verification


@pytest.fixture
def good(tmp_path):
    """Give a valid folder and its content; afterwards the folder must be unchanged."""
    place = tmp_path / "parts"
    decomposed(seed=7)[2].save(place)
    before = files(place)
    yield place
    assert files(place) == before and [path.name for path in tmp_path.iterdir()] == ["parts"]


@pytest.mark.parametrize("convert", ["half", "double", "bfloat16"])
@pytest.mark.parametrize("settings", ["rolled", "unrolled"])
def test_other_precisions_are_refused(good, convert, settings):
    _, _, parts = decomposed(settings=settings)
    composition = compose(parts)
    converted = [
        getattr(copy.deepcopy(composition), convert)(),
        getattr(copy.deepcopy(parts[0]), convert)(),
    ]
    for saved in converted:
        with pytest.raises(
            FormatError, match=rf"weights of torch\.{'float(16|64)' if convert != 'bfloat16' else convert}"
        ):
            saved.save(good)


@pytest.mark.parametrize("convert", ["half", "double"])
def test_a_network_of_another_precision_is_refused(good, convert):
    network, _, parts = decomposed(settings="unrolled")
    getattr(network, convert)()
    with pytest.raises(FormatError, match=r"the parent of module 0 has weights of torch\.float"):
        parts.save(good)


def test_a_composition_that_was_converted_back_is_saved(tmp_path):
    _, x, parts = decomposed()
    composition = copy.deepcopy(compose(parts)).double().float()
    composition.save(tmp_path / "parts")
    np.testing.assert_array_equal(unbraid.load_composition(tmp_path / "parts").margins(x), compose(parts).margins(x))


CHANGES = {
    "the network's weights": lambda parts: parts.network.head.weight.data.mul_(2),
    "a layer's weights": lambda parts: next(iter(parts.network.body.parameters())).data.add_(1),
    "a module's own head": lambda parts: parts[0].head.weight.data.mul_(2),
    "a module's own layer": lambda parts: next(iter(parts[0].body.parameters())).data.copy_(
        next(iter(parts[0].body.parameters())).data * 2
    ),
}


@pytest.mark.parametrize("settings", ["rolled", "unrolled"])
@pytest.mark.parametrize("change", CHANGES)
def test_weights_changed_afterwards_are_saved_as_they_are_or_not_at_all(tmp_path, change, settings):
    """A save never writes other weights than those in memory."""
    _, x, parts = decomposed(settings=settings)
    place = tmp_path / "parts"
    decomposed(seed=7)[2].save(place)
    before = files(place)
    parts.network.sha256()
    CHANGES[change](parts)
    try:
        parts.save(place)
    except FormatError as error:
        assert "not saved" in str(error) and files(place) == before
    else:
        found = unbraid.load_decomposition(place)
        assert found.network.sha256() == parts[0].parent_sha256  # modules keep the network that they were made from
        for label, module in parts.items():
            np.testing.assert_array_equal(found[label].margins(x), module.margins(x))
    assert not [path for path in place.iterdir() if path.name.startswith(".")]


def test_a_retrained_copy_of_a_network_is_saved_as_it_is_or_not_at_all(tmp_path):
    first, second = factory.network(("lstm",), seed=1), factory.network(("lstm",), seed=2)
    x, y = factory.examples(first, 60, 1)
    decompose(first, (x, y))
    retrained = copy.deepcopy(first)
    retrained.load_state_dict(second.state_dict())
    parts = decompose(retrained, (x, y))
    try:
        parts.save(tmp_path / "parts")
    except FormatError as error:
        assert "not saved" in str(error) and not list(tmp_path.iterdir())
    else:
        np.testing.assert_array_equal(unbraid.load_decomposition(tmp_path / "parts")[0].margins(x), parts[0].margins(x))


def test_a_fault_in_the_files_is_found_before_the_old_folder_goes(good, monkeypatch):
    """The check does not depend on the cause; here tensors are written wrongly."""
    _, _, parts = decomposed()
    plain = saving._plain
    monkeypatch.setattr(saving, "_plain", lambda tensors: {n: t + 1 for n, t in plain(tensors).items()})
    for saved in (parts, parts[0], compose(parts)):
        with pytest.raises(FormatError, match=r"not saved, because the files would not load again") as refused:
            saved.save(good)
        assert ".unbraid-" not in str(refused.value)


@pytest.mark.parametrize("labels", [["\ud800", "a", "b"], ["a", "b\udfff", "c"]])
def test_labels_that_are_no_text_are_refused(good, labels):
    network = factory.network(("gru",))
    parts = decompose(network, factory.examples(network, 30))
    renamed = {label: parts[number].renamed(label) for number, label in enumerate(labels)}
    wrong = next(module for module in renamed.values() if module.label not in "abc")
    for use, error in ((lambda: compose(renamed), DataError), (lambda: wrong.save(good), FormatError)):
        with pytest.raises(error, match=r"ud800|udfff") as refused:
            use()
        assert str(refused.value).isprintable()


class Own(nn.Module):
    def __init__(self, units=6):
        super().__init__()
        self.words = nn.Embedding(20, 5)
        self.rnn = nn.LSTM(5, units, batch_first=True)
        self.dense = nn.Linear(units, 3)

    def forward(self, x):
        return self.dense(self.rnn(self.words(x))[0][:, -1])


def own(seed=0, units=6, dtype=torch.float32):
    torch.manual_seed(seed)
    module = Own(units).to(dtype)
    x = torch.randint(1, 20, (30, 5))
    return Network.from_torch(module, x[:4]), x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mode", ["rolled", "unrolled"])
def test_users_modules_are_verified_with_the_instance_in_memory(tmp_path, mode, dtype):
    network, x = own(dtype=dtype)
    parts = decompose(network, (x, np.arange(30) % 3), mode=mode)
    checked = []
    load = verification.load_modules
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(verification, "load_modules", lambda *a: checked.append(a) or load(*a))
        parts.save(tmp_path / "parts")
        parts[0].save(tmp_path / "alone")
        compose(parts).save(tmp_path / "composed")
    assert len(checked) == 3 and all(isinstance(found[2][0], Own) for found in checked)
    again = unbraid.load_decomposition(tmp_path / "parts", module=Own().to(dtype))
    np.testing.assert_array_equal(again[1].margins(x), parts[1].margins(x))
    next(iter(network.body.module.parameters())).data.add_(1)
    before = files(tmp_path / "parts")
    try:
        parts.save(tmp_path / "parts")
    except FormatError as error:
        assert "not saved" in str(error) and files(tmp_path / "parts") == before
    else:
        again = unbraid.load_decomposition(tmp_path / "parts", module=Own().to(dtype))
        np.testing.assert_array_equal(again[1].margins(x), parts[1].margins(x))


def test_two_modules_of_one_class_and_other_sizes_are_saved_and_loaded(tmp_path):
    composed = {}
    for number, units in enumerate((6, 4)):
        network, x = own(number, units)
        composed[number] = decompose(network, (x, np.arange(30) % 3))[number]
    with pytest.warns(UnbraidWarning, match="not comparable"):
        composition = compose(composed)
    composition.save(tmp_path / "parts")
    again = unbraid.load_composition(tmp_path / "parts", module=lambda facts: Own(facts.layers[0].units))
    np.testing.assert_array_equal(again.margins(x), composition.margins(x))

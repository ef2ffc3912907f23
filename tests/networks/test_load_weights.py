"""load_weights reads a file, or refuses it with a message of one line."""

import io
import os
import zipfile

import pytest
import torch

from unbraid import limits, load_weights
from unbraid.errors import ArgumentError, FormatError


def linear(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Linear(2, 2)


def stored(state, **settings):
    file = io.BytesIO()
    torch.save(state, file, **settings)
    return file.getvalue()


def refused(path, says, module=None):
    module = module or linear(1)
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    with pytest.raises(FormatError, match=says) as error:
        load_weights(module, path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 700
    assert all(torch.equal(weight, module.state_dict()[name]) for name, weight in before.items())


@pytest.mark.parametrize("new", [True, False], ids=["zip", "older format"])
def test_both_formats_are_read(tmp_path, new):
    (tmp_path / "w.pt").write_bytes(stored(linear().state_dict(), _use_new_zipfile_serialization=new))
    assert torch.equal(load_weights(linear(1), tmp_path / "w.pt").weight, linear().weight)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "older format"])
@pytest.mark.parametrize("change", [1, 0x80, 0xFF])
@pytest.mark.filterwarnings("ignore")  # of torch, on what it finds in damaged files
def test_a_changed_byte_anywhere_is_read_or_refused(tmp_path, new, change):
    content = stored(linear().state_dict(), _use_new_zipfile_serialization=new)
    for place in range(0, len(content), 1 if len(content) < 1200 else 3):
        damaged = bytearray(content)
        damaged[place] ^= change
        (tmp_path / "w.pt").write_bytes(damaged)
        try:
            load_weights(linear(), tmp_path / "w.pt")
        except FormatError as error:
            assert "\n" not in str(error) and len(str(error)) < 700


@pytest.mark.parametrize("new", [True, False], ids=["zip", "older format"])
@pytest.mark.filterwarnings("ignore")
def test_a_shortened_file_is_refused(tmp_path, new):
    content = stored(linear().state_dict(), _use_new_zipfile_serialization=new)
    for length in range(0, len(content) - 1, 5):
        (tmp_path / "w.pt").write_bytes(content[:length])
        refused(tmp_path / "w.pt", "w.pt")


OTHERS = {
    "a list": ([1, 2], "holds list"),
    "a tensor": (torch.zeros(2), "holds Tensor"),
    "names that are numbers": ({1: torch.zeros(2), "x": torch.zeros(2)}, "2 weights without a layer: '1', 'x'"),
    "numbers": ({"weight": 1.0, "bias": 2.0}, "of another shape"),
    "another shape": ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}, "1 weights of another shape: 'weight'"),
    "complex numbers": ({"weight": torch.zeros(2, 2) * 1j, "bias": torch.zeros(2)}, "of another kind: 'weight'"),
    "whole numbers": ({"weight": torch.zeros(2, 2).long(), "bias": torch.zeros(2)}, "of another kind"),
    "a sparse tensor": ({"weight": torch.zeros(2, 2).to_sparse(), "bias": torch.zeros(2)}, "of another kind"),
    "no memory": ({"weight": torch.zeros(2, 2, device="meta"), "bias": torch.zeros(2)}, "of another kind"),
    "a name with escape codes": ({"\x1b[31m\n": torch.zeros(2)}, r"without a layer: '\\x1b\[31m\\n'|without a layer"),
    "many names": ({f"w{n}": torch.zeros(1) for n in range(500)}, r"'w0', 'w1', 'w2', \.\.\."),
}


@pytest.mark.parametrize("what", OTHERS)
def test_other_weights_are_refused(tmp_path, what):
    state, says = OTHERS[what]
    (tmp_path / "w.pt").write_bytes(stored(state))
    refused(tmp_path / "w.pt", says)


def test_weights_of_another_precision_are_converted(tmp_path):
    torch.save(linear().double().state_dict(), tmp_path / "w.pt")
    assert torch.equal(load_weights(linear(1), tmp_path / "w.pt").weight, linear().weight)


def test_a_compressed_archive_of_zeros_is_refused_before_it_is_unpacked(tmp_path):
    big = torch.nn.Linear(1, 2**25)
    with torch.no_grad():
        big.weight.zero_()
    with (
        zipfile.ZipFile(io.BytesIO(stored(big.state_dict()))) as plain,
        zipfile.ZipFile(tmp_path / "w.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for info in plain.infolist():
            content = plain.read(info)
            packed.writestr(info.filename, content if len(content) < 10**6 else bytes(len(content)))
    assert os.path.getsize(tmp_path / "w.pt") < 10**6
    refused(tmp_path / "w.pt", "stored bytes declare", linear())


def test_sizes_and_kinds_of_files(tmp_path):
    (tmp_path / "w.pt").write_bytes(stored(linear().state_dict()))
    with limits.override(file_bytes=100):
        refused(tmp_path / "w.pt", "above the limit of 100")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "not a regular file")
    refused(tmp_path, "not a regular file|Is a directory")
    refused(tmp_path / "nowhere", "o such file")
    refused(tmp_path / ("x" * 3000), "File name too long")
    refused("a\0b", r"a\\x00b: no such file")


@pytest.mark.parametrize("module", [None, 5, "w.pt", torch.nn.Linear, {}])
def test_what_is_no_module_is_refused(tmp_path, module):
    (tmp_path / "w.pt").write_bytes(stored(linear().state_dict()))
    with pytest.raises(ArgumentError, match=r"an instance of your nn\.Module"):
        load_weights(module, tmp_path / "w.pt")

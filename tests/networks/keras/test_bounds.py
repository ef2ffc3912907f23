"""Memory and time of reading a Keras file are bounded by its size."""

import json
import struct
import sys
import zipfile
import zlib

import h5py
import numpy as np
import pytest

from tests.networks.keras.making import D, H, T, dense, embedding, layer, lstm, refused, replaced, sequential, write_h5
from unbraid import limits
from unbraid.errors import FormatError, UnsupportedLayer
from unbraid.networks.keras.attributes import attribute_texts
from unbraid.networks.keras.heap import check_heaps
from unbraid.networks.keras.reading import load_keras

TEXTS = ["model_config", "keras_version"]


def grows_less_than(memory):
    """A check that the peak memory of this process has grown by less than that many bytes."""
    resource = pytest.importorskip("resource")
    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before < memory


# --- texts of attributes ---


def reference_to(content, text):
    """Where a file refers to a text in its heap: 4 bytes of length, 8 of the heap's address, 4 of the object."""
    heap = content.index(b"GCOL")
    found = content.index(struct.pack("<IQ", len(text), heap))
    return found, heap


@pytest.mark.parametrize("length", [0xFFFF_FFFF, 0xFF00_1234, 2**31, 5_000])
@pytest.mark.parametrize("field", TEXTS)
def test_a_text_longer_than_its_object(legacy, field, length):
    path = legacy()
    with h5py.File(path) as file:
        text = file.attrs[field]
    content = bytearray(path.read_bytes())
    at, _ = reference_to(content, text)
    content[at : at + 4] = struct.pack("<I", length)
    path.write_bytes(content)
    bounded = grows_less_than(2**28)
    refused(path, f"'{field}'", f"a text of {length} bytes")
    assert bounded()


def test_case_of_a_text_of_4_gib(shared):
    bounded = grows_less_than(2**28)
    refused(shared / "cases" / "attack" / "11-vlen-4-GiB.h5", "'model_config'", "a text of")
    assert bounded()


@pytest.mark.parametrize("address", [0, 1, 2**20, 2**63, 2**64 - 1])
def test_a_text_in_no_heap(legacy, address):
    path = legacy()
    content = bytearray(path.read_bytes())
    at, _ = reference_to(content, json.dumps(load_config(path)))
    content[at + 4 : at + 12] = struct.pack("<Q", address)
    path.write_bytes(content)
    refused(path, "'model_config'", "no heap")


def test_a_text_in_no_object(legacy):
    path = legacy()
    content = bytearray(path.read_bytes())
    at, _ = reference_to(content, json.dumps(load_config(path)))
    for number in (0, 77):
        content[at + 12 : at + 16] = struct.pack("<I", number)
        path.write_bytes(content)
        refused(path, "'model_config'", f"no object {number}")


def load_config(path):
    with h5py.File(path) as file:
        return json.loads(file.attrs["model_config"])


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("count", [1, 7])
def test_attributes_are_read_as_h5py_reads_them(tmp_path, libver, count):
    texts = {f"field{i}": "tä" * (i + 1) * 40 for i in range(count)}
    with h5py.File(tmp_path / "a.h5", "w", libver=libver) as file:
        for name, text in texts.items():
            file.attrs[name] = text
        file.attrs["many"] = ["a", "", "bcd"]
        header = h5py.h5o.get_info(file["/"].id).addr
    content = (tmp_path / "a.h5").read_bytes()
    assert [attribute_texts(content, header, name, 1)[0] for name in texts] == list(texts.values())
    assert attribute_texts(content, header, "many", 3) == ["a", "", "bcd"]
    with pytest.raises(ValueError, match="not stored"):
        attribute_texts(content, header, "absent", 1)


def test_a_header_that_continues_in_itself(legacy):
    path = legacy()
    with h5py.File(path) as file:
        header = h5py.h5o.get_info(file["/"].id).addr
    content = bytearray(path.read_bytes())
    content[header + 16 : header + 40] = struct.pack("<HHBxxxQQ", 0x10, 16, 0, header + 16, 24)
    with pytest.raises(ValueError, match="damaged"):
        attribute_texts(bytes(content), header, "absent", 1)


# --- heaps ---


def nested_heaps(size):
    """A file of heaps, each inside the one before: each adds up, all together are many times the file."""
    content = bytearray(b"\x89HDF\r\n\x1a\n" + bytes(5) + b"\x08\x08" + bytes(81))
    while len(content) < size - 96:
        content += b"GCOL\x01\0\0\0" + struct.pack("<QHHIQ", size - len(content), 1, 1, 0, 16)
    content += bytes(16) + struct.pack("<HHIQ", 0, 0, 0, size - len(content) - 16)
    return bytes(content + bytes(size - len(content)))


@pytest.mark.parametrize("size", [2**10, 2**18, 2**22])
def test_heaps_inside_heaps(size):
    with pytest.raises(FormatError, match="heap at byte 128 does not add up"):
        check_heaps("a.h5", nested_heaps(size))


def test_texts_beyond_the_limit(legacy):
    with limits.override(json_bytes=1024):
        refused(legacy(), "size of the texts", "limit")


def test_a_heap_in_an_archive_that_never_ends(archive, tmp_path):
    """A virtual dataset makes HDF5 read a heap; one of no bytes would be read for ever."""
    inner = write_h5(tmp_path / "inner.h5").read_bytes()
    heap = inner.index(b"GCOL")
    broken = bytearray(inner)
    broken[heap + 16 : heap + 18], broken[heap + 24 : heap + 32] = bytes(2), bytes(8)
    refused(archive({"model.weights.h5": bytes(broken)}), "heap")


# --- archives ---


def test_a_list_of_members_that_is_most_of_the_file(tmp_path):
    entry = struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, *[0] * 14)
    count = 2**23 // len(entry)
    start = b"PK\x03\x04" + bytes(26)
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 0xFFFF, 0xFFFF, count * len(entry), len(start), 0)
    path = tmp_path / "model.keras"
    path.write_bytes(start + entry * count + end)
    refused(path, "list of members")


def test_an_archive_is_not_inflated_beyond_ten_times(archive):
    noise = np.random.default_rng(0).bytes(2**20)
    bounded = grows_less_than(2**26)
    refused(archive({"model.weights.h5": noise + bytes(12 * 2**20)}), "10 times", "zip bomb")
    assert bounded()


@pytest.mark.parametrize("claimed", [0, 100, 2**20])
@pytest.mark.parametrize("member", ["config.json", "model.weights.h5"])
def test_a_member_of_another_size_than_declared(archive, member, claimed):
    path = archive()
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")
    while content[at + 46 : at + 46 + len(member)] != member.encode():
        at = content.index(b"PK\x01\x02", at + 1)
    content[at + 24 : at + 28] = struct.pack("<I", claimed)
    path.write_bytes(content)
    refused(path)


def test_an_encrypted_member_and_another_compression(archive):
    for offset, value in ((8, 1), (10, 9), (10, 12)):  # flags; deflate64, bzip2
        path = archive()
        content = bytearray(path.read_bytes())
        at = content.rindex(b"PK\x01\x02")
        content[at + offset] = value
        path.write_bytes(content)
        refused(path, "model.weights.h5", "encrypted or compressed otherwise")


def test_a_member_with_a_wrong_checksum(archive):
    path = archive()
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02")
    content[at + 16 : at + 20] = struct.pack("<I", zlib.crc32(b"another"))
    path.write_bytes(content)
    refused(path, "cannot be read")


def test_stored_members_are_read(archive, tmp_path):
    with zipfile.ZipFile(archive()) as packed:
        members = {name: packed.read(name) for name in packed.namelist()}
    path = tmp_path / "stored.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as plain:
        for name, content in members.items():
            plain.writestr(name, content)
    assert load_keras(path).predict(np.ones((1, T), int)).shape == (1,)


# --- configurations ---


def test_too_many_layers(legacy):
    drops = [layer("Dropout", f"d{i}", rate=0.5) for i in range(2000)]
    model = sequential(embedding(), *drops, lstm(), dense())
    refused(legacy(model=model), "number of layers is 2004", "limits.override(layers=")
    with limits.override(layers=3000):
        assert load_keras(legacy(model=model)).classes == 2


@pytest.mark.parametrize("kind", ["list", "dict", "layer"])
def test_deep_nesting(legacy, archive, kind):
    depth, inner = 300, lstm()
    for _ in range(depth):
        inner = {"list": [inner], "dict": {"a": inner}, "layer": layer("Bidirectional", "b", layer=inner)}[kind]
    model = sequential(embedding(), lstm(extra=inner), dense())
    refused(legacy(model=model), "levels deep")
    refused(archive(model=model), "levels deep")


def test_a_file_beyond_the_limit(legacy):
    path = legacy()
    with limits.override(file_bytes=1000):
        refused(path, "limit of 1000")


@pytest.mark.parametrize("name", ["a\x1b[31m", "\ud800", "a\nb", "x" * 5000, "\u202e"])
def test_names_that_no_terminal_should_print(legacy, name):
    refused(legacy(model=sequential(embedding(), lstm(name=name), dense())), "printable")


def test_two_layers_of_one_name(legacy):
    refused(legacy(model=sequential(embedding(), lstm(), dense(name="lstm"))), "two layers are called 'lstm'")


# --- arrays ---


@pytest.mark.parametrize("dtype", ["u1", "i8", "?", "u2", "c8", "V2", "g"])
def test_weights_of_other_types(legacy, dtype):
    refused(legacy(change=replaced(data=np.zeros((D, 4 * H), dtype))), "kernel", "expected floats")


@pytest.mark.parametrize("bits", [(2, 8, 7), (1, 4, 3)])  # bfloat16, float8
def test_floats_of_other_formats(legacy, bits):
    size, exponent, mantissa = bits

    def change(file):
        kind = h5py.h5t.IEEE_F32LE.copy()
        kind.set_fields(mantissa + exponent, mantissa, exponent, 0, mantissa)
        kind.set_size(size)
        kind.set_ebias(2 ** (exponent - 1) - 1)
        group = file["model_weights/lstm"]
        del group["kernel"]
        space = h5py.h5s.create_simple((D, 4 * H))
        made = h5py.h5d.create(group.id, b"kernel", kind, space)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, np.full((D, 4 * H), 0.5, "float32"))

    try:  # bfloat16 is read exactly, or refused in one sentence
        network = load_keras(legacy(change=change))
    except FormatError as error:
        assert "kernel" in str(error)
    else:
        assert (network.weights()["body.stages.1.forward_layer.weight_ih"] == 0.5).all()


@pytest.mark.parametrize("place", ["layers", "layer_names"])
@pytest.mark.parametrize("link", [h5py.ExternalLink("absent.h5", "/"), h5py.SoftLink("/nowhere")])
def test_links_that_only_have_to_exist_are_not_followed(legacy, link, place):
    def change(file):
        file[place] = link

    refused(legacy(model=None, change=change), "weights alone")


def test_every_unsupported_error_is_short(legacy):
    stages = [layer("Hashing", "c" * 900 + str(i)) for i in range(50)]
    refused(legacy(model=sequential(*stages)), "50 layers are not supported", error=UnsupportedLayer)

"""Hostile and damaged data files raise a DataError and use limited memory."""

import contextlib
import io
import json
import os
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import factory
from unbraid import limits
from unbraid.data.files import read_examples, read_pair_columns
from unbraid.errors import DataError, UnbraidError

ANY = settings(deadline=None, max_examples=80, suppress_health_check=list(HealthCheck))


def written(folder, name, content):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / name


def header(text, version=b"\1\0"):
    """Make a .npy header with the padding of NumPy."""
    text = text.encode("latin-1") + b"\n"
    size = struct.pack("<H" if version == b"\1\0" else "<I", len(text))
    return b"\x93NUMPY" + version + size + text


def npz(folder, *members, compression=zipfile.ZIP_STORED):
    path = folder / "d.npz"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


PLAIN = "{'descr': '<i8', 'fortran_order': False, 'shape': (1,), }"
EIGHT = b"\3" + bytes(7)
HEADERS = {
    "no closing brace": PLAIN.replace("}", ""),
    "no header": "",
    "an empty type": PLAIN.replace("'<i8'", "()"),
    "no type": PLAIN.replace("'<i8'", "None"),
    "a type of parts": PLAIN.replace("'<i8'", "[('a', '<i8')]"),
    "a void type": PLAIN.replace("<i8", "|V8"),
    "complex numbers": PLAIN.replace("<i8", "<c16"),
    "dates": PLAIN.replace("<i8", "<M8[s]"),
    "objects": PLAIN.replace("<i8", "|O"),
    "objects of a size": PLAIN.replace("<i8", "|O8"),
    "an unknown size": PLAIN.replace("<i8", "<i3"),
    "a huge size": PLAIN.replace("<i8", "<U999999999"),
    "a larger size": PLAIN.replace("<i8", "<U99999999999"),
    "a shape that is true": PLAIN.replace("(1,)", "(True,)"),
    "a negative shape": PLAIN.replace("(1,)", "(-1,)"),
    "a shape of text": PLAIN.replace("(1,)", "('1',)"),
    "a shape that is a number": PLAIN.replace("(1,)", "1"),
    "a huge shape": PLAIN.replace("(1,)", f"({10**30},)"),
    "many axes": PLAIN.replace("(1,)", "(" + "1," * 40 + ")"),
    "many values of no size": PLAIN.replace("<i8", "<U0").replace("(1,)", f"({10**12},)"),
    "an empty axis beside a huge one": PLAIN.replace("(1,)", f"(0, {10**17}, {10**17})"),
    "an order that is a number": PLAIN.replace("False", "0"),
    "more fields": PLAIN.replace("}", "'more': 1}"),
    "a call": PLAIN.replace("(1,)", "__import__('os').getcwd()"),
    "deep nesting": "(" * 5000,
    "a long sign": PLAIN.replace("(1,)", "(" + "-" * 30_000 + "1,)"),
}


@pytest.mark.parametrize("version", [b"\1\0", b"\2\0", b"\3\0"])
@pytest.mark.parametrize("text", HEADERS.values(), ids=HEADERS)
def test_headers_that_are_not_a_plain_arrays_are_refused(text, version, tmp_path):
    path = npz(tmp_path, ("x.npy", header(text, version) + EIGHT))
    with pytest.raises(DataError, match=r"x\.npy|not a readable") as caught:
        read_examples(path, need_labels=False)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("version", [b"\1\0", b"\2\0", b"\3\0"])
def test_plain_headers_are_read_in_any_spelling(version, tmp_path):
    for text in (PLAIN, PLAIN.replace(", }", "}"), PLAIN.replace("'", '"'), PLAIN.replace("(1,)", "(1, )") + " " * 60):
        path = npz(tmp_path, ("x.npy", header(text, version) + EIGHT))
        assert read_examples(path, need_labels=False).x.tolist() == [3]


@pytest.mark.parametrize("dtype", ["?", "i1", ">i4", "u8", "f2", ">f8", "<U3", ">U3", "S3"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_read_as_numpy_reads_them(dtype, order, tmp_path):
    array = np.asarray(np.arange(24).reshape(2, 3, 4) % 2, dtype=dtype, order=order)
    np.savez_compressed(tmp_path / "d.npz", x=array, y=array[..., 0], e=array[:0])
    found = read_examples(tmp_path / "d.npz")
    np.testing.assert_array_equal(found.x, array)
    assert found.x.dtype == array.dtype and found.x.flags.writeable
    assert read_examples(tmp_path / "d.npz", x="e").x.shape == (0, 3, 4)


CONTENT = {
    "cut": header(PLAIN) + EIGHT[:5],
    "longer than declared": header(PLAIN) + EIGHT * 2,
    "no magic": b"x" * 100,
    "another version": header(PLAIN, b"\1\0").replace(b"NUMPY\1", b"NUMPY\7") + EIGHT,
    "a header of 4 GiB": b"\x93NUMPY\2\0\xff\xff\xff\xff",
    "nothing": b"",
}


@pytest.mark.parametrize("content", CONTENT.values(), ids=CONTENT)
def test_damaged_arrays_are_refused(content, tmp_path):
    with pytest.raises(DataError, match=r"x\.npy"):
        read_examples(npz(tmp_path, ("x.npy", content)), need_labels=False)


@pytest.mark.parametrize("values", [bytes(2**20), b"\1" + bytes(2**20 - 1)])
def test_what_decompresses_to_far_more_than_is_stored_is_refused(values, tmp_path):
    text = PLAIN.replace("(1,)", f"({2**17},)")
    path = npz(tmp_path, ("x.npy", header(text) + values), compression=zipfile.ZIP_DEFLATED)
    assert read_examples(path, need_labels=False).x.nbytes == 2**20  # small enough in any case
    with limits.override(free_bytes=2**19), pytest.raises(DataError, match="stored bytes declare 1048576 bytes"):
        read_examples(path, need_labels=False)
    with limits.override(file_bytes=2**19), pytest.raises(DataError, match="above the limit"):
        read_examples(path, need_labels=False)


def test_a_compressed_size_that_is_made_up_is_not_believed(tmp_path):
    text = PLAIN.replace("(1,)", f"({2**17},)")
    path = npz(tmp_path, ("x.npy", header(text) + bytes(2**20)), compression=zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\1\2") + 20
    content[at : at + 4] = struct.pack("<I", 2**30)
    path.write_bytes(content)
    with limits.override(free_bytes=2**19), pytest.raises(DataError):
        read_examples(path, need_labels=False)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(compression, tmp_path):
    with pytest.raises(DataError, match="compressed in a way"):
        read_examples(npz(tmp_path, ("x.npy", header(PLAIN) + EIGHT), compression=compression), need_labels=False)


@pytest.mark.parametrize("code", [0x80000033, 0x110000, 0xD800, 0xDFFF])
@pytest.mark.parametrize("name", ["x", "y", "labels"])
def test_text_that_is_not_valid_unicode_is_refused(code, name, tmp_path):
    good = np.array(["a"])
    bad = np.array([ord("w"), code], np.uint32).view("<U2")
    np.savez(tmp_path / "d.npz", **{"x": good, "y": good, "labels": good, name: bad})
    with pytest.raises(DataError, match=f"array '{name}'.*not valid Unicode"):
        read_examples(tmp_path / "d.npz")


CSV = {
    "many columns": ("x,y," + ",".join(map(str, range(20_000))) + "\n" + "a,0\n" * 3, "columns is 20002"),
    "the same column twice": ("x,y,x\na,0,b\n", "2 columns 'x'"),
    "a text with a comma": ("x,y\nhello, world,0\n", "line 2: 3 fields, but the header has 2.*double quotes"),
    "a short row": ("x,y\nhello\n", "line 2: 1 fields"),
    "a long field": ("x,y\n" + "a" * 200_000 + ",0\n", "field larger than field limit"),
    "no rows": ("x,y\n", "no examples"),
    "nothing": ("", "no examples"),
    "empty lines": ("\n\n\n", "no examples"),
    "latin-1": ("x,y\né,0\n".encode("latin-1"), "not UTF-8"),
    "UTF-16": ("x,y\na,0\n".encode("utf-16"), "not UTF-8"),
    "another header": ("words of,a file\na,0\n", "no column x or text"),
}


@pytest.mark.parametrize(("content", "message"), CSV.values(), ids=CSV)
def test_wrong_tables_are_refused(content, message, tmp_path):
    with pytest.raises(DataError, match=message) as caught:
        read_examples(written(tmp_path, "d.csv", content))
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "content", ["x,y\r\na b,0\r\nc,1\r\n", "\ufeffx,y\na b,0\n\nc,1", "x,y\ra b,0\rc,1\n", '"x","y"\n"a b","0"\nc,1']
)
def test_tables_in_other_spellings_are_read(content, tmp_path):
    found = read_examples(written(tmp_path, "d.csv", content))
    assert found.x == ["a b", "c"] and found.y.tolist() == ["0", "1"]


def test_only_wanted_columns_are_kept(tmp_path):
    path = written(tmp_path, "d.csv", "id,x,y,more\n1,a,0,b\n2,c,1,d\n")
    assert read_examples(path).x == ["a", "c"]
    assert read_examples(path, "more", "id").y.tolist() == ["1", "2"]
    with limits.override(columns=3), pytest.raises(DataError, match="columns is 4"):
        read_examples(path)


JSON_LINES = {
    "a number of 5,000 digits": '{"x": ' + "1" * 5000 + "}",
    "deep nesting": '{"x": ' + "[" * 50_000,
    "nesting above the limit": '{"x": ' + "[" * 200 + "]" * 200 + "}",
    "a list": "[1]",
    "text": '"a"',
    "no JSON": "{x: 1}",
    "NUL bytes": '{"x": "a"}\0',
    "not UTF-8": b'{"x": "\xff"}',
    "many names": json.dumps(dict.fromkeys(map(str, range(20_000)))),
    "another first row": '{"words of": 1}',
    "a name that is missing later": '{"x": "a"}\n{"z": "b"}',
    "nothing": "",
}


@pytest.mark.parametrize("content", JSON_LINES.values(), ids=JSON_LINES)
def test_wrong_json_lines_are_refused(content, tmp_path):
    with pytest.raises(DataError) as caught:
        read_examples(written(tmp_path, "d.jsonl", content), need_labels=False)
    assert len(str(caught.value)) < 600


def test_a_long_line_is_not_parsed(tmp_path):
    path = written(tmp_path, "d.jsonl", '{"x": "' + "a" * 1000 + '"}\n')
    assert len(read_examples(path, need_labels=False).x[0]) == 1000
    with limits.override(json_bytes=500), pytest.raises(DataError, match="line 1: longer than the limit of 500"):
        read_examples(path, need_labels=False)


@pytest.mark.parametrize(
    "content", ['\ufeff{"x": "a"}\r\n\r\n{"x": "b"}\r\n', '{"x": "a"}\r{"x": "b"}', '{"x": "a"}\n{"x": "b", "z": 1}']
)
def test_json_lines_in_other_spellings_are_read(content, tmp_path):
    assert read_examples(written(tmp_path, "d.jsonl", content), need_labels=False).x == ["a", "b"]


@pytest.mark.parametrize("name", ["d.csv", "d.jsonl", "d.npz"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda p: os.symlink("/dev/zero", p), lambda p: None])
def test_what_is_no_regular_file_is_refused(make, name, tmp_path):
    make(tmp_path / name)
    for read in (read_examples, read_pair_columns):
        with pytest.raises(DataError, match=r"regular file|cannot be read"):
            read(tmp_path / name)
    with limits.override(file_bytes=4), pytest.raises(DataError, match="above the limit of 4"):
        read_examples(written(tmp_path, f"large-{name}", "too large"))


@pytest.mark.parametrize("name", ["d.txt", "d", "d.npz.zip", "a\0.csv", "n" * 300 + ".csv"])
def test_other_names_are_refused(name, tmp_path):
    with pytest.raises(DataError) as caught:
        read_examples(str(tmp_path / "x").removesuffix("x") + name)
    assert len(str(caught.value)) < 600


def test_columns_of_pairs_are_of_one_length(tmp_path):
    arrays = {"source": np.ones((3, 2), int), "target": np.ones((3, 2), int), "language": np.array(["fr"] * 3)}
    for changed in ({"target": np.ones((2, 2), int)}, {"language": np.array(["fr"])}, {"language": np.array("fr")}):
        np.savez(tmp_path / "p.npz", **{**arrays, **changed})
        with pytest.raises(DataError, match="one row in each array for every pair"):
            read_pair_columns(tmp_path / "p.npz")


@pytest.mark.parametrize("y", [np.array([2**64 - 1], np.uint64), np.array([1e300]), np.array([np.nan])])
def test_places_beyond_64_bits_are_not_taken_for_no_label(y, tmp_path):
    np.savez(tmp_path / "d.npz", x=np.ones((1, 4), int), y=y, labels=np.array(["a", "b", "c"]))
    found = read_examples(tmp_path / "d.npz").y_for(["a", "b", "c"])
    net = factory.network(labels=["a", "b", "c"])
    from unbraid import compose, decompose, evaluate

    composition = compose(decompose(net, factory.examples(net), samples_per_class=3))
    with pytest.raises(DataError, match="beyond 64 bits"):
        evaluate(composition, (np.ones((1, 4), int), found))


def use(path):
    """Read a data file with all readers, and labels for a model."""
    with contextlib.suppress(UnbraidError):
        read_pair_columns(path)
    with contextlib.suppress(UnbraidError):
        found = read_examples(path, need_labels=False)
        if found.y is not None:
            found.y_for(["a", "b"])
            found.y_for([1, 2], skip_others=True)


NAMES = ["x", "y", "text", "source", "target", "language"]
FRAGMENTS = st.sampled_from([*NAMES, *',"{}[]:0é', "\0", "\n", "\r\n", '{"x": "a"}'])


@ANY
@given(st.sampled_from(["d.csv", "d.jsonl"]), st.binary(max_size=60) | st.lists(FRAGMENTS, max_size=25).map("".join))
def test_any_bytes_as_a_table_give_examples_or_a_data_error(tmp_path_factory, name, content):
    use(written(tmp_path_factory.getbasetemp(), name, content))


@ANY
@given(
    st.dictionaries(
        st.sampled_from(["x", "y"]),
        st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=4), st.lists, max_leaves=5),
    )
)
def test_any_values_in_json_lines_give_examples_or_a_data_error(tmp_path_factory, row):
    use(written(tmp_path_factory.getbasetemp(), "d.jsonl", (json.dumps(row) + "\n") * 3))


def archive():
    file = io.BytesIO()
    np.savez_compressed(file, x=np.arange(6).reshape(2, 3), y=np.array(["a", "b"]), labels=np.array(["a", "b"]))
    return file.getvalue()


ARCHIVE = archive()


@ANY
@given(
    st.lists(st.tuples(st.integers(0, len(ARCHIVE) - 1), st.integers(0, 255)), max_size=6), st.integers(0, len(ARCHIVE))
)
def test_any_damage_of_an_archive_gives_examples_or_a_data_error(tmp_path_factory, changes, length):
    content = bytearray(ARCHIVE)
    for place, value in changes:
        content[place] = value
    use(written(tmp_path_factory.getbasetemp(), "d.npz", bytes(content[:length] if length % 3 == 0 else content)))


@ANY
@given(
    st.text("{}()[]'\",: descrfortan_osphTFalu<>|i8U0123456789L\n", max_size=60)
    | st.sampled_from(list(HEADERS.values())),
    st.binary(max_size=24),
)
def test_any_header_gives_an_array_or_a_data_error(tmp_path_factory, text, values):
    use(npz(tmp_path_factory.getbasetemp(), ("x.npy", header(text) + values)))


@pytest.mark.parametrize("digits", [9, 10, 5_000])
def test_labels_of_many_digits_are_names(tmp_path, digits):
    label = "1" * digits
    found = read_examples(written(tmp_path, "d.csv", f"text,label\na,{label}\nb,{label}\n")).y_for([label, "b"])
    assert np.asarray(found).tolist() == [label, label]
    with contextlib.suppress(DataError):  # a place, or a name that is not known: no other exception
        read_examples(tmp_path / "d.csv").y_for(["a", "b"])

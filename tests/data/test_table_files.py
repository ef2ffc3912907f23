"""Examples from compressed files, .parquet files and tables of other packages."""

import csv
import gzip
import io
import json
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import unbraid
from tests.data.test_text import WORDS, examples, network
from unbraid import Vocabulary, limits
from unbraid.cli.app import app
from unbraid.data.files import as_pair, read_examples, read_pair_columns
from unbraid.data.frames import is_table
from unbraid.data.texts import as_texts, is_text
from unbraid.errors import DataError

ROWS = [{"text": "red cat", "label": "colour"}, {"text": "a, dog", "label": "animal"}, {"text": "blue", "label": None}]


def jsonl(rows=ROWS):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_csv(rows=ROWS):
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def write(folder, name, content):
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder / name


@pytest.mark.parametrize(("kind", "make"), [("csv", as_csv), ("jsonl", jsonl)])
def test_a_compressed_file_reads_as_the_plain_one(kind, make, tmp_path):
    plain, packed = (read_examples(write(tmp_path, name, make())) for name in (f"d.{kind}", f"train.v1.{kind}.gz"))
    assert packed.x == plain.x == ["red cat", "a, dog", "blue"]
    assert packed.y.tolist() == plain.y.tolist() == ["colour", "animal", ""]


def test_members_and_several_streams_are_joined(tmp_path):
    """gzip files may hold several streams, as `cat a.gz b.gz` makes them."""
    lines = [jsonl([row]) for row in ROWS]
    (tmp_path / "d.jsonl.gz").write_bytes(b"".join(map(gzip.compress, lines)))
    assert read_examples(tmp_path / "d.jsonl.gz").x == [row["text"] for row in ROWS]


def test_pairs_of_sentences_may_be_compressed(tmp_path):
    rows = [{"source": "a", "target": "b", "language": "fr"}] * 2
    assert read_pair_columns(write(tmp_path, "p.jsonl.gz", jsonl(rows))).languages == ["fr", "fr"]


@pytest.mark.parametrize("name", ["d.csv.gz", "d.jsonl.gz"])
@pytest.mark.parametrize("harm", ["cut", "header", "body", "plain", "empty", "crc"])
def test_a_damaged_compressed_file_is_refused(name, harm, tmp_path):
    content = bytearray(gzip.compress((as_csv if "csv" in name else jsonl)(ROWS * 50)))
    if harm == "cut":
        del content[-20:]
    elif harm == "header":
        content[0] = 0
    elif harm == "body":
        content[20:24] = b"\xff" * 4
    elif harm == "plain":
        content = jsonl()
    elif harm == "empty":
        content = b""
    else:
        content[-8] ^= 1
    (tmp_path / name).write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"d\.(csv|jsonl)\.gz"):
        read_examples(tmp_path / name)


def test_a_compressed_file_must_not_grow_beyond_the_limits(tmp_path):
    bomb = write(tmp_path, "d.jsonl.gz", b'{"text": "' + b"a" * 2_000_000 + b'", "label": "x"}\n')
    with limits.override(free_bytes=100_000), pytest.raises(DataError, match="more than 200 times"):
        read_examples(bomb)
    with limits.override(file_bytes=100_000), pytest.raises(DataError, match=r"decoded size is .* above the limit"):
        read_examples(bomb)
    blank = write(tmp_path, "e.csv.gz", b"text,label\n" + b"\n" * 5_000_000)
    with limits.override(free_bytes=1_000_000), pytest.raises(DataError, match="more than 200 times"):
        read_examples(blank)


def test_another_ending_is_refused_with_those_that_are_read(tmp_path):
    for name in ("d.gz", "d.npz.gz", "d.xlsx"):
        with pytest.raises(DataError, match=r"expected an .*\.parquet.*\.jsonl\.gz"):
            read_examples(write(tmp_path, name, b""))


def test_a_parquet_file_without_pyarrow_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DataError, match="pip install pyarrow"):
        read_examples(write(tmp_path, "d.parquet", b"PAR1"))


def parquet(path, columns, **settings):
    written = pytest.importorskip("pyarrow.parquet")
    written.write_table(pytest.importorskip("pyarrow").table(columns), path, **settings)
    return path


def test_a_parquet_file_is_read(tmp_path):
    columns = {"text": [r["text"] for r in ROWS], "label": [r["label"] for r in ROWS], "other": [1.5, 2.5, 3.5]}
    found = read_examples(parquet(tmp_path / "d.parquet", columns))
    assert found.x == columns["text"] and found.y.tolist() == ["colour", "animal", ""]
    tags = {"words": [["a", "b"], ["c"]], "tags": [["X", "Y"], ["X"]]}
    found = read_examples(parquet(tmp_path / "t.parquet", tags))
    assert found.x == tags["words"] and found.y == tags["tags"]
    with pytest.raises(DataError, match=r"no column sentences; it has \['words', 'tags'\]. Name one with --x"):
        read_examples(tmp_path / "t.parquet", "sentences")


def test_a_damaged_or_huge_parquet_file_is_refused(tmp_path):
    path = parquet(tmp_path / "d.parquet", {"text": ["same"] * 200_000, "label": ["x"] * 200_000})
    with limits.override(free_bytes=10_000), pytest.raises(DataError, match="times as many"):
        read_examples(path)
    with limits.override(file_bytes=100_000), pytest.raises(DataError, match="decoded size"):
        read_examples(path)
    content = path.read_bytes()
    for harmed in (content[:-4], content[:100], b"", content[:4] + b"\xff" * 40 + content[44:]):
        (tmp_path / "h.parquet").write_bytes(harmed)
        with pytest.raises(DataError, match=r"h\.parquet"):
            read_examples(tmp_path / "h.parquet")


def dataset():
    datasets = pytest.importorskip("datasets")
    kind = datasets.ClassLabel(names=["animal", "colour"])
    features = datasets.Features({"text": datasets.Value("string"), "label": kind, "tags": [kind]})
    rows = {"text": ["red", "dog", "x"], "label": [1, 0, -1], "tags": [[1], [0, 1], []]}
    return datasets.Dataset.from_dict(rows, features=features)


def test_class_labels_of_a_dataset_become_names(tmp_path):
    data = dataset()
    found = read_examples(data)
    assert (found.x, found.y.tolist(), found.labels) == (
        ["red", "dog", "x"],
        ["colour", "animal", ""],
        ["animal", "colour"],
    )
    assert read_examples(data, y="tags").y == [["colour"], ["animal", "colour"], []]
    data.to_parquet(tmp_path / "d.parquet")
    stored = read_examples(tmp_path / "d.parquet")
    assert (stored.x, stored.y.tolist(), stored.labels) == (found.x, found.y.tolist(), found.labels)
    import datasets

    with pytest.raises(DataError, match=r"several splits, \['train'\]: pass one, as data\['train'\]"):
        read_examples(datasets.DatasetDict({"train": data}))
    with pytest.raises(DataError, match="stream"):
        read_examples(data.to_iterable_dataset())


def tables():
    texts, labels = examples()
    columns = {"text": texts, "label": labels.tolist()}
    for name, make in (
        ("pandas", lambda m: m.DataFrame(columns)), ("polars", lambda m: m.DataFrame(columns)),
        ("pyarrow", lambda m: m.table(columns)), ("datasets", lambda m: m.Dataset.from_dict(columns)),
    ):  # fmt: skip
        yield pytest.param(name, make, id=name)
    yield pytest.param(None, lambda _: Frame(columns), id="like a frame")


class Frame:
    """What the readers need of a table; stands for packages that are not installed."""

    def __init__(self, columns):
        self.given = columns

    shape = (40, 2)

    @property
    def columns(self):
        return list(self.given)

    def __len__(self):
        return len(next(iter(self.given.values())))

    def __getitem__(self, name):
        return np.asarray(self.given[name], dtype=object)


@pytest.mark.parametrize(("package", "make"), list(tables()))
def test_tables_do_as_examples(package, make):
    table = make(pytest.importorskip(package) if package else None)
    texts, labels = examples()
    net = network(WORDS).with_vocabulary(Vocabulary.from_words(WORDS, steps=5))
    wanted = unbraid.decompose(net, (texts, labels), keep=0.5)
    for given in (table, (table["text"], table["label"])):
        parts = unbraid.decompose(net, given, keep=0.5)
        np.testing.assert_array_equal(parts["colour"].margins(texts), wanted["colour"].margins(texts))
        result = unbraid.evaluate(unbraid.compose(parts), given, against=net)
        assert result == unbraid.evaluate(unbraid.compose(wanted), (texts, labels), against=net)
    np.testing.assert_array_equal(net.predict(table["text"]), net.predict(texts))


def test_columns_of_pandas_and_polars_are_texts_and_labels():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": ["red", "dog"], "words": [["a", "b"], ["c"]], "n": [1, 2]})
    assert is_text(frame["text"]) and as_texts(frame["text"]) == ["red", "dog"]
    assert as_texts(frame["words"]) == [["a", "b"], ["c"]] and as_texts(frame[["text"]]) == ["red", "dog"]
    with pytest.raises(DataError, match=r"DataFrame with columns \['text', 'n'\]: pass one of them"):
        as_texts(frame[["text", "n"]])
    missing = pandas.Series(["red", None, float("nan")])
    net = network(WORDS).with_vocabulary(Vocabulary.from_words(WORDS, steps=5))
    with pytest.raises(DataError, match=r"example 1: expected text .* missing value"):
        net.predict(missing)
    categories = pandas.Series(["a", "b", "a"], dtype="category")
    assert read_examples(pandas.DataFrame({"text": ["x"] * 3, "label": categories})).y.tolist() == ["a", "b", "a"]
    labels = read_examples(pandas.DataFrame({"text": ["x"] * 3, "label": [1.0, None, 0.0]})).y
    assert labels[1] == ""


def test_a_table_without_the_columns_names_those_it_has():
    with pytest.raises(DataError, match=r"Frame: no column x or text.*; it has \['a', 'label'\]. Pass a pair"):
        as_pair(Frame({"a": ["x"], "label": ["y"]}), ["y"])
    with pytest.raises(DataError, match="holds no examples"):
        as_pair(Frame({"text": [], "label": []}), ["y"])
    for value in ([1], (1, 2), "ab", {"text": ["x"]}, np.zeros((2, 2)), 3, None):
        assert not is_table(value)


def test_a_compressed_file_in_the_command_line(tmp_path):
    texts, labels = examples()
    rows = [{"text": text, "label": str(label)} for text, label in zip(texts, labels, strict=True)]
    net = network(WORDS).with_vocabulary(Vocabulary.from_words(WORDS, steps=5))
    unbraid.decompose(net, (texts, labels), keep=0.5).save(tmp_path / "parts")
    for name, content in (("d.jsonl.gz", jsonl(rows)), ("d.csv.gz", as_csv(rows)), ("d.csv", as_csv(rows))):
        write(tmp_path, name, content)
        result = CliRunner().invoke(app, ["evaluate", str(tmp_path / "parts"), str(tmp_path / name), "--json"])
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["decisions"] == 40


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_other_separators_are_named(tmp_path, mark):
    (tmp_path / "x.csv").write_text(f"text{mark}label\nhello{mark}a\n")
    with pytest.raises(DataError, match="separate them by commas"):
        read_examples(tmp_path / "x.csv")

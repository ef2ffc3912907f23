"""Several sizes in one call of ``unbraid decompose``."""

import csv
import json
import os

import pytest

import unbraid
from tests.cli.shell import run
from tests.locations import ROOT
from unbraid.cli.sizes import parse_keep
from unbraid.demo.intents import make_intents
from unbraid.errors import ConfigError

FILES = ROOT / "docs" / "tutorials"
LABELS = ["balance", "transfer", "card"]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sizes")
    with open(folder / "train.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *zip(*make_intents(LABELS, 60, 5), strict=True)])
    (folder / "names.txt").write_text("\n".join(LABELS))
    return folder


def decompose(work, *more):
    given = ["decompose", FILES / "intents.keras", "train.csv", "--labels", "names.txt"]
    return run(*given, "--vocabulary", FILES / "words.json", *more, cwd=work)


def test_each_size_is_saved_and_compared(work):
    done = decompose(work, "-o", "all", "--keep", "0.1,0.5", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["chosen"] is None and [row["keep"] for row in found["sizes"]] == [0.5, 0.1]
    assert [one["folder"] for one in found["saved"]] == ["all-0.5", "all-0.1"] and not (work / "all").exists()
    assert found["parent"]["accuracy"] >= 0.9 and found["held_out"] > 0
    texts, y = make_intents(LABELS, 60, 5)
    network = unbraid.load(FILES / "intents.keras", LABELS)
    table = unbraid.decompose_sizes(
        network.with_vocabulary(unbraid.Vocabulary.from_file(FILES / "words.json", steps=10)), (texts, y), [0.1, 0.5]
    )
    assert table.to_dict()["sizes"] == found["sizes"]
    for keep in (0.5, 0.1):
        loaded = unbraid.load_decomposition(work / f"all-{keep}")
        assert loaded.config.keep == keep and loaded["card"].retention() == table[keep]["card"].retention()


def test_the_smallest_size_within_the_loss_is_saved(work):
    done = decompose(work, "-o", "chosen", "--keep", "0.5,0.1,0.3", "--max-loss", "0.9")
    assert done.exit_code == 0, done.output
    assert "saved: keep 0.1 in chosen" in done.stdout
    assert unbraid.load_decomposition(work / "chosen").config.keep == 0.1


def test_without_a_size_within_the_loss_nothing_is_saved(work, monkeypatch):
    from unbraid.decomposition.size_table import SizeTable
    from unbraid.errors import NoSize

    def none(self, max_loss):
        raise NoSize(f"no size is within max_loss={max_loss:g}: try larger ones.")

    monkeypatch.setattr(SizeTable, "smallest", none)  # a network whose loss is certain at every size does not exist
    before = sorted(os.listdir(work))
    done = decompose(work, "-o", "none", "--keep", "0.5,0.1", "--max-loss", "0", "--json")
    assert done.exit_code == 2 and "error: no size is within --max-loss 0: try" in done.stderr
    found = json.loads(done.stdout)
    assert found["folder"] is None and found["chosen"] is None and len(found["sizes"]) == 2
    assert sorted(os.listdir(work)) == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-o", "x", "--keep", "0.5,x"], "--keep 0.5,x: expected a number, or several as 0.5,0.3,0.15"),
        (["-o", "x", "--keep", "0.5,"], "--keep 0.5,: expected a number"),
        (["-o", "x", "--keep", "0.5,1.5"], "--keep has 1.5: expected numbers above 0"),
        (["-o", "x", "--keep", "0.5,0.5"], "--keep has a size twice"),
        (["-o", "x", "--keep", "0.5,0.3", "--max-loss", "1"], "--max-loss 1.0: expected a share"),
        (["-o", "x", "--keep", "0.5", "--max-loss", "0.1"], "both set the size"),
        (["-o", ".", "--keep", "0.5,0.3"], "--out .: expected a name"),
    ],
)
def test_wrong_sizes_are_one_line(work, arguments, says):
    done = decompose(work, *arguments)
    assert done.exit_code == 2 and says in done.stderr, done.output
    assert len([line for line in done.stderr.splitlines() if line.startswith("error: ")]) == 1


def test_keep_is_one_number_or_several():
    assert parse_keep(None) is None and parse_keep("0.3") == 0.3 and parse_keep("0.5, 0.3") == [0.5, 0.3]
    with pytest.raises(ConfigError, match=r"--keep : expected a number"):
        parse_keep("")

"""``unbraid compare`` on files and folders."""

import csv
import json

import pytest

import unbraid
from tests.cli.shell import run
from tests.locations import ROOT
from unbraid.demo.intents import make_intents
from unbraid.storage.folders import bytes_on_disk

FILES = ROOT / "docs" / "tutorials"
LABELS = ["balance", "transfer", "card"]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparing")
    x, y = make_intents(LABELS, 80, 6)
    with open(folder / "test.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *zip(x, y, strict=True)])
    (folder / "names.txt").write_text("\n".join(LABELS))
    words = unbraid.Vocabulary.from_file(FILES / "words.json", steps=10)
    network = unbraid.load(FILES / "intents.keras", LABELS).with_vocabulary(words)
    for name, keep in (("large", 0.5), ("small", 0.05)):
        unbraid.decompose(network, (x, y), keep=keep).save(folder / name)
    return folder, network, (x, y)


def plain(result):
    """Return a result as JSON has it."""
    return json.loads(json.dumps(result.to_dict()))


def test_two_folders_are_compared_as_in_python(work):
    folder, _, (x, y) = work
    done = run("compare", "large", "small", "test.csv", "--json", cwd=folder)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    sizes = [bytes_on_disk(folder / name)["folder"] for name in ("large", "small")]
    assert found["sizes"].pop("bytes on disk") == sizes
    loaded = [unbraid.load_decomposition(folder / name) for name in ("large", "small")]
    assert found == plain(unbraid.compare(*loaded, (x, y)))
    text = run("compare", "large", "small", "test.csv", cwd=folder).stdout
    assert "95 % interval" in text and "mean Jaccard index" in text and "bytes on disk" in text


def test_a_model_file_and_single_modules_are_compared(work):
    folder, network, (x, y) = work
    beside = ["--labels", "names.txt", "--vocabulary", FILES / "words.json"]
    done = run("compare", FILES / "intents.keras", "small", "test.csv", *beside, "--json", cwd=folder)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    small = unbraid.load_decomposition(folder / "small")
    assert found["data"] == plain(unbraid.compare(network, small, (x, y)))["data"]
    assert found["sizes"]["bytes on disk"][0] == (FILES / "intents.keras").stat().st_size
    done = run("compare", "large:card,balance", "small:card", "--json", cwd=folder)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["shared"] == ["card"] and found["only"] == [["balance"], []] and found["data"] is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["large", "nowhere"], "nowhere: no such file or folder"),
        (["large", "small:cards"], "has no module 'cards'. Did you mean 'card'?"),
        (["large", "small", "nowhere.csv"], "nowhere.csv"),
        (["large", "small", "test.csv", "--x", "words"], "words"),
        (["large", "names.txt"], "names.txt"),
    ],
)
def test_bad_input_is_one_line(work, arguments, says):
    done = run("compare", *arguments, cwd=work[0])
    assert done.exit_code == 2 and says in done.stderr and done.stderr.count("\n") == 1, done.output

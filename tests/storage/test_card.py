"""The model card: its content, and labels and titles that must not break it."""

import json
import re

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

import unbraid
from tests import factory
from unbraid import compose
from unbraid.errors import DataError
from unbraid.storage.card import About, escape, is_card, plain_scores

EVIL = [
    "a | b", "line\nbreak", "# heading", "<script>alert(1)</script>", "[link](http://x.y)", "`code`", "---", "*a* _b_",
    "![i](u)", "www.evil.org", "mail@evil.org", "&amp;", "\\", "\u202eltr", "\x1b[31m", "| --- |", "é漢😀", "$x$", " ",
    "yes",
]  # fmt: skip


def parts_of(labels=("a", "b", "c"), cell="lstm", **settings):
    net = factory.network((cell,), "M:1", classes=len(labels), labels=list(labels), seed=len(cell))
    x, y = factory.examples(net, 20 * len(labels))
    return unbraid.decompose(net, (x, y), samples_per_class=10, **settings)


def card_of(folder):
    """Return front matter and text of the card of a saved folder."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    found = re.fullmatch(r"---\n(.*?\n)---\n(.*)", text, re.DOTALL)
    return yaml.safe_load(found[1]), found[2]


def tables(text):
    """Return the tables, each a list of rows of cells."""
    found, lines = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            lines.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif lines:
            found, lines = [*found, lines], []
    return found


@factory.UNCALIBRATED
def test_it_says_what_the_folder_holds(tmp_path):
    first, second = parts_of(), parts_of(["d", "e", "f"], "gru", mode="unrolled", max_removed=0.4)
    composition = compose([first["a"], first["c"], second["e"]], vote="probability")
    composition.save(tmp_path / "x", license="cc-by-4.0", scores={"accuracy": np.float32(0.25), "delta": None})
    front, text = card_of(tmp_path / "x")
    assert front == {"license": "cc-by-4.0", "library_name": "unbraid", "tags": ["unbraid"]}
    assert "3 modules" in text and "2 trained recurrent networks" in text and "M:1" in text and "by probability" in text
    classes, parents, scores = tables(text)
    assert [row[0] for row in classes[2:]] == ["a", "c", "e"]
    assert [row[1] for row in classes[2:]] == ["1", "1", "2"]
    kept = second["e"].retention()
    assert classes[4][3:9] == ["unrolled", f"{kept.nodes:.1%}", f"{kept.recurrent_weights:.1%}", f"{kept.weights:.1%}",
                               f"{kept.bytes:.1%}", "100.0%"]  # fmt: skip
    assert [row[1:4] for row in parents[2:]] == [["M:1", "LSTM 3", "a, b, c"], ["M:1", "GRU 3", "d, e, f"]]
    assert all(f"`{parts.network.sha256()}`" in text for parts in (first, second))
    assert scores[2:] == [["accuracy", "0.25"]]
    settings = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    assert settings == [p.config.model_dump(mode="json") for p in (first, second)]
    assert "Of a, c:" in text and "Of e:" in text
    assert "unbraid.load_composition(" in text and "2212.05970" in text and "@inproceedings" in text
    assert json.loads((tmp_path / "x" / "unbraid.json").read_text())["scores"] == {"accuracy": 0.25, "delta": None}


def test_a_decomposition_and_a_module_alone(tmp_path):
    parts = parts_of()
    parts.save(tmp_path / "parts", license="mit", scores={"accuracy": 0.5})
    parts["b"].save(tmp_path / "one", scores={"f1": 0.5})
    front, text = card_of(tmp_path / "parts")
    assert front["license"] == "mit" and 'load_decomposition("path/to/this/folder")' in text and "parts['a']" in text
    front, text = card_of(tmp_path / "one")
    assert "license" not in front and "# A module for b" in text and "unbraid.load_module(" in text
    assert "1 module, for one class, taken out of 1 trained recurrent network " in text
    for folder, figure in (("parts", {"accuracy": 0.5}), ("one", {"f1": 0.5})):
        assert json.loads((tmp_path / folder / "unbraid.json").read_text())["scores"] == figure
        assert "## Scores" in card_of(tmp_path / folder)[1]
    parts.save(tmp_path / "parts")
    assert "## Scores" not in card_of(tmp_path / "parts")[1]


def test_remnants_of_one_network_count_as_one(tmp_path):
    parts = parts_of()
    for label in "ab":
        parts[label].save(tmp_path / label)
    compose([unbraid.load_module(tmp_path / label) for label in "ab"]).save(tmp_path / "both")
    _, text = card_of(tmp_path / "both")
    classes, parents = tables(text)
    assert len(parents) == 3 and [row[1] for row in classes[2:]] == ["1", "1"]


def test_calibrated_modules_show_their_two_numbers(tmp_path):
    parts = parts_of()
    unbraid.Composition({"a": parts["a"], "b": parts["b"]}, calibration={"b": (2.5, -1.5)}).save(tmp_path / "x")
    classes, *_ = tables(card_of(tmp_path / "x")[1])
    assert [row[-2:] for row in classes] == [["temperature", "offset"], ["---"] * 2, ["1", "0"], ["2.5", "-1.5"]]


@factory.UNCALIBRATED
def test_long_lists_are_folded(tmp_path):
    labels = [f"intent {n}" for n in range(25)] + ["<b>|"]
    parts = parts_of(labels, "gru")
    parts.save(tmp_path / "many")
    text = card_of(tmp_path / "many")[1]
    classes, parents = tables(text)
    assert parents[2][3] == "26 classes, see below" and len(classes) == 28
    folded = re.findall(r"<details>\n<summary>([^<]+)</summary>\n\n(.*?)\n\n</details>", text, re.DOTALL)
    assert [title for title, _ in folded] == ["26 classes", "The 26 classes of network 1"]
    assert folded[1][1].startswith("intent 0, intent 1, ") and folded[1][1].endswith(r", \<b\>\|")
    assert max(map(len, parents[2])) < 80

    other = parts_of(["c", "d"], keep=0.9)
    compose({**parts, "c": other["c"]}).save(tmp_path / "mixed")
    text = card_of(tmp_path / "mixed")[1]
    assert "<summary>Of these 26 classes:</summary>" in text and "Of c:" in text


def test_short_lists_are_not_folded(tmp_path):
    parts_of([f"intent {n}" for n in range(20)]).save(tmp_path / "few")
    assert "<details>" not in card_of(tmp_path / "few")[1]


class Own(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = torch.nn.GRU(2, 4, batch_first=True, bidirectional=True), torch.nn.Linear(8, 3)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


class Other(Own):
    pass


@factory.UNCALIBRATED
def test_a_users_own_network_is_loaded_with_an_instance(tmp_path):
    x = np.random.default_rng(0).normal(size=(30, 4, 2)).astype(np.float32)
    made = []
    for kind, labels in ((Own, ["a", "b", "c"]), (Other, ["d", "e", "f"])):
        torch.manual_seed(len(made))
        net = unbraid.Network.from_torch(kind(), x[:2], labels=labels)
        made.append(unbraid.decompose(net, (x, np.arange(30) % 3), samples_per_class=5))
    made[0].save(tmp_path / "own")
    _, text = card_of(tmp_path / "own")
    assert 'load_decomposition("path/to/this/folder", module=Own())' in text and "No code is stored" in text
    compose([made[0]["a"], made[1]["e"]]).save(tmp_path / "both")
    call = re.search(r"composition = (.*)\n", card_of(tmp_path / "both")[1])[1]
    assert "module={0: Own(), 1: Other()}" in call
    call = call.replace("path/to/this/folder", str(tmp_path / "both"))
    loaded = eval(call, {"unbraid": unbraid, "Own": Own, "Other": Other})
    assert loaded.labels == ["a", "e"]


def test_labels_break_neither_table_nor_front_matter(tmp_path):
    labels = [label for label in EVIL if label.strip()]
    parts = parts_of(labels)
    parts.save(tmp_path / "x", license="x\n---\nevil: true", scores={"a | b": "c | d", "# e": {"|": 1}})
    front, text = card_of(tmp_path / "x")
    assert front == {"license": "x\n---\nevil: true", "library_name": "unbraid", "tags": ["unbraid"]}
    classes, parents, scores = tables(text)
    assert len(classes) == len(labels) + 2 and {len(row) for row in classes} == {9}
    assert {len(row) for row in parents} == {5}
    assert scores[2:] == [[r"a \| b", r"c \| d"], [r"\# e \|", "1"]]
    assert "<script" not in re.sub(r"\\<", "", text)
    assert re.findall(r"^#+ .*", text, re.MULTILINE)[1:] == [
        "## Classes", "## Networks they come from", "## What is stored about the examples", "## Use", "## Scores",
        "## Settings", "## Source",
    ]  # fmt: skip
    compile(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], "card", "exec")


@pytest.mark.parametrize("label", EVIL)
def test_titles_and_descriptions_are_shown_as_they_are(tmp_path, label):
    parts = parts_of()
    composition = compose(parts)
    composition.about = About(title=label, description=f"{label}\n\n{label}\n\n```\n---", license="mit")
    composition.save(tmp_path / "x")
    front, text = card_of(tmp_path / "x")
    assert front["license"] == "mit"
    assert len(tables(text)) == 2 and "\n```\n---" not in text
    assert sum(line.startswith("# ") for line in text.splitlines()) == 1


@given(st.text())
def test_escaped_words_are_one_line_that_reads_as_they_did(text):
    found = escape(text)
    assert found.isprintable() or not found
    read = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", found)  # as Markdown reads it
    assert read == "".join(c if c.isprintable() else " " for c in text).strip()
    assert not set(re.sub(r"\\.", "", found)) & set("|<`*_[]#")


def test_a_long_label_is_cut(tmp_path):
    parts = parts_of(["a" * 5000, "b", "c"])
    parts.save(tmp_path / "x")
    assert unbraid.load_decomposition(tmp_path / "x").labels[0] == "a" * 5000
    assert "a" * 300 not in re.sub(r"```.*?```", "", card_of(tmp_path / "x")[1], flags=re.DOTALL)


def test_scores_are_plain_numbers(tmp_path):
    parts = parts_of()
    x, y = factory.examples(parts.network, 30)
    result = unbraid.evaluate(compose(parts), (x, y), against=parts.network).to_dict()
    compose(parts).save(tmp_path / "x", scores=result)
    saved = json.loads((tmp_path / "x" / "unbraid.json").read_text())["scores"]
    assert saved == json.loads(json.dumps(result))
    _, text = card_of(tmp_path / "x")
    assert f"| accuracy | {result['accuracy']:.4g} |" in text and "All of them are in `unbraid.json`." in text
    assert plain_scores({1: np.arange(2), "n": float("nan"), "t": (True, None)}) == {
        "1": [0, 1],
        "n": None,
        "t": [True, None],
    }
    with pytest.raises(DataError, match=r"scores\.a\.0: found Tensor"):
        parts.save(tmp_path / "y", scores={"a": [torch.ones(1)]})
    assert not (tmp_path / "y").exists()


def test_the_card_is_written_with_the_other_files_and_may_be_edited(tmp_path):
    parts = parts_of()
    parts.save(tmp_path / "x", license="mit")
    (tmp_path / "x" / "README.md").write_text("mine")
    assert unbraid.load_decomposition(tmp_path / "x").labels == ["a", "b", "c"]
    parts.save(tmp_path / "x")
    assert "license" not in card_of(tmp_path / "x")[0]


def deep(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        ({"x": deep(5000)}, "nested more than 100 levels"),
        ({"x": "\ud800"}, "half of a surrogate pair"),
        ({"\udfff": 1}, "half of a surrogate pair"),
        ({"x": 10**5000}, "a number of 16610 bits"),
        ({"x": object()}, "found object"),
    ],
)
def test_scores_that_no_file_can_hold_are_refused(tmp_path, scores, says):
    with pytest.raises(DataError, match=says):
        parts_of().save(tmp_path / "x", scores=scores)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        ("---\nlibrary_name: unbraid\n---\n# x", True),
        ("---\r\nlicense: mit\r\nlibrary_name: unbraid\r\n---\r\n# x", True),
        ("---\nlibrary_name: transformers\n---\nlibrary_name: unbraid", False),
        ("---\nlibrary_name: unbraid", False),
        ("library_name: unbraid\n---", False),
        ("# x\n---\nlibrary_name: unbraid\n---", False),
        ("", False),
    ],
)
def test_a_card_of_unbraid_is_told_by_its_front_matter(text, ours):
    assert is_card(text) == ours

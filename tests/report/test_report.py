"""A report: its numbers are those of the evaluation, labels are text, and nothing is loaded from elsewhere."""

import dataclasses
import sys

import numpy as np
import pytest

import unbraid
from tests import factory
from tests.report.pages import Page
from unbraid.demo.small import small_examples, small_forecaster, small_network
from unbraid.errors import ConfigError, UnbraidError
from unbraid.evaluation.columns import COLUMNS
from unbraid.evaluation.details import overlap, structure_of
from unbraid.evaluation.metrics import coupling
from unbraid.report.sections import Section
from unbraid.report.write import write_report

pytest.importorskip("jinja2", reason="jinja2 is not installed: pip install '.[report]'")
pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install '.[report]'")
HOSTILE = [
    "<script>document.title = 'changed'</script>",
    "</td></tr></table><img src=http://example.org/x onerror=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "$\\frac{1}{0$ ]]> <!-- \x1b[31m\x7f",
    "a' onclick=\"alert(1)",
]


def case(labels=("a", "b", "c", "d"), count=80, level=0.9, **settings):
    network = small_network(labels)
    examples = small_examples(network, count)
    parts = unbraid.decompose(network, examples, **{"keep": 0.4, **settings})
    return parts, examples, unbraid.evaluate(unbraid.compose(parts), examples, against=network, intervals=level)


def page_of(result, tmp_path):
    result.report(tmp_path / "report.html")
    return Page((tmp_path / "report.html").read_text(encoding="utf-8"))


@pytest.fixture
def trained():
    """A network whose decisions are right in part: its labels are those of another network."""
    network, other = small_network(["a", "b", "c", "d"]), small_network(["a", "b", "c", "d"], seed=3)
    x, _ = small_examples(network, 200)
    y = np.where(np.arange(200) % 3 == 0, other.predict_index(x), network.predict_index(x))
    parts = unbraid.decompose(network, (x, y), keep=0.5, samples_per_class=50)
    composition = unbraid.compose(parts)
    return composition, (x, y), unbraid.evaluate(composition, (x, y), against=network, intervals=0.9)


def test_the_numbers_are_those_of_the_evaluation(trained, tmp_path):
    composition, (x, y), result = trained
    page = page_of(result, tmp_path)
    low, high = result.intervals.scores["accuracy"]
    assert page.facts["accuracy"] == f"{result.accuracy:.4f}90 % interval {low:.4f} to {high:.4f}"
    assert page.facts["the network"].startswith(f"{result.restricted_accuracy:.4f}90 %")
    assert page.facts["difference"].startswith(f"{100 * result.restricted_delta:+.2f} points")
    assert page.facts["overlap of units, mean Jaccard index"] == f"{result.coupling:.3f}"
    assert page.facts["calibration error"] == f"{result.calibration_error:.4f}"
    rows = {row["module"]: row for row in page.table("module")}
    assert list(rows) == list(result.modules)
    for label, score in result.modules.items():
        for name, show in COLUMNS.items():
            assert name == "Jaccard" or rows[label][name] == show(score)
        assert rows[label]["bytes"] == f"{score.retention.bytes:.1%}"
    found = composition.predict_index(x)
    decided = [composition.labels.index(unbraid_label) for unbraid_label in composition.predict(x)]
    assert (found == decided).all()
    for row in page.table("true"):
        true, wrong = (list("abcd").index(row[name]) for name in ("true", "decided"))
        places = [composition.labels.index("abcd"[n]) for n in (true, wrong)]
        assert int(row["decisions"]) == ((y == true) & (found == places[1])).sum() > 0


def test_confusions_and_reliability_are_counted_as_decisions(trained):
    composition, (x, y), result = trained
    own = [composition.labels.index("abcd"[n]) for n in y]
    matrix = result.details.confusion.matrix(len(composition.labels))
    wanted = np.zeros_like(matrix)
    for true, decided in zip(own, composition.predict_index(x), strict=True):
        wanted[true, decided] += 1
    np.testing.assert_array_equal(matrix, wanted)
    assert matrix.trace() / matrix.sum() == pytest.approx(result.accuracy)
    bins, shares = result.details.reliability, composition.predict_proba(x)
    assert bins.counts.sum() == result.decisions == len(x)
    assert bins.right.sum() / len(x) == pytest.approx((shares.argmax(1) == own).mean())
    assert bins.error == result.calibration_error


@pytest.mark.parametrize("mode", ["rolled", "unrolled"])
def test_the_overlap_of_units_is_that_of_the_masks(mode):
    network = factory.network(("lstm", "gru"), "M:1", classes=4)
    parts = unbraid.decompose(network, factory.examples(network, 60), mode=mode, strategy="paper", max_removed=0.5)
    structure = structure_of(parts)
    [group] = structure.alike()
    found = overlap(group)
    for i, first in enumerate(parts.values()):
        for j, second in enumerate(parts.values()):
            one, two = (
                {(name, *place) for name, mask in module.kept_nodes.items() for place in np.argwhere(mask).tolist()}
                for module in (first, second)
            )
            assert found[i, j] == pytest.approx(len(one & two) / len(one | two))
    pairs = found[np.triu_indices(len(parts), 1)]
    assert pairs.mean() == pytest.approx(coupling(list(parts.values())))


def test_labels_are_text(tmp_path):
    _, _, result = case(HOSTILE)
    page = page_of(result, tmp_path)
    assert page.tags.count("script") == page.tags.count("style") == 1 and "img" not in page.tags
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    named = [row["module"] for row in page.table("module")]
    assert named[:3] == HOSTILE[:3] and named[4] == HOSTILE[4]
    assert named[3] == "$\\frac{1}{0$ ]]> <!-- \\x1b[31m\\x7f"
    drawn = "".join(page.texts["svg"])
    assert HOSTILE[0][:20] in drawn and "{{ 7 * 7 }}" in drawn


def test_nothing_is_loaded_from_elsewhere(trained, tmp_path):
    page = page_of(trained[2], tmp_path)
    found = page.references()
    assert len(found) > 3 and all(value.startswith(("#", "data:image/png;base64,")) for value in found)
    assert not {"link", "iframe", "object", "embed", "form", "base", "a"} & set(page.tags)
    policy = next(value for tag, name, value in page.attributes if tag == "meta" and value.startswith("default-src"))
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy
    assert (
        "http:" not in (tmp_path / "report.html").read_text() and "https:" not in (tmp_path / "report.html").read_text()
    )


def test_many_classes_are_folded(tmp_path):
    parts, _, result = case([f"intent {n}" for n in range(151)], 604, samples_per_class=3)
    page = page_of(result, tmp_path)
    assert len(page.table("module")) == 151 and page.facts["modules"] == "151"
    text = (tmp_path / "report.html").read_text()
    assert "<summary>151 modules: show the table</summary>" in text and len(text) < 1_000_000
    assert not any("intent 7" in part for part in page.texts["svg"])  # names do not fit on an axis
    assert parts.labels[-1] in page.table("module")[-1]["module"]


def test_modules_without_data(tmp_path):
    parts, _, _ = case()
    write_report(tmp_path / "report.html", [Section("parts", structure_of(parts))])
    page = Page((tmp_path / "report.html").read_text())
    digest = parts.network.sha256()
    assert digest in "".join(page.texts["code"]) and "accuracy" not in page.facts
    assert page.facts["nodes kept, mean"] == f"{np.mean([m.retention().nodes for m in parts.values()]):.1%}"
    assert "keep: 0.4" in "".join(page.texts["pre"]) and page.tags.count("svg") == 2


def test_several_sizes_give_a_curve(tmp_path):
    network = small_network(["a", "b", "c", "d"])
    examples = small_examples(network, 80)
    sections = []
    for keep in (0.2, 0.5, 0.9):
        composition = unbraid.compose(unbraid.decompose(network, examples, keep=keep))
        result = unbraid.evaluate(composition, examples, against=network)
        sections.append(Section(f"size {keep}", result.details.structure, result))
    write_report(tmp_path / "report.html", sections)
    page = Page((tmp_path / "report.html").read_text())
    rows = page.table("folder")
    assert [row["folder"] for row in rows] == ["size 0.2", "size 0.5", "size 0.9"]
    assert [row["accuracy"] for row in rows] == [f"{s.result.accuracy:.4f}" for s in sections]
    assert "Size against accuracy" in "".join(page.texts["h3"]) and {"size 0.5"} <= set(page.texts["svg"])


def test_numbers(tmp_path):
    network, x, y = small_forecaster()
    parts = unbraid.decompose(network, x, keep=0.5)
    result = unbraid.evaluate(unbraid.compose(parts), (x, y), against=network, intervals=0.9)
    page = page_of(result, tmp_path)
    assert page.facts["R2, mean"].startswith(f"{result.mean['r2']:.4g}90 % interval")
    assert page.table("module")[0]["RMSE"] == f"{result.modules['low'].errors.rmse:.3g}"
    assert "Confusion matrix" not in "".join(page.texts["h3"])


def test_independent_labels_have_no_confusion_matrix(tmp_path):
    network = factory.network(("gru",), "M:1", classes=3, output="sigmoid", labels=["a", "b", "c"])
    x, y = factory.examples(network, 60)
    truth = np.eye(3, dtype=int)[y] if np.ndim(y) == 1 else y
    result = unbraid.evaluate(unbraid.compose(unbraid.decompose(network, (x, truth))), (x, truth), against=network)
    page = page_of(result, tmp_path)
    titles = "".join(page.texts["h3"])
    assert "Reliability" in titles and "Confusion" not in titles
    assert page.facts["accuracy"] == f"{result.accuracy:.4f}"


@factory.UNCALIBRATED
def test_modules_of_different_layers_are_drawn_apart(tmp_path):
    first, second = small_network(["a", "b"]), factory.network(("lstm",), "M:1", classes=2, labels=["c", "d"])
    parts = unbraid.decompose(first, small_examples(first, 40)), unbraid.decompose(second, factory.examples(second, 40))
    write_report(tmp_path / "report.html", [Section("both", structure_of({**parts[0], **parts[1]}))])
    page = Page((tmp_path / "report.html").read_text())
    assert "group 2 of 2" in "".join(page.texts["h3"])
    assert [row["network"] for row in page.table("module")] == ["1", "1", "2", "2"]


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_a_missing_package_is_named(package, tmp_path, monkeypatch):
    _, _, result = case()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UnbraidError, match=rf"needs {package}: run pip install 'unbraid\[report\]'"):
        result.report(tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_what_cannot_be_written(trained, tmp_path):
    result = trained[2]
    with pytest.raises(UnbraidError, match="not a regular file"):
        result.report(tmp_path)
    with pytest.raises(UnbraidError, match="cannot be written"):
        result.report(tmp_path / "missing" / "report.html")
    with pytest.raises(ConfigError, match=r"unbraid\.evaluate"):
        dataclasses.replace(result, details=None).report(tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_the_same_evaluation_gives_the_same_page(trained, tmp_path):
    for name in ("one", "two"):
        trained[2].report(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()

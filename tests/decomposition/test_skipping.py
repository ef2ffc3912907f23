"""Classes without examples, a part of the classes, and several classes that only mark padding."""

import inspect
import json
import warnings

import numpy as np
import pytest
from typer.testing import CliRunner

import unbraid
from tests import factory
from tests.networks.keras.making import write_h5
from unbraid import UnbraidWarning
from unbraid.cli.app import app
from unbraid.config import DecompositionConfig, FcnnConfig, ReconstructConfig, RemovalConfig
from unbraid.errors import ConfigError, DataError, UnknownLabel
from unbraid.settings import Settings

STRATEGIES = [{"keep": 0.5}, {"strategy": "paper"}, {"mode": "unrolled"}, {"strategy": "random"}]


def with_classes(count, classes=5, io="M:1", **settings):
    """A network of 5 classes, and examples of the first ``count`` of them."""
    net = factory.network(("lstm",), io, classes=classes, labels=list("abcdefgh")[:classes], **settings)
    x, y = factory.examples(net, count=40)
    y = np.asarray(y)
    return net, x, np.where(y >= count, -1, y)


@pytest.mark.parametrize("settings", STRATEGIES)
def test_a_class_without_examples_gets_no_module(settings, tmp_path):
    net, x, y = with_classes(4)
    y[np.flatnonzero(y == 3)[1:]] = -1  # one example of d is left
    with pytest.warns(UnbraidWarning, match=r"2 of 5 classes get no module.*'d', 'e'.*missing='error'") as caught:
        parts = unbraid.decompose(net, (x, y), **settings)
    assert [w.filename for w in caught] == [__file__]
    assert parts.labels == ["a", "b", "c"] and parts.skipped == ["d", "e"]
    assert set(unbraid.compose(parts).predict(x)) <= {"a", "b", "c"}
    parts.save(tmp_path / "p")
    assert unbraid.load_decomposition(tmp_path / "p").skipped == ["d", "e"]
    shown = CliRunner().invoke(app, ["inspect", str(tmp_path / "p"), "--json"])
    assert json.loads(shown.stdout)["skipped"] == ["d", "e"]
    with pytest.raises(DataError, match="class 'd' has 1 of the 40"):
        unbraid.decompose(net, (x, y), missing="error", **settings)


@pytest.mark.filterwarnings("ignore:.*get no module")
def test_modules_do_not_depend_on_which_classes_are_asked_for():
    """An oracle for classes=: the same modules as those of a decomposition into all classes."""
    net, x, y = with_classes(5)
    for settings in STRATEGIES:
        every, few = (unbraid.decompose(net, (x, y), classes=classes, **settings) for classes in (None, ["d", 1]))
        assert few.labels == ["b", "d"] and few.skipped == []
        for label in few:
            if settings.get("keep"):  # its sample is drawn for the modules that are made
                assert few[label].retention() == every[label].retention()
            else:
                np.testing.assert_array_equal(few[label].margins(x), every[label].margins(x))


def test_many_missing_classes_are_counted_and_the_first_ones_named():
    net, x, y = with_classes(2, classes=8)
    y = np.where(np.arange(len(y)) % 2, 0, y)
    with pytest.warns(UnbraidWarning, match=r"of 8 classes get no module.*'c', 'd', 'e', 'f', 'g' and 1 more"):
        parts = unbraid.decompose(net, (x, y), keep=0.5)
    assert parts.labels == ["a", "b"] and len(parts.skipped) == 6


def test_all_classes_missing_is_an_error():
    net, x, y = with_classes(5)
    y[:] = -1
    y[0] = 2
    with pytest.raises(DataError, match="none of the 5 classes has at least 2"):
        unbraid.decompose(net, (x, y))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match="none of the 1 classes"):
            unbraid.decompose(net, (x, y), classes=["a"])


def test_only_the_classes_that_are_asked_for_are_reported():
    net, x, y = with_classes(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "parent's accuracy")
        assert unbraid.decompose(net, (x, y), classes=["a", "c"], keep=0.5).labels == ["a", "c"]
    with pytest.warns(UnbraidWarning, match="1 of 2 classes"):
        assert unbraid.decompose(net, (x, y), classes=["a", "e"], keep=0.5).skipped == ["e"]
    with pytest.raises(UnknownLabel, match="'z'"):
        unbraid.decompose(net, (x, y), classes=["z"])
    with pytest.raises(DataError, match="expected a list"):
        unbraid.decompose(net, (x, y), classes="a")
    with pytest.raises(ConfigError, match="missing="):
        unbraid.decompose(net, (x, y), missing="never")


@pytest.mark.filterwarnings("ignore:.*get no module")
def test_the_size_search_works_with_a_part_of_the_classes():
    net, x, y = with_classes(4)
    parts = unbraid.decompose(net, (x, y), max_loss=0.3, classes=["a", "b", "e"])
    assert parts.labels == ["a", "b"] and parts.skipped == ["e"]


def test_a_language_without_pairs_gets_no_module():
    net = factory.translator()
    x, languages = factory.sentence_pairs(net)
    languages = np.asarray(languages)
    gone = net.labels[-1]
    x = {name: values[languages != gone] for name, values in x.items()}
    with pytest.warns(UnbraidWarning, match=f"get no module.*{gone!r}"):
        parts = unbraid.decompose(net, (x, languages[languages != gone]), keep=0.5)
    assert parts.labels == net.labels[:-1] and parts.skipped == [gone]


@pytest.mark.parametrize("settings", STRATEGIES)
def test_several_padding_labels_get_no_module(settings):
    net, x, y = with_classes(5, io="M:N")
    parts = unbraid.decompose(net, (x, y), padding_label=[0, 4], **settings)
    assert parts.labels == ["b", "c", "d"] and parts.skipped == []
    one = unbraid.decompose(net, (x, y), padding_label=0, **settings)
    assert one.labels == ["b", "c", "d", "e"]


def test_several_padding_labels_are_left_out_of_the_mean_of_the_others(tmp_path):
    net, x, y = with_classes(5)
    parts = unbraid.decompose(net, (x, y), strategy="paper", max_removed=0, padding_label=[0, 4])
    weight = net.head.weight.detach()
    np.testing.assert_allclose(parts["b"].head.weight[1], weight[[2, 3]].mean(0), rtol=1e-6)
    parts.save(tmp_path / "p")
    assert unbraid.load_decomposition(tmp_path / "p").config == parts.config
    with pytest.raises(DataError, match="needs another class"):
        unbraid.decompose(net, (x, y), strategy="paper", padding_label=[0, 2, 3, 4])
    with pytest.raises(DataError, match="padding_label=7"):
        unbraid.decompose(net, (x, y), padding_label=[0, 7])


def test_which_modules_are_made_is_no_setting_of_a_module(tmp_path):
    net, x, y = with_classes(5)
    parts = unbraid.decompose(net, (x, y), classes=["a"], missing="error", keep=0.5)
    parts.save(tmp_path / "p")
    assert b'"missing"' not in (tmp_path / "p" / "unbraid.json").read_bytes()
    assert unbraid.load_decomposition(tmp_path / "p").config.classes is None


def test_flags_of_the_command_line(tmp_path):
    write_h5(tmp_path / "m.h5")
    x, y = np.arange(80).reshape(16, 5) % 7, np.asarray(["0"] * 8 + ["1"] * 8)
    np.savez(tmp_path / "d.npz", x=x, y=y)

    def run(*flags, code=0):
        given = [tmp_path / "m.h5", tmp_path / "d.npz", "-o", tmp_path / "parts", "--json", *flags]
        result = CliRunner().invoke(app, ["decompose", *map(str, given)])
        assert result.exit_code == code, result.output
        return result

    assert [m["label"] for m in json.loads(run("--classes", "1").stdout)["modules"]] == [1]
    assert [m["label"] for m in json.loads(run("--padding-label", 0).stdout)["modules"]] == [1]
    assert "none of the" in run("--padding-label", 0, "--padding-label", 1, code=2).stderr
    np.savez(tmp_path / "d.npz", x=x, y=np.asarray(["0"] * 15 + ["1"]))
    result = run("--missing", "skip")
    assert json.loads(result.stdout)["skipped"] == [1] and "1 of 2 classes get no module" in result.stderr
    assert "has 1 of the 16" in run("--missing", "error", code=2).stderr


def test_the_signature_lists_every_setting_with_its_type():
    models = (DecompositionConfig, FcnnConfig, ReconstructConfig, RemovalConfig)
    assert set(Settings.__annotations__) == {name for model in models for name in model.model_fields}
    shown = inspect.signature(unbraid.decompose).parameters
    others = {"network", "examples", "config", "sample_weight", "domain", "jobs", "progress"}
    assert others | set(Settings.__annotations__) == set(shown)
    assert "float" in str(shown["keep"].annotation)

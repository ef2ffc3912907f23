"""Objects of a wrong class for any argument of a public function raise UnbraidError or TypeError, no other error."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import unbraid
from tests import factory
from unbraid.errors import ArgumentError, ConfigError, IncompatibleModules, UnbraidError, UnknownLabel
from unbraid.storage.hub import pull, push
from unbraid.translation.translator import load_translator

KERAS = Path(__file__).parent / "data" / "keras"


class Frame:
    """The part of a data frame that libraries use."""

    columns = ("text", "label")
    shape = (3, 2)

    def __len__(self):
        return 3

    def __iter__(self):
        return iter(self.columns)

    def __getitem__(self, name):
        return [1, 2, 3]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A network, its modules, a composition, and their folders."""
    folder = tmp_path_factory.mktemp("made")
    network = factory.network(("lstm",), "M:1", labels=["travel", "weather", "home"])
    examples = factory.examples(network, 60)
    parts = unbraid.decompose(network, examples, samples_per_class=10)
    composition = unbraid.compose(parts)
    parts.save(folder / "parts")
    composition.save(folder / "composition")
    parts["home"].save(folder / "module")
    linear = torch.nn.Linear(2, 2)
    torch.save(linear.state_dict(), folder / "weights.pt")
    return {
        "network": network, "examples": examples, "parts": parts, "composition": composition, "folder": folder,
        "module": parts["home"], "linear": linear,
    }  # fmt: skip


WRONG = {
    "None": lambda made: None,
    "a number": lambda made: 5,
    "a float": lambda made: float("nan"),
    "a boolean": lambda made: True,
    "text": lambda made: "text",
    "no text": lambda made: "",
    "bytes": lambda made: b"x",
    "a NUL": lambda made: "a\0b",
    "a long name": lambda made: "x" * 5000,
    "a path": lambda made: Path("nowhere"),
    "a folder": lambda made: made["folder"],
    "a torch module": lambda made: torch.nn.LSTM(2, 2),
    "a class": lambda made: torch.nn.LSTM,
    "a list": lambda made: [1, 2],
    "an empty list": lambda made: [],
    "a list of lists": lambda made: [[], []],
    "a mapping": lambda made: {"a": 1},
    "a tensor": lambda made: torch.zeros(2, 3),
    "an array": lambda made: np.zeros((2, 3)),
    "objects": lambda made: np.asarray([None, {}]),
    "a frame": lambda made: Frame(),
    "a generator": lambda made: (n for n in range(2)),
    "a function": lambda made: print,
    "a network": lambda made: made["network"],
    "parts": lambda made: made["parts"],
    "a composition": lambda made: made["composition"],
    "a module": lambda made: made["module"],
    "a config": lambda made: unbraid.DecompositionConfig(),
}

CALLS = {
    "decompose network": lambda made, x, out: unbraid.decompose(x, made["examples"]),
    "decompose examples": lambda made, x, out: unbraid.decompose(made["network"], x),
    "decompose config": lambda made, x, out: unbraid.decompose(made["network"], made["examples"], config=x),
    "decompose keep": lambda made, x, out: unbraid.decompose(made["network"], made["examples"], keep=x),
    "decompose mode": lambda made, x, out: unbraid.decompose(made["network"], made["examples"], mode=x),
    "decompose bins": lambda made, x, out: unbraid.decompose(made["network"], made["examples"], bins=x),
    "decompose concern": lambda made, x, out: unbraid.decompose(made["network"], made["examples"], concern=x),
    "decompose weights": lambda made, x, out: unbraid.decompose(made["network"], made["examples"], sample_weight=x),
    "evaluate intervals": lambda made, x, out: unbraid.evaluate(made["composition"], made["examples"], intervals=x),
    "evaluate seed": lambda made, x, out: unbraid.evaluate(made["composition"], made["examples"], seed=x),
    "bins": lambda made, x, out: unbraid.Bins.quantiles(x, 3),
    "bins of targets": lambda made, x, out: unbraid.Bins((0.5,)).assign(x),
    "add without a label": lambda made, x, out: made["composition"].add(x),
    "compose": lambda made, x, out: unbraid.compose(x),
    "compose in a list": lambda made, x, out: unbraid.compose([x]),
    "compose in a mapping": lambda made, x, out: unbraid.compose({"a": x}),
    "compose label": lambda made, x, out: unbraid.compose({_hashable(x): made["module"]}),
    "compose vote": lambda made, x, out: unbraid.compose(made["parts"], vote=x),
    "compose sample": lambda made, x, out: unbraid.compose(made["parts"], sample=x, calibrate=True),
    "Composition": lambda made, x, out: unbraid.Composition(x),
    "Translator": lambda made, x, out: unbraid.Translator(x),
    "evaluate composition": lambda made, x, out: unbraid.evaluate(x, made["examples"]),
    "evaluate examples": lambda made, x, out: unbraid.evaluate(made["composition"], x),
    "evaluate against": lambda made, x, out: unbraid.evaluate(made["composition"], made["examples"], against=x),
    "export_onnx model": lambda made, x, out: unbraid.export_onnx(x, out / "x.onnx", check=False),
    "load": lambda made, x, out: unbraid.load(x),
    "load vocabulary": lambda made, x, out: unbraid.load(next(KERAS.glob("*.keras")), vocabulary=x),
    "load labels": lambda made, x, out: unbraid.load(next(KERAS.glob("*.keras")), labels=x),
    "load_composition": lambda made, x, out: unbraid.load_composition(x),
    "load_decomposition": lambda made, x, out: unbraid.load_decomposition(x),
    "load_module": lambda made, x, out: unbraid.load_module(x),
    "load_module module": lambda made, x, out: unbraid.load_module(made["folder"] / "module", module=x),
    "load_translator": lambda made, x, out: load_translator(x),
    "load_weights module": lambda made, x, out: unbraid.load_weights(x, made["folder"] / "weights.pt"),
    "load_weights path": lambda made, x, out: unbraid.load_weights(made["linear"], x),
    "save license": lambda made, x, out: made["parts"].save(out / "s", license=x),
    "save scores": lambda made, x, out: made["parts"].save(out / "s", scores=x),
    "a label of parts": lambda made, x, out: made["parts"][x],
    "a label of a composition": lambda made, x, out: made["composition"][x],
    "in parts": lambda made, x, out: x in made["parts"],
    "in a composition": lambda made, x, out: x in made["composition"],
    "add": lambda made, x, out: made["composition"].add(x, label="new"),
    "replace": lambda made, x, out: made["composition"].replace("home", x),
    "replace label": lambda made, x, out: made["composition"].replace(x, made["module"]),
    "drop": lambda made, x, out: made["composition"].drop(x),
    "push folder": lambda made, x, out: push(x, "owner/x", endpoint="http://127.0.0.1:9"),
    "push repo": lambda made, x, out: push(made["folder"] / "parts", x, endpoint="http://127.0.0.1:9"),
    "pull repo": lambda made, x, out: pull(x, out / "s", endpoint="http://127.0.0.1:9"),
    "pull endpoint": lambda made, x, out: pull("owner/x", out / "s", endpoint=_address(x)),
}


def _hashable(value):
    try:
        hash(value)
    except TypeError:
        return 1.5
    return value


def _address(value):
    return "http://127.0.0.1:9" if value is None else value  # None is the default hub


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("what", CALLS)
def test_only_errors_of_the_library_and_type_errors_come_out(made, tmp_path, monkeypatch, what, wrong):
    if what.startswith("pu"):
        pytest.importorskip("huggingface_hub")
    if what == "export_onnx model":
        pytest.importorskip("onnx")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    try:
        CALLS[what](made, WRONG[wrong](made), tmp_path / "out")
    except (UnbraidError, TypeError) as error:
        assert 5 < len(str(error)) < 700, error
        assert "\n" not in str(error) and "\0" not in str(error)


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("what", ["save", "export_onnx"])
def test_paths_that_are_none(made, tmp_path, monkeypatch, what, wrong):
    if what == "export_onnx":
        pytest.importorskip("onnx")
    monkeypatch.chdir(tmp_path)
    path = WRONG[wrong](made)
    if wrong in ("text", "no text", "a path", "a folder", "bytes"):
        return  # these are paths
    with pytest.raises((UnbraidError, TypeError)):
        made["module"].save(path) if what == "save" else unbraid.export_onnx(made["network"], path, check=False)
    assert not list(tmp_path.iterdir())


SENTENCES = {
    "a module for a network": (
        lambda made: unbraid.decompose(torch.nn.LSTM(2, 2), made["examples"]),
        r"network: expected a Network, got LSTM: .*Network.from_torch\(module, example\)",
    ),
    "a path for a network": (lambda made: unbraid.decompose("x.h5", made["examples"]), r"unbraid.load\(path\)"),
    "parts for a network": (lambda made: unbraid.decompose(made["parts"], made["examples"]), r"parts.network"),
    "parts for a composition": (
        lambda made: unbraid.evaluate(made["parts"], made["examples"]),
        r"composition: expected a Composition, got Decomposition: call unbraid.compose",
    ),
    "a module to compare with": (
        lambda made: unbraid.evaluate(made["composition"], made["examples"], against=made["module"]),
        r"against: expected a Network, got ConcernModule: pass its parent",
    ),
    "a torch module to compare with": (
        lambda made: unbraid.evaluate(made["composition"], made["examples"], against=made["linear"]),
        r"against: expected a Network, got Linear",
    ),
    "parts to export": (lambda made: unbraid.export_onnx(made["parts"], "x.onnx"), r"unbraid.compose\(parts\)"),
    "a module to compose": (lambda made: unbraid.compose(made["module"]), r"got ConcernModule: pass a Decomposition"),
    "a composition to compose": (lambda made: unbraid.compose(made["composition"]), r"got Composition"),
    "labels to compose": (lambda made: unbraid.compose(["home"]), r"ConcernModules in it, got str"),
    "inputs alone": (lambda made: unbraid.decompose(made["network"], made["examples"][0]), r"a pair \(x, y\)"),
}


@pytest.mark.parametrize("what", SENTENCES)
def test_the_error_names_what_to_pass(made, what):
    call, says = SENTENCES[what]
    with pytest.raises(ArgumentError, match=says) as error:
        call(made)
    assert isinstance(error.value, TypeError)


@pytest.mark.parametrize("kind", ["parts", "composition"])
def test_a_misspelt_label_is_a_key_error_that_names_the_nearest(made, kind):
    with pytest.raises(KeyError) as error:
        made[kind]["weathr"]
    assert isinstance(error.value, UnknownLabel | IncompatibleModules)
    assert re.search(r"no module 'weathr'\. Did you mean 'weather'\? Its labels: 'travel', ", str(error.value))
    with pytest.raises(UnknownLabel, match=r"no module 0\. Its labels"):
        made[kind][0]


@pytest.mark.parametrize("kind", ["parts", "composition"])
def test_labels_are_found_as_in_a_mapping(made, kind):
    found = made[kind]
    assert "travel" in found and "weathr" not in found and 0 not in found
    assert list(found) == ["travel", "weather", "home"] and len(found) == 3
    assert all(found[label].label == label for label in found)


def test_get_of_an_unknown_label_is_the_default(made):
    assert made["parts"].get("weathr") is None


def test_an_unknown_vote_is_refused(made):
    with pytest.raises(ConfigError, match="expected one of 'margin', 'probability'"):
        unbraid.compose(made["parts"], vote="majority")

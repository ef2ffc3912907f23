"""Compositions that vote with domain evidence: one ONNX file gives the answers of torch."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import unbraid
from tests import factory, strangers
from tests.cli.shell import run
from tests.export.test_several_vocabularies import same
from unbraid import Vocabulary, compose
from unbraid.errors import DataError, FormatError
from unbraid.modules.domain.evidence import domain_vote

ort = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
from unbraid.export.domain import voted  # noqa: E402  # after the skips
from unbraid.export.graph import Graph  # noqa: E402
from unbraid.export.network import model_proto  # noqa: E402
from unbraid.export.onnx_inputs import stored_readers  # noqa: E402
from unbraid.export.onnx_model import OnnxModel  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*accuracy on this sample:unbraid.UnbraidWarning")
BOTH = [word for words in strangers.SUBJECTS.values() for word in words]


def texts():
    mixed = ["Unheard, words only!", "", "a hotel near the jury's harbour-front", "rome " * 40 + "judge"]
    return [*strangers.texts("travel", 20, 7), *strangers.texts("court", 20, 8), *mixed]


def mixture(words=None, **second):
    first = strangers.parts("travel", words)
    return compose([*first.values(), *strangers.parts("court", words, seed=1, **second).values()])


def exported(composition, place, **settings):
    unbraid.export_onnx(composition, place / "x.onnx", **settings)
    onnx.checker.check_model(str(place / "x.onnx"), full_check=True)
    return same(place / "x.onnx", composition, texts())


@pytest.mark.parametrize("vote", ["margin", "probability"])
def test_two_vocabularies_have_one_more_input_of_words(tmp_path, vote):
    mixed = mixture()
    mixed = unbraid.Composition(mixed.modules_by_label, vote)
    assert mixed.uses_domain and mixed.needs_text
    model = exported(mixed, tmp_path)
    assert list(model.readers) == ["parent_0", "parent_1", "domain_words"] and model.vocabulary is None
    lines = run("predict", tmp_path / "x.onnx", "-", input="\n".join(texts()[:40])).stdout.splitlines()
    assert lines == mixed.predict(texts()[:40]).tolist()
    with pytest.raises(DataError, match="has no vocabulary 'domain_words'"):
        OnnxModel(tmp_path / "x.onnx", {"domain_words": Vocabulary.from_words(BOTH[:3])})


def test_one_vocabulary_needs_no_other_input(tmp_path):
    mixed = mixture(BOTH)
    model = exported(mixed, tmp_path)
    assert list(model.readers) == [""] and not mixed.needs_text
    indices = np.random.default_rng(0).integers(0, len(BOTH), (30, strangers.STEPS))
    np.testing.assert_allclose(model.run(indices)["margins"], mixed.margins(indices), atol=1e-4)


def test_referee_calibration_and_fused_modules(tmp_path):
    mixed, x = mixture(), texts()
    y = [mixed.labels[n % 6] for n in range(len(x))]
    for made in (mixed.with_calibration(x, y), mixed.with_referee(x, y), mixed.fuse()):
        assert made.uses_domain
        exported(made, tmp_path)


def test_taggers_beside_classifiers_and_alone(tmp_path):
    exported(mixture(io="M:N"), tmp_path)
    taggers = [strangers.parts(name, BOTH, io="M:N", seed=n) for n, name in enumerate(strangers.SUBJECTS)]
    both = compose([*taggers[0].values(), *taggers[1].values()])
    unbraid.export_onnx(both, tmp_path / "x.onnx")
    found, expected = OnnxModel(tmp_path / "x.onnx").run(texts())["margins"], both.margins(texts())
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("io", ["M:1", "M:N"])
def test_numbers(tmp_path, io):
    made = []
    for seed, mean in ((0, 0), (1, 2)):
        network = factory.network(inputs="features", labels=[f"{mean} {n}" for n in range(3)], seed=seed, io=io)
        x = np.random.default_rng(seed).normal(mean, 1, (150, 5, 3)).astype(np.float32)
        y = np.resize(np.arange(3), (150, 5) if io == "M:N" else 150)
        made += unbraid.decompose(network, (x, y)).values()
    mixed = compose(made)
    assert mixed.uses_domain
    unbraid.export_onnx(mixed, tmp_path / "x.onnx")
    x = np.random.default_rng(7).normal(1, 2, (60, 5, 3)).astype(np.float32)
    found = OnnxModel(tmp_path / "x.onnx").run(x)
    np.testing.assert_allclose(found["margins"], mixed.margins(x), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found["probabilities"], mixed.predict_proba(x), atol=1e-5)


@pytest.mark.parametrize("shape", [(6,), (4, 3, 1), (30, 30)])
def test_images(tmp_path, shape):
    made = []
    for seed in (0, 1):
        network = factory.dense_network([(5, "relu")], shape, seed=seed)
        x = np.random.default_rng(seed).normal(seed, 1, (150, *shape)).astype(np.float32)
        parts = unbraid.decompose(network, (x, np.resize(np.arange(3), 150)))
        made += [module.renamed(f"{seed} {label}") for label, module in parts.items()]
    mixed = compose(made)
    assert mixed.uses_domain
    unbraid.export_onnx(mixed, tmp_path / "x.onnx")
    x = np.random.default_rng(7).normal(0.5, 1, (60, *shape)).astype(np.float32)
    found = OnnxModel(tmp_path / "x.onnx").run(x)
    np.testing.assert_allclose(found["margins"], mixed.margins(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("vote", ["margin", "probability"])
def test_saturated_modules_of_one_network_keep_their_order(vote):
    """Their votes are equal after rounding, so that only the order of the margins tells them apart."""
    rng = np.random.default_rng(0)
    parents = [0, 1, 0, 0, 1]
    margins = rng.choice([-1e30, -60, -2, 3, 17, 40, 60, 60.5, np.inf, -np.inf], (400, 5)).astype(np.float32)
    logs = rng.normal(0, 30, (400, 2))
    graph = Graph()
    made = SimpleNamespace(domain_parents=parents, many_outputs=False, vote=vote)
    value = voted(graph, made, "margins", "logs")
    inputs = {"margins": (torch.float32, ["batch", 5]), "logs": (torch.float64, ["batch", 2])}
    proto = model_proto(graph, inputs, {"votes": (value, ["batch", 5])})
    (found,) = ort.InferenceSession(proto.SerializeToString()).run(None, {"margins": margins, "logs": logs})
    expected = domain_vote(torch.from_numpy(margins), logs, parents, vote == "probability").numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found.argmax(1), expected.argmax(1))


@pytest.mark.parametrize("words", [{"a": 1}, [1, 2], None])
def test_damaged_words_are_refused(words):
    stored = {"readers": json.dumps({"a": ["a"], "domain_words": ["domain_words"]})}
    stored["words:domain_words"] = json.dumps(words)
    with pytest.raises(FormatError, match="words:domain_words"):
        stored_readers(stored, ["a", "domain_words"], "file")

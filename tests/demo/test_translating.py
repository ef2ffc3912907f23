import io

import numpy as np
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from unbraid import load_translator
from unbraid.cli.app import app
from unbraid.demo import run_translation
from unbraid.demo.architectures import translation_spec
from unbraid.demo.phrases import make_phrases, phrase
from unbraid.demo.translating import _batches, train_translator
from unbraid.progress import silent
from unbraid.translation.pairs import find_tag, make_pairs
from unbraid.translation.translator import translate_whole
from unbraid.translation.words import sentence_vocabulary

pytest.importorskip("babel")
pytest.importorskip("num2words")
NUMBERS = {"fr": ["un", "deux", "trois", "quatre"], "de": ["eins", "zwei", "drei", "vier"]}
SOURCE = ["one", "two", "three", "four"]


def task(cell="lstm", layers=1):
    """Make pairs of two words and their two translations in each language."""
    texts = [f"{a} {b}" for a in SOURCE for b in SOURCE] + SOURCE
    said = {
        v: [" ".join(words[SOURCE.index(w)] for w in text.split()) for text in texts] for v, words in NUMBERS.items()
    }
    source = sentence_vocabulary(SOURCE)
    target = sentence_vocabulary([w for words in NUMBERS.values() for w in words], list(NUMBERS))
    tags = [find_tag(v, target) for v in NUMBERS]
    spec = translation_spec(cell, layers, source.size, target.size, 12, 24, tags)
    return spec, make_pairs(texts, said, source, target), (texts, said, source, target)


@pytest.mark.parametrize(("cell", "layers", "limit"), [("lstm", 1, None), ("gru", 2, 3), ("rnn", 1, 3)])
def test_a_trained_translator_translates(cell, layers, limit):
    spec, pairs, (texts, said, source, target) = task(cell, layers)
    settings = {"epochs": 60, "batch_size": 8, "learning_rate": 1e-2, "dropped": 0.0, "limit": limit}
    losses = []
    network = train_translator(spec, pairs, **settings, progress=silent, told=lambda epoch, loss: losses.append(loss))
    assert losses[-1] < 0.2 * losses[0] and len(losses) == 60
    network.with_vocabulary(source, target)
    for language, wanted in said.items():
        found = translate_whole(network, texts, language)
        assert np.mean([a == b for a, b in zip(found, wanted, strict=True)]) > 0.8
    assert not any(p.requires_grad for p in network.parameters())


class Interrupted(Exception):
    pass


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(tmp_path):
    spec, pairs, _ = task()
    settings = {"epochs": 4, "batch_size": 8, "limit": 4, "progress": silent}
    whole = train_translator(spec, pairs, **settings)

    def interrupt(epoch, loss):
        if epoch == 2:
            raise Interrupted

    path = tmp_path / "c.safetensors"
    with pytest.raises(Interrupted):
        train_translator(spec, pairs, **settings, checkpoint=path, told=interrupt)
    assert path.exists()
    epochs = []
    rest = train_translator(spec, pairs, **settings, checkpoint=path, told=lambda epoch, loss: epochs.append(epoch))
    assert epochs == [2, 3] and not path.exists()
    for name, weight in whole.weights().items():
        torch.testing.assert_close(rest.weights()[name], weight)


def test_every_pair_is_seen_once_among_pairs_of_its_length():
    _, pairs, _ = task()
    batches = list(_batches(pairs, 5, 0))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(pairs)))
    assert all(len(set((pairs.source[rows] != 0).sum(1))) == 1 and len(rows) <= 5 for rows in batches)


def test_phrases_are_said_in_each_language():
    assert phrase(79, 42, "en") == "wednesday, march twenty: forty-two"
    assert phrase(79, 42, "fr") == "mercredi vingt mars: quarante-deux"
    assert phrase(79, 42, "de") == "mittwoch, zwanzig märz: zweiundvierzig"
    assert phrase(79, 42, "uk") == "середа, двадцять березня: сорок два"
    train, test = make_phrases(["fr", "it"], 400, 0)
    assert not set(train.source) & set(test.source) and 10 < len(test.source) < 90
    assert len(train.source) + len(test.source) == 400 == len(train.targets["fr"]) + len(test.targets["it"])


def test_the_demonstration_tells_its_story(tmp_path, monkeypatch):
    """The networks are small and badly trained; the test checks that all steps run and save their results."""
    for name, value in {"SENTENCES": 150, "FEW": 20, "EPOCHS": 2}.items():
        monkeypatch.setattr(run_translation, name, value)
    told = Console(file=io.StringIO(), width=120)
    run_translation.run_translation_demo(tmp_path / "demo", 0, told)
    text = told.file.getvalue()
    assert all(step in text for step in ("1. Train", "2. Decompose", "3. Add", "4. Replace", "unbraid translate"))
    translator = load_translator(tmp_path / "demo" / "translator")
    assert translator.languages == ["fr", "de", "it", "uk"]
    assert translator["it"].parent_sha256 == translator["uk"].parent_sha256 != translator["fr"].parent_sha256
    lines = (tmp_path / "demo" / "test.txt").read_text(encoding="utf-8")
    result = CliRunner().invoke(app, ["translate", str(tmp_path / "demo" / "translator"), "--to", "uk"], input=lines)
    assert result.exit_code == 0 and len(result.output.splitlines()) == len(lines.splitlines())

import json

import pytest
from typer.testing import CliRunner

from tests import factory
from tests.locations import DATA
from tests.translation.talking import TEXTS, modules
from unbraid import Translator, load_translator
from unbraid.cli.app import app
from unbraid.errors import DataError
from unbraid.translation.evaluating import evaluate_translator


def run(*arguments, code=0, **settings):
    result = CliRunner().invoke(app, [str(a) for a in arguments], **settings)
    assert result.exit_code == code, result.output
    return result


def test_translators_from_the_command_line(tmp_path):
    modules().save(tmp_path / "a")
    modules(("gru",), seed=1).save(tmp_path / "b")
    said = run("translate", tmp_path / "a", "--to", "fr", input="".join(f"{t}\n" for t in TEXTS)).output.splitlines()
    assert said == Translator(modules()).translate(TEXTS, "fr")
    run("compose", f"{tmp_path / 'a'}", f"{tmp_path / 'b'}:uk=fr", "-o", tmp_path / "t")
    assert load_translator(tmp_path / "t").languages == ["fr", "de", "it", "uk"]
    run("replace", tmp_path / "t", "de", f"{tmp_path / 'b'}:de", "-o", tmp_path / "r")
    result = run("translate", tmp_path / "r", "--to", "de", "--beam", 2, "--json", input="i see you")
    wanted = Translator(modules(("gru",), seed=1)).translate(["i see you"], "de", beam=2)
    assert json.loads(result.output) == {"to": "de", "translations": wanted}
    shown = json.loads(run("inspect", tmp_path / "t", "--json").output)
    assert shown["kind"] == "translator" and [m["label"] for m in shown["modules"]] == ["fr", "de", "it", "uk"]


def test_a_keras_file_is_described_and_not_exported(tmp_path):
    path = DATA / "keras" / "translators" / "k3-lstm2.keras"
    shown = run("inspect", path).output
    assert "encoder-decoder network, 699 weights, 0 languages" in shown and "none yet" in shown
    assert "in a loop" in run("export", path, "-o", tmp_path / "x.onnx", code=2).output


def test_wrong_commands_say_what_to_do(tmp_path):
    Translator(modules()).save(tmp_path / "t")
    assert "has no language 'es'" in run("translate", tmp_path / "t", "--to", "es", code=2, input="x").output
    (tmp_path / "x.npz").write_bytes(b"")
    assert "unbraid translate" in run("predict", tmp_path / "t", tmp_path / "x.npz", code=2).output
    assert "ONNX" in run("export", tmp_path / "t", "-o", tmp_path / "t.onnx", code=2).output


def test_evaluation_compares_modules_with_their_network():
    parts = modules(max_removed=0)
    translator = Translator(parts)
    references = {v: translator.translate(TEXTS[:4], v) for v in ("fr", "it")}
    found = evaluate_translator(translator, TEXTS[:4], references, against=parts.network)
    for language in references:
        if any(references[language]):
            assert found.modules[language].bleu == pytest.approx(found.monolithic[language].bleu)
        assert found.delta(language) == 0
    assert found.to_dict()["modules"]["fr"]["sentences"] == 4
    other = Translator(modules(("gru",), seed=2)).add("uk", parts["fr"])
    found = evaluate_translator(other, TEXTS[:4], {"uk": references["fr"]}, against=parts.network)
    assert list(found.modules) == ["uk"] and found.monolithic == {}
    with pytest.raises(DataError, match="empty"):
        evaluate_translator(translator, TEXTS, {})
    assert tuple(translator.languages) == factory.LANGUAGES

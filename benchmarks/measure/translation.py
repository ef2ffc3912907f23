"""Measure language modules of the Tatoeba translators (BLEU, size, decoding speed) and the paper's two examples.

``python -m benchmarks.measure.translation`` measures all models without a result. ``--only tatoeba-LSTM-1`` measures
one model, ``--only uk`` or ``--only et`` an example (a language is added, a bad one is replaced).
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from benchmarks import files
from benchmarks.datasets import translation as translation_data
from benchmarks.experiments import experiment
from benchmarks.training.translators import SCALES, TASKS, Translation, models
from unbraid import Decomposition, Network, Translator, decompose
from unbraid.networks.spec import EncoderDecoderSpec
from unbraid.translation.decoding import decode
from unbraid.translation.evaluating import score
from unbraid.translation.language_model import network_model
from unbraid.translation.translator import translate_whole
from unbraid.translation.words import split_words

REFINE = 1500  # gradient steps per language, chosen on held-out pairs; they take a minute and a half
RECONSTRUCT = {"strategy": "reconstruct", "samples_per_class": 2000}
SETTINGS: dict[str, dict[str, Any]] = {
    "rolled": {"strategy": "paper", "mode": "rolled"},
    "unrolled": {"strategy": "paper", "mode": "unrolled"},
    "rolled, cap 5 %": {"strategy": "paper", "mode": "rolled", "max_removed": 0.05},
    "unrolled, cap 5 %": {"strategy": "paper", "mode": "unrolled", "max_removed": 0.05},
    "rolled, cap 5 %, encoder too": {"strategy": "paper", "mode": "rolled", "max_removed": 0.05, "encoder": True},
    "rolled, cap 5 %, own words": {"strategy": "paper", "mode": "rolled", "max_removed": 0.05, "words": "own"},
    "reconstruct, 90 %": {**RECONSTRUCT, "keep": 0.9},
    "reconstruct, 70 %": {**RECONSTRUCT, "keep": 0.7},
    "reconstruct, 50 %": {**RECONSTRUCT, "keep": 0.5},
    "reconstruct, 50 %, own words": {**RECONSTRUCT, "keep": 0.5, "words": "own"},
    "reconstruct, 50 %, refined": {**RECONSTRUCT, "keep": 0.5, "refine": REFINE},
}
FURTHER = ("encoder too", "own words", "90 %", "70 %")  # settings that are measured for the first model only
QUICK = experiment.SCALES["quick"].folder
TIMED = 60  # sentences that are translated one at a time
LONGEST = 15  # most words of a translation; test sentences have at most ten

Tests = dict[str, tuple[list[str], list[str]]]  # language -> sources and references


def tests_of(task: str, scale: str, extra: tuple[tuple[str, str], ...] = ()) -> Tests:
    """Return test sentences of a task and of extra (language, data set); sources are not longer than training pairs."""
    chosen = {language: names[0] for language, names in TASKS[task].targets.items()} | dict(extra)
    found: Tests = {}
    for language, name in chosen.items():
        data = translation_data.corpus(name, TASKS[task].source).few(SCALES[scale].lines)
        lines = zip(data.test[data.source], data.test[language], strict=True)
        pairs = [(a, b) for a, b in lines if 0 < len(split_words(a)) <= SCALES[scale].steps and split_words(b)]
        found[language] = ([a for a, _ in pairs], [b for _, b in pairs])
    return found


def settings_of(model: Translation) -> list[str]:
    """Return the settings to measure: all for the first model, those with a target for the others."""
    return [name for name in SETTINGS if (model.cell, model.layers) == ("LSTM", 1) or not name.endswith(FURTHER)]


def modules_of(model: Translation, network: Network, **settings: Any) -> Decomposition:
    """Decompose a model with training pairs."""
    pairs = model.pairs("train")
    return decompose(network, (pairs.x, pairs.languages), **settings)


def by_network(network: Network, tests: Tests, beam: int = 1) -> dict[str, Any]:
    """Score a whole network for each language."""
    return {v: _scores(translate_whole(network, a, v, beam=beam, longest=LONGEST), b) for v, (a, b) in tests.items()}


def by_modules(translator: Translator, tests: Tests) -> dict[str, Any]:
    """Score the modules of a translator."""
    return {v: _scores(translator.translate(a, v, longest=LONGEST), b) for v, (a, b) in tests.items()}


def _scores(said: list[str], wanted: list[str]) -> dict[str, Any]:
    return asdict(score(said, wanted))


def results(scale: str) -> Path:
    """Return the folder of the results of a scale; results of the quick scale are not in the repository."""
    return QUICK if scale == "quick" else files.RESULTS


def run(model: Translation, again: bool = False) -> None:
    """Measure all settings of a model without a result; each result is stored immediately."""
    path = results(model.scale) / "translation" / f"{model.name}.json"
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() and not again else {}
    missing = [name for name in settings_of(model) if name not in result.get("settings", {})]
    if not missing and {"speed", "monolithic_beam_4"} <= result.keys():
        return
    torch.set_num_threads(1)
    network, tests = model.network(), tests_of(model.task, model.scale)
    spec = network.spec
    assert isinstance(spec, EncoderDecoderSpec)
    if not result:
        result = {"model": model.name, "cell": model.cell, "layers": model.layers, "scale": model.scale}
        result |= {"words": [spec.source.vocabulary, spec.target.vocabulary], "settings": {}}
        result["parent_bytes"] = sum(4 * p.numel() for p in network.parameters())
        result["monolithic"] = by_network(network, tests)
    if "monolithic_beam_4" not in result:
        result["monolithic_beam_4"] = by_network(network, tests, beam=4)
    for name in missing:
        result["settings"][name] = _measured(model, network, tests, SETTINGS[name])
        files.write(path, result)
        scores = result["settings"][name]["scores"]
        deltas = [_bleu(scores, v) - _bleu(result["monolithic"], v) for v in tests]
        print(f"{model.name}, {name}: {[f'{d:+.2f}' for d in deltas]}", file=sys.stderr, flush=True)
    language, (texts, _) = next(iter(tests.items()))
    result["speed"] = speed(network, texts, language)
    files.write(path, {k: v for k, v in result.items() if k != "measured_on"})


def _measured(model: Translation, network: Network, tests: Tests, settings: dict[str, Any]) -> dict[str, Any]:
    started, most = time.perf_counter(), SCALES[model.scale].refine
    if most is not None and "refine" in settings:
        settings = {**settings, "refine": min(most, settings["refine"])}
    parts = modules_of(model, network, **settings)
    seconds = time.perf_counter() - started
    return {
        "config": parts.config.model_dump(mode="json"),
        "seconds": seconds,
        "scores": by_modules(Translator(parts), tests),
        "retention": {str(v): asdict(m.retention()) for v, m in parts.items()},
        "bytes": {str(v): _bytes(m) for v, m in parts.items()},
    }


def _bleu(scores: dict[str, Any], language: str) -> float:
    return float(scores[language]["bleu"])


def _bytes(module: Any) -> int:
    with tempfile.TemporaryDirectory() as folder:
        module.save(Path(folder) / "module")
        return sum(f.stat().st_size for f in (Path(folder) / "module").glob("*.safetensors"))


def speed(network: Network, texts: list[str], language: str) -> dict[str, Any]:
    """Measure seconds per sentence: in batches with stored states, and one by one with the prefix computed again."""
    assert network.vocabulary is not None
    model = network_model(network, language)
    source = torch.from_numpy(network.vocabulary.encode(texts)[0])
    source = source[(source != 0).sum(1).argsort()]  # the order in a translator
    few = source[np.linspace(0, len(source) - 1, TIMED).astype(int)]
    decode(model, few, LONGEST)
    seconds: dict[str, list[float]] = {"batched": [], "batched_few": [], "prefix": []}
    for _ in range(3):
        started = time.perf_counter()
        for start in range(0, len(source), 256):
            decode(model, source[start : start + 256], LONGEST)
        seconds["batched"].append((time.perf_counter() - started) / len(source))
        started = time.perf_counter()
        said = decode(model, few, LONGEST)
        seconds["batched_few"].append((time.perf_counter() - started) / len(few))
        started = time.perf_counter()
        anew = [_prefix_by_prefix(network, model, row[row != 0].unsqueeze(0)) for row in few]
        seconds["prefix"].append((time.perf_counter() - started) / len(few))
    median = {name: sorted(values)[1] for name, values in seconds.items()}
    return {
        "sentences": len(source),
        "seconds_a_sentence": median,
        "ratio": median["prefix"] / median["batched"],
        "ratio_same_sentences": median["prefix"] / median["batched_few"],
        "same_words": sum(a == b for a, b in zip(said, anew, strict=True)) / len(few),
    }


def _prefix_by_prefix(network: Network, model: Any, source: torch.Tensor) -> list[int]:
    """Decode as the authors' code does: encoder and decoder run over the whole prefix for each word."""
    said = [model.tag.start]
    with torch.inference_mode():
        for _ in range(LONGEST):
            scores = network({"source": source, "target": torch.tensor([said])})[0, -1]
            word = int(scores.index_fill(0, model.banned, -torch.inf).argmax())
            if word in model.ends:
                break
            said.append(word)
    return said[1:]


EXAMPLES: dict[str, dict[str, Any]] = {
    "uk": {
        "task": "tatoeba", "language": "uk", "data": "uk", "multilingual": "uk-fr", "alone": "uk-alone",
        "all": "uk-all", "story": "English to French, German, Italian, and then Ukrainian",
    },
    "et": {
        "task": "et", "language": "en", "data": "et-large", "multilingual": "et-it", "alone": "et-alone",
        "all": "et-all", "story": "Estonian to English, German, Italian, English replaced",
    },
}  # fmt: skip
WAYS: dict[str, dict[str, Any]] = {
    name: SETTINGS[name] for name in ("rolled, cap 5 %", "unrolled, cap 5 %", "reconstruct, 70 %")
}


def run_example(name: str, scale: str, again: bool = False, train: bool = True) -> None:
    """Measure one of the paper's motivating examples with modules and with a new network, as in its Table V.

    Args:
        name: key of :data:`EXAMPLES`.
        scale: scale of the models.
        again: whether to repeat the measurement if there is a result.
        train: whether to train the network of all languages; without it, an untrained network is left out.
    """
    path = results(scale) / "translation-examples" / f"{name}.json"
    if path.exists() and not again:
        return
    torch.set_num_threads(1)
    about = EXAMPLES[name]
    base, every = Translation(about["task"], scale=scale), Translation(about["all"], scale=scale)
    tests = tests_of(about["task"], scale, ((about["language"], about["data"]),))
    known = {v: t for v, t in tests.items() if v in TASKS[about["task"]].targets}
    result: dict[str, Any] = {"example": name, "story": about["story"], "language": about["language"], "ways": {}}
    result["before"] = by_network(base.network(), known)
    result["trained on everything"] = by_network(every.network(), tests) if train or every.path.exists() else None
    for way, settings in WAYS.items():
        own = Translator(modules_of(base, base.network(), **settings))
        found = {"modules before": by_modules(own, known)}
        for source in ("multilingual", "alone"):
            model = Translation(about[source], scale=scale)
            module = modules_of(model, model.network(), **settings)[about["language"]]
            act = own.replace if about["language"] in own.languages else own.add
            found[f"module of the {source} model"] = by_modules(act(about["language"], module), tests)
        result["ways"][way] = found
        print(f"{name}, {way}: {({k: round(_bleu(v, about['language']), 1) for k, v in list(found.items())[1:]})}",
              file=sys.stderr, flush=True)  # fmt: skip
    files.write(path, result)


def main(
    scale: Annotated[str, typer.Option(help=f"One of {', '.join(SCALES)}.")] = "small",
    only: Annotated[str, typer.Option(help="One model, such as tatoeba-LSTM-1, or one example, uk or et.")] = "",
    again: Annotated[bool, typer.Option("--again", help="Repeat measurements that have a result.")] = False,
    trained: Annotated[bool, typer.Option("--trained", help="Leave out models that are not trained.")] = False,
) -> None:
    """Measure everything without a result."""
    for model in models(scale)[: 1 if scale == "quick" else None]:
        if model.task == "tatoeba" and only in ("", model.name) and (model.path.exists() or not trained):
            run(model, again)
    for name, about in EXAMPLES.items():
        needed = [Translation(about[part], scale=scale) for part in ("task", "multilingual", "alone")]
        if only in ("", name) and (all(m.path.exists() for m in needed) or not trained):
            run_example(name, scale, again, train=not trained)


if __name__ == "__main__":
    typer.run(main)

"""RESULTS.md's part on translation, from the stored results alone."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import files
from benchmarks.report import published
from benchmarks.report.tables import table


def sections(root: Path) -> Iterable[str]:
    """All of the results under ``root``; nothing where there is none."""
    models = [m for m in files.read_all("translation", root) if m["settings"]]
    if models:
        yield from _models(models)
        yield from _costs(models)
        yield from _speed([m for m in models if "speed" in m])
    for example in files.read_all("translation-examples", root):
        yield from _example(example)


def _models(models: list[dict[str, Any]]) -> Iterable[str]:
    first = models[0]["monolithic"]
    signature = next(iter(first.values()))
    yield "\n## Translation: language modules of English to French, German, Italian (Tatoeba)\n"
    yield (
        f"BLEU by sacrebleu ({signature['bleu_signature']}), greedy; test sentences of at most ten words\n"
        "whose English is in no training pair. *whole*: the network's BLEU; other rows: each module's BLEU less that.\n"
        "*nodes* and *weights*: kept, of the decoder's layers and of the whole network; *size*: one module's file\n"
        "beside the network's weights (unrolled modules are stored with their whole network). These networks are far\n"
        "smaller than the paper's: see `benchmarks/translation_trained.py --scale paper`. Those of two layers learnt\n"
        "in three passes instead of eight, for want of time, and vanilla networks hardly translate at all: what is\n"
        "lost of so little says little.\n"
    )
    rows = []
    for model in models:
        languages = list(model["monolithic"])
        whole = " / ".join(f"{model['monolithic'][v]['bleu']:.1f}" for v in languages)
        paper = " / ".join(f"{model['monolithic'][v]['paper_bleu']:.1f}" for v in languages)
        chrf = " / ".join(f"{model['monolithic'][v]['chrf']:.1f}" for v in languages)
        beam = " / ".join(f"{model['monolithic_beam_4'][v]['bleu']:.1f}" for v in languages)
        rows.append([model["model"], "whole", f"{whole} (beam of 4 {beam}; paper's {paper}; chrF {chrf})", *[""] * 4])
        rows += [_setting(model, name, languages) for name in model["settings"]]
    yield table(["model", "modules", f"BLEU, {' / '.join(first)}", "mean", "nodes", "weights", "size"], rows)


def _costs(models: list[dict[str, Any]]) -> Iterable[str]:
    """Mean cost over the languages, beside the published means over one to four layers (Table II)."""
    yield (
        "\nMean cost of decomposition in BLEU beside the published one (means over one to four layers and three\n"
        "languages, BLEU by NLTK):\n"
    )
    names = list(
        dict.fromkeys(name for m in models for name in m["settings"] if "too" not in name and "own" not in name)
    )
    rows = []
    for model in models:
        theirs = [
            published.mean(question="RQ1", data="tatoeba", cell=model["cell"], mode=mode)
            for mode in ("rolled", "unrolled")
        ]
        shown = " / ".join("none" if t is None else f"{100 * t['delta']:+.2f}" for t in theirs)
        rows.append([model["model"], shown, *(_mean_cost(model, name) for name in names)])
    yield table(["model", "published, rolled / unrolled", *names], rows)


def _mean_cost(model: dict[str, Any], name: str) -> str:
    if name not in model["settings"]:
        return "not run"
    scores = model["settings"][name]["scores"]
    return f"{statistics.fmean(scores[v]['bleu'] - model['monolithic'][v]['bleu'] for v in scores):+.2f}"


def _setting(model: dict[str, Any], name: str, languages: list[str]) -> list[str]:
    found = model["settings"][name]
    deltas = [found["scores"][v]["bleu"] - model["monolithic"][v]["bleu"] for v in languages]
    kept = [found["retention"][v] for v in languages]
    size = statistics.fmean(found["bytes"].values()) / model["parent_bytes"]
    return [
        model["model"],
        name,
        " / ".join(f"{d:+.1f}" for d in deltas),
        f"{statistics.fmean(deltas):+.2f}",
        _percent(statistics.fmean(k["nodes"] for k in kept)),
        _percent(statistics.fmean(k["weights"] for k in kept)),
        _percent(size),
    ]


def _speed(models: list[dict[str, Any]]) -> Iterable[str]:
    yield "\nDecoding, greedy, one thread: all test sentences of one language side by side with the state carried"
    yield "along, against one sentence at a time with encoder and prefix run anew for every word (as the release does;"
    yield "to hold: 50).\n"
    rows = []
    for model in models:
        speed = model["speed"]
        seconds = speed["seconds_a_sentence"]
        rows.append(
            [
                model["model"],
                f"{1000 * seconds['batched']:.2f} ms",
                f"{1000 * seconds['prefix']:.2f} ms",
                f"{speed['ratio']:.0f}",
                f"{speed['ratio_same_sentences']:.0f}",
                _percent(speed["same_words"]),
            ]
        )
    columns = ["model", "batched, a sentence", "prefix anew, a sentence", "ratio", "ratio, the same sentences"]
    yield table([*columns, "same translations"], rows)


def _example(example: dict[str, Any]) -> Iterable[str]:
    every = example["trained on everything"]
    ways = example["ways"]
    languages = _languages(ways)
    yield f"\n### {example['story']}\n"
    yield (
        f"BLEU per language. *before*: the first model; *trained on everything*: the monolithic alternative of the\n"
        f"paper's Table V; below them, the translators made of modules (the {example['language']} module is another\n"
        "model's: of a second multilingual one, or of a small one that knows nothing else).\n"
    )
    rows = [["before, the whole network", *_row(example["before"], languages)]]
    if every is not None:
        rows.append(["trained on everything", *_row(every, languages)])
    for way, found in ways.items():
        rows += [[f"{name}; {way}", *_row(scores, languages)] for name, scores in found.items()]
    yield table(["", *languages], rows)
    yield from _published_example(example["example"])


PROBLEMS = {"uk": "problem1", "et": "problem2"}


def _published_example(name: str) -> Iterable[str]:
    """The paper's own figures for the example, its LSTM."""
    found = [m for m in published.means() if m["question"] == "motivating" and m["cell"] == "LSTM"]
    rows = []
    for m in found:
        solution, _, what = m["data"].partition(", ")
        if what.startswith(PROBLEMS[name]):
            figures = [f"{100 * m[key]:.1f}" if m[key] is not None else "-" for key in ("monolithic", "composed")]
            rows.append([solution, what.removeprefix(PROBLEMS[name]).strip(), *figures])
    yield "\nPublished (Table V, LSTM; in percent): the network and the translator of modules.\n"
    yield table(["", "", "network", "modules"], rows) + "\n"


def _languages(ways: dict[str, Any]) -> list[str]:
    found: dict[str, None] = {}
    for scores in (s for way in ways.values() for s in way.values()):
        found |= dict.fromkeys(scores)
    return list(found)


def _row(scores: dict[str, Any], languages: list[str]) -> list[str]:
    return [f"{scores[v]['bleu']:.1f}" if v in scores else "-" for v in languages]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"

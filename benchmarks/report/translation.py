"""Build the section of RESULTS.md on translation, from the stored results."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import files
from benchmarks.report import published
from benchmarks.report.tables import table


def sections(root: Path) -> Iterable[str]:
    """Yield the sections of the results under ``root``; nothing if there are none."""
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
        f"BLEU is computed by sacrebleu ({signature['bleu_signature']}) with greedy decoding. The test sentences\n"
        "have at most ten words, and their English text is in no training pair. In the rows *whole*, *BLEU* is that\n"
        "of the whole network; parentheses hold BLEU with beam search, the paper's BLEU and chrF. In the other\n"
        "rows, which name the method of decomposition, it is the BLEU of each module minus that of the whole\n"
        "network. *mean*: mean over the languages. *nodes*: share of the decoder's nodes that a module keeps.\n"
        "*weights*: share of the weights of the whole network. *size*: size of one module's file in percent of the\n"
        "network's weights; unrolled modules are stored with their whole network. These networks are far smaller\n"
        "than the paper's; see `benchmarks/training/translators.py --scale paper`. Networks of two layers were\n"
        "trained for three epochs instead of eight. Vanilla networks have a low BLEU, so their small losses are not\n"
        "evidence of a cheap decomposition.\n"
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
    """Yield the mean cost over the languages next to the published mean over one to four layers (Table II)."""
    yield (
        "\nMean cost of decomposition. *published*: the authors' figures, rolled / unrolled, means over one to four\n"
        "layers and three languages, BLEU by NLTK. The other columns name the method of decomposition; each figure\n"
        "is the mean BLEU of our modules minus that of the whole network.\n"
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
    yield (
        "\nSpeed of greedy decoding on one thread. *batched, a sentence*: milliseconds per sentence when all test\n"
        "sentences of one language are decoded in one batch and the decoder's state is kept between words. *prefix\n"
        "anew, a sentence*: the same for one sentence at a time, with the encoder and the translated prefix run\n"
        "again for each word, as in the authors' release. *ratio*: the second divided by the first (to hold: 50).\n"
        "*ratio, the same sentences*: the same with both measured on the same sentences. *same translations*: share\n"
        "of the sentences with equal translations, in percent.\n"
    )
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
        "Each figure is the BLEU of one language. *before, the whole network*: the first model. *trained on\n"
        "everything*: a new network trained on all languages, the monolithic alternative in the paper's Table V.\n"
        "The other rows are translators composed of modules, with the method of decomposition after the semicolon.\n"
        f"The {example['language']} module is that of another model: a second multilingual one, or a small one\n"
        "trained on this language alone.\n"
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
    """Yield the published figures for the example, of the LSTM."""
    found = [m for m in published.means() if m["question"] == "motivating" and m["cell"] == "LSTM"]
    rows = []
    for m in found:
        solution, _, what = m["data"].partition(", ")
        if what.startswith(PROBLEMS[name]):
            figures = [f"{100 * m[key]:.1f}" if m[key] is not None else "-" for key in ("monolithic", "composed")]
            rows.append([solution, what.removeprefix(PROBLEMS[name]).strip(), *figures])
    yield (
        "\nPublished figures (Table V, LSTM) in percent. The first two columns are the solution and its variant.\n"
        "*network*: BLEU of the whole network. *modules*: BLEU of the translator composed of modules.\n"
    )
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

"""The motivating example of the paper: add a language to a translator, and replace a bad one, without retraining."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from unbraid.config import Words
from unbraid.decomposition.decompose import decompose
from unbraid.decomposition.decomposition import Decomposition
from unbraid.demo.architectures import translation_spec
from unbraid.demo.phrases import Phrases, make_phrases
from unbraid.demo.translating import train_translator
from unbraid.networks.network import Network
from unbraid.progress import bar
from unbraid.translation.evaluating import TranslatorEvaluation, evaluate_translator
from unbraid.translation.pairs import Pairs, find_tag, make_pairs
from unbraid.translation.translator import Translator
from unbraid.translation.words import most_frequent, sentence_vocabulary, split_words

UNITS, DIMENSION, EPOCHS = 96, 48, 14
SENTENCES, FEW = 2400, 120  # FEW: number of Italian sentences of the first network
CAP = 0.05  # largest share of removed nodes


def run_translation_demo(folder: Path, seed: int, console: Console) -> None:
    """Run the demonstration and save the results in ``folder``.

    Args:
        folder: folder of modules and translators.
        seed: seed of training and sampling.
        console: console for the output.
    """
    train, test = make_phrases(["fr", "de", "it", "uk"], SENTENCES, seed)
    console.print(
        f"[bold]1. Train[/bold] an LSTM that translates English dates and numbers into French, German and Italian "
        f"({len(train.source):,} sentences; only {FEW} of them Italian)"
    )
    network, pairs = _trained(train, ["fr", "de", "it"], seed, few="it")
    console.print("\n[bold]2. Decompose[/bold] it into one module per language")
    parts = _modules(network, pairs, seed)
    parts.save(folder / "parts")
    translator = Translator(parts)
    _tell(console, _scored(translator, test, network))

    console.print("\n[bold]3. Add[/bold] Ukrainian: a module of another network for Ukrainian and Italian")
    other, pairs = _trained(train, ["uk", "it"], seed + 1)
    others = _modules(other, pairs, seed)
    others.save(folder / "others")
    translator = translator.add("uk", others["uk"])

    console.print("\n[bold]4. Replace[/bold] the bad Italian module by the Italian module of that network")
    fixed = translator.replace("it", others["it"])
    fixed.save(folder / "translator")
    _tell(console, _scored(fixed, test, other))
    (folder / "test.txt").write_text("\n".join(test.source) + "\n", encoding="utf-8")
    console.print(f"\n{test.source[0]!r}:")
    for language in fixed.languages:
        console.print(f"  {language}: {fixed.translate(test.source[:1], language)[0]}", markup=False)
    console.print(
        f"\nThe results are in {folder}: parts, others, translator, test.txt. Next step:\n"
        f"  unbraid translate {folder / 'translator'} --to uk < {folder / 'test.txt'}",
        markup=False,
    )


def _trained(phrases: Phrases, languages: list[str], seed: int, few: str | None = None) -> tuple[Network, Pairs]:
    """Train a network; return it with its training pairs."""
    source = sentence_vocabulary(most_frequent(map(split_words, phrases.source), 500))
    words = [w for v in languages for w in most_frequent(map(split_words, phrases.targets[v]), 500)]
    target = sentence_vocabulary(words, languages)
    pairs = make_pairs(phrases.source, {v: phrases.targets[v] for v in languages}, source, target)
    if few is not None:
        pairs = pairs.take(np.concatenate([np.flatnonzero(pairs.languages != few),
                                           np.flatnonzero(pairs.languages == few)[:FEW]]))  # fmt: skip
    tags = [find_tag(language, target) for language in languages]
    spec = translation_spec("lstm", 1, source.size, target.size, DIMENSION, UNITS, tags)
    network = train_translator(spec, pairs, epochs=EPOCHS, seed=seed, batch_size=32, learning_rate=5e-3, dropped=0.0)
    return network.with_vocabulary(source, target), pairs


def _modules(network: Network, pairs: Pairs, seed: int) -> Decomposition:
    examples = (pairs.x, pairs.languages)
    return decompose(network, examples, strategy="paper", words=Words.OWN, max_removed=CAP, seed=seed, progress=bar)


def _scored(translator: Translator, test: Phrases, network: Network) -> TranslatorEvaluation:
    references = {v: test.targets[v] for v in translator.languages}
    return evaluate_translator(translator, test.source, references, against=network)


def _tell(console: Console, result: TranslatorEvaluation) -> None:
    table = Table(title="BLEU (sacrebleu), chrF", title_justify="left")
    for column in ("language", "module", "chrF", "parent network"):
        table.add_column(column)
    for language, scores in result.modules.items():
        whole = result.monolithic.get(language)
        cells = [f"{scores.bleu:.1f}", f"{scores.chrf:.1f}", "-" if whole is None else f"{whole.bleu:.1f}"]
        table.add_row(language, *cells)
    console.print(table)

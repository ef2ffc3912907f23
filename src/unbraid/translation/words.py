"""Split sentences into words and join words to sentences, with one rule for all languages."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from unbraid.data.padding import Padding
from unbraid.data.vocabulary import Vocabulary

PADDING, UNKNOWN = 0, 1
PAD, UNK = "[padding]", "[unknown]"
PATTERN = r"\w+'|\w+|[^\w\s]"  # an elided word keeps its apostrophe: l', dell'


def start_tag(language: str) -> str:
    """Return the first token of a sentence of ``language``."""
    return f"[start{language}]"


def end_tag(language: str) -> str:
    """Return the last token of a sentence of ``language``."""
    return f"[end{language}]"


def split_words(text: str) -> list[str]:
    """Split a sentence into words and punctuation marks, in lower case."""
    return re.findall(PATTERN, text.lower().replace("\u2019", "'"))


def join_words(words: Iterable[str]) -> str:
    """Join words to a sentence, without a space before punctuation, after an apostrophe or around a hyphen."""
    text = ""
    for word in words:
        joined = not text or text.endswith(("'", "-")) or re.fullmatch(r"[.,!?;:%)\]-]", word) is not None
        text += word if joined else f" {word}"
    return text


def most_frequent(sentences: Iterable[Sequence[str]], size: int) -> list[str]:
    """Return the ``size`` most frequent words; ties are in alphabetical order."""
    counts = Counter(word for words in sentences for word in words)
    return sorted(counts, key=lambda word: (-counts[word], word))[:size]


def sentence_vocabulary(words: Sequence[str], languages: Sequence[str] = ()) -> Vocabulary:
    """Make a vocabulary of whole words that splits text like :func:`split_words`.

    Index 0 is padding, index 1 any unknown word. Then follow the tags of the languages and the words.

    Args:
        words: the words.
        languages: the languages of a target vocabulary; each gets a first and a last token.
    """
    tags = [tag(language) for language in languages for tag in (start_tag, end_tag)]
    known = dict.fromkeys([PAD, UNK, *tags, *words])
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(known)}, unk_token=UNK))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Replace("\u2019", "'"), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PATTERN), behavior="removed", invert=True)
    return Vocabulary(tokenizer, Padding(side="right", index=PADDING, unknown=UNKNOWN))


def word_list(vocabulary: Vocabulary, columns: int) -> list[str]:
    """Return the word of each output column; columns beyond the vocabulary have an empty word."""
    found = [""] * max(vocabulary.size, columns)
    for word, index in vocabulary.tokenizer.get_vocab().items():
        if index < len(found):
            found[index] = word
    return found

"""Check a ``tokenizer.json`` with an allow-list before the tokenizers library reads the file.

A few rules in such a file can make a short text arbitrarily long, and a regular expression can take exponential time.
So every normalizer, pre-tokenizer, post-processor and model must be in the allow-list, and its sizes below the limits.
Tokenizers that are built in Python are not checked.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from unbraid import limits
from unbraid.data.patterns import PATTERN_CHARS, regex_problem
from unbraid.errors import ConfigError, FormatError, quoted

STEPS = 32  # largest number of normalizers, pre-tokenizers or post-processors of one file
PIECE_CHARS = 200  # largest length of a text that is inserted or searched for
WORD_CHARS = 1_000  # largest length of a word that WordPiece splits
EXPANSION = 100  # largest number of characters that normalizers may make of one character
CHARSMAP_BYTES = 128  # largest size of the replacement of one character in a precompiled map

PLAIN_NORMALIZERS = {"NFC", "NFD", "NFKC", "NFKD", "Nmt", "Lowercase", "Strip", "StripAccents", "BertNormalizer"}
PLAIN_PRE_TOKENIZERS = {
    "BertPreTokenizer",
    "ByteLevel",
    "CharDelimiterSplit",
    "Digits",
    "FixedLength",
    "Punctuation",
    "UnicodeScripts",
    "Whitespace",
    "WhitespaceSplit",
}
POST_PROCESSORS = {"BertProcessing", "ByteLevel", "RobertaProcessing", "TemplateProcessing"}
MODELS = {"BPE", "Unigram", "WordLevel", "WordPiece"}


def check_tokenizer(content: Any, where: object) -> int:
    """Compare the parsed content of a ``tokenizer.json`` with the allow-list.

    Args:
        content: the parsed JSON.
        where: the file, for messages.

    Returns:
        the number of characters that its normalizers can make of one character, without Unicode normalization.

    Raises:
        FormatError: a part that is not in the allow-list or above a limit.
    """
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise FormatError(f"{where}: no tokenizer.json: expected a mapping with a field 'model'.")
    expansion = 1
    for step in _steps(content.get("normalizer"), "normalizers", f"{where}: normalizer"):
        expansion *= _normalizer(step, f"{where}: normalizer")
    for step in _steps(content.get("pre_tokenizer"), "pretokenizers", f"{where}: pre_tokenizer"):
        expansion *= _pre_tokenizer(step, f"{where}: pre_tokenizer")
    if expansion > EXPANSION:
        raise FormatError(
            f"{where}: its rules can make {expansion} characters of one character, expected at most {EXPANSION}."
        )
    templates = 0
    for step in _steps(content.get("post_processor"), "processors", f"{where}: post_processor"):
        templates += _post_processor(step, f"{where}: post_processor")
    if templates > 1:
        raise FormatError(f"{where}: post_processor: expected at most one TemplateProcessing, found {templates}.")
    _model(content["model"], f"{where}: model")
    _added(content.get("added_tokens"), f"{where}: added_tokens")
    return expansion


def only_words(content: dict[str, Any], places: Mapping[int, int], marks: Collection[str]) -> dict[str, Any]:
    """Keep some words of a word-level tokenizer.

    Args:
        content: the parsed ``tokenizer.json``.
        places: index of a word that stays -> its new index, from 0.
        marks: names of tokens that are not words. Their indices follow all others.

    Raises:
        ConfigError: a model of pieces of words, or tokens that are added to texts.
    """
    model = content["model"]
    if model.get("type") != "WordLevel" or content.get("added_tokens") or content.get("post_processor"):
        raise ConfigError(
            f"words='own' needs a vocabulary of whole words without added tokens, found {quoted(model.get('type'), 40)}"
            ": leave words='all'."
        )
    words = {word: places[index] for word, index in model["vocab"].items() if index in places and word not in marks}
    found = [mark for mark in marks if mark in model["vocab"]]
    words |= {mark: len(places) + number for number, mark in enumerate(found)}
    return {**content, "model": {**model, "vocab": words}}


def _steps(value: Any, field: str, where: str) -> Iterator[dict[str, Any]]:
    """Return the steps of a field, with each Sequence replaced by its steps."""
    waiting, count = [] if value is None else [value], 0
    while waiting:
        step = waiting.pop(0)
        count += 1
        if count > STEPS:
            raise FormatError(f"{where}: has more than {STEPS} steps.")
        if not isinstance(step, dict) or not isinstance(step.get("type"), str):
            raise FormatError(f"{where}: expected a mapping with a field 'type', found {quoted(repr(step), 60)}.")
        if step["type"] != "Sequence":
            yield step
            continue
        inner = step.get(field)
        if not isinstance(inner, list):
            raise FormatError(f"{where}: a Sequence has no list {field!r}.")
        waiting = [*inner, *waiting]


def _normalizer(step: dict[str, Any], where: str) -> int:
    kind = step["type"]
    if kind == "Replace":
        _pattern(step.get("pattern"), where)
        length = len(_text(step, "content", where))
        return 1 + 2 * length if _may_be_empty(step) else max(1, length)
    if kind == "Prepend":
        return 1 + len(_text(step, "prepend", where))
    if kind == "ByteLevel":
        return 4  # UTF-8 bytes of a character
    if kind == "Precompiled":
        _charsmap(step.get("precompiled_charsmap"), where)
    elif kind not in PLAIN_NORMALIZERS:
        raise _unknown(kind, where, PLAIN_NORMALIZERS | {"ByteLevel", "Precompiled", "Prepend", "Replace"})
    return 1


def _may_be_empty(step: dict[str, Any]) -> bool:
    """Return whether a pattern can match an empty text, and so insert its content between all characters."""
    return step["pattern"].get("String", "") == ""


def _pre_tokenizer(step: dict[str, Any], where: str) -> int:
    kind = step["type"]
    if kind == "Split":
        _pattern(step.get("pattern"), where)
    elif kind == "Metaspace":
        return max(1, len(_text(step, "replacement", where)))
    elif kind not in PLAIN_PRE_TOKENIZERS:
        raise _unknown(kind, where, PLAIN_PRE_TOKENIZERS | {"Metaspace", "Split"})
    return 4 if kind == "ByteLevel" else 1


def _post_processor(step: dict[str, Any], where: str) -> int:
    """Return 1 for a template, else 0."""
    kind = step["type"]
    if kind not in POST_PROCESSORS:
        raise _unknown(kind, where, POST_PROCESSORS)
    if kind != "TemplateProcessing":
        return 0
    pieces = step.get("single")
    if not isinstance(pieces, list) or len(pieces) > STEPS:
        raise FormatError(f"{where}: a TemplateProcessing needs 'single', a list of at most {STEPS} pieces.")
    if sum(isinstance(piece, dict) and "Sequence" in piece for piece in pieces) > 1:
        raise FormatError(f"{where}: a TemplateProcessing repeats the text.")
    return 1


def _model(model: dict[str, Any], where: str) -> None:
    kind = model.get("type")
    if not isinstance(kind, str) or kind not in MODELS:
        raise _unknown(kind, where, MODELS)
    for name in ("continuing_subword_prefix", "end_of_word_suffix", "unk_token"):
        if model.get(name) is not None:
            _text(model, name, where)
    longest = model.get("max_input_chars_per_word", 0)
    if not isinstance(longest, int) or longest > WORD_CHARS:
        raise FormatError(f"{where}: max_input_chars_per_word is {quoted(longest)}, expected at most {WORD_CHARS}.")
    if model.get("dropout"):
        raise FormatError(f"{where}: has dropout, which makes results random; expected none.")
    words = model.get("vocab")
    if not isinstance(words, list if kind == "Unigram" else dict) or not isinstance(words, list | dict):
        raise FormatError(f"{where}: 'vocab' is {type(words).__name__}, which a {kind} model does not have.")
    limits.check_size(len(words), "vocabulary", where, "number of words")
    if isinstance(words, dict):
        _indices(list(words.values()), where)


def _added(tokens: Any, where: str) -> None:
    if tokens is None:
        return
    if not isinstance(tokens, list) or not all(isinstance(token, dict) for token in tokens):
        raise FormatError(f"{where}: expected a list of mappings.")
    _indices([token.get("id") for token in tokens], where)
    if any(token.get("content") == "" for token in tokens):
        raise FormatError(f"{where}: a token has no characters.")


def _indices(found: list[Any], where: str) -> None:
    for index in found:
        if type(index) is not int or index < 0:
            raise FormatError(f"{where}: index {quoted(repr(index), 40)}, expected a whole number of at least 0.")
    limits.check_size(max(found, default=0) + 1, "vocabulary", where, "largest index plus one")
    if len(set(found)) < len(found):  # a saved vocabulary holds one word for each index
        twice = Counter(found).most_common(1)[0][0]
        raise FormatError(f"{where}: index {twice} belongs to two words, expected a different index for each word.")


def _text(step: dict[str, Any], field: str, where: str) -> str:
    value = step.get(field)
    if not isinstance(value, str) or len(value) > PIECE_CHARS:
        raise FormatError(f"{where}: {field!r} must be text of at most {PIECE_CHARS} characters.")
    return value


def _pattern(pattern: Any, where: str) -> None:
    """Check a pattern: fixed text, or a regular expression that cannot take exponential time."""
    if not isinstance(pattern, dict) or len(pattern) != 1 or not {"String", "Regex"} & pattern.keys():
        raise FormatError(f"{where}: a pattern must be {{'String': text}} or {{'Regex': text}}.")
    ((kind, text),) = pattern.items()
    if not isinstance(text, str):
        raise FormatError(f"{where}: a pattern must be text, found {type(text).__name__}.")
    problem = regex_problem(text) if kind == "Regex" else None
    if problem is not None or len(text) > PATTERN_CHARS:
        reason = problem or f"is longer than {PATTERN_CHARS} characters"
        raise FormatError(f"{where}: pattern {quoted(repr(text), 60)} {reason}.")


def _charsmap(value: Any, where: str) -> None:
    """Check a precompiled map: the size of a table, the table, and NUL-terminated texts that replace a match."""
    try:
        content = base64.b64decode(value or "", validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise FormatError(f"{where}: 'precompiled_charsmap' is not base64.") from None
    size = int.from_bytes(content[:4], "little")
    if len(content) < 4 or size % 4 or size == 0 or 4 + size > len(content):
        raise FormatError(f"{where}: 'precompiled_charsmap' is damaged.")
    if max(map(len, content[4 + size :].split(b"\0"))) > CHARSMAP_BYTES:
        raise FormatError(f"{where}: 'precompiled_charsmap' replaces a character by more than {CHARSMAP_BYTES} bytes.")


def _unknown(kind: Any, where: str, known: set[str]) -> FormatError:
    return FormatError(
        f"{where}: type {quoted(repr(kind), 60)} is not supported; supported: {', '.join(sorted(known))}."
    )


def read_words_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the JSON of a vocabulary file; raise FormatError if it holds something else."""
    try:
        text = limits.read_regular(Path(path), "json_bytes").removeprefix(b"\xef\xbb\xbf")
        content = limits.parse_json(text, quoted(path))
        if isinstance(content, str):  # json.dump(tokenizer.to_json(), file) encodes twice
            content = limits.parse_json(content, quoted(path))
    except FormatError as error:
        raise FormatError(f"{str(error).rstrip(chr(46))}; expected a word_index or tokenizer.json.") from None
    if not isinstance(content, dict):
        raise FormatError(f"{quoted(path)}: contains {type(content).__name__}; expected a mapping word -> index.")
    return content

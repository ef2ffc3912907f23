"""Docstrings, comments and messages of src use plain technical English, and all public names have an example."""

import ast
import re
import tokenize
from pathlib import Path

import pytest

import unbraid
from tests.locations import ROOT

SOURCE = ROOT / "src" / "unbraid"
# Metaphors and phrases that the glossary and the rules in CONTRIBUTING.md replace.
AVOIDED = re.compile(
    r"\b(says?|said|hears?|knows?|knew|speaks?( of)?|tells? (apart|what|how|which|where)|lies (in|at|there)"
    r"|lie in|taken apart|takes? \w+ apart|untouched|side by side|whole or not at all|so many"
    r"|what is (given|left|gone|there|not)|stands? (in )?for|gives? back|apart into|must line up|whatever"
    r"|(is|are) no (text|number|mapping|label|file|dense|model|key))\b",
    re.IGNORECASE,
)
# A summary of a function starts with a verb, as in "Return whether the weights are equal.", and ends with a period.
NOUN_PHRASE = re.compile(r"(An?|The|All|Any|Some|Those|These|Each|Every|What|Which|Whether|How|Where|Why|As)\b")
LONGEST = 30  # words of a sentence in a docstring; the goal is 25
FILES = {path.relative_to(SOURCE).as_posix(): path for path in sorted(SOURCE.rglob("*.py"))}


def texts(path: Path) -> list[tuple[int, str]]:
    """Return the docstrings, comments and strings of at least three words of a file, with their line numbers."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    with tokenize.open(path) as file:
        comments = [token for token in tokenize.generate_tokens(file.readline) if token.type == tokenize.COMMENT]
    strings = [(node.lineno, node.value) for node in found if len(node.value.split()) >= 3]
    return strings + [(token.start[0], token.string) for token in comments]


def test_docstrings_comments_and_messages_use_standard_terms():
    assert AVOIDED.search("an untouched module says what its parent says")
    found = [
        f"{name}:{line}: {match[0]!r} in {text.strip()[:80]!r}"
        for name, path in FILES.items()
        for line, text in texts(path)
        for match in AVOIDED.finditer(text)
    ]
    assert not found, "\n".join(found)


def summaries(path: Path) -> list[tuple[int, str]]:
    """Return the first docstring line of each function that is not a property, with its line number."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    found = [(node.lineno, ast.get_docstring(node)) for node in functions if not is_property(node)]
    return [(line, text.split("\n")[0]) for line, text in found if text]


def is_property(node: ast.FunctionDef) -> bool:
    return any(ast.unparse(decorator).endswith("property") for decorator in node.decorator_list)


def test_summaries_of_functions_are_imperative_sentences():
    assert NOUN_PHRASE.match("The weights of a module.") and not NOUN_PHRASE.match("Return the weights of a module.")
    found = [
        f"{name}:{line}: {text}"
        for name, path in FILES.items()
        for line, text in summaries(path)
        if NOUN_PHRASE.match(text) or not re.match(r"[A-Z].*[.:]$", text) or "; raises " in text
    ]
    assert not found, "\n".join(found)


def sentences(path: Path) -> list[str]:
    """Return the sentences, clauses and list entries of the docstrings of a file, without their examples."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = [n for n in ast.walk(tree) if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)]
    prose = [(ast.get_docstring(node) or "").split(">>>")[0] for node in documented]
    return [part for text in prose for part in re.split(r"(?<=[.:;])\s+|\n\s*(?:-|\n)\s*", text)]


def test_sentences_of_docstrings_are_short():
    found = [
        f"{name}: {' '.join(text.split())}"
        for name, path in FILES.items()
        for text in sentences(path)
        if sum(bool(re.search("[A-Za-z]", word)) for word in text.split()) > LONGEST
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", [name for name in unbraid.__all__ if name != "__version__"])
def test_public_names_have_an_example(name):
    assert ">>> " in (getattr(unbraid, name).__doc__ or ""), f"unbraid.{name} has no example in its docstring"

"""Run scripts and the Python code blocks of Markdown pages, and check the wording of pages."""

import os
import re

from tests import prepared

LONGEST = 25  # words of a sentence
BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FIGURE = re.compile(r"[-+]?\d[\d,.]*")


def printed(script, folder):
    """Run a script in a folder, with warnings as errors; return its output."""
    done = prepared.run([str(script)], folder, {**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    return done.stdout


def blocks(page, language):
    """Return the code blocks of a page in one language."""
    return [code for found, code in BLOCK.findall(page.read_text(encoding="utf-8")) if found == language]


def printed_by_page(page, folder):
    """Run the Python blocks of a page as one script."""
    script = folder / "page.py"
    script.write_text("\n".join(blocks(page, "python")), encoding="utf-8")
    text = printed(script, folder)
    script.unlink()
    return text


def without_figures(text):
    """Replace figures, which depend on the machine, and drop blank lines and spaces that align columns."""
    lines = (" ".join(FIGURE.sub("#", line).split()) for line in text.splitlines())
    return [line for line in lines if line]


def long_sentences(page):
    """Return the sentences of a page with more than 25 words. Code is one word."""
    text = re.sub(r"<!--.*?-->", "", BLOCK.sub("", page.read_text(encoding="utf-8")), flags=re.DOTALL)
    text = re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", re.sub(r"`[^`]*`", "code", text))
    # rows of tables, list items, headings and paragraphs end sentences
    parts = re.split(r"\n\s*\n|\n(?=\s*(?:[-*#|>]|\d+\.) ?)| \| |(?<=[.!?:;])\s+", text)
    return [part for part in parts if len(re.findall(r"\w[\w'.,/-]*", part)) > LONGEST]

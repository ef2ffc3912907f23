"""The pages of the documentation: their code runs and prints what they show, and the site builds."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

import unbraid
from tests import prepared
from tests.locations import ROOT
from tests.scripts import blocks, long_sentences, printed_by_page, without_figures

DOCS = ROOT / "docs"
PAGES = {path.relative_to(DOCS).as_posix(): path for path in sorted(DOCS.rglob("*.md"))}
WITH_CODE = [name for name, path in PAGES.items() if blocks(path, "python")]
FILES = ("intents.keras", "words.json")  # of the Keras tutorial


def needs(package):
    found = importlib.util.find_spec(package)
    return pytest.mark.skipif(
        found is None, reason=f"{package} is not installed: pip install '.[docs,onnx,report,sklearn,translation]'"
    )


NEEDS = {
    "tutorials/translator.md": ["num2words", "sacrebleu"],
    "howto/serving.md": ["onnxruntime", "onnxscript"],
    "howto/report.md": ["jinja2", "matplotlib"],
    "howto/sklearn.md": ["sklearn"],
}


@pytest.fixture
def folder(tmp_path):
    for name in FILES:
        shutil.copy(DOCS / "tutorials" / name, tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", [pytest.param(n, marks=[needs(p) for p in NEEDS.get(n, [])]) for n in WITH_CODE])
def test_the_code_of_a_page_prints_what_the_page_shows(name, folder):
    found = printed_by_page(PAGES[name], folder)
    assert without_figures(found) == without_figures("".join(blocks(PAGES[name], "text")))


def test_the_commands_of_the_command_line_page_run(folder):
    programs = folder / "bin"
    programs.mkdir()
    unbraid_program = ["-S", "-E", prepared.__file__, prepared.address()]
    for program, arguments in (("unbraid", unbraid_program), ("python", [])):
        path = programs / program
        path.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, *arguments])} "$@"\n', encoding="utf-8")
        path.chmod(0o755)
    script = "set -e\n" + "\n".join(blocks(PAGES["howto/cli.md"], "sh"))
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "exit code 2" in done.stdout and "no example of ['lost']" in done.stderr
    assert set(done.stdout.splitlines()) & {"card", "transfer"}  # what `predict` prints
    assert unbraid.load_composition(folder / "from-recipe").labels == ["card", "payment"]


def test_the_reference_has_every_public_name():
    named = re.findall(r"^::: unbraid\.(\w+)$", PAGES["reference.md"].read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(named) == sorted(set(unbraid.__all__) - {"__version__"})


def test_the_menu_has_every_page():
    listed = re.findall(r"([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted([*PAGES, "results.md"])


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_plain(name):
    assert not long_sentences(PAGES[name])
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", PAGES[name].read_text(encoding="utf-8"))
    made = {DOCS / "results.md"}
    assert not [t for t in targets if not (there := (PAGES[name].parent / t).resolve()).exists() and there not in made]


@needs("mkdocs")
@needs("material")
@needs("mkdocstrings")
def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "site" / "reference.html").read_text(encoding="utf-8")
    assert all(f'id="unbraid.{name}"' in reference for name in unbraid.__all__ if name != "__version__")
    assert ":func:" not in reference and (tmp_path / "site" / "results.html").exists()
    # nothing is loaded from other servers
    pages = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "site").rglob("*.html"))
    assert not re.findall(r"<(?:script|img|iframe)[^>]+src=\"https?:|<link[^>]+stylesheet[^>]+https?:", pages)

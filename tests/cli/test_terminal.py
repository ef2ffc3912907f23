"""All commands: errors, exit codes, text of users, and limits of size."""

import json
import os
import shutil
import stat
import subprocess
import sys
import warnings

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import unbraid
from tests import factory
from tests.storage.test_saving_crash import killed_after_commit
from unbraid import limits
from unbraid.cli.app import app
from unbraid.cli.terminal import guarded, reading
from unbraid.errors import ConfigError, DataError, UnbraidWarning

runner = CliRunner()
PROGRAM = [sys.executable, "-c", "from unbraid.cli.app import app; app()"]
LABELS = ["[/foo]", ":smile: [red]b[/red]", "\x1b]0;owned\x1b\\c\u202e"]


@pytest.fixture(scope="module")
def evil(tmp_path_factory):
    """Make modules with markup and escape codes as labels, and a data file."""
    folder = tmp_path_factory.mktemp("evil")
    network = factory.network(("lstm",), labels=LABELS)
    x, y = factory.examples(network, 60)
    parts = unbraid.decompose(network, (x, y), samples_per_class=10)
    parts.save(folder / "parts")
    seen = np.bincount(network.logits(x).argmax(-1), minlength=3)
    unbraid.compose([parts[label] for label, count in zip(LABELS, seen, strict=True) if count > 1]).save(
        folder / "seen"
    )
    np.savez(folder / "data.npz", x=x, y=y)
    return folder


def run(*arguments, **settings):
    return runner.invoke(app, [str(argument) for argument in arguments], **settings)


def is_plain(text):
    return all(character.isprintable() or character == "\n" for character in text)


def test_labels_that_are_markup_or_escape_codes_are_shown_as_they_are_written(evil, tmp_path):
    for arguments in (
        ["inspect", evil / "parts"],
        ["evaluate", evil / "parts", evil / "data.npz"],
        ["predict", evil / "parts", evil / "data.npz"],
        ["compose", evil / "parts", "-o", tmp_path / "all"],
        ["fuse", evil / "seen", evil / "data.npz", "-o", tmp_path / "fused"],
        ["replace", tmp_path / "all", LABELS[0], f"{evil / 'parts'}:{LABELS[0]}", "-o", tmp_path / "other"],
    ):
        done = run(*arguments)
        assert done.exit_code == 0, (arguments, done.output, done.exception)
        assert is_plain(done.stdout), arguments
    wide = {**os.environ, "COLUMNS": "300", "PYTHONIOENCODING": "utf-8"}
    shown = subprocess.run(
        [*PROGRAM, "inspect", evil / "parts"], capture_output=True, encoding="utf-8", env=wide
    ).stdout
    assert "[/foo]" in shown and ":smile: [red]b[/red]" in shown and r"\x1b]0;owned\x1b\c\u202e" in shown
    assert set(json.loads(run("predict", evil / "parts", evil / "data.npz", "--json").stdout)["labels"]) == set(LABELS)


def test_foreign_text_in_errors_is_one_plain_line(evil, tmp_path):
    for arguments in (
        ["compose", f"{evil / 'parts'}:\x1b[31m\nx", "-o", tmp_path / "x"],
        ["compose", f"{evil / 'parts'}:[/bold]", "-o", tmp_path / "x"],
        ["inspect", tmp_path / "\x1b[31m[/red]"],
        ["evaluate", evil / "parts", tmp_path / "a\nb.npz"],
    ):
        done = run(*arguments)
        assert done.exit_code == 2, (arguments, done.exception)
        assert is_plain(done.stderr) and done.stderr.count("\n") == 1 and done.stderr.startswith("error: ")


def test_a_model_card_shows_labels_as_they_are_written(evil):
    card = (evil / "parts" / "README.md").read_text()
    assert "\x1b" not in card and "\u202e" not in card and r"\[/foo\]" in card


BAD_FILES = {
    "bad.jsonl": b"{}\n[1]\n",
    "deep.jsonl": b"[" * 100_000,
    "empty.jsonl": b"",
    "binary.jsonl": b"\xff\xfe",
    "number.jsonl": b'{"text": "a", "label": ' + b"9" * 5000 + b"}\n",
    "empty.csv": b"",
    "binary.csv": b"text,label\n\xff,a\n",
    "field.csv": b"text,label\n" + b"x" * 200_000 + b",a\n",
    "nul.csv": b"text,label\na\0b,a\n",
    "short.csv": b"text,label\na\n",
    "bad.npz": b"PK\x03\x04",
    "text.npz": b"text",
}
VERBS = {
    "inspect": ["inspect", "{file}"],
    "decompose": ["decompose", "{parts}", "{file}", "-o", "{out}"],
    "decompose a model": ["decompose", "{file}", "{data}", "-o", "{out}"],
    "compose": ["compose", "{file}", "-o", "{out}"],
    "compose with a sample": ["compose", "{parts}", "--sample", "{file}", "-o", "{out}"],
    "replace": ["replace", "{parts}", "a", "{file}", "-o", "{out}"],
    "replace in": ["replace", "{file}", "a", "{parts}", "-o", "{out}"],
    "drop": ["drop", "{file}", "a", "-o", "{out}"],
    "add": ["add", "{parts}", "{file}:a", "-o", "{out}"],
    "add to": ["add", "{file}", "{parts}:a", "-o", "{out}"],
    "a state dict": ["decompose", "{file}", "{data}", "-o", "{out}", "--module", "tests.own_intents:trained"],
    "vocabulary": ["predict", "{parts}", "{data}", "--vocabulary", "{file}"],
    "labels": ["predict", "{parts}", "{data}", "--labels", "{file}"],
    "code": ["predict", "{parts}", "{data}", "--module", "{file}:Factory"],
    "fuse": ["fuse", "{parts}", "{file}", "-o", "{out}"],
    "evaluate": ["evaluate", "{parts}", "{file}"],
    "evaluate a model": ["evaluate", "{file}", "{data}"],
    "evaluate against": ["evaluate", "{parts}", "{data}", "--against", "{file}"],
    "predict": ["predict", "{parts}", "{file}"],
    "predict of a model": ["predict", "{file}", "{data}"],
    "translate": ["translate", "{file}", "--to", "fr"],
    "push": ["push", "{file}", "owner/x"],
    "export": ["export", "{file}", "-o", "{out}"],
}
NAMES = [*BAD_FILES, "nowhere.npz", "nowhere", "x" * 300, "x" * 300 + ".csv", "a folder", "a pipe", "a pipe.csv"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("verb", VERBS)
def test_every_command_refuses_bad_files_with_exit_code_2(evil, tmp_path, verb, name):
    file = tmp_path / name
    if name in BAD_FILES:
        file.write_bytes(BAD_FILES[name])
    elif name == "a folder":
        file.mkdir()
    elif name.startswith("a pipe"):
        os.mkfifo(file)
    before = sorted(tmp_path.iterdir())
    values = {"file": file, "parts": evil / "parts", "data": evil / "data.npz", "out": tmp_path / "out"}
    done = run(*(argument.format(**values) for argument in VERBS[verb]), input="a\n")
    assert done.exit_code == 2, (done.output, done.exception)
    assert done.stderr.count("\n") == 1 and len(done.stderr) < 2100 and is_plain(done.stderr)
    assert sorted(tmp_path.iterdir()) == before


def test_every_command_finds_a_folder_that_a_killed_save_left(evil, tmp_path, monkeypatch):
    folder, out = tmp_path / "parts", tmp_path / "out"
    parts = unbraid.load_decomposition(evil / "parts")
    for arguments in (
        ["inspect", folder],
        ["evaluate", folder, evil / "data.npz"],
        ["evaluate", evil / "parts", evil / "data.npz"],
        ["predict", folder, evil / "data.npz"],
        ["compose", folder, "-o", out],
        ["compose", f"{folder}:{LABELS[0]}", "-o", out],
        ["replace", folder, LABELS[0], f"{folder}:{LABELS[0]}", "-o", out],
    ):
        shutil.rmtree(folder, ignore_errors=True)
        killed_after_commit(parts, folder, monkeypatch, 0)
        assert not (folder / "unbraid.json").exists()
        done = run(*arguments)
        assert done.exit_code == 0, (arguments, done.output)


def test_export_writes_through_regular_files_only(evil, tmp_path):
    pytest.importorskip("onnxruntime")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "pipe")
    if os.path.exists("/dev/full"):
        (tmp_path / "device").symlink_to("/dev/full")
    before = sorted(tmp_path.iterdir())
    for path in before:
        kind = stat.S_IFMT(path.stat().st_mode)
        done = run("export", evil / "parts", "-o", path)
        assert done.exit_code == 2 and "not a regular file" in done.stderr, (path, done.output, done.exception)
        assert stat.S_IFMT(path.stat().st_mode) == kind
    assert sorted(tmp_path.iterdir()) == before
    (tmp_path / "link").symlink_to(tmp_path / "file.onnx")
    (tmp_path / "file.onnx").write_bytes(b"\x08old")
    assert run("export", evil / "parts", "-o", tmp_path / "link").exit_code == 0
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file.onnx").read_bytes() != b"old"
    assert run("export", evil / "parts", "-o", tmp_path / ("x" * 300)).exit_code == 2
    assert run("export", evil / "parts", "-o", tmp_path / "nowhere" / "x.onnx").exit_code == 2


def raising(error):
    """A program with one command that raises."""

    @guarded
    def command() -> None:
        raise error

    program = typer.Typer()
    program.command()(command)
    return runner.invoke(program, [])


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (DataError("x\ny"), 2, "error: x\\ny\n"),
        (PermissionError(13, "Permission denied", "/x/y"), 2, "error: /x/y: Permission denied.\n"),
        (OSError(28, "No space left on device"), 2, "error: No space left on device.\n"),
        (MemoryError(), 2, "error: there is not enough memory for this input.\n"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(32, "Broken pipe"), 1, ""),
    ],
)
def test_exit_codes(error, code, says):
    done = raising(error)
    assert (done.exit_code, done.stderr) == (code, says)


def test_a_fault_of_the_program_is_not_hidden():
    assert isinstance(raising(ZeroDivisionError()).exception, ZeroDivisionError)


def test_warnings_of_the_library_are_one_line_each():
    @guarded
    def command() -> None:
        for _ in range(2):
            warnings.warn("votes are not\ncomparable", UnbraidWarning, stacklevel=1)

    program = typer.Typer()
    program.command()(command)
    assert runner.invoke(program, []).stderr == "warning: votes are not\\ncomparable\n" * 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
@pytest.mark.parametrize("arguments", [["predict", "--json"], ["predict"]])
def test_a_full_standard_output_is_one_line(evil, arguments):
    verb, *options = arguments
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*PROGRAM, verb, evil / "parts", evil / "data.npz", *options],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert (done.returncode, done.stderr) == (2, "error: No space left on device.\n")


def test_a_reader_that_goes_away_is_no_error(evil):
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run(
        [*PROGRAM, "predict", evil / "parts", evil / "data.npz"], stdout=writes, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(writes)
    assert (done.returncode, done.stderr) == (1, "")


def test_labels_that_the_terminal_cannot_show_are_escaped(tmp_path):
    network = factory.network(("lstm",), labels=["é", "漢", "😀"])
    x, y = factory.examples(network, 60)
    unbraid.decompose(network, (x, y), samples_per_class=10).save(tmp_path / "parts")
    np.savez(tmp_path / "data.npz", x=x)
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for arguments in (["inspect", tmp_path / "parts"], ["predict", tmp_path / "parts", tmp_path / "data.npz"]):
        done = subprocess.run([*PROGRAM, *arguments], capture_output=True, env=environment)
        assert done.returncode == 0, done.stderr
        assert any(name in done.stdout for name in (rb"\xe9", rb"\u6f22", rb"\U0001f600"))


def test_standard_input_that_is_no_text(evil):
    done = subprocess.run(
        [*PROGRAM, "translate", evil / "parts", "--to", "fr"], input=b"\xff\xfe", capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr == b"error: standard input is not text in utf-8: convert it first.\n"


def test_max_size_is_an_option_of_every_command_that_reads(evil):
    for verb in (command.callback.__name__ for command in app.registered_commands):
        assert ("--max-size" in run(verb, "--help").stdout) == (verb != "demo")


def test_max_size_limits_files_and_raises_limits(evil, monkeypatch):
    done = run("inspect", evil / "parts", "--max-size", "1KB")
    assert done.exit_code == 2 and "above the limit of 1000" in done.stderr
    with limits.override(json_bytes=100, file_bytes=100):
        assert run("inspect", evil / "parts").exit_code == 2
        assert run("inspect", evil / "parts", "--max-size", "500MB").exit_code == 0
    assert limits.current() == limits.Limits()


def test_max_size_sets_stored_and_decoded_sizes():
    seen = []

    @guarded
    @reading
    def command() -> None:
        seen.append(limits.current())

    program = typer.Typer()
    program.command()(command)
    assert runner.invoke(program, ["--max-size", "2GB"]).exit_code == 0
    found = seen[0]
    assert {found.file_bytes, found.json_bytes, found.free_bytes, found.download_bytes} == {2 * 10**9}


@pytest.mark.parametrize(
    ("text", "size"),
    [("7", 7), ("7B", 7), ("500MB", 5 * 10**8), ("2GB", 2 * 10**9), ("2gb", 2 * 10**9), ("1.5 GiB", 3 * 2**29),
     ("3K", 3000), ("3Ki", 3072), ("1T", 10**12), ("1TiB", 2**40), (" 0.5kb ", 500)],
)  # fmt: skip
def test_sizes(text, size):
    assert limits.parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "GB", "0", "-1", "1e9", "1PB", "0.1B", "1IB", "nan", "1.GB", "9" * 400, "1\x00", "٣", None, 2.5j, []]
)
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ConfigError, match="for example 500MB or 2GB"):
        limits.parse_size(text)
    if isinstance(text, str) and "\x00" not in text:
        done = run("inspect", "x", "--max-size", text)
        assert done.exit_code == 2 and "--max-size" in done.stderr

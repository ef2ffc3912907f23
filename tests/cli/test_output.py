"""What all commands have in common: width of tables, ``--quiet``, ``--verbose``, exit codes, completion."""

import logging
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import unbraid
from tests import factory
from tests.cli.shell import run
from unbraid.cli import terminal
from unbraid.cli.app import app
from unbraid.errors import ConfigError, UnbraidWarning

WIDTH = 80
LABELS = [f"a class with a long name that does not fit into a column, {number}" for number in range(3)]
COMMANDS = [command.callback.__name__ for command in app.registered_commands]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("output")
    network = factory.network(("gru",), units=8, labels=LABELS)
    x, y = factory.examples(network, 60)
    np.savez(folder / "data.npz", x=x, y=y)
    for name, keep in (("parts", 0.5), ("small", 0.25)):
        unbraid.decompose(network, (x, y), keep=keep).save(folder / name)
    return folder


TABLES = {
    "inspect": ["inspect", "parts"],
    "evaluate": ["evaluate", "parts", "data.npz"],
    "compare": ["compare", "parts", "small", "data.npz"],
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_fit_80_columns_and_headers_are_whole(work, name, monkeypatch):
    monkeypatch.setattr(terminal.out, "width", WIDTH)
    done = run(*TABLES[name], cwd=work)
    assert done.exit_code == 0, done.output
    table = [line for line in done.stdout.splitlines() if re.match("[┏┃┡│└]", line)]
    assert table and max(map(len, table)) <= WIDTH and "…" not in done.stdout
    assert not [line for line in done.stdout.splitlines() if "a class with a long" in line and len(line) > 4 * WIDTH]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_80_columns(command):
    done = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": str(WIDTH), "TERMINAL_WIDTH": str(WIDTH)})
    assert done.exit_code == 0 and max(map(len, done.stdout.splitlines())) <= WIDTH
    assert "--quiet" in done.stdout and "--verbose" in done.stdout


def test_quiet_prints_results_and_errors_only(work):
    done = run("compose", "parts", "-o", "all", "--quiet", cwd=work)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")
    assert unbraid.load_composition(work / "all").labels == LABELS
    for arguments in (["inspect", "all"], ["compare", "all", "small"], ["evaluate", "all", "data.npz"]):
        done = run(*arguments, "-q", cwd=work)
        assert done.exit_code == 0 and done.stdout and not done.stderr
    assert run("drop", "all", LABELS[0], "-o", "two", "-q", "--json", cwd=work).stdout.startswith("{")
    done = run("inspect", "nowhere", "-q", cwd=work)
    assert done.exit_code == 2 and done.stderr.startswith("error: nowhere: no such file")


def program(function):
    found = typer.Typer()
    found.command()(terminal.guarded(function))
    return found


def test_quiet_and_verbose_end_with_the_command():
    seen = []

    def command() -> None:
        import warnings

        warnings.warn("votes differ", UnbraidWarning, stacklevel=1)
        terminal.notice("a fact")
        logging.getLogger("unbraid").info("a weight was merged")
        with terminal.bar("work", 1) as advance:
            advance(1)
        seen.append((terminal._loudness.quiet, terminal._loudness.verbose))

    runner, made = CliRunner(), program(command)
    plain, quiet, verbose = (runner.invoke(made, options) for options in ([], ["--quiet"], ["--verbose"]))
    assert plain.stderr == "warning: votes differ\nnote: a fact\n" and quiet.stderr == ""
    assert verbose.stderr == "warning: votes differ\nnote: a fact\nINFO: a weight was merged\n"
    assert seen == [(False, False), (True, False), (False, True)]
    assert runner.invoke(made, []).stderr == plain.stderr
    both = runner.invoke(made, ["-q", "-v"])
    assert both.exit_code == 2 and "exclude each other" in both.stderr


def test_verbose_shows_where_an_error_was_raised():
    def command() -> None:
        raise ConfigError("keep=2.0: expected at most 1.")

    done = CliRunner().invoke(program(command), ["-v"])
    assert done.exit_code == 2 and "Traceback" in done.stderr and 'raise ConfigError("keep' in done.stderr
    assert done.stderr.splitlines()[-1] == "error: --keep 2.0: expected at most 1."


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 0),
        (BrokenPipeError(), 1),
        (ConfigError("wrong"), 2),
        (FileNotFoundError(2, "No such file", "x"), 2),
        (MemoryError(), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes_are_those_of_the_documentation(error, code):
    def command() -> None:
        if error is not None:
            raise error

    assert CliRunner().invoke(program(command), []).exit_code == code


def test_a_wrong_option_has_the_exit_code_of_wrong_input(work):
    assert run("inspect", "parts", "--nonsense", cwd=work).exit_code == 2
    assert run("nonsense", cwd=work).exit_code == 2


@pytest.mark.parametrize(
    ("words", "number", "wanted"),
    [
        ("unbraid dec", 1, {"decompose"}),
        ("unbraid co", 1, {"compare", "compose"}),
        ("unbraid inspect --ver", 2, {"--verbose"}),
    ],
)
def test_bash_completes_commands_and_options(words, number, wanted):
    environment = {**os.environ, "_UNBRAID_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(number)}
    code = "from unbraid.cli.app import app; app(prog_name='unbraid')"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert wanted <= set(done.stdout.split()), done.stderr


@pytest.mark.parametrize(
    ("arguments", "lost"),
    [
        (["report", "parts", "data.npz", "-o", "data.npz"], "data.npz"),
        (["report", "parts", "-o", "small/../data.npz"], "data.npz"),
        (["report", "parts", "-o", "parts/unbraid.json"], "parts/unbraid.json"),
        (["export", "parts", "-o", "parts/unbraid.json"], "parts/unbraid.json"),
        (["export", "parts", "--example", "data.npz", "-o", "data.npz"], "data.npz"),
        (["shrink", "model.keras", "data.npz", "-o", "model.keras"], "model.keras"),
        (["export", "model.keras", "-o", "./model.keras"], "model.keras"),
    ],
)
def test_a_command_never_overwrites_what_it_reads(work, arguments, lost):
    unbraid.export_keras(factory.network(("gru",), units=8), work / "model.keras")
    before = (work / lost).read_bytes()
    done = run(*arguments, cwd=work)
    assert done.exit_code == 2 and re.search("input of this command|exists and is not|lies in a folder", done.output)
    assert (work / lost).read_bytes() == before

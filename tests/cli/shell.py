"""Run the program inside the test process, in a folder of its own."""

import os
import sys

from typer.testing import CliRunner

from unbraid.cli.app import app


def run(*arguments, cwd=None, **settings):
    """The result of a command; modules that it imported from ``cwd`` are forgotten."""
    before, loaded = os.getcwd(), set(sys.modules)
    try:
        if cwd is not None:
            os.chdir(cwd)
        return CliRunner().invoke(app, [str(argument) for argument in arguments], **settings)
    finally:
        os.chdir(before)
        for name in set(sys.modules) - loaded:
            place = getattr(sys.modules[name], "__file__", None)
            if cwd is not None and place and place.startswith(str(cwd)):
                del sys.modules[name]

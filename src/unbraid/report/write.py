"""Write a report: one HTML file without references to other files or servers."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from importlib import import_module, resources

import torch

from unbraid._version import __version__
from unbraid.errors import ConfigError, UnbraidError
from unbraid.report.content import content
from unbraid.report.overview import curve, overview
from unbraid.report.sections import Result, Section
from unbraid.storage.folders import write_file


def report_of(path: str | os.PathLike[str], result: Result) -> None:
    """Write the report of one evaluation; raise as :func:`write_report`.

    Args:
        path: the HTML file.
        result: what :func:`unbraid.evaluate` returned.
    """
    if result.details is None:
        raise ConfigError("report() needs an evaluation that unbraid.evaluate returned, with its details.")
    write_report(path, [Section("Evaluation of modules", result.details.structure, result)])


def write_report(path: str | os.PathLike[str], sections: Sequence[Section]) -> None:
    """Write a report with a section for each group of modules.

    Args:
        path: the HTML file; an existing file is replaced.
        sections: at least one.

    Raises:
        UnbraidError: jinja2 or matplotlib is not installed, or the file cannot be written.
    """
    _check_installed()
    write_file(path, _page(sections).encode("utf-8", "backslashreplace"), UnbraidError)


def _check_installed() -> None:
    for package in ("jinja2", "matplotlib"):
        try:
            import_module(package)
        except ImportError:
            raise UnbraidError(f"a report needs {package}: run pip install 'unbraid[report]'.") from None


def _page(sections: Sequence[Section]) -> str:
    import jinja2

    script, style = _file("sort.js"), _file("style.css")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string(_file("report.html.j2"))
    shown = [content(section) for section in sections]
    return template.render(
        title=shown[0].name if len(shown) == 1 else f"{len(shown)} folders of modules",
        policy=_policy(script),
        script=script,
        style=style,
        sections=shown,
        overview=overview(sections),
        curve=curve(sections),
        unbraid=__version__,
        torch=torch.__version__,
    )


def _file(name: str) -> str:
    return resources.files("unbraid.report").joinpath(name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    """Return a content security policy: nothing is loaded, and only this script runs."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"

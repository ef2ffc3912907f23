"""Write a report: one HTML file without references to other files or servers."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from importlib import import_module, resources
from typing import Any

import torch

from unbraid._version import __version__
from unbraid.errors import ConfigError, UnbraidError, quoted
from unbraid.report.content import Figure, Table, content
from unbraid.report.figures import sizes_figure
from unbraid.report.sections import Result, Section, quality
from unbraid.storage.folders import write_file

NAME = 60  # characters of the name of a folder in a table


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
        overview=_overview(sections),
        curve=_curve(sections),
        unbraid=__version__,
        torch=torch.__version__,
    )


def _file(name: str) -> str:
    return resources.files("unbraid.report").joinpath(name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    """Return a content security policy: nothing is loaded, and only this script runs."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def _overview(sections: Sequence[Section]) -> Table | None:
    """Compare several sections in a table; None for one."""
    if len(sections) == 1:
        return None
    rows = []
    for section in sections:
        kept = [part.retention for part in section.structure.parts]
        means = [
            sum(getattr(one, name) for one in kept) / len(kept) for name in ("nodes", "recurrent_weights", "bytes")
        ]
        found = None if section.result is None else quality(section.result)
        scores = ["-", "-"] if found is None else [_score(found.value), _score(found.parent)]
        rows.append([quoted(section.name, NAME), str(len(kept)), *(f"{mean:.1%}" for mean in means), *scores])
    score = next((found.name for s in sections if s.result is not None and (found := quality(s.result))), "score")
    head = ["folder", "modules", "nodes", "recurrent weights", "bytes", score, "the network"]
    return Table(f"{len(rows)} folders", head, rows)


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _curve(sections: Sequence[Section]) -> Figure | None:
    """Draw score against size for several sections with the same score; None for others."""
    found: list[tuple[Section, Any]] = [(s, quality(s.result)) for s in sections if s.result is not None]
    found = [(section, one) for section, one in found if one is not None]
    if len(found) < 2 or len({one.name for _, one in found}) > 1:
        return None
    sizes = [section.result.retention.recurrent_weights for section, _ in found if section.result is not None]
    drawn = sizes_figure(
        sizes, [one for _, one in found], [os.path.basename(os.path.normpath(s.name)) for s, _ in found]
    )
    caption = "The line joins the folders that no smaller folder equals (Pareto curve). Dashed: the network."
    return Figure(f"Size against {found[0][1].name}", drawn, caption)

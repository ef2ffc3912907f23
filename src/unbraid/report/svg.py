"""Draw with matplotlib, and return SVG elements for one HTML page."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from typing import Any

INCH = 96  # pixels of a browser
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text, so that any script is shown with the fonts of the reader
    "svg.hashsalt": "unbraid",  # the same figure has the same identifiers
    "text.parse_math": False,  # a label with two dollar signs is no formula
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def svg(draw: Callable[[Any], None], width: float, height: float) -> str:
    """Draw a figure and return it as an SVG element without external references.

    Args:
        draw: draws on a matplotlib figure.
        width: in inches.
        height: in inches.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    file = io.StringIO()
    with rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser has fonts of its own
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _element(file.getvalue(), width)


def _element(text: str, width: float) -> str:
    """Return the svg element of a file: without prolog, metadata and namespaces, which HTML does not need."""
    text = text[text.index("<svg") :]
    start, rest = text.split(">", 1)
    for part in ("metadata", "style"):  # the style would apply to the whole page; that of the page has its rules
        rest = re.sub(rf"\s*<{part}\b.*?</{part}>", "", rest, count=1, flags=re.DOTALL)
    start = re.sub(r' (xmlns(:\w+)?|width|height)="[^"]*"', "", start)
    return f'{start} role="img" width="{width * INCH:.0f}">{_without_ids(rest)}'


def _without_ids(text: str) -> str:
    """Drop the ids of groups, which would occur in several figures; ids that are referenced stay."""
    return re.sub(r'<g id="[^"<>]*">', "<g>", text)

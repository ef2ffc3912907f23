"""Short texts and HTML tables of modules and of groups of modules, for ``repr`` and for notebooks."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unbraid.data.targets import Label
from unbraid.errors import quoted

SHOWN, LABEL = 5, 40  # modules, and characters of a label, that are shown
ROWS = 20  # modules in an HTML table


def name_text(label: Label) -> str:
    """Show a label as ``repr`` does, without control characters, and shortened."""
    return repr(quoted(label, LABEL)) if isinstance(label, str) else repr(label)


def modules_text(kind: str, modules: Mapping[Any, object], *notes: str) -> str:
    """Describe a group of modules, with a line for each of the first ones.

    Args:
        kind: name of the class of the group.
        modules: label -> module.
        notes: more facts for the first line.
    """
    count = f"{len(modules)} module{'' if len(modules) == 1 else 's'}"
    shown = list(modules.items())[:SHOWN]
    lines = [f"{kind}({', '.join([count, *notes])})", *(f"  {name_text(key)}: {module!r}" for key, module in shown)]
    return "\n".join([*lines, *([f"  ... {len(modules) - SHOWN} more"] if len(modules) > SHOWN else [])])


def html_table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]], more: int = 0) -> str:
    """Make an HTML table. All text is escaped, and each cell is shortened.

    Args:
        title: its caption; line breaks stay.
        head: names of the columns.
        rows: the cells of each row.
        more: number of rows that are left out; a last line names it.

    Example:
        >>> html_table("one & all", ["module"], [["<b>"]])
        '<table><caption>one &amp; all</caption><tr><th>module</th></tr><tr><td>&lt;b&gt;</td></tr></table>'
    """
    caption = "<br>".join(html.escape(quoted(line, ROWS * LABEL)) for line in title.splitlines())
    lines = [_row("th", head), *(_row("td", cells) for cells in rows)]
    rest = f'<tr><td colspan="{len(head)}">... {more:,} more</td></tr>' if more else ""
    return f"<table><caption>{caption}</caption>{''.join(lines)}{rest}</table>"


def modules_html(title: str, modules: Mapping[Any, Any]) -> str:
    """Make an HTML table of the sizes of modules, with a row for each of the first ones.

    Args:
        title: caption of the table.
        modules: label -> ConcernModule.
    """
    head = ["module", "input/output", "mode", "nodes", "recurrent weights", "weights", "FLOPs"]
    rows = []
    for label, module in list(modules.items())[:ROWS]:
        kept = module.retention()
        shares = (kept.nodes, kept.recurrent_weights, kept.weights, kept.flops)
        rows.append([label, module.io, module.concern.mode, *(f"{share:.1%}" for share in shares)])
    return html_table(title, head, rows, len(modules) - len(rows))


def _row(tag: str, cells: Iterable[object]) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(quoted(cell, LABEL))}</{tag}>' for cell in cells)}</tr>"

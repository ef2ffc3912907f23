"""``.csv`` and ``.jsonl`` files of columns."""

import csv
from copy import deepcopy
from io import StringIO

from tests.fuzz import raw_bytes, trees, values


def mutate_csv(rng, rows):
    """A ``.csv`` of these rows (dicts of text), changed."""
    table = [list(rows[0]), *([str(v) for v in row.values()] for row in rows)]
    for _ in range(rng.choice([1, 1, 2, 4])):
        _change_table(rng, table)
    text = StringIO()
    settings = (
        {}
        if rng.random() < 0.85
        else {"delimiter": rng.choice(";\t| "), "lineterminator": rng.choice(["\n", "\r", "\n\n"])}
    )
    csv.writer(text, quoting=csv.QUOTE_MINIMAL, escapechar="\\", **settings).writerows(table)
    content = text.getvalue().encode(rng.choice(["utf-8"] * 8 + ["utf-16", "latin-1"]), "replace")
    if rng.random() < 0.15:
        content = content.replace(b"w1", rng.choice([b'"', b"\0", b"\xff", b"\r", b"x" * 200_000, b'"' * 7]), 1)
    return raw_bytes.mutate(rng, content) if rng.random() < 0.15 else content


def _change_table(rng, table):
    row = rng.choice(table) if table else []
    change = rng.choice(["cell", "cell", "cell", "short", "long", "wide", "header", "delete", "many", "empty"])
    if change == "cell" and row:
        place = rng.randrange(len(row))
        row[place] = str(rng.choice([values.string(rng, row[place]), values.number(rng), "9" * 5_000]))
    elif change == "short" and row:
        row.pop()
    elif change == "long":
        row += ["more"] * rng.choice([1, 5])
    elif change == "wide" and table:
        table[0] += [f"c{n}" for n in range(rng.choice([20, 3_000]))]
    elif change == "header" and table and table[0]:
        table[0][rng.randrange(len(table[0]))] = rng.choice([*values.STRINGS[:40], *table[0], "label", "words", "tags"])
    elif change == "delete" and table:
        del table[rng.randrange(len(table))]
    elif change == "many" and table:
        table += [list(row)] * rng.choice([10, 1_000])
    elif change == "empty":
        table.append([])


def mutate_jsonl(rng, rows):
    """A ``.jsonl`` of these rows, changed."""
    tree = trees.mutate(rng, deepcopy(rows), trees.pool([rows]))
    lines = [trees.write(row) for row in tree] if isinstance(tree, list) else [trees.write(tree)]
    if rng.random() < 0.1 and lines:
        place = rng.randrange(len(lines))
        lines[place] = rng.choice(
            ["", "{", "null", "NaN", "\ufeff{}", '{"x": NaN, "y": 1}', "{} {}", "\x00", lines[place] * 2]
        )
    content = rng.choice(["\n", "\n", "\n", "\r\n", "\u2028"]).join(lines).encode("utf-8", "surrogatepass")
    return raw_bytes.mutate(rng, content) if rng.random() < 0.15 else content

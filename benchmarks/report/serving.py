"""The section about the time of one answer."""

from __future__ import annotations

import json
from collections.abc import Iterable

from benchmarks import files
from benchmarks.report.tables import table

CAPTION = """\
One text of 20 words, ten classes, bidirectional networks of 128 and of 96 units, CPU time of one thread, the smallest
of 60 calls. *torch*: milliseconds of the parent as plain torch, which reads word indices; all other columns start from
the text, except *ONNX*. *parent*: `Network.predict`. *composed*: ten modules at 30 % of the units. *referee*: eleven
modules of two networks with a referee. *fused*: the ten modules fused at 30 %. *ONNX*: the fused network in ONNX
Runtime, from word indices. Each is given as a multiple of *parent* / of *torch*. *own forward*: the networks keep the
user's own `forward`. `python -m benchmarks --only serving --again` repeats it.
"""


def sections() -> Iterable[str]:
    """Yield the table, where there is a result."""
    path = files.RESULTS / "serving.json"
    if not path.exists():
        return
    yield "\n## Time of one answer\n"
    yield CAPTION
    ways = ("composed", "referee", "fused", "onnx")
    rows = []
    for each in json.loads(path.read_text())["models"]:
        spent = each["milliseconds"]
        ratios = [f"{spent[way] / spent['parent']:.1f} / {spent[way] / spent['torch']:.1f}" for way in ways]
        rows.append([each["model"], f"{spent['torch']:.2f} ms", f"{spent['parent'] / spent['torch']:.1f}", *ratios])
    yield table(["model", "torch", "parent / torch", "composed", "referee", "fused", "ONNX"], rows)

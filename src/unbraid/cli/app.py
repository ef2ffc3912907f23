"""The command line: one command for each function of the library. It parses arguments, calls the API and prints.

Commands import what they need when they run, so that ``--help``, ``--version`` and completion need not wait for torch.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from unbraid._version import __version__
from unbraid.cli.comparing import compare
from unbraid.cli.composing import add, compose, drop, fuse, replace
from unbraid.cli.decomposing import decompose
from unbraid.cli.reporting import report
from unbraid.cli.running import evaluate, inspect, predict, translate
from unbraid.cli.sharing import demo, export, pull, push
from unbraid.cli.shrinking import shrink

app = typer.Typer(
    help="Decompose a trained recurrent network into modules, one per class; reuse and replace them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
EXAMPLES = {
    inspect: ["inspect intent-lstm.h5", "inspect intent-lstm.h5 --labels names.txt", "inspect parts"],
    decompose: [
        "decompose intent-lstm.h5 train.npz -o parts --mode unrolled --head softmax",
        "decompose intent-lstm.h5 train.npz -o parts --keep 0.5,0.3,0.15 --max-loss 0.01",
        "decompose intent-lstm.h5 train.csv -o parts --labels names.txt --vocabulary word_index.json",
        "decompose weights.pt train.csv -o parts --module models.py:Intents --init '{\"hidden\": 64}'",
        "decompose nmt.h5 pairs.csv -o parts --vocabulary en.json --target-vocabulary words.json",
    ],
    compose: [
        "compose parts:travel,home other:money=banking -o faq",
        "compose parts other -o faq --sample few.csv --referee --module models.py:Intents",
        "compose faq.yaml -o faq",
    ],
    replace: ["replace faq travel better:travel -o fixed"],
    drop: ["drop faq travel -o smaller"],
    add: ["add faq other:music -o larger", "add faq other:songs=music -o larger"],
    fuse: ["fuse faq questions.npz -o faq-fused --keep 0.4"],
    evaluate: [
        "evaluate parts test.npz --json",
        "evaluate parts test.csv --labels names.txt --vocabulary word_index.json",
        "evaluate faq test.csv --module bank=models.py:Intents --module travel=models.py:Intents",
    ],
    compare: [
        "compare parts smaller test.csv --vocabulary word_index.json",
        "compare intent-lstm.h5 parts",
        "compare parts:travel better:travel test.npz",
    ],
    report: [
        "report parts -o report.html",
        "report parts small smaller test.csv -o report.html --vocabulary word_index.json",
    ],
    predict: [
        "predict faq questions.npz > labels.txt",
        "predict faq - --probabilities --threshold 0.5 < questions.txt",
        "predict faq.onnx questions.csv",
    ],
    translate: ["translate translator --to fr < lines.txt"],
    push: ["push faq owner/faq"],
    pull: ["pull owner/faq -o faq"],
    export: ["export parts -o parts.onnx", "export parts -o parts.onnx --module models.py:Intents --example few.npz"],
    shrink: ["shrink intent-lstm.h5 questions.npz -o small.onnx --max-loss 0.01"],
    demo: ["demo --out /tmp/demo"],
}
for _command, _lines in EXAMPLES.items():
    _shown = ", ".join(f"`unbraid {line}`" for line in _lines)
    app.command(epilog=f"Example{'s' if len(_lines) > 1 else ''}: {_shown}")(_command)


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def main(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False) -> None:
    """Decompose a trained recurrent network into modules, one per class; reuse and replace them."""


if __name__ == "__main__":
    sys.exit(app())

"""Output of the command line: plain summaries for JSON, and tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from rich.table import Table
from rich.text import Text

from unbraid.config import IOArchitecture
from unbraid.decomposition.decomposition import Decomposition
from unbraid.errors import quoted
from unbraid.modules.composition import Composition
from unbraid.modules.module import ConcernModule
from unbraid.networks.cells import Cell
from unbraid.networks.graph_spec import KerasSpec
from unbraid.networks.network import Network
from unbraid.networks.spec import Spec
from unbraid.networks.torch_spec import TorchSpec
from unbraid.translation.translator import Translator

LABEL = 60  # largest number of characters of a label or a name


def description(opened: Network | Decomposition | ConcernModule | Composition | Translator) -> dict[str, Any]:
    """Describe an opened object as plain values."""
    if isinstance(opened, Translator):
        return {"kind": "translator", "network": None, **modules_summary(opened.modules)}
    if isinstance(opened, Network):
        return {"kind": "network", **_network(opened)}
    if isinstance(opened, Decomposition):
        return {
            "kind": "decomposition",
            "network": _network(opened.network),
            **modules_summary(opened),
            "skipped": opened.skipped,
        }
    modules = {opened.label: opened} if isinstance(opened, ConcernModule) else opened.modules_by_label
    if isinstance(opened, ConcernModule):
        return {"kind": "module", "network": None, **modules_summary(modules)}
    referee = opened.referee is not None
    used = opened.uses_domain
    return {"kind": "composition", "network": None, "referee": referee, "domain": used, **modules_summary(modules)}


def _network(network: Network) -> dict[str, Any]:
    spec = network.spec
    return {
        "io": str(network.io),
        "output": network.spec.output,
        "task": network.task,
        "decision": _decision(network),
        "columns": spec.classes,
        "loss": network.loss,
        "labels": list(network.labels),
        "timesteps": network.spec.steps,
        "weights": sum(p.numel() for p in network.parameters()),
        "sha256": network.sha256(),
        "layers": [stage.model_dump(mode="json") for stage in _described(spec)],
        "prunable": list(network.layers),
        "head": {"name": spec.head, "inputs": spec.features, "units": spec.classes, "activation": spec.output},
    }


def _described(spec: Spec) -> Sequence[BaseModel]:
    """Return the descriptions of the layers before the output layer; of a user's module those that can be pruned."""
    if isinstance(spec, KerasSpec):
        return [layer for layer in spec.graph.layers if layer.name != spec.head]
    return [*spec.layers, *spec.dense] if isinstance(spec, TorchSpec) else spec.stages


def _decision(network: Network) -> str:
    """Return the kind of decision: ``classes``, ``binary``, ``independent`` (labels), ``numbers`` or ``words``."""
    if network.io is IOArchitecture.ENCODER_DECODER:
        return "words"
    if network.task == "regression":
        return "numbers"
    return "independent" if network.independent else "binary" if network.binary else "classes"


MOST_NAMES, MOST_ROWS = 50, 50  # labels of a line and modules of a table; --json has all
_WIDEST = 10_000  # largest number of characters of a line of names from a file
_COUNTED = {
    "words": "{labels} languages",
    "independent": "{labels} independent labels ({output}, one column each)",
    "binary": "{labels} classes ({output}, one column)",
    "classes": "{labels} classes ({output})",
    "numbers": "{labels} predicted numbers ({output}, one column each)",
}


def description_text(data: dict[str, Any]) -> str | Table:
    """Format a description for people."""
    if data["kind"] != "network":
        referee = " and a referee" if data.get("referee") else ""
        return modules_table(data, f"{data['kind']} of {len(data['modules'])} modules{referee}")
    classes = _COUNTED[data["decision"]].format(labels=len(data["labels"]), output=data["output"])
    labels = ", ".join(quoted(label, LABEL) for label in data["labels"][:MOST_NAMES]) + _more(
        data["labels"], MOST_NAMES
    )
    lines = [
        f"{data['io']} network, {data['weights']:,} weights, {classes}",
        f"labels: {labels or 'none yet: see unbraid.translation.languages'}",
        f"timesteps: {data['timesteps'] or 'any'}",
    ]
    lines += _layer_lines(data["layers"], "  ")
    head = data["head"]
    lines.append(
        f"  {head['name']}: output layer (inputs {head['inputs']}, units {head['units']}, {head['activation']})"
    )
    lines.append(f"training loss: {data['loss'] or 'not stored'}")
    return "\n".join(quoted(line, _WIDEST) for line in lines)


def _layer_lines(layers: Sequence[dict[str, Any]], indent: str) -> list[str]:
    """Format each layer as a line, and below it the layers that it runs on every timestep."""
    lines = []
    for layer in layers:
        inner = layer.get("graph")
        if inner is None:
            lines.append(f"{indent}{layer['name']}: {_layer_text(layer)}")
        else:
            lines += [f"{indent}{layer['name']}: at every timestep", *_layer_lines(inner["layers"], indent + "  ")]
    return lines


def _layer_text(layer: dict[str, Any]) -> str:
    """Format the class of a layer, and its settings that are not defaults."""
    if layer.get("type") == "layer":
        usual = [None, False, "linear", "channels_last"]
        words = [
            f"{name.replace('_', ' ')} {quoted(value, LABEL)}"
            for name, value in layer["settings"].items()
            if value not in usual and not (isinstance(value, list) and set(map(str, value)) == {"1"})
        ]
        return f"{layer['kind']} ({', '.join(words)})" if words else str(layer["kind"])
    cell = layer.get("cell")
    settings = {k: v for k, v in layer.items() if k not in ("type", "name", "cell", "site") and v not in (None, False)}
    if not settings.get("bidirectional"):
        settings.pop("merge", None)
    kind = layer.get("type", "dense")  # a linear layer of a PyTorch module has no type
    if cell is not None:
        fields = Cell.model_fields
        settings |= {k: v for k, v in cell.items() if k in fields and k != "kind" and v != fields[k].default}
        kind = {"rnn": "vanilla RNN", "lstm": "LSTM", "gru": "GRU"}.get(cell["kind"]) or cell["name"]
    words = [k.replace("_", " ") if v is True else f"{k.replace('_', ' ')} {v}" for k, v in settings.items()]
    return f"{kind} ({', '.join(words)})" if words else str(kind)


def modules_summary(modules: Any) -> dict[str, Any]:
    """Return label -> kept shares, for each module."""
    found = []
    for label, module in modules.items():
        keeps = dataclasses.asdict(module.retention())
        found.append({"label": label, "mode": str(module.concern.mode), "io": str(module.io), **keeps})
    return {"modules": found}


def modules_table(summary: dict[str, Any], title: str) -> Table:
    """Make a table of the kept shares of each module, and of the bytes of the folder if the summary has them."""
    sizes = summary.get("bytes_on_disk")
    if sizes is not None:
        title += f"; on disk {sizes['parents']:,} bytes of parents and {sizes['modules']:,} bytes of modules"
    table = Table(title=Text(quoted(title)), title_justify="left")
    table.add_column("module", overflow="fold")
    table.add_column("mode")
    for column in ("nodes", "recurrent weights", "all weights", "bytes", "FLOPs"):
        table.add_column(column, justify="right")
    for m in summary["modules"][:MOST_ROWS]:
        shares = [m["nodes"], m["recurrent_weights"], m["weights"], m["bytes"], m["flops"]]
        table.add_row(_plain(m["label"]), m["mode"], *(f"{share:.1%}" for share in shares))
    if more := _more(summary["modules"], MOST_ROWS):
        table.caption, table.caption_justify = f"{more.strip()}: see --json", "left"
    return table


def _more(items: Sequence[object], shown: int) -> str:
    """Return how many items are not shown, or nothing."""
    return f" and {len(items) - shown:,} more" if len(items) > shown else ""


def _plain(label: object) -> Text:
    """Format a label for a table, without markup and control characters."""
    return Text(quoted(label, LABEL))

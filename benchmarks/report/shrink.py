"""The section about smaller PyTorch models."""

from __future__ import annotations

import json
from collections.abc import Iterable
from statistics import fmean
from typing import Any

from benchmarks import files
from benchmarks.report.tables import table

CAPTION = """\
*model*: data set and layers; the models have 128 hidden units (64 in each of two directions) and are trained on
4,000 examples. *keep*: share of the hidden units that stay. *plain*: whether the result has only layers of torch;
else the old size between layers is kept by a linear map. *weights*: weights of the recurrent layers as a share of
those of the whole model. *whole*: accuracy of the whole model on test data. *shrink*: change of the accuracy by
`unbraid.shrink`, without labels and without gradient steps, in points. *refined*: the same with 150 steps of
distillation. *int8*: the same as *shrink*, then `quantize_dynamic`. *magnitude*: as many units, those whose weights
have the largest norm, without a fit. *same*: share of the decisions that *shrink* leaves as they are. *faster*,
*faster int8*: CPU seconds of the whole model divided by those of the smaller and of the quantized one, for one
example / for 256. *seconds*: time to shrink. Quantization has no nn.RNN. Torch-Pruning is tried at half of the
units; the table behind gives its result.
"""


NETWORKS = """\
The same for networks of the comparison with the paper (100 units in each layer), {count} of 48.
`python -m benchmarks.measure.shrink_networks` measures those without a result. *network*: data set, cell and number of
layers; *all* has the means over them. *magnitude* is as fast as *shrink*, whose sizes it has. Times are of plain
modules of torch, measured beside other work on the same cores. Torch-Pruning reads none of them, because they are no
modules of torch.
"""


def sections() -> Iterable[str]:
    """The tables, where there is a result."""
    yield from _models()
    yield from _networks()


def _networks() -> Iterable[str]:
    path = files.RESULTS / "shrink_networks.json"
    if not path.exists():
        return
    networks = json.loads(path.read_text())["networks"]
    yield "\n## Networks of the comparison made smaller: `unbraid.shrink` beside magnitude pruning (one thread)\n"
    yield NETWORKS.format(count=len(networks))
    names = ["network", "keep", "weights", "whole", "shrink", "refined", "magnitude", "same", "faster", "seconds"]
    rows = [_network_row(network, size) for network in networks for size in network["sizes"]]
    yield table(names, [*(_mean_row(networks, place) for place in range(len(networks[0]["sizes"]))), *rows])


def _mean_row(networks: list[dict[str, Any]], place: int) -> list[str]:
    """The means over all networks of one size."""
    sizes = [network["sizes"][place] for network in networks]
    counts = list(sizes[0]["latency"])
    mean = {
        "keep": sizes[0]["keep"],
        "weights": fmean(size["weights"] for size in sizes),
        "accuracy": {way: fmean(size["accuracy"][way] for size in sizes) for way in sizes[0]["accuracy"]},
        "same_decisions": fmean(size["same_decisions"] for size in sizes),
        "latency": {
            count: {
                "full": fmean(s["latency"][count]["full"] / s["latency"][count]["small"] for s in sizes),
                "small": 1,
            }
            for count in counts
        },
        "seconds": fmean(size["seconds"] for size in sizes),
    }
    whole = {"accuracy": fmean(network["accuracy"] for network in networks)}
    return ["all", *_network_row({**networks[0], **whole}, mean)[1:]]


def _network_row(network: dict[str, Any], size: dict[str, Any]) -> list[str]:
    whole, found = network["accuracy"], size["accuracy"]
    return [
        f"{network['data']}, {network['layers']} {network['cell']}",
        f"{size['keep']:.0%}",
        f"{size['weights']:.1%}",
        f"{whole:.1%}",
        *(f"{100 * (found[way] - whole):+.1f}" for way in ("small", "refined", "magnitude")),
        f"{size['same_decisions']:.1%}",
        " / ".join(f"{each['full'] / each['small']:.1f}" for each in size["latency"].values()),
        f"{size['seconds']:.1f}",
    ]


def _models() -> Iterable[str]:
    path = files.RESULTS / "shrink.json"
    if not path.exists():
        return
    models = json.loads(path.read_text())["models"]
    yield "\n## PyTorch models made smaller: `unbraid.shrink` beside magnitude pruning (one thread)\n"
    yield CAPTION
    names = ["model", "keep", "plain", "weights", "whole", "shrink", "refined", "int8", "magnitude", "same"]
    rows = [_row(model, size) for model in models for size in model["sizes"]]
    yield table([*names, "faster", "faster int8", "seconds"], rows)
    yield ""
    yield table(["model", "Torch-Pruning"], [[model["model"], model["torch_pruning"]] for model in models])


def _row(model: dict[str, Any], size: dict[str, Any]) -> list[str]:
    whole, found = model["accuracy"], size["accuracy"]
    ways = [f"{100 * (found[way] - whole):+.1f}" for way in ("small", "refined", "int8", "magnitude")]
    times = size["latency"].values()
    faster = [" / ".join(f"{each['full'] / each[way]:.1f}" for each in times) for way in ("small", "int8")]
    return [
        model["model"],
        f"{size['keep']:.0%}",
        "yes" if size["plain"] else "no",
        f"{size['weights']:.1%}",
        f"{whole:.1%}",
        *ways,
        f"{size['same_decisions']:.1%}",
        *faster,
        f"{size['seconds']:.1f}",
    ]

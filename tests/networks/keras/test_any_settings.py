"""Settings of layers may be any JSON in a file: whatever a layer makes of it, the error is one of the library."""

import pytest
import torch

from unbraid.errors import UnbraidError
from unbraid.networks.graph.kinds import KINDS
from unbraid.networks.graph.module import KerasGraph, run_shapes
from unbraid.networks.graph_spec import CallSpec, GraphInput, GraphSpec, LayerSpec

ODD = [10**30, float("inf"), {"a": 1}, {}, [[1, 2], [3]], [None], [10**18, 10**18], "x", -1, [{"a": 1}]]


@pytest.mark.parametrize("value", ODD, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("read", [1, 2])
def test_odd_settings_run_or_are_refused(value, read):
    for kind, form in KINDS.items():
        for name in form.settings:
            spec = GraphSpec(
                inputs=[GraphInput(name=f"x{n}", shape=[4, 3]) for n in range(read)],
                layers=[LayerSpec(name="odd", kind=kind, settings={name: value})],
                calls=[CallSpec(layer="odd", reads=[(n, 0) for n in range(read)])],
                output=(read, 0),
            )
            try:
                with torch.device("meta"):
                    run_shapes(KerasGraph(spec))
                assert isinstance(KerasGraph(spec)(*[torch.ones(2, 4, 3)] * read), torch.Tensor)
            except UnbraidError:
                continue

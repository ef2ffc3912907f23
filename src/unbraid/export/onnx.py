"""Export a network, a module or a composition to an ONNX file.

:mod:`unbraid.export.network` builds the graphs. Shapes: N examples, T timesteps, D features, C classes, K modules.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn

from unbraid._version import __version__
from unbraid.config import IOArchitecture
from unbraid.errors import DataError, UnbraidError, wrong_object
from unbraid.export.check import compare, fixed_steps, needed, random_inputs, resized, tensors
from unbraid.export.graph import Graph
from unbraid.export.network import features, linear, margin, model_proto
from unbraid.export.onnx_model import metadata
from unbraid.export.pytorch import input_names, traced
from unbraid.modules.composition import Composition
from unbraid.modules.module import ConcernModule
from unbraid.networks.inputs import Inputs
from unbraid.networks.network import Network
from unbraid.networks.pytorch.body import TorchBody
from unbraid.networks.spec import RepeatSpec, TorchSpec
from unbraid.storage.folders import write_file

Exportable = Network | ConcernModule | Composition


def export_onnx(model: Exportable, path: str | os.PathLike[str], example: Any = None, check: bool = True) -> None:
    """Export a model to an ONNX file. After an error there is no new file.

    Input: ``x``, word indices int64 (N, T) or features float32 (N, T, D). For a PyTorch module of your own, one input
    for each tensor of its forward. Outputs:

    - network: ``probabilities`` (N, C) or (N, T, C)
    - module: ``probability`` of its class, (N,) or (N, T)
    - composition: ``margins`` and ``probabilities``, (N, K) or (N, T, K)

    N is dynamic. T is dynamic except for unrolled modules and where the weights of the network fix it. The metadata
    holds the labels and the vocabulary, so that ``unbraid predict FILE DATA`` needs no other file.

    Args:
        model: a network, a module or a composition.
        path: path of the file. An existing regular file is replaced.
        example: a batch of inputs. Needed for PyTorch modules of your own and for networks that flatten features.
        check: whether to run the file with onnxruntime on inputs of several sizes and compare the outputs with torch,
            to 1e-5. Default True.

    Raises:
        DataError: an example is missing or does not fit, or the modules have different vocabularies.
        UnbraidError: the model cannot be exported, the outputs differ, or a package is missing.
        FormatError: the file cannot be written, or ``path`` is a folder, a device or a pipe.
        ArgumentError: ``model`` is another object.

    Example:
        >>> import tempfile
        >>> import unbraid
        >>> from unbraid.demo.small import small_examples, small_network
        >>> network = small_network()
        >>> parts = unbraid.decompose(network, small_examples(network))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     unbraid.export_onnx(unbraid.compose(parts), f"{folder}/topics.onnx")
    """
    os.fspath(path)  # raises TypeError before the computation
    parents = _parents(model)
    if parents[0].io is IOArchitecture.ENCODER_DECODER:
        raise UnbraidError(
            "an encoder-decoder cannot be exported to ONNX: it generates words in a loop. Export classifiers only."
        )
    own = isinstance(parents[0].spec, TorchSpec)
    needed("onnx", *(["onnxscript"] if own else []), *(["onnxruntime"] if check else []))
    _refuse(model)
    answers = Answers(model).eval()
    if own:
        inputs = _given(parents[0], example)
        body = parents[0].body
        assert isinstance(body, TorchBody)
        names = input_names(body.module, inputs.tree)
        proto = traced(answers, inputs, names, answers.names)
        probes = resized(inputs, proto)
    else:
        inputs, steps = _suitable(model, parents[0], example)
        names, proto = ["x"], _written(model, inputs.tree, answers, steps is None)
        probes = (random_inputs(parents[0], n, steps or t, like=inputs.tree) for n, t in ((1, 3), (4, 5), (3, 1)))
    _describe(proto, model)
    content = proto.SerializeToString()
    if check:
        compare(content, answers, names, probes, parents[0].device)
    write_file(path, content)


class Answers(nn.Module):
    """The outputs of the exported file, computed by torch.

    Args:
        model: the exported model.
    """

    def __init__(self, model: Exportable) -> None:
        super().__init__()
        self.model = model

    @property
    def names(self) -> list[str]:
        """Names of the outputs."""
        if isinstance(self.model, Composition):
            return ["margins", "probabilities"]
        return ["probabilities" if isinstance(self.model, Network) else "probability"]

    def forward(self, x: Any) -> tuple[Tensor, ...]:
        scores = self.model(x)
        if isinstance(self.model, Network):
            return (self.model.activate(scores),)
        if isinstance(self.model, ConcernModule):
            return (torch.sigmoid(scores),)
        if self.model.independent:
            return scores, torch.sigmoid(scores)
        return scores, torch.softmax(nn.functional.logsigmoid(scores), dim=-1)


def _parents(model: Any) -> list[Network]:
    if isinstance(model, Network):
        return [model]
    if isinstance(model, ConcernModule):
        return [model.parent]
    if isinstance(model, Composition):
        return [module.parent for module in model.modules_by_label.values()]
    advice = "of a Decomposition export unbraid.compose(parts), of an nn.Module Network.from_torch(module, example)"
    raise wrong_object(model, "model", "a Network, a ConcernModule or a Composition", advice)


def _refuse(model: Exportable) -> None:
    if isinstance(model, Composition) and model.needs_text:
        raise DataError(
            "the vocabularies of the modules differ, but an ONNX file reads one set of word indices: export the "
            "modules one by one, or a composition of one parent."
        )
    if isinstance(model, Composition) and model.referee is not None:
        raise UnbraidError(
            "a composition with a referee cannot be exported: export composition.without_referee(), which votes with "
            "calibrated margins."
        )
    weights = model.state_dict()
    if sum(4 * tensor.numel() for tensor in weights.values()) >= 2**31:
        raise UnbraidError("the weights need more than 2 GiB, the limit of an ONNX file: export modules one by one.")
    for name, tensor in weights.items():
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise UnbraidError(
                f"weight {name!r} is {tensor.dtype}, expected float32: call .float() on the model first."
            )


def _given(network: Network, example: Any) -> Inputs:
    if example is None:
        raise DataError(
            "example is needed: a batch of two or more examples for the PyTorch module. Pass it as "
            "export_onnx(..., example=x[:4])."
        )
    inputs = network.check(example)
    return tensors(inputs if len(inputs) > 1 else inputs.take(torch.zeros(2, dtype=torch.int64).numpy()))


def _suitable(model: Exportable, parent: Network, example: Any) -> tuple[Inputs, int | None]:
    """Return an example for a network of stages, given or generated, and T if it is fixed."""
    given = None if example is None else tensors(parent.check(example))
    steps = fixed_steps(model, None if given is None else given.tree)
    if given is None:
        return tensors(parent.check(random_inputs(parent, 2, steps or 5))), steps
    if steps not in (None, given.tree.shape[1]):
        raise DataError(
            f"the example has {given.tree.shape[1]} timesteps, the model reads exactly {steps}: pass another example."
        )
    return given, steps


def _written(model: Exportable, x: Tensor, answers: Answers, any_length: bool) -> Any:
    """Build the ONNX model of a network of stages, of its module, or of a composition."""
    graph = Graph()
    if isinstance(model, Network):
        scores = linear(graph, model.head, features(graph, model.body, "x"))  # type: ignore[arg-type]  # no TorchBody
        values = [graph.activated(scores, model.spec.output)]
    elif isinstance(model, ConcernModule):
        values = [graph.node("Sigmoid", margin(graph, model.head, features(graph, model.body, "x")))]  # type: ignore[arg-type]
    else:
        margins = _margins(graph, model)
        values = [margins, graph.node("Sigmoid", margins) if model.independent else _shares(graph, margins)]
    with torch.inference_mode():
        found = answers(x.to(_parents(model)[0].device))
    repeated = any(isinstance(stage, RepeatSpec) for parent in _parents(model) for stage in parent.spec.stages)  # type: ignore[union-attr]
    sizes: list[list[int | str]] = [["batch", *result.shape[1:]] for result in found]
    given: list[int | str] = ["batch", *x.shape[1:]]
    if any_length:
        given[1] = "time"
        for size in sizes if model.io.many_outputs and not repeated else []:
            size[1] = "time"
    outputs = {n: (v, size) for n, v, size in zip(answers.names, values, sizes, strict=True)}
    return model_proto(graph, {"x": (x.dtype, given)}, outputs)


def _shares(graph: Graph, margins: str) -> str:
    """Add the nodes of :meth:`Composition.shares`."""
    return graph.node("Softmax", graph.node("Neg", graph.node("Softplus", graph.node("Neg", margins))), axis=-1)


def _margins(graph: Graph, composition: Composition) -> str:
    """Add the nodes of :meth:`Composition.forward`."""
    columns: dict[int, str] = {}
    members = list(composition.modules_by_label.values())
    for lane in (lane for group in composition.groups for lane in group.lanes):  # type: ignore[union-attr]  # a Group
        found, k = features(graph, lane.body, "x"), len(lane.heads)
        apart = graph.reshape(found, k, -1, graph.dims(found, 1)) if lane.side_by_side else found
        for number, (place, head) in enumerate(zip(lane.places, lane.heads, strict=True)):
            value = margin(graph, head, graph.pick(apart, number, 0) if lane.side_by_side else found)
            if members[place].io.many_outputs and not composition.many_outputs:
                value = graph.node("ReduceMax", value, graph.numbers(1), keepdims=0)  # its best timestep
            columns[place] = graph.node("Unsqueeze", value, graph.numbers(-1))
    joined = graph.node("Concat", *(columns[place] for place in sorted(columns)), axis=-1)
    scaled = graph.node("Div", joined, graph.constant(composition.temperature))
    return graph.node("Add", scaled, graph.constant(composition.offset))


def _describe(proto: Any, model: Exportable) -> None:
    """Store kind, labels, decision, vocabulary, input/output type and version in the metadata."""
    from onnx import helper

    kind = {Network: "network", ConcernModule: "module", Composition: "composition"}[type(model)]
    binary = isinstance(model, Network) and model.binary
    independent = not isinstance(model, ConcernModule) and model.independent
    decision = "binary" if binary else "independent" if independent else "classes"
    vote = model.vote if isinstance(model, Composition) else "margin"
    stored = metadata(model.labels, kind, decision, vote, _parents(model)[0].vocabulary)
    helper.set_model_props(proto, {**stored, "io": str(model.io.value), "unbraid": __version__})
    proto.producer_name, proto.producer_version = "unbraid", __version__

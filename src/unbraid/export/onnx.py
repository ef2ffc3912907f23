"""Export a network, a module or a composition to an ONNX file.

:mod:`unbraid.export.network` builds the graphs. Shapes: N examples, T timesteps, D features, C classes, K modules.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from unbraid._version import __version__
from unbraid.config import IOArchitecture
from unbraid.errors import UnbraidError, UnsupportedLayer, quoted, wrong_object
from unbraid.export.check import compare, needed
from unbraid.export.composed import ReadByGroup, composed
from unbraid.export.domain import DomainInput, with_domain
from unbraid.export.graph import Graph
from unbraid.export.network import features, linear, margin, model_proto
from unbraid.export.onnx_model import metadata
from unbraid.export.pytorch import find_orders, traced
from unbraid.export.readers import (
    Exportable,
    Reader,
    WordsReader,
    find_readers,
    fixed_batch,
    input_sizes,
    parents_of,
    probes,
    text_vocabulary,
)
from unbraid.modules.composition import Composition
from unbraid.modules.module import ConcernModule
from unbraid.networks.graph.adapter import ADAPTED
from unbraid.networks.graph_spec import GraphSpec, KerasSpec, LayerSpec, PerTimestepSpec
from unbraid.networks.inputs import to_device
from unbraid.networks.network import Network
from unbraid.networks.outputs import OUTPUTS
from unbraid.networks.spec import NetworkSpec
from unbraid.networks.stage_spec import RepeatSpec
from unbraid.networks.torch_spec import TorchSpec
from unbraid.storage.folders import check_target, write_file


def export_onnx(model: Exportable, path: str | os.PathLike[str], example: Any = None, check: bool = True) -> None:
    """Export a model to an ONNX file. After an error there is no new file.

    Input: ``x``, word indices int64 (N, T) or features float32 (N, T, D), or (N, ...) of dense layers alone. For a
    PyTorch module of your own, one input for each tensor of its forward. A composition of several vocabularies has
    these inputs for each vocabulary, named by the parent (``NAME`` or ``NAME.tensor``; ``parent_NUMBER`` where it has
    no name). If such a composition votes with domain evidence, one more input ``domain_words`` has the words of the
    evidence, int64 (N, words). Outputs:

    - network: ``probabilities`` (N, C) or (N, T, C)
    - module: ``probability`` of its class, (N,) or (N, T)
    - composition: ``margins`` and ``probabilities``, (N, K) or (N, T, K), of its calibration,
      domain evidence and referee
    - of a regression: ``values`` (N, C) or (N, T, C), of a module ``value`` (N,) or (N, T)

    N is dynamic, except for a PyTorch module that runs on batches of one size only: the file then has that size, which
    its metadata states (``batch``), and ``unbraid predict`` fills the last batch. T is dynamic except for unrolled
    modules and where the weights of the network fix it. The metadata holds the labels and the vocabularies, so that
    ``unbraid predict FILE DATA`` needs no other file.

    Args:
        model: a network, a module or a composition.
        path: path of the file. An existing regular file is replaced.
        example: a batch of inputs, text where the vocabularies of the modules differ. Needed for PyTorch modules of
            your own and for recurrent networks that flatten features; drawn at random for other networks of Keras.
        check: whether to run the file with onnxruntime on inputs of several sizes and compare the outputs with torch,
            to 1e-5. Default True.

    Raises:
        DataError: an example is missing or does not fit.
        UnsupportedLayer: a layer of a Keras model that Keras itself computes.
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
    _check_class(model)
    check_target(path, b"\x08")
    parents = parents_of(model)
    if parents[0].io is IOArchitecture.ENCODER_DECODER:
        raise UnbraidError(
            "an encoder-decoder cannot be exported to ONNX: it generates words in a loop. Export classifiers only."
        )
    for parent in parents:
        if isinstance(parent.spec, KerasSpec):
            _check_kinds(parent.spec.graph)
    own = any(isinstance(parent.spec, TorchSpec) for parent in parents)
    needed("onnx", *(["onnxscript"] if own else []), *(["onnxruntime"] if check else []))
    _check_weights(model)
    readers, domain = find_readers(model, example), None
    if isinstance(model, Composition):
        readers, domain = with_domain(model, readers)
    answers = Answers(model, readers, domain).eval()
    if readers[0].own and not isinstance(model, Composition):
        find_orders(answers, readers[0].inputs)
        inputs = replace(readers[0].inputs, tree=[readers[0].inputs.tree])
        proto = traced(answers, inputs, readers[0].names, answers.names, fixed_batch(readers) is not None)
    else:
        proto = _written(model, readers, answers, domain)
    _describe(proto, model, readers)
    content = proto.SerializeToString()
    if check:
        names = [name for reader in readers for name in reader.names]
        compare(content, answers, names, probes(readers, proto), _device(model))
    write_file(path, content)


def _check_kinds(graph: GraphSpec) -> None:
    """Raise UnsupportedLayer for a layer that Keras itself computes."""
    for layer in graph.layers:
        if isinstance(layer, PerTimestepSpec):
            _check_kinds(layer.graph)
        elif isinstance(layer, LayerSpec) and layer.kind in ADAPTED:
            raise UnsupportedLayer(
                f"layer {quoted(layer.name)!r} ({layer.kind}) is computed by Keras itself, which ONNX export cannot "
                "follow: replace the layer, or use unbraid.export_keras."
            )


class Answers(nn.Module):
    """The outputs of the exported file, computed by torch.

    Args:
        model: the exported model.
        readers: its inputs.
        domain: the input of domain evidence; None if the vote does not use it.
    """

    def __init__(self, model: Exportable, readers: list[Reader], domain: DomainInput | None = None) -> None:
        super().__init__()
        self.model = ReadByGroup(model, readers, domain) if isinstance(model, Composition) else model

    @property
    def names(self) -> list[str]:
        """Names of the outputs."""
        if isinstance(self.model, ReadByGroup):
            return ["values"] if self.model.composition.task == "regression" else ["margins", "probabilities"]
        if self.model.task == "regression":
            return ["values" if isinstance(self.model, Network) else "value"]
        return ["probabilities" if isinstance(self.model, Network) else "probability"]

    def forward(self, trees: list[Any]) -> tuple[Tensor, ...]:
        """Compute the outputs from one tree of inputs for each reader."""
        if not isinstance(self.model, ReadByGroup):
            scores = self.model(trees[0])
            if isinstance(self.model, ConcernModule) and self.model.task != "regression":
                return (torch.sigmoid(scores),)
            return ((self.model if isinstance(self.model, Network) else self.model.parent).activate(scores),)
        scores = self.model(trees)
        if self.model.composition.task == "regression":
            return (self.model.composition.activate(scores),)
        if self.model.composition.independent:
            return scores, torch.sigmoid(scores)
        return scores, torch.softmax(nn.functional.logsigmoid(scores), dim=-1)


def _check_class(model: Any) -> None:
    if not isinstance(model, Network | ConcernModule | Composition):
        advice = "of a Decomposition export unbraid.compose(parts), of an nn.Module Network.from_torch(module, example)"
        raise wrong_object(model, "model", "a Network, a ConcernModule or a Composition", advice)


def _check_weights(model: Exportable) -> None:
    weights = model.state_dict()
    if sum(4 * tensor.numel() for tensor in weights.values()) >= 2**31:
        raise UnbraidError("the weights need more than 2 GiB, the limit of an ONNX file: export modules one by one.")
    for name, tensor in weights.items():
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise UnbraidError(
                f"weight {name!r} is {tensor.dtype}, expected float32: call .float() on the model first."
            )


def _written(model: Exportable, readers: list[Reader], answers: Answers, domain: DomainInput | None) -> Any:
    """Build the ONNX model of a network of stages, of its module, or of a composition."""
    graph = Graph()
    inputs: dict[str, list[int | str]] = {}
    if isinstance(model, Composition):
        values = composed(graph, model, readers, inputs, domain)
    else:
        inputs["x"] = input_sizes(readers[0])
        found = features(graph, model.body, "x", len(inputs["x"]))  # type: ignore[arg-type]  # no TorchBody
        if isinstance(model, Network):
            values = [graph.activated(linear(graph, model.head, found), OUTPUTS[model.spec.output].activation)]
        else:
            activation = OUTPUTS[model.parent.spec.output].activation if model.task == "regression" else "sigmoid"
            values = [graph.activated(margin(graph, model.head, found), activation)]
    with torch.inference_mode():
        results = answers(to_device([reader.inputs.tree for reader in readers], _device(model)))
    sizes: list[list[int | str]] = [[fixed_batch(readers) or "batch", *result.shape[1:]] for result in results]
    repeated = any(isinstance(stage, RepeatSpec) for parent in parents_of(model) for stage in _stages(parent))
    if model.io.many_outputs and not repeated and any("time" in size for size in inputs.values()):
        for size in sizes:
            size[1] = "time"
    if not model.io.many_outputs:
        _name_apart(inputs, readers)
    dtypes = {name: tensor.dtype for r in readers for name, tensor in zip(r.names, r.given, strict=True)}
    outputs = {n: (v, size) for n, v, size in zip(answers.names, values, sizes, strict=True)}
    return model_proto(graph, {name: (dtypes[name], size) for name, size in inputs.items()}, outputs)


def _device(model: Exportable) -> torch.device:
    """Return the device of the model; its parents may be on another one."""
    return next(model.parameters()).device


def _stages(parent: Network) -> list[Any]:
    return parent.spec.stages if isinstance(parent.spec, NetworkSpec) else []


def _name_apart(inputs: dict[str, list[int | str]], readers: list[Reader]) -> None:
    """Give the lengths of different readers different names, because one text has several lengths."""
    for reader in readers if len(readers) > 1 else []:
        for name in reader.names:
            own = [f"{reader.name}_{size}" if str(size).startswith("time") else size for size in inputs[name]]
            inputs[name] = own


def _describe(proto: Any, model: Exportable, readers: list[Reader]) -> None:
    """Store kind, labels, decision, vocabularies, input/output type and version in the metadata."""
    from onnx import helper

    kind = {Network: "network", ConcernModule: "module", Composition: "composition"}[type(model)]
    binary = isinstance(model, Network) and model.binary
    independent = not isinstance(model, ConcernModule) and model.independent
    decision = "binary" if binary else "independent" if independent else "classes"
    if model.task == "regression":
        decision = "numbers"
    vote = model.vote if isinstance(model, Composition) else "margin"
    read = {
        r.name: (r.names, r.words if isinstance(r, WordsReader) else text_vocabulary(r.parents[0])) for r in readers
    }
    stored = metadata(model.labels, kind, decision, vote, read)
    if (batch := fixed_batch(readers)) is not None:
        axes = {name: axis for reader in readers for name, axis in reader.batch_axes.items()}
        stored["batch"] = json.dumps({"size": batch, "axes": axes})
    helper.set_model_props(proto, {**stored, "io": str(model.io.value), "unbraid": __version__})
    proto.producer_name, proto.producer_version = "unbraid", __version__

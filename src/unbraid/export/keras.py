"""Write networks, modules and compositions as Keras files. Shapes: N examples, T timesteps, C classes, K modules."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unbraid.errors import FormatError, UnsupportedLayer, quoted, wrong_object
from unbraid.export.keras_body import body_graph, own_masks
from unbraid.export.keras_check import OnlyKeras3, check_keras
from unbraid.export.keras_graph import graph_layers, started
from unbraid.export.keras_layers import Values, body_layers, dense
from unbraid.export.keras_model import KerasModel, Ref
from unbraid.export.readers import parents_of
from unbraid.modules.composition import Composition
from unbraid.modules.module import ConcernModule
from unbraid.networks.graph_spec import KerasSpec
from unbraid.networks.heads import Head
from unbraid.networks.network import Network
from unbraid.networks.outputs import OUTPUTS
from unbraid.networks.pytorch.body import TorchBody
from unbraid.networks.spec import NetworkSpec
from unbraid.networks.stage_spec import EmbeddingSpec, RecurrentSpec
from unbraid.storage.folders import check_target, write_file

INSTEAD = "use unbraid.export_onnx"


def export_keras(
    model: Network | ConcernModule | Composition, path: str | os.PathLike[str], check: bool = True
) -> None:
    """Write a model as a ``.keras`` file that Keras 2 (tf-keras) and Keras 3 load. Keras is not needed to write it.

    The Keras model reads what the network reads: word indices (N, T), features (N, T, D), or several inputs in order.
    It gives the probabilities of a network (N, C), of a module (N, 1) or of a composition (N, K), or the numbers of a
    regression. The results of a tagger have an axis of timesteps. Labels, vocabularies and layers without an effect on
    predictions (dropout, noise) are not part of the file. A graph with MultiHeadAttention, initial states, operations
    or explicit masks is for Keras 3 only. So is one of Keras 3 where Keras 2 passes a mask on in another way. The file
    is read again and compared with the model before it replaces another one; after an error there is no new file.

    Args:
        model: a network of a Keras file, also a smaller one of :func:`unbraid.shrink`; a rolled module of it; or a
            composition of such modules, fused or not.
        path: path of the file, whose name ends with ``.keras``. An existing regular file is replaced.
        check: whether to read the file again and compare its outputs with those of the model on random inputs, to 1e-4.
            Default True.

    Raises:
        UnsupportedLayer: a network of another kind, an unrolled module, or a layer that Keras 2 and 3 do not compute
            alike.
        UnbraidError: the outputs of the file differ.
        FormatError: the file cannot be written, or ``path`` has another ending.
        ArgumentError: ``model`` is another object.

    Example:
        >>> import tempfile
        >>> import unbraid
        >>> from unbraid.demo.small import small_examples, small_network
        >>> network = small_network()
        >>> x, y = small_examples(network)
        >>> fused = unbraid.compose(unbraid.decompose(network, (x, y))).fuse()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     unbraid.export_keras(fused, f"{folder}/small.keras")
        ...     again = unbraid.load(f"{folder}/small.keras", labels=fused.labels)
        >>> bool(abs(again.predict_proba(x) - fused.predict_proba(x)).max() < 1e-5)
        True
    """
    os.fspath(path)  # raises TypeError before the computation
    given: Any = model
    if not isinstance(given, Network | ConcernModule | Composition):
        advice = "of a Decomposition export unbraid.compose(parts)"
        raise wrong_object(given, "model", "a Network, a ConcernModule or a Composition", advice)
    check_target(path, b"PK\x03\x04")
    _check_suffix(path)
    keras, output = _written(model)
    verify = partial(_verify, model) if check else None
    try:
        write_file(path, keras.content(output), verify=verify)
    except OnlyKeras3:
        write_file(path, keras.content(output, modern=True), verify=verify)


def _check_suffix(path: str | os.PathLike[str]) -> None:
    """Raise FormatError for a name that Keras does not read as this format."""
    name = os.fsdecode(path)
    if not name.endswith(".keras"):
        raise FormatError(
            f"{quoted(name)} does not end with '.keras', and Keras reads this format only from such names: pass "
            f"{quoted(Path(name).stem + '.keras')!r}."
        )


def _verify(model: Network | ConcernModule | Composition, path: Path) -> None:
    network = parents_of(model)[0]
    spec = network.spec
    if isinstance(spec, KerasSpec):
        words = spec.vocabularies
    else:
        first = spec.stages[0] if isinstance(spec, NetworkSpec) else None
        words = [first.vocabulary if isinstance(first, EmbeddingSpec) else None]
    check_keras(path, model, _shapes(network), words)


def _written(model: Network | ConcernModule | Composition) -> tuple[KerasModel, str | Ref]:
    """Return the layers of a model, and the value that it gives."""
    if isinstance(model, Network):
        keras, width = _started([model])
        read = _read_by(keras, model.body, width)
        function = OUTPUTS[model.spec.output].activation
        return keras, dense(keras, model.head.weight, model.head.bias, function, _head_name(model), read).layer
    modules = [model] if isinstance(model, ConcernModule) else list(model.modules_by_label.values())
    keras, width = _started([module.parent for module in modules])
    bodies = {id(module.body): module.body for module in modules}
    found = {key: _read_by(keras, body, width) for key, body in bodies.items()}
    reads = [found[id(module.body)] for module in modules]
    if isinstance(model, ConcernModule):
        return keras, _module_output(keras, model, reads[0])
    return keras, _composition_output(keras, model, modules, reads)


def _started(networks: Sequence[Network]) -> tuple[KerasModel, int]:
    """Return a model with its inputs, and the width of the first one."""
    shapes = [_shapes(network) for network in networks]
    if any(shape != shapes[0] for shape in shapes):
        raise UnsupportedLayer(f"the modules read inputs of different shapes {shapes}: {INSTEAD}.")
    first, spec = shapes[0][0], networks[0].spec
    if isinstance(spec, KerasSpec):
        return started(own_masks(spec.graph)), 0
    words = isinstance(spec, NetworkSpec) and isinstance(spec.stages[0], EmbeddingSpec)
    return KerasModel(first), 1 if words else int(first[-1] or 1)


def _shapes(network: Network) -> list[list[int | None]]:
    """Return the shape of one example of each input."""
    spec = network.spec
    if isinstance(spec, KerasSpec):
        return [list(given.shape) for given in spec.graph.inputs]
    if not isinstance(spec, NetworkSpec):
        raise UnsupportedLayer(
            f"Keras export is for networks of Keras files and their modules: for PyTorch modules {INSTEAD}."
        )
    if spec.shape is not None:
        return [list(spec.shape)]
    if isinstance(spec.stages[0], EmbeddingSpec):
        return [[spec.steps]]
    width = next((s.inputs for s in spec.stages if isinstance(s, RecurrentSpec) or s.type == "dense"), None)
    return [[spec.steps, width]]


def _read_by(keras: KerasModel, body: nn.Module, width: int) -> Values:
    """Add the layers of a body; return the features of the output layer."""
    if not isinstance(body, TorchBody):
        return body_layers(keras, body, width)
    graph, weights = body_graph(body)
    return Values(graph_layers(keras, graph, weights), 0)


def _head_name(network: Network) -> str:
    return network.spec.head


def _module_output(keras: KerasModel, module: ConcernModule, read: Values) -> str | Ref:
    """Return the probability of the class, (N, 1): the sigmoid of the margin."""
    if module.task == "regression":
        function = OUTPUTS[module.parent.spec.output].activation
        return _margins(keras, [module.head], read, function)
    if _linear(module.head):
        return _margins(keras, [module.head], read, "sigmoid")
    head = module.head
    idle = head.weight.new_zeros(head.idle, head.weight.shape[1])
    rows, bias = torch.cat([head.weight, idle]), torch.cat([head.bias, head.bias.new_zeros(head.idle)])
    shares = dense(keras, rows, bias, "softmax", "rows", read)
    first = torch.eye(len(bias))[:1]
    return dense(keras, first, torch.zeros(1), "linear", "probability", shares).layer


def _linear(head: Head) -> bool:
    """Return whether the margin is a linear function of the features."""
    return head.words is None and head.idle == 0 and len(head.bias) <= 2


def _rows(heads: Sequence[Head]) -> tuple[Tensor, Tensor]:
    """Weight (K, F) and bias (K,) of linear margins."""
    weights = [h.weight[0] - h.weight[1] if len(h.bias) == 2 else h.weight[0] for h in heads]
    biases = [h.bias[0] - h.bias[1] if len(h.bias) == 2 else h.bias[0] for h in heads]
    return torch.stack(weights), torch.stack(biases)


def _margins(keras: KerasModel, heads: Sequence[Head], read: Values, function: str) -> str | Ref:
    return dense(keras, *_rows(heads), function, "output", read).layer


def _composition_output(
    keras: KerasModel, composition: Composition, modules: list[ConcernModule], reads: list[Values]
) -> str | Ref:
    """Return the probabilities or numbers (N, K)."""
    if composition.referee is not None:
        raise UnsupportedLayer("Keras export has no referee: call without_referee() first, or " + INSTEAD + ".")
    if composition.uses_domain:
        raise UnsupportedLayer("Keras export has no domain evidence: call without_domain() first.")
    if any(module.io.many_outputs != composition.many_outputs for module in modules):
        raise UnsupportedLayer(f"modules of taggers and of classifiers are mixed: {INSTEAD}.")
    heads = [module.head for module in modules]
    neutral = bool((composition.temperature == 1).all() and (composition.offset == 0).all())
    shared = len({read.layer for read in reads}) == 1
    if shared and neutral and not composition.independent and composition.task != "regression" and _same_rows(heads):
        weight = torch.stack([head.weight[0] for head in heads])
        bias = torch.stack([head.bias[0] for head in heads])
        return dense(keras, weight, bias, "softmax", "output", reads[0]).layer
    if not all(_linear(head) for head in heads):
        raise UnsupportedLayer(f"the output layers of the modules have more than two rows: fuse them, or {INSTEAD}.")
    rows = [_rows([head]) for head in heads]
    scales = list(zip(composition.temperature, composition.offset, strict=True))
    weights = [weight / scale for (weight, _), (scale, _) in zip(rows, scales, strict=True)]
    biases = [bias / scale + offset for (_, bias), (scale, offset) in zip(rows, scales, strict=True)]
    whole = _side_by_side(weights, biases, reads)
    if composition.task == "regression":
        functions = {OUTPUTS[module.parent.spec.output].activation for module in modules}
        if len(functions) > 1:
            raise UnsupportedLayer(f"the modules have different output activations {sorted(functions)}: {INSTEAD}.")
        return _joined(keras, whole, functions.pop(), 1).layer
    if composition.independent:
        return _joined(keras, whole, "sigmoid", 1).layer
    behind = _joined(keras, whole, "softplus", -1)  # softplus of -margin: minus the logarithm of the probability
    minus = -torch.eye(len(modules))
    return dense(keras, minus, torch.zeros(len(modules)), "softmax", "output", behind).layer


Part = tuple[Values, list[int], Tensor, Tensor]  # what is read, positions of the modules, weight and bias


def _side_by_side(weights: list[Tensor], biases: list[Tensor], reads: list[Values]) -> list[Part]:
    """Group the rows by what they read."""
    by_layer: dict[str | Ref, list[int]] = {}
    for place, read in enumerate(reads):
        by_layer.setdefault(read.layer, []).append(place)
    return [
        (reads[own[0]], own, torch.cat([weights[p] for p in own]), torch.cat([biases[p] for p in own]))
        for own in by_layer.values()
    ]


def _joined(keras: KerasModel, parts: list[Part], function: str, sign: int) -> Values:
    """Add the dense layers of all parts; return their results in the order of the modules."""
    if len(parts) == 1:
        read, _, weight, bias = parts[0]
        return dense(keras, sign * weight, sign * bias, function, "output", read)
    found = [dense(keras, weight, bias, "linear", "margins", read) for read, _, weight, bias in parts]
    order = torch.tensor([place for _, own, _, _ in parts for place in own])
    joined = keras.add("Concatenate", {"axis": -1}, tuple(one.layer for one in found), "joined")
    in_order = sign * torch.eye(len(order))[order.argsort()]
    return dense(keras, in_order, torch.zeros(len(order)), function, "output", Values(joined, len(order)))


def _same_rows(heads: Sequence[Head]) -> bool:
    """Return whether every head has the same rows, each with another one in front: a softmax over these rows."""
    if any(head.idle or head.words is not None for head in heads):
        return False

    def sorted_rows(head: Head) -> Any:
        return sorted(torch.cat([head.weight, head.bias.unsqueeze(1)], 1).tolist())

    first = sorted_rows(heads[0])
    return len(first) > 1 and all(sorted_rows(head) == first for head in heads[1:])

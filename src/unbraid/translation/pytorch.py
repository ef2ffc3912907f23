"""Convert an encoder-decoder module of PyTorch to a network.

The weights are copied. The results are compared with those of the module's forward on an example. The comparison
detects attention and other operations besides an embedding, recurrent layers and one output layer.
Shapes: N sentences, S source words, T target words, V words of the output layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unbraid.errors import DataError, UnsupportedLayer
from unbraid.networks.inputs import leaves
from unbraid.networks.network import Network
from unbraid.networks.pytorch.calling import call, said
from unbraid.networks.recurrent import RecurrentLayer
from unbraid.networks.spec import EncoderDecoderSpec, LanguageTag
from unbraid.networks.stack import RecurrentStack
from unbraid.networks.stage_spec import EmbeddingSpec, RecurrentSpec


def encoder_decoder_from_torch(
    module: nn.Module,
    example: tuple[Tensor, Tensor],
    languages: Mapping[str, tuple[int, int]] | None = None,
    *,
    encoder: str = "encoder",
    decoder: str = "decoder",
) -> Network:
    """Make a network of a PyTorch module with an encoder and a decoder.

    Args:
        module: a module whose encoder and decoder each have one nn.Embedding and 1 to 4 layers of nn.RNN, nn.LSTM or
            nn.GRU. One nn.Linear computes the logits of the next word. The module is not changed.
        example: source and target word indices for its forward, (N, S) and (N, T), or (S, N) and (T, N) without
            ``batch_first``. The target has no padding.
        languages: name -> indices of the first and the last token, see ``with_languages``.
        encoder: path of the encoder in the module.
        decoder: path of the decoder in the module.

    Returns:
        the network, with a copy of the weights.

    Raises:
        DataError: a part is missing, or the example does not run.
        UnsupportedLayer: the module computes something else.
    """
    module_sides = [_part(module, encoder), _part(module, decoder)]
    stacks = [[RecurrentStack(m) for m in side.modules() if isinstance(m, nn.RNNBase)] for side in module_sides]
    embeddings = [_one(side, nn.Embedding, name) for side, name in zip(module_sides, (encoder, decoder), strict=True)]
    head = _one(module, nn.Linear, "the module")
    if any(stack.proj_size for side in stacks for stack in side):
        raise UnsupportedLayer("an nn.LSTM has proj_size, which encoder-decoders cannot have: train with proj_size=0.")
    if any(stack.bidirectional for side in stacks for stack in side) or not all(stacks):
        raise UnsupportedLayer(
            "the encoder or the decoder has no recurrent layer or a bidirectional one; expected 1 to 4 layers of one "
            "direction in each: use Network.from_torch to decompose the module as a classifier of words."
        )
    source, target = (e.transpose(0, 1) if not stacks[0][0].batch_first else e for e in example)
    wanted = _module_scores(module, example, not stacks[0][0].batch_first)
    for masked in (False, True):
        spec, weights = _read(embeddings, stacks, head, languages or {}, masked)
        network = Network(spec, weights)
        with torch.no_grad():
            ours = network({"source": source, "target": target})
        same = (ours, torch.log_softmax(ours, -1), torch.softmax(ours, -1))
        if any(w.shape == s.shape and torch.allclose(w, s, rtol=1e-3, atol=1e-5) for w in wanted for s in same):
            return network
    raise UnsupportedLayer(
        "the module does not only pass the last states of the encoder to the decoder, layer by layer (attention, a "
        "projection between them, dropout in eval mode?); expected embeddings, recurrent layers and one nn.Linear. Use "
        "Network.from_torch to decompose it as a classifier of words."
    )


def _part(module: nn.Module, path: str) -> nn.Module:
    try:
        return module.get_submodule(path)
    except AttributeError:
        names = [name for name, _ in module.named_children()]
        raise DataError(f"the module has no {path!r}, only {names}: pass encoder= and decoder=.") from None


def _one(part: nn.Module, kind: type[Any], where: str) -> Any:
    found = [m for m in part.modules() if isinstance(m, kind)]
    if len(found) != 1:
        raise UnsupportedLayer(
            f"{where} has {len(found)} nn.{kind.__name__}, expected one: only such modules can be converted."
        )
    return found[0]


def _module_scores(module: nn.Module, example: tuple[Tensor, Tensor], time_first: bool) -> list[Tensor]:
    """Return the tensors with 3 axes among the results of the module, (N, T, V)."""
    was, results = module.training, []
    try:
        with torch.no_grad():
            results = leaves(call(module.eval(), example))
    except Exception as error:  # the forward of a user may raise any error
        raise DataError(f"example does not run through the module: {said(error)}") from error
    finally:
        module.train(was)
    scores = [r for r in results if isinstance(r, Tensor) and r.dim() == 3]
    return [s.transpose(0, 1) for s in scores] if time_first else scores


def _read(
    embeddings: Sequence[nn.Embedding], stacks: Sequence[Sequence[RecurrentStack]], head: nn.Linear,
    languages: Mapping[str, tuple[int, int]], masked: bool,
) -> tuple[EncoderDecoderSpec, dict[str, Tensor]]:  # fmt: skip
    weights = {"head.weight": head.weight.detach().clone()}
    bias: Tensor | None = head.bias
    weights["head.bias"] = torch.zeros(head.out_features) if bias is None else bias.detach().clone()
    parts: dict[str, Any] = {}
    names = (("source", "encoder"), ("target", "decoder"))
    for (words, side), table, own in zip(names, embeddings, stacks, strict=True):
        parts[words] = EmbeddingSpec(
            name=words, vocabulary=table.num_embeddings, dimension=table.embedding_dim, mask_zero=masked
        )
        weights[f"body.{words}.weight"] = table.weight.detach().clone()
        layers = [layer for stack in own for layer in stack.layers]
        parts[side] = [_layer_spec(f"{side}.{n}", layer) for n, layer in enumerate(layers)]
        for number, layer in enumerate(layers):
            weights |= {f"body.{side}.{number}.{name}": p.detach() for name, p in layer.named_parameters()}
    tags = [LanguageTag(name=name, start=start, end=end) for name, (start, end) in languages.items()]
    spec = EncoderDecoderSpec(
        **parts, head="head", features=head.in_features, classes=head.out_features, languages=tags
    )
    return spec, {name: w.float() for name, w in weights.items()}


def _layer_spec(name: str, layer: nn.Module) -> RecurrentSpec:
    assert isinstance(layer, RecurrentLayer)
    return RecurrentSpec(name=name, cell=layer.cell, inputs=layer.inputs, units=layer.units, sequences=True)

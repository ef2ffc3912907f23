"""``TextVectorization`` in front of a model: it becomes the vocabulary, and the model reads word indices."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from unbraid.data.vocabulary import Vocabulary
from unbraid.errors import DataError, FormatError, UnsupportedLayer
from unbraid.limits import check_size
from unbraid.networks.keras.archive import Archive
from unbraid.networks.keras.config import MAX_REPEATS, Config, LayerConfig, shown

KIND = "TextVectorization"
_WORDS = re.compile(r"assets/(layers|_layer_checkpoint_dependencies)/text_vectorization/vocabulary\.txt")


@dataclass(frozen=True)
class ReadText:
    """A model that reads word indices, and the vocabulary that its file holds for it."""

    model: Config
    vocabulary: Vocabulary


def read_text(model: Config, keras: int, archive: Archive | None) -> ReadText | None:
    """Replace the ``TextVectorization`` of a model by an input of word indices; None for a model without one.

    Args:
        model: the configuration of the model. It is not changed.
        keras: major version of Keras that wrote it.
        archive: the file, which holds the words; None for a file of another kind.

    Raises:
        UnsupportedLayer: several of them, or settings that cannot be followed.
        FormatError: the file does not hold the words.
    """
    body = model.get("config")
    values = body.get("layers") if isinstance(body, dict) else body
    if not isinstance(values, list) or not any(isinstance(v, dict) and v.get("class_name") == KIND for v in values):
        return None
    check_size(len(values), "layers", model.file, "number of layers")
    layers = [LayerConfig(model.file, value, keras, f"layer {number}") for number, value in enumerate(values)]
    found = [number for number, layer in enumerate(layers) if layer.kind == KIND]
    layer = layers[found[0]]
    texts = {one.name for one in layers if one.kind == "InputLayer" and one.get("dtype") == "string"}
    if len(found) > 1 or len(texts) > 1 or layer.custom:
        raise layer.unsupported("reads one of several texts", f"one {KIND} behind the input")
    vocabulary = _vocabulary(layer, archive)
    steps = vocabulary.padding.steps
    start: dict[str, Any] = {"class_name": "InputLayer", "inbound_nodes": [], "name": layer.name}
    start["config"] = {"name": layer.name, "batch_shape": [None, steps]}
    kept = [start if n == found[0] else value for n, value in enumerate(values) if layers[n].name not in texts]
    whole = {**body, "layers": kept} if isinstance(body, dict) else kept
    if isinstance(whole, dict):
        whole.pop("build_input_shape", None)
        if "input_layers" in whole:
            whole["input_layers"] = _renamed(whole["input_layers"], texts, layer.name)
    return ReadText(Config(model.file, model.where, {**model.values, "config": whole}), vocabulary)


def _renamed(value: Any, old: set[str], new: str) -> Any:
    """Replace the name of an input in the list of inputs, a list of any depth or a mapping."""
    if isinstance(value, dict):
        return {key: _renamed(part, old, new) for key, part in value.items()}
    if isinstance(value, list):
        return [_renamed(part, old, new) for part in value]
    return new if isinstance(value, str) and value in old else value


def _vocabulary(layer: LayerConfig, archive: Archive | None) -> Vocabulary:
    if layer.get("output_mode", "int") != "int" or layer.get("ngrams") is not None:
        raise layer.unsupported("gives no word indices, or n-grams", "output_mode='int' and ngrams=None")
    steps = layer.get("output_sequence_length")
    steps = None if steps is None else layer.size("output_sequence_length", MAX_REPEATS)
    words = layer.get("vocabulary")
    if words is None:
        words = _stored_words(layer, archive)
    if not isinstance(words, list):
        raise FormatError(f"{layer.file}: {layer.where}: field 'vocabulary' is {shown(words)}, expected words.")
    check_size(len(words), "json_bytes", layer.file, "number of words")
    rules = {"standardize": layer.get("standardize"), "split": layer.get("split", "whitespace")}
    try:
        return Vocabulary.from_text_vectorization(words, steps=steps, **rules)
    except DataError as error:
        raise UnsupportedLayer(f"{layer.file}: {layer.where}: {error}") from None


def _stored_words(layer: LayerConfig, archive: Archive | None) -> list[str]:
    members = [] if archive is None else [name for name in archive.members if _WORDS.fullmatch(name)]
    if archive is None or len(members) != 1:
        raise FormatError(f"{layer.file}: {layer.where} has no words in the file: save the model as a .keras file.")
    try:
        return archive.read(members[0]).decode("utf-8").split("\n")
    except UnicodeDecodeError:
        raise FormatError(f"{layer.file}: {members[0]!r} is no UTF-8 text, expected one word a line.") from None

"""Serve an ONNX file without torch: ``serve_onnx.py FILE < TEXTS``. Without FILE, make one of two networks first."""

import json
import sys
import tempfile

import numpy as np
import onnxruntime
from tokenizers import Tokenizer


class Server:
    def __init__(self, path):
        self.session = onnxruntime.InferenceSession(path)
        stored = self.session.get_modelmeta().custom_metadata_map
        self.labels = json.loads(stored["labels"])
        readers = json.loads(stored.get("readers", "{}"))  # one for each of several vocabularies
        keys = {names[0]: f":{reader}" for reader, names in readers.items()} or {"x": ""}
        self.words = {x: Tokenizer.from_str(stored[f"vocabulary{key}"]) for x, key in keys.items()}
        self.padding = {x: json.loads(stored[f"padding{key}"]) for x, key in keys.items()}

    def answer(self, text):
        feed = {x: indices(text, words, self.padding[x]) for x, words in self.words.items()}
        (shares,) = self.session.run(["probabilities"], feed)[0]
        return self.labels[shares.argmax()], float(shares.max())


def indices(text, words, padding):
    missing = words.token_to_id("[unknown to this vocabulary]")  # a word without an index
    found = [padding["unknown"] if i == missing else i for i in words.encode(text).ids]
    found, steps = [i for i in found if i is not None], padding["steps"]
    found = found[-(steps or 0) :] if (padding["truncation"] or padding["side"]) == "left" else found[:steps]
    empty = [padding["index"]] * ((steps or max(1, len(found))) - len(found))
    return np.array([empty + found if padding["side"] == "left" else found + empty], np.int64)


def make(path):
    import unbraid  # and torch; only for making the file
    from unbraid.demo.small import small_network

    texts = [" ".join(f"word{n}" for n in row) for row in np.random.default_rng(0).integers(0, 60, (300, 6))]
    modules = {}
    for first, seed in ((0, 30), (12, 34)):  # two networks with different vocabularies
        words = unbraid.Vocabulary.from_words([f"word{n}" for n in range(first, first + 48)])
        network = small_network([f"{topic} {first}" for topic in "abc"], seed).with_vocabulary(words)
        modules |= unbraid.decompose(network, (texts, network.predict(texts)))
    composition = unbraid.compose(modules, sample=(texts, list(modules) * 50), referee=True)
    unbraid.export_onnx(composition, path)
    return texts, composition.predict(texts).tolist()


if sys.argv[1:]:
    server = Server(sys.argv[1])
    print(*("\t".join(map(str, server.answer(line.rstrip("\n")))) for line in sys.stdin), sep="\n")
else:
    with tempfile.TemporaryDirectory() as folder:
        texts, expected = make(f"{folder}/both.onnx")
        server = Server(f"{folder}/both.onnx")
    print("same labels as torch:", expected == [server.answer(text)[0] for text in texts])

"""Write ``text/k3.keras`` and ``text/k2.keras``, models that read texts, and what Keras predicts for them.

Run once with ``keras`` and once with ``tf_keras`` as the argument; both need TensorFlow.
"""

import importlib
import io
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import tensorflow as tf

keras = importlib.import_module(sys.argv[1])
K = keras.layers
TEXTS = [
    "The cat's don't, a-b x",
    "go",
    "",
    " \u00c9t\u00e9 \u00e9t\u00e9 THE\u000bgo a\u00a0cat\tdog",
    "a a a a a a a a",
    "..., the!",
]
HERE = Path(__file__).parent / "text"
name = f"k{keras.__version__[0]}"

keras.utils.set_random_seed(0)
words = K.TextVectorization(max_tokens=12, output_sequence_length=5)
words.adapt(tf.constant(["the cat sat", "the dog, the cat!", "don't go a", "\u00e9t\u00e9 \u00c9t\u00e9"]))
given = K.Input((1,), dtype="string")
h = K.Embedding(12, 3, mask_zero=True)(words(given))
model = keras.Model(given, K.Dense(2, activation="softmax")(K.LSTM(4)(h)))
model.set_weights(
    [
        np.random.default_rng(0).normal(0, 0.6, w.shape).astype("float32") if w.dtype.kind == "f" else w
        for w in model.get_weights()
    ]
)
model.save(HERE / f"{name}.keras")
with zipfile.ZipFile(HERE / f"{name}.keras") as file:
    content = {info.filename: file.read(info) for info in file.infolist()}
buffer = io.BytesIO()
with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
    for member, data in content.items():
        file.writestr(member, data)
(HERE / f"{name}.keras").write_bytes(buffer.getvalue())
probabilities = model.predict(tf.constant([[text] for text in TEXTS]), verbose=0)
indices = words(tf.constant(TEXTS)).numpy()
result = {"texts": TEXTS, "indices": indices.tolist(), "probabilities": probabilities.tolist()}
(HERE / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")

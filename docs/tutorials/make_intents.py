"""Train a small Keras network of three intents, and write the files of the Keras tutorial (needs Keras)."""

import json
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np

from unbraid.demo.intents import make_intents

FOLDER, STEPS = Path(__file__).parent, 10
LABELS = ["balance", "transfer", "card"]

keras.utils.set_random_seed(0)
texts, names = make_intents(LABELS, count=1000, seed=1)
words = {word: index for index, word in enumerate(sorted({w for t in texts for w in t.split()}), start=1)}
x = np.zeros((len(texts), STEPS), dtype="int32")
for row, text in zip(x, texts, strict=True):
    indices = [words[word] for word in text.split()]
    row[-len(indices) :] = indices  # padding at the left, as pad_sequences does
y = np.asarray([LABELS.index(name) for name in names])

model = keras.Sequential(
    [
        keras.Input((STEPS,)),
        keras.layers.Embedding(len(words) + 1, 8, mask_zero=True),
        keras.layers.LSTM(24),
        keras.layers.Dense(len(LABELS), activation="softmax"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x, y, epochs=6, batch_size=32, verbose=2)
model.save(FOLDER / "intents.keras", include_optimizer=False)
(FOLDER / "words.json").write_text(json.dumps(words, indent=0) + "\n")

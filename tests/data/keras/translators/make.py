"""Makes the small encoder-decoders beside it, and what Keras itself predicts with them; see ``../make.py``.

Needed only to change them. Layers get names that say nothing: a reader may not rely on them.
"""

import zipfile
from pathlib import Path

import keras
import numpy as np
from keras import layers as K

HERE = Path(__file__).parent
MAJOR = int(keras.__version__[0])


def translator(kind, depth, mask=True, wrapped=False, states=False, **settings):
    """``depth`` layers on each side; ``states`` also where only the encoder's are needed."""
    read, said = K.Input((None,)), K.Input((None,))
    x, y = K.Embedding(9, 3, mask_zero=mask)(read), K.Embedding(8, 3, mask_zero=mask)(said)
    passed = []
    for level in range(depth):
        x, *state = kind(4, return_sequences=level + 1 < depth, return_state=True, **settings)(x)
        passed.append(state)
    decoding = {k: v for k, v in settings.items() if k != "go_backwards"}
    for state in passed:
        first = state if len(state) > 1 else state[0]
        y = kind(4, return_sequences=True, return_state=states, **decoding)(y, initial_state=first)
        y = y[0] if states else y
    words = K.Dense(8, activation="softmax")
    return keras.Model([read, said], (K.TimeDistributed(words) if wrapped else words)(K.Dropout(0.2)(y)))


def cases():
    """Name, file types, model."""
    yield "lstm", ("keras", "h5"), translator(K.LSTM, 1, states=True)
    yield "lstm2", ("keras", "h5"), translator(K.LSTM, 2, wrapped=True)
    yield "gru2", ("keras",), translator(K.GRU, 2, mask=False)
    yield "gru_before", ("keras",), translator(K.GRU, 1, reset_after=False, go_backwards=True)
    yield "vanilla", ("keras",), translator(K.SimpleRNN, 1, states=True)


def pack(path):
    """The archive again, compressed: its HDF5 is mostly empty."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED, 9)


def main():
    for old in HERE.glob(f"k{MAJOR}-*"):
        old.unlink()
    for number, (name, kinds, model) in enumerate(cases()):
        rng = np.random.default_rng(number)
        model.set_weights([rng.normal(0, 0.6, w.shape).astype("float32") for w in model.get_weights()])
        source, target = rng.integers(1, 9, (6, 5)), rng.integers(1, 8, (6, 4))
        source[1, 3:] = source[2, 1:] = target[2, 2:] = target[3, 1:] = 0
        for kind in kinds:
            path = HERE / f"k{MAJOR}-{name}.{kind}"
            model.save(path)
            if kind == "keras":
                pack(path)
        y = np.asarray(model.predict([source, target], verbose=0))
        np.savez_compressed(HERE / f"k{MAJOR}-{name}.npz", source=source, target=target, y=y)


if __name__ == "__main__":
    main()

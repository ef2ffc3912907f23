"""Make the small Keras models in this folder, and the predictions of Keras for them.

It is needed only to change them; the tests read the files. Files of Keras 3 are called ``k3-*``, of Keras 2 ``k2-*``:

    python -m venv keras3 && keras3/bin/pip install torch keras
    KERAS_BACKEND=torch keras3/bin/python tests/data/keras/make.py

    python -m venv keras2 && keras2/bin/pip install tensorflow-cpu==2.15.1
    keras2/bin/python tests/data/keras/make.py

Names of cases after the command restrict it to these cases.

Each case gives ``.keras`` or ``.h5`` files (``.keras`` packed again with deflate: their HDF5 is mostly empty) and an
``.npz`` with ``x`` and ``y``. Those in ``losses`` store a training loss.
"""

import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
from keras import layers as K

HERE = Path(__file__).parent
MAJOR = int(keras.__version__[0])
BOTH = ("keras", "h5")


def chain(*stages):
    """A Sequential model."""
    return keras.Sequential(list(stages))


def functional(first, *stages):
    """The same as a Functional model."""
    x = first
    for stage in stages:
        x = stage(x)
    return keras.Model(first, x)


def words(mask=True, steps=6):
    """Nine words, six timesteps."""
    return K.Input((steps,)), K.Embedding(9, 3, mask_zero=mask)


def many(units, activation="softmax"):
    """An output at every timestep."""
    return K.TimeDistributed(K.Dense(units, activation=activation))


def cases():
    """Name, file types, model."""
    hard = {"recurrent_activation": "hard_sigmoid"}
    seq = {"return_sequences": True}
    end = {"activation": "softmax"}
    yield "lstm", ("keras",), chain(*words(), K.LSTM(4), K.Dense(3, **end))
    yield (
        "gru",
        BOTH,
        chain(*words(), K.GRU(4, reset_after=False, **hard, **seq), K.GRU(3, **hard), K.Dense(3, **end)),
    )
    yield (
        "features",
        ("keras",),
        chain(
            K.Input((5, 2)), K.Masking(0.5), K.SimpleRNN(4, activation="relu", **seq), K.SimpleRNN(3),
            K.Dense(1, activation="sigmoid"),
        ),
    )  # fmt: skip
    yield (
        "merges",
        ("keras",),
        chain(
            *words(), K.Bidirectional(K.LSTM(3, **seq)), K.Bidirectional(K.GRU(3, **seq), merge_mode="sum"),
            K.Bidirectional(K.SimpleRNN(3, **seq), merge_mode="mul"), K.Bidirectional(K.LSTM(2), merge_mode="ave"),
            K.Dense(3),
        ),
    )  # fmt: skip
    yield "tagger", ("keras",), chain(*words(), K.Dropout(0.5), K.Bidirectional(K.GRU(3, **seq)), many(4))
    yield "average", ("keras",), chain(*words(), K.Bidirectional(K.LSTM(3, **seq), merge_mode="ave"), many(2))
    yield "repeat", ("keras",), chain(*words(False), K.Flatten(), K.RepeatVector(3), K.LSTM(3, **seq), many(4))
    yield (
        "dense",
        ("keras",),
        chain(
            *words(False), K.GRU(3), K.Dropout(0.5), K.Dense(4), K.Dropout(0.5), K.Activation("tanh"),
            K.Dense(3), K.Activation("softmax"),
        ),
    )  # fmt: skip
    yield "labels", ("keras",), chain(*words(), K.LSTM(3), K.Dense(4, activation="sigmoid"))
    yield (
        "backwards",
        ("keras",),
        chain(*words(), K.LSTM(3, go_backwards=True, **seq), K.GRU(3, go_backwards=True), K.Dense(3, **end)),
    )
    yield (
        "backwards_pair",
        ("keras",),
        chain(
            *words(),
            K.Bidirectional(K.GRU(3, go_backwards=True, name="back"), backward_layer=K.GRU(3, name="ahead")),
            K.Dense(3, **end),
        ),
    )
    no = {"use_bias": False}
    yield (
        "unbiased",
        ("keras",),
        chain(
            *words(False), K.LSTM(3, **no, **seq), K.GRU(3, **no, **seq), K.GRU(3, reset_after=False, **no, **seq),
            K.Bidirectional(K.SimpleRNN(3, **no, **seq)), K.SimpleRNN(3, **no), K.Dense(3, **no, **end),
        ),
    )  # fmt: skip
    yield (
        "activations",
        ("keras",),
        chain(
            *words(), K.SpatialDropout1D(0.5), K.TimeDistributed(K.Dense(3, activation="hard_sigmoid")),
            K.LSTM(3, activation="relu", **hard, **seq), K.Activation("relu"), K.GRU(3, activation="sigmoid", **seq),
            K.SimpleRNN(3, activation="linear", **seq), K.Dense(4, activation="relu"), K.Activation("tanh"),
            K.Flatten(), K.Dense(3, **end),
        ),
    )  # fmt: skip
    yield (
        "two_layers_in_one",
        ("keras",),
        chain(
            *words(),
            K.Bidirectional(K.LSTM(3, name="ahead"), backward_layer=K.LSTM(3, go_backwards=True, name="back")),
            K.Dense(3, **end),
        ),
    )  # fmt: skip
    yield "any_length", ("keras",), chain(*words(steps=None), K.LSTM(3), K.Dense(3, **end))
    yield (
        "functional",
        BOTH,
        functional(*words(), K.Bidirectional(K.LSTM(3, **seq)), K.Dropout(0.5), K.GRU(3, **seq), many(3)),
    )
    yield (
        "functional_features",
        ("keras",),
        functional(K.Input((5, 2)), K.Masking(0.5), K.LSTM(3, **seq), K.LSTM(2), K.Dense(3, **end)),
    )
    yield (
        "unrolled",
        ("keras",),
        chain(
            *words(), K.LSTM(3, unroll=True, **seq), K.LSTM(3, go_backwards=True, unroll=True, **seq),
            K.GRU(3, unroll=True, **seq), K.Bidirectional(K.SimpleRNN(3, unroll=True)), K.Dense(3, **end),
        ),
    )  # fmt: skip
    yield (
        "losses/regressor",
        BOTH,
        compiled(chain(K.Input((5, 2)), K.LSTM(3), K.Dense(2)), keras.losses.MeanSquaredError()),
    )
    yield (
        "losses/from_logits",
        BOTH,
        compiled(functional(K.Input((5, 2)), K.LSTM(3), K.Dense(1)), keras.losses.BinaryCrossentropy(from_logits=True)),
    )


def compiled(model, loss):
    """The model with a loss."""
    model.compile("sgd", loss)
    return model


def fill(model, rng):
    """Weights of a size that lets every gate and bias matter."""
    model.set_weights([rng.normal(0, 0.6, w.shape).astype("float32") for w in model.get_weights()])


def inputs(model, rng):
    """Eight examples: words padded on the left, on the right, inside and all over, or features with masked steps."""
    shape = [s or 6 for s in model.input_shape[1:]]
    if len(shape) == 2:
        x = rng.normal(0, 1, (8, *shape)).astype("float32")
        padded = {1: slice(3, None), 2: slice(0, 2), 3: slice(1, 3), 4: slice(None)}
        for row, steps in padded.items():
            x[row, steps] = 0.5
        return x
    x = rng.integers(1, 9, (8, *shape))
    x[1, 4:] = x[2, :3] = x[3, 2:4] = x[4] = x[5, 0] = x[5, 5] = x[5, 2] = 0
    return x


def pack(path):
    """The archive again, compressed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED, 9)


def main():
    for number, (name, kinds, model) in enumerate(cases()):
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        rng = np.random.default_rng(number)
        fill(model, rng)
        x = inputs(model, rng)
        folder, _, last = name.rpartition("/")
        stem = f"{folder}/k{MAJOR}-{last}"
        for kind in kinds:
            path = HERE / f"{stem}.{kind}".lstrip("/")
            path.parent.mkdir(exist_ok=True)
            model.save(path)
            if kind == "keras":
                pack(path)
        np.savez_compressed(HERE / f"{stem}.npz".lstrip("/"), x=x, y=np.asarray(model.predict(x, verbose=0)))


if __name__ == "__main__":
    main()

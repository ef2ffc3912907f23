"""Make the Keras models of the census: one construction each, with random weights, and the predictions of Keras.

``python -m benchmarks.census.keras_models FOLDER [LIBRARY]`` with LIBRARY ``keras`` (Keras 3) or ``tf_keras`` (Keras 2)
writes ``NAME.keras`` or ``NAME.h5`` and ``NAME.npz`` (inputs ``x0``, ``x1``, ... and outputs ``y``).
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

SOFT = {"activation": "softmax"}
SEQ = {"return_sequences": True}
T, D, V = 8, 3, 12
Case = tuple[str, Any]  # name, model


def cases(keras: Any) -> Iterator[Case]:
    """Name and model of each construction."""
    K = keras.layers
    three = int(keras.__version__[0]) >= 3

    def chain(*layers: Any, shape: tuple[int | None, ...] = (T, D)) -> Any:
        return keras.Sequential([K.Input(shape), *layers])

    def words(*layers: Any, mask: bool = True) -> Any:
        return keras.Sequential([K.Input((T,)), K.Embedding(V, 4, mask_zero=mask), *layers])

    def end() -> Any:
        return K.Dense(3, **SOFT)

    yield "batch_norm_first", chain(K.BatchNormalization(), K.LSTM(4), end())
    yield "batch_norm_after", chain(K.LSTM(4), K.BatchNormalization(), K.Dense(5, activation="relu"), end())
    yield "batch_norm_between", words(K.LSTM(4, **SEQ), K.BatchNormalization(scale=False), K.GRU(4), end())
    yield "conv1d_pool", chain(K.Conv1D(5, 3, activation="relu"), K.MaxPooling1D(2), K.LSTM(4), end())
    yield "conv1d_causal", chain(K.Conv1D(5, 3, padding="causal", dilation_rate=2), K.GRU(4), end())
    yield "conv1d_same_strides", chain(K.Conv1D(5, 4, padding="same", strides=2), K.LSTM(4), end())
    yield "conv1d_words", words(K.Conv1D(5, 2), K.AveragePooling1D(2, padding="same"), K.LSTM(4), end())
    yield "separable_conv", chain(K.SeparableConv1D(5, 3, depth_multiplier=2), K.LSTM(4), end())
    yield "depthwise_conv", chain(K.DepthwiseConv1D(3, depth_multiplier=2, padding="same"), K.LSTM(4), end())
    yield "conv2d_reshape", chain(
        K.Reshape((T, D, 1)), K.Conv2D(4, (3, 2), padding="same", activation="relu"), K.MaxPooling2D((2, 1)),
        K.Reshape((T // 2, -1)), K.LSTM(4), end(),
    )  # fmt: skip
    yield "permute", chain(K.Permute((2, 1)), K.LSTM(4), end())
    yield "zero_padding_cropping", chain(K.ZeroPadding1D((2, 1)), K.Cropping1D(1), K.LSTM(4), end())
    yield "up_sampling", chain(K.UpSampling1D(2), K.LSTM(4), end())
    yield "global_max", chain(K.LSTM(4, **SEQ), K.GlobalMaxPooling1D(), end())
    yield "global_average_masked", words(K.LSTM(4, **SEQ), K.GlobalAveragePooling1D(), end())
    yield "layer_norm", words(K.LSTM(4, **SEQ), K.LayerNormalization(), K.LSTM(3), end())
    yield "layer_norm_end", chain(K.GRU(4), K.LayerNormalization(center=False), end())
    yield "time_dropout", chain(K.TimeDistributed(K.Dropout(0.3)), K.LSTM(4), end())
    yield "time_dense_relu", chain(K.TimeDistributed(K.Dense(5, activation="relu")), K.LSTM(4), end())
    yield "time_conv_frames", chain(
        K.TimeDistributed(K.Conv2D(3, 3, activation="relu")), K.TimeDistributed(K.MaxPooling2D(2)),
        K.TimeDistributed(K.Flatten()), K.LSTM(4), end(), shape=(4, 6, 6, 2),
    )  # fmt: skip
    frames = keras.Sequential([K.Input((6, 6, 2)), K.Conv2D(3, 3), K.BatchNormalization(), K.Flatten(), K.Dense(4)])
    yield "time_nested_cnn", chain(K.TimeDistributed(frames), K.LSTM(4), end(), shape=(4, 6, 6, 2))
    yield "time_global_average", chain(K.TimeDistributed(K.GlobalAveragePooling1D()), K.GRU(4), end(), shape=(5, 4, 3))
    yield (
        "activation_layers",
        chain(K.Dense(5), K.LeakyReLU(0.2), K.Dense(5), K.PReLU(), K.LSTM(4), K.Dense(5), K.ELU(0.7), end()),
    )
    yield "relu_layer", chain(K.LSTM(4), K.Dense(6), K.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.2), end())
    yield "softmax_layer", chain(K.LSTM(4), K.Dense(3), K.Softmax())
    yield "activation_end", chain(K.LSTM(4), K.BatchNormalization(), K.Dense(3), K.Activation("softmax"))
    yield "dense_elu_selu", chain(K.LSTM(4), K.Dense(5, activation="elu"), K.Dense(5, activation="selu"), end())
    yield "dense_gelu_silu", chain(K.LSTM(4), K.Dense(5, activation="gelu"), K.Dense(5, activation="swish"), end())
    yield "lstm_softsign", chain(K.LSTM(4, activation="softsign"), end())
    yield "gru_elu", chain(K.GRU(4, activation="elu", recurrent_activation="hard_sigmoid"), end())
    yield "noise", chain(K.GaussianNoise(0.1), K.LSTM(4), K.GaussianDropout(0.2), K.AlphaDropout(0.1), end())
    yield "rescaling", chain(K.Rescaling(0.5, offset=0.1), K.LSTM(4), end())
    norm = K.Normalization()
    norm.adapt(np.random.default_rng(1).normal(2, 3, (50, T, D)).astype("float32"))
    yield "normalization", chain(norm, K.LSTM(4), end())
    yield (
        "stateful",
        keras.Sequential(
            [
                K.Input(batch_shape=(6, T, D)) if three else K.Input((T, D), batch_size=6),
                K.LSTM(4, stateful=True),
                end(),
            ]
        ),
    )
    yield "backwards_sequences", words(K.LSTM(4, go_backwards=True, **SEQ), K.BatchNormalization(), K.GRU(3), end())
    yield "unroll", chain(K.BatchNormalization(), K.LSTM(4, unroll=True), end())
    yield "bidirectional_norm", words(K.Bidirectional(K.LSTM(4, **SEQ)), K.BatchNormalization(),
                                      K.Bidirectional(K.GRU(3), merge_mode="sum"), end())  # fmt: skip
    yield "gru_reset_before", chain(K.BatchNormalization(), K.GRU(4, reset_after=False), end())
    yield "conv_lstm", chain(
        K.ConvLSTM2D(3, 3, padding="same", return_sequences=True), K.BatchNormalization(),
        K.TimeDistributed(K.Flatten()), K.LSTM(4), end(), shape=(4, 5, 5, 2),
    )  # fmt: skip
    yield "tagger_norm", words(K.LSTM(4, **SEQ), K.BatchNormalization(), K.TimeDistributed(end()))
    yield "tagger_conv", words(K.Conv1D(5, 3, padding="same"), K.LSTM(4, **SEQ), end(), mask=False)
    yield (
        "nested_sequential",
        chain(keras.Sequential([K.Input((T, D)), K.LSTM(4, **SEQ), K.Dropout(0.1)]), K.LSTM(3), end()),
    )
    yield (
        "nested_norm",
        chain(keras.Sequential([K.Input((T, D)), K.BatchNormalization(), K.Dense(4)]), K.LSTM(3), end()),
    )
    yield "rnn_lstm_cell", chain(K.RNN(K.LSTMCell(4)), end())
    yield "rnn_gru_cell", chain(K.RNN(K.GRUCell(4), return_sequences=True), K.SimpleRNN(3), end())
    yield "rnn_stacked_cells", chain(K.RNN([K.LSTMCell(4), K.LSTMCell(3)]), end())
    yield "rnn_stacked_tagger", words(K.RNN([K.GRUCell(4), K.SimpleRNNCell(3), K.GRUCell(5)], **SEQ), end())
    yield (
        "spatial_dropout",
        words(K.SpatialDropout1D(0.2), K.Bidirectional(K.LSTM(4)), K.Dense(4, activation="relu"), end()),
    )
    yield "sigmoid_labels_norm", chain(K.LSTM(4), K.BatchNormalization(), K.Dense(4, activation="sigmoid"))
    yield "binary_norm", chain(K.LSTM(4), K.BatchNormalization(), K.Dense(1, activation="sigmoid"))
    yield "any_length_conv", chain(K.Conv1D(4, 3), K.LSTM(4), end(), shape=(None, D))
    yield "masking_norm", chain(K.Masking(0.5), K.BatchNormalization(), K.LSTM(4), end())
    yield "flatten_sequences", chain(K.LSTM(4, **SEQ), K.BatchNormalization(), K.Flatten(), end())
    yield (
        "repeat_autoencoder",
        chain(K.BatchNormalization(), K.LSTM(4), K.RepeatVector(T), K.LSTM(4, **SEQ), K.TimeDistributed(end())),
    )
    yield from adapted(keras, K, end)
    yield from functional(keras, K, end)


def adapted(keras: Any, K: Any, end: Callable[[], Any]) -> Iterator[Case]:
    """Layers that Keras itself runs; those that only Keras 3 has are left out for Keras 2."""
    seq = [K.Input((T, D)), K.Dense(4)]

    def chain(*layers: Any) -> Any:
        return keras.Sequential([*seq, *layers, end()])

    yield "group_norm", chain(K.GroupNormalization(2), K.LSTM(4))
    yield "conv1d_transpose", chain(K.Conv1DTranspose(5, 3, strides=2, activation="relu", padding="same"), K.GRU(4))
    yield "einsum_dense", chain(K.EinsumDense("abc,cd->abd", (None, 5), bias_axes="d", activation="tanh"), K.LSTM(4))
    yield (
        "resizing",
        keras.Sequential([K.Input((4, 6, 2)), K.Resizing(T, 5), K.RandomFlip(), K.Reshape((T, 10)), K.LSTM(4), end()]),
    )
    yield (
        "center_crop",
        keras.Sequential([K.Input((12, 6, 2)), K.CenterCrop(T, 5), K.Reshape((T, 10)), K.GRU(4), end()]),
    )
    yield "time_conv2d_transpose", keras.Sequential(
        [K.Input((4, 3, 3, 2)), K.TimeDistributed(K.Conv2DTranspose(3, 3)), K.TimeDistributed(K.Flatten()),
         K.LSTM(4), end()]
    )  # fmt: skip
    yield (
        "discretization",
        keras.Sequential(
            [K.Input((T, D)), K.Discretization([-0.5, 0.0, 0.8], output_mode="int"), K.Rescaling(0.3), K.LSTM(4), end()]
        ),
    )
    if hasattr(K, "RMSNormalization"):
        yield "rms_norm", chain(K.RMSNormalization(), K.LSTM(4))
    if hasattr(K, "AdaptiveAveragePooling1D"):
        yield "adaptive_pooling", chain(K.AdaptiveAveragePooling1D(3), K.AdaptiveMaxPooling1D(2), K.LSTM(4))


def functional(keras: Any, K: Any, end: Callable[[], Any]) -> Iterator[Case]:
    """Models of several branches, inputs or outputs."""
    i = K.Input((T, D))
    yield "branches", keras.Model(i, end()(K.Concatenate()([K.LSTM(4)(i), K.GRU(5)(i)])))
    for name in ("Add", "Multiply", "Average", "Maximum", "Minimum", "Subtract"):
        merge = getattr(K, name)()
        yield f"merge_{name.lower()}", keras.Model(i, end()(merge([K.LSTM(4)(i), K.GRU(4)(i)])))
    h = K.LSTM(4, **SEQ)(i)
    yield "attention", keras.Model(i, end()(K.Flatten()(K.Attention()([h, h]))))
    w = K.Input((T,))
    e = K.Embedding(V, 4, mask_zero=True)(w)
    h = K.LSTM(4, **SEQ)(e)
    yield "attention_masked", keras.Model(w, end()(K.GlobalAveragePooling1D()(K.Attention(use_scale=True)([h, h]))))
    h = K.GRU(4, **SEQ)(e)
    yield "additive_attention", keras.Model(w, end()(K.GlobalMaxPooling1D()(K.AdditiveAttention()([h, h]))))
    h = K.LSTM(4, **SEQ)(i)
    m = K.MultiHeadAttention(2, 3)(h, h)
    yield "multi_head", keras.Model(i, end()(K.GlobalAveragePooling1D()(K.LayerNormalization()(K.Add()([h, m])))))
    h = K.LSTM(4, **SEQ)(e)
    m = K.MultiHeadAttention(2, 3, value_dim=2)(h, h)
    yield "multi_head_masked", keras.Model(w, end()(K.GlobalAveragePooling1D()(m)))
    j = K.Input((5,), name="extra")
    yield "two_inputs", keras.Model([i, j], end()(K.Concatenate()([K.LSTM(4)(i), K.Dense(3, activation="relu")(j)])))
    k = K.Input((T, 2), name="other")
    yield "two_sequences", keras.Model([i, k], end()(K.Concatenate()([K.LSTM(4)(i), K.GRU(3)(k)])))
    yield "words_and_numbers", keras.Model([w, j], end()(K.concatenate([K.LSTM(4)(e), j])))
    shared = K.LSTM(4)
    yield (
        "siamese_dense",
        keras.Model([i, k], end()(K.Concatenate()([K.Dense(2)(K.LSTM(4)(i)), K.Dense(2)(K.LSTM(4)(k))]))),
    )
    two = K.Input((T, D), name="second")
    yield "shared_lstm", keras.Model([i, two], end()(K.LSTM(3)(K.Concatenate()(
        [K.RepeatVector(4)(shared(i)), K.RepeatVector(4)(shared(two))]))))  # fmt: skip
    yield (
        "dot",
        keras.Model([i, two], end()(K.LSTM(3)(K.Dot(axes=(2, 2))([K.LSTM(4, **SEQ)(i), K.GRU(4, **SEQ)(two)])))),
    )
    _, a, b = K.LSTM(4, return_state=True)(i)
    yield "state_as_features", keras.Model(i, end()(K.Concatenate()([a, b])))
    source, target = K.Input((None, 5)), K.Input((None, 7))
    _, a, b = K.LSTM(4, return_state=True)(source)
    o = K.LSTM(4, **SEQ)(target, initial_state=[a, b])
    yield "seq2seq_one_hot", keras.Model([source, target], K.Dense(7, **SOFT)(o))
    o, s = K.GRU(4, return_sequences=True, return_state=True)(source)
    d = K.GRU(4, **SEQ)(target, initial_state=s)
    c = K.Attention()([d, o])
    yield (
        "seq2seq_attention",
        keras.Model([source, target], K.TimeDistributed(K.Dense(7, **SOFT))(K.Concatenate()([d, c]))),
    )
    f = K.Bidirectional(K.LSTM(4, return_sequences=True, return_state=True))(i)
    yield "bidirectional_states", keras.Model(i, end()(K.Concatenate()([f[1], f[3], K.GlobalMaxPooling1D()(f[0])])))
    f = K.Bidirectional(K.LSTM(4, return_sequences=True, return_state=True), merge_mode=None)(e)
    states = K.Concatenate()([f[2], f[5], K.GlobalMaxPooling1D()(f[0]), K.GlobalAveragePooling1D()(f[1])])
    yield "bidirectional_apart", keras.Model(w, end()(states))
    f = K.RNN([K.LSTMCell(4), K.GRUCell(3)], return_state=True)(i)
    states = [part for given in f for part in (given if isinstance(given, list | tuple) else [given])]
    yield "rnn_stacked_states", keras.Model(i, end()(K.Concatenate()(states)))
    x = K.Conv1D(4, 3, padding="same")(i)
    yield "residual_conv", keras.Model(i, end()(K.LSTM(4)(K.ReLU()(K.Add()([x, K.Dense(4)(i)])))))
    x = [K.GlobalMaxPooling1D()(K.Conv1D(3, n)(K.LSTM(4, **SEQ)(e))) for n in (2, 3)]
    yield "text_cnn_lstm", keras.Model(w, end()(K.Concatenate()(x)))
    encoder = keras.Model(i, K.LSTM(4, **SEQ)(K.BatchNormalization()(i)), name="encoder")
    z = K.Input((T, D))
    yield "nested_functional", keras.Model(z, end()(K.GRU(3)(encoder(z))))
    h = K.LSTM(4)(K.BatchNormalization()(i))
    yield "two_outputs", keras.Model(i, [K.Dense(3, name="first", **SOFT)(h), K.Dense(2, name="last", **SOFT)(h)])
    x = K.Input((T, 6, 2))
    c = K.Conv2D(3, (1, 3), activation="relu")(x)
    yield "crnn", keras.Model(x, end()(K.Bidirectional(K.GRU(4, **SEQ))(K.Reshape((T, 12))(c))))


def fill(model: Any, rng: np.random.Generator) -> None:
    """Set random weights; variances and the count of Normalization stay positive."""
    weights = []
    for v in model.weights:
        name = (v.path if hasattr(v, "path") else v.name).lower()
        old = np.asarray(v.numpy() if hasattr(v, "numpy") else v)
        if (
            "int" in str(old.dtype)
            or "count" in name
            or ("normalization" in name and ("/mean" in name or "/variance" in name))
        ):
            weights.append(old)
        elif "variance" in name:
            weights.append(rng.uniform(0.5, 1.5, old.shape).astype("float32"))
        else:
            weights.append(rng.normal(0, 0.6, old.shape).astype("float32"))
    model.set_weights(weights)


def inputs_of(model: Any, rng: np.random.Generator) -> list[np.ndarray]:
    """Six examples: words with padding where an Embedding reads, else features with masked timesteps."""
    embeds = any(type(layer).__name__ == "Embedding" for layer in model.layers)
    found = []
    for number, tensor in enumerate(model.inputs):
        shape = [size or 7 for size in tuple(tensor.shape)[1:]]
        if embeds and len(shape) == 1 and number == 0:
            x = rng.integers(1, V, (6, *shape))
            x[1, 4:] = x[2, :3] = x[3, 2:4] = 0
        else:
            x = rng.normal(0, 1, (6, *shape)).astype("float32")
            if len(shape) == 2 and any(type(layer).__name__ == "Masking" for layer in model.layers):
                x[1, 4:] = x[2, :3] = 0.5
        found.append(x)
    return found


def main(folder: str, library: str = "keras", *names: str) -> None:
    """Write all models of one library."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    keras = importlib.import_module(library)
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    major = int(keras.__version__[0])
    keras.utils.set_random_seed(0)
    for number, (name, model) in enumerate(cases(keras)):
        if names and name not in names:
            continue
        rng = np.random.default_rng(number)
        fill(model, rng)
        x = inputs_of(model, rng)
        y = model.predict(x if len(x) > 1 else x[0], verbose=0, batch_size=6)
        for kind in ("keras", "h5"):
            stem = place / f"k{major}-{name}-{kind}"
            model.save(stem.with_suffix(f".{kind}"))
            last = y[-1] if isinstance(y, list | tuple) else y
            np.savez(stem.with_suffix(".npz"), y=np.asarray(last), **{f"x{i}": v for i, v in enumerate(x)})


if __name__ == "__main__":
    main(*sys.argv[1:])

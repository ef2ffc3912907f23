"""Keras models of signals, with operators and with rare settings, as people write them, with their losses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.census.habits.common import BCE, CCE, MSE, Case, D, T, V, mobile_block, modern, tensorflow


def signals(keras: Any) -> Iterator[Case]:
    """Sound, text in images, and other signals."""
    K, M, Input = keras.layers, keras.Model, keras.Input
    i = Input((T, D))
    i = Input((T, 6, 1))
    x = K.MaxPooling2D((1, 2))(K.BatchNormalization()(K.Conv2D(3, 3, padding="same", activation="relu")(i)))
    x = K.TimeDistributed(K.Flatten())(x)
    yield (
        "crnn_sound_events",
        M(
            i,
            K.TimeDistributed(K.Dense(4, activation="sigmoid"))(
                K.Bidirectional(K.GRU(4, return_sequences=True), merge_mode="mul")(x)
            ),
        ),
        BCE,
    )
    i = Input((6, 16, 1))
    x = K.MaxPooling2D((2, 2))(K.LeakyReLU()(K.BatchNormalization()(K.Conv2D(4, 3, padding="same")(i))))
    x = K.Permute((2, 1, 3))(x)
    x = K.Reshape((8, 12))(x)
    x = K.Dense(5, activation="relu", name="dense1")(x)
    yield (
        "crnn_ocr",
        M(
            i,
            K.Dense(7, activation="softmax")(
                K.Bidirectional(K.LSTM(3, return_sequences=True))(K.Bidirectional(K.LSTM(4, return_sequences=True))(x))
            ),
        ),
        CCE,
    )
    i = Input((4, 16, 1))
    x = K.Conv2D(3, (1, 5), padding="same", use_bias=False)(i)
    x = K.BatchNormalization()(x)
    x = K.DepthwiseConv2D(
        (4, 1), depth_multiplier=2, use_bias=False, depthwise_constraint=keras.constraints.MaxNorm(1.0)
    )(x)
    x = K.Activation("elu")(K.BatchNormalization()(x))
    x = K.AveragePooling2D((1, 4))(x)
    x = K.Dropout(0.5)(x)
    x = K.SeparableConv2D(4, (1, 3), padding="same", use_bias=False)(x)
    x = K.Reshape((4, 4))(x)
    yield (
        "eegnet_lstm",
        M(i, K.Dense(3, activation="softmax", kernel_constraint=keras.constraints.MaxNorm(0.25))(K.LSTM(4)(x))),
        CCE,
    )
    i = Input((D, T))
    x = K.LSTM(4)(K.Masking()(i))
    y = K.Permute((2, 1))(i)
    y = K.Activation("relu")(K.BatchNormalization()(K.Conv1D(6, 3, padding="same", kernel_initializer="he_uniform")(y)))
    se = K.Dense(6, activation="sigmoid", use_bias=False)(
        K.Dense(3, activation="relu", use_bias=False)(K.Reshape((1, 6))(K.GlobalAveragePooling1D()(y)))
    )
    y = K.multiply([y, se])
    yield "mlstm_fcn", M(i, K.Dense(3, activation="softmax")(K.concatenate([x, K.GlobalAveragePooling1D()(y)]))), CCE
    i = Input((T, D))
    x = K.Conv1D(4, 1)(i)
    for d in (1, 2):
        x = K.Add()(
            [
                x,
                K.Conv1D(4, 1)(
                    K.Multiply()(
                        [
                            K.Conv1D(4, 2, dilation_rate=d, padding="causal", activation="tanh")(x),
                            K.Conv1D(4, 2, dilation_rate=d, padding="causal", activation="sigmoid")(x),
                        ]
                    )
                ),
            ]
        )
    yield "wavenet_lstm", M(i, K.Dense(1)(K.LSTM(4)(K.Activation("relu")(x)))), MSE
    i = Input((T, D))
    x = K.LSTM(4, return_sequences=True)(i)
    x = K.LayerNormalization(epsilon=1e-6)(x + K.MultiHeadAttention(2, 2, dropout=0.1)(x, x))
    x = K.LayerNormalization(epsilon=1e-6)(x + K.Dense(4)(K.Dense(6, activation="relu")(x)))
    yield "transformer_block_plus", M(i, K.Dense(3, activation="softmax")(K.GlobalAveragePooling1D()(x))), CCE


def operators(keras: Any) -> Iterator[Case]:
    """Operators and functions between layers."""
    K, S, M, Input = keras.layers, keras.Sequential, keras.Model, keras.Input
    i = Input((T, D))
    s1, s2 = Input((T,), name="q1"), Input((T,), name="q2")
    emb, sh = K.Embedding(V, 4), K.LSTM(4)
    x = K.LSTM(4, return_sequences=True)(i)
    yield "last_step_slice", M(i, K.Dense(3, activation="softmax")(x[:, -1, :])), CCE
    yield "last_step_index", M(i, K.Dense(3, activation="softmax")(x[:, -1])), CCE
    yield "feature_slices", M(i, K.Dense(1)(K.concatenate([K.LSTM(3)(i[:, :, :2]), K.GRU(3)(i[:, 2:, 1:])]))), MSE
    yield "residual_operator", M(i, K.Dense(1)(K.LSTM(3)(x + K.Dense(4)(i)))), MSE
    yield "scaled_operator", M(i, K.Dense(1)(K.LSTM(3)(x * 0.5 - 1.0))), MSE
    if modern(keras):
        ops = keras.ops
        yield "op_mean", M(i, K.Dense(3, activation="softmax")(ops.mean(x, axis=1))), CCE
        yield (
            "op_concat",
            M(i, K.Dense(3, activation="softmax")(ops.concatenate([ops.max(x, axis=1), x[:, 0]], axis=-1))),
            CCE,
        )
        yield "op_expand", M((q := Input((T,))), K.Dense(1)(K.GRU(4)(ops.expand_dims(q, -1)))), MSE
        at = ops.softmax(K.Dense(1)(x), axis=1)
        yield "op_attention_sum", M(i, K.Dense(1, activation="sigmoid")(ops.sum(x * at, axis=1))), BCE
        yield "op_reverse", M(i, K.Dense(1)(K.LSTM(3)(ops.flip(i, axis=1)))), MSE
        yield (
            "op_activations",
            M(i, K.Dense(1)(K.LSTM(3)(ops.relu(K.Dense(4)(i)) + ops.tanh(K.Dense(4)(i)) + ops.sigmoid(K.Dense(4)(i))))),
            MSE,
        )
        yield "op_transpose", M(i, K.Dense(1)(K.LSTM(3)(ops.transpose(i, (0, 2, 1))))), MSE
        yield (
            "op_squeeze_reshape",
            M(
                (q := Input((T, D, 1))),
                K.Dense(1)(K.concatenate([K.LSTM(3)(ops.squeeze(q, -1)), K.GRU(2)(ops.reshape(q, (-1, T, D)))])),
            ),
            MSE,
        )
        yield (
            "op_abs_difference",
            M([s1, s2], K.Dense(1, activation="sigmoid")(ops.abs(sh(emb(s1)) - sh(emb(s2))))),
            BCE,
        )
    else:
        yield "op_mean", M(i, K.Dense(3, activation="softmax")(tensorflow().reduce_mean(x, axis=1))), CCE
        yield (
            "op_concat",
            M(
                i,
                K.Dense(3, activation="softmax")(
                    tensorflow().concat([tensorflow().reduce_max(x, 1), x[:, 0]], axis=-1)
                ),
            ),
            CCE,
        )
        yield "op_expand", M((q := Input((T,))), K.Dense(1)(K.GRU(4)(tensorflow().expand_dims(q, -1)))), MSE
        at = tensorflow().nn.softmax(K.Dense(1)(x), axis=1)
        yield "op_attention_sum", M(i, K.Dense(1, activation="sigmoid")(tensorflow().reduce_sum(x * at, axis=1))), BCE
        yield "op_reverse", M(i, K.Dense(1)(K.LSTM(3)(tensorflow().reverse(i, axis=[1])))), MSE
        yield (
            "op_activations",
            M(
                i,
                K.Dense(1)(
                    K.LSTM(3)(
                        tensorflow().nn.relu(K.Dense(4)(i))
                        + tensorflow().tanh(K.Dense(4)(i))
                        + tensorflow().sigmoid(K.Dense(4)(i))
                    )
                ),
            ),
            MSE,
        )
        yield "op_transpose", M(i, K.Dense(1)(K.LSTM(3)(tensorflow().transpose(i, [0, 2, 1])))), MSE
        yield (
            "op_squeeze_reshape",
            M(
                (q := Input((T, D, 1))),
                K.Dense(1)(
                    K.concatenate(
                        [K.LSTM(3)(tensorflow().squeeze(q, -1)), K.GRU(2)(tensorflow().reshape(q, (-1, T, D)))]
                    )
                ),
            ),
            MSE,
        )
        yield (
            "op_abs_difference",
            M([s1, s2], K.Dense(1, activation="sigmoid")(tensorflow().abs(sh(emb(s1)) - sh(emb(s2))))),
            BCE,
        )
        yield (
            "op_matmul",
            M(
                i,
                K.Dense(1)(
                    K.LSTM(3)(
                        tensorflow().matmul(
                            tensorflow().nn.softmax(tensorflow().matmul(i, i, transpose_b=True) / 2.0), i
                        )
                    )
                ),
            ),
            MSE,
        )
        yield (
            "log_softmax_tagger",
            S(
                [
                    K.Embedding(V + 1, 4, mask_zero=True, input_length=T),
                    K.Bidirectional(K.LSTM(3, return_sequences=True)),
                    K.Dense(4, activation=tensorflow().nn.log_softmax),
                ]
            ),
            "sparse_categorical_crossentropy",
        )
    w = Input((T,))
    m = K.LSTM(4, return_sequences=True)(K.Embedding(V, 4, mask_zero=True)(w))
    yield "operator_drops_mask", M(w, K.Dense(3, activation="softmax")(K.LSTM(3)(1.0 - m * m))), CCE
    km = Input((T,), dtype="bool", name="mask")
    fi = Input((T, D), name="frames")
    yield (
        "explicit_mask_input",
        M(
            [fi, km],
            K.Dense(3, activation="softmax")(
                K.Dense(4, activation="tanh")(K.GRU(3)(K.GRU(4, return_sequences=True)(fi, mask=km)))
            ),
        ),
        CCE,
    )
    yield (
        "masked_average_head",
        M(
            w,
            K.Dense(3, activation="softmax")(
                K.Dense(4, activation="relu")(K.GlobalAveragePooling1D()(K.Dropout(0.1)(m)))
            ),
        ),
        CCE,
    )


def odd(keras: Any) -> Iterator[Case]:
    """Rare settings and names."""
    K, S, M, Input = keras.layers, keras.Sequential, keras.Model, keras.Input
    i = Input((T, D))
    lazy = S(
        [K.GRU(4, return_sequences=True), K.GRU(4), K.Dense(5, activation="relu"), K.Dense(1, activation="linear")]
    )
    lazy(np.zeros((2, T, D), "float32"))
    yield "lazy_sequential", lazy, MSE
    lazy = S([K.Embedding(V, 4), K.LSTM(4), K.Dense(2, activation="softmax")])
    lazy(np.zeros((2, T), "int32"))
    yield "lazy_embedding", lazy, CCE
    yield (
        "spaces_in_names",
        S(
            [
                Input((T, D), name="my_input"),
                K.LSTM(4, name="lstm-1_x" if modern(keras) else "lstm-1.x"),
                K.Dense(3, activation="softmax", name="out-final"),
            ]
        ),
        CCE,
    )
    yield (
        "batchnorm_before_sigmoid",
        S(
            [
                Input((T, D)),
                K.Bidirectional(K.LSTM(4, return_sequences=True)),
                K.BatchNormalization(),
                K.Flatten(),
                K.Dense(5, kernel_regularizer="l2"),
                K.BatchNormalization(),
                K.Activation("relu"),
                K.Dense(1),
                K.BatchNormalization(),
                K.Activation("sigmoid"),
            ]
        ),
        BCE,
    )
    yield "reshape_flat_input", S([Input((12,)), K.Reshape((1, 12)), K.LSTM(4), K.Dense(3, activation="softmax")]), CCE
    yield (
        "reshape_flat_steps",
        S(
            [
                K.Dense(12, input_dim=6, activation="relu"),
                K.Reshape((4, 3)),
                K.SimpleRNN(4),
                K.Dense(2, activation="softmax"),
            ]
        ),
        CCE,
    )
    yield "dropout_always_on", M(i, K.Dense(3, activation="softmax")(K.Dropout(0.0)(K.LSTM(4)(i), training=True))), CCE
    u = Input((T, D), name="past")
    v = Input((4,), name="static")
    h0 = K.Dense(4, activation="tanh")(v)
    yield "static_initial_state", M([u, v], K.Dense(1)(K.GRU(4)(u, initial_state=h0))), MSE
    x1 = K.LSTM(4, return_sequences=True)(i)
    x2 = K.LSTM(4, return_sequences=True)(K.concatenate([i, x1]))
    x3 = K.LSTM(4)(K.concatenate([i, x1, x2]))
    yield "dense_lstm_skip", M(i, K.Dense(3, activation="softmax")(x3)), CCE
    yield (
        "crop_last_steps",
        S([Input((T, D)), K.LSTM(4, return_sequences=True), K.Cropping1D((T - 2, 0)), K.TimeDistributed(K.Dense(1))]),
        MSE,
    )
    h = K.LSTM(4)(i)
    yield (
        "multi_task_names",
        M(i, {"price": K.Dense(1, name="price")(h), "last": K.Dense(3, activation="softmax", name="last")(h)})
        if modern(keras)
        else M(i, [K.Dense(1, name="price")(h), K.Dense(3, activation="softmax", name="last")(h)]),
        {"price": MSE, "last": CCE},
    )
    yield "ordinal_softplus", S([Input((T, D)), K.LSTM(4), K.Dense(1, activation="softplus")]), "poisson"
    yield "tanh_head", S([Input((T, D)), K.LSTM(4), K.Dense(2, activation="tanh")]), MSE
    yield (
        "mobilenet_block_frames",
        S(
            [
                Input((3, 8, 8, 2)),
                K.TimeDistributed(mobile_block(keras)),
                K.TimeDistributed(K.GlobalAveragePooling2D()),
                K.GRU(4),
                K.Dense(3, activation="softmax"),
            ]
        ),
        CCE,
    )
    yield (
        "average_of_rnns",
        M(
            i,
            K.average([K.Dense(3, activation="softmax")(K.LSTM(4)(i)), K.Dense(3, activation="softmax")(K.GRU(4)(i))]),
        ),
        CCE,
    )
    yield (
        "bidirectional_backward_layer",
        S(
            [
                Input((T, D)),
                K.Bidirectional(
                    K.LSTM(4, return_sequences=True), backward_layer=K.LSTM(4, return_sequences=True, go_backwards=True)
                ),
                K.Bidirectional(K.GRU(3), merge_mode="ave"),
                K.Dense(3, activation="softmax"),
            ]
        ),
        CCE,
    )
    yield (
        "hard_sigmoid_lstm",
        S(
            [
                Input((T, D)),
                K.LSTM(4, recurrent_activation="hard_sigmoid", return_sequences=True),
                K.GRU(4, recurrent_activation="hard_sigmoid"),
                K.Dense(3, activation="softmax"),
            ]
        ),
        CCE,
    )
    yield (
        "hard_sigmoid_bidirectional",
        S(
            [
                Input((T,)),
                K.Embedding(V, 4, mask_zero=True),
                K.Bidirectional(K.LSTM(4, recurrent_activation="hard_sigmoid")),
                K.Dense(1, activation="sigmoid"),
            ]
        ),
        BCE,
    )
    yield from masks(keras)


def masks(keras: Any) -> Iterator[Case]:
    """Layers that Keras 2 and 3 pass masks through in different ways."""
    K, M, Input = keras.layers, keras.Model, keras.Input
    w, i = Input((T,), name="words"), Input((T, 4), name="numbers")
    e = K.Embedding(V, 4, mask_zero=True)(w)
    both = {
        "concatenate": K.Concatenate,
        "multiply": K.Multiply,
        "maximum": K.Maximum,
        "minimum": K.Minimum,
        "add": K.Add,
    }
    for name, merge in both.items():
        yield f"masked_{name}", M([w, i], K.Dense(3, activation="softmax")(K.LSTM(4)(merge()([e, i])))), CCE
    two = K.Multiply()([e, K.Embedding(V, 4, mask_zero=True)(w)])
    yield "masked_product", M(w, K.Dense(3, activation="softmax")(K.GRU(4)(two))), CCE
    for name, layer in (
        ("rescaling", K.Rescaling(0.5, offset=0.1)),
        ("hard_sigmoid", K.Activation("hard_sigmoid")),
        ("batch_norm", K.BatchNormalization()),
    ):
        yield f"masked_{name}", M(w, K.Dense(3, activation="softmax")(K.LSTM(4)(layer(e)))), CCE

"""Keras models of series and frames as people write them, with the loss that they are trained with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.census.habits.common import BCE, CCE, MSE, Case, D, T


def series(keras: Any) -> Iterator[Case]:
    """Forecasting and classifying series."""
    K, S, Input = keras.layers, keras.Sequential, keras.Input
    yield (
        "stock_four_dropout",
        S(
            [
                K.LSTM(5, return_sequences=True, input_shape=(T, 1)),
                K.Dropout(0.2),
                K.LSTM(5, return_sequences=True),
                K.Dropout(0.2),
                K.LSTM(4),
                K.Dropout(0.2),
                K.Dense(1),
            ]
        ),
        MSE,
    )
    yield (
        "tf_tutorial_multi_step",
        S([Input((T, D)), K.LSTM(4), K.Dense(5 * D, kernel_initializer="zeros"), K.Reshape([5, D])]),
        MSE,
    )
    yield (
        "conv_causal_scaled_head",
        S(
            [
                Input((T, 1)),
                K.Conv1D(5, 3, padding="causal", activation="relu"),
                K.LSTM(4, return_sequences=True),
                K.LSTM(4),
                K.Dense(5, activation="relu"),
                K.Dense(1),
                K.Rescaling(20.0),
            ]
        ),
        MSE,
    )
    yield "leaky_activation", S([Input((T, D)), K.LSTM(4), K.Dense(5, activation=K.LeakyReLU(0.1)), K.Dense(1)]), MSE
    yield (
        "leaky_activation_layer",
        S(
            [
                Input((T, D)),
                K.LSTM(4, return_sequences=True),
                K.Activation(K.LeakyReLU(0.2)),
                K.GRU(3),
                K.Dense(3, activation="softmax"),
            ]
        ),
        CCE,
    )
    yield (
        "rnn_relu_deep",
        S(
            [
                K.SimpleRNN(5, activation="relu", return_sequences=True, input_shape=(T, D)),
                K.SimpleRNN(4, activation="relu"),
                K.Dense(1, activation="sigmoid"),
            ]
        ),
        BCE,
    )
    yield (
        "lstm_sigmoid_cells",
        S(
            [
                Input((T, D)),
                K.LSTM(4, activation="sigmoid", return_sequences=True),
                K.GRU(4, activation="sigmoid"),
                K.Dense(3, activation="softmax"),
            ]
        ),
        CCE,
    )
    yield "seq_output_one", S([Input((T, 1)), K.LSTM(4, return_sequences=True), K.Dense(1)]), MSE
    yield (
        "flatten_then_dense",
        S(
            [
                Input((T, D)),
                K.Bidirectional(K.LSTM(4, return_sequences=True)),
                K.Flatten(),
                K.Dense(6, activation="relu"),
                K.Dense(2, activation="softmax"),
            ]
        ),
        CCE,
    )
    yield (
        "max_after_gru",
        S(
            [
                Input((T, D)),
                K.GRU(4, return_sequences=True),
                K.Activation("tanh"),
                K.Dropout(0.2),
                K.MaxPooling1D(4),
                K.Flatten(),
                K.Dense(1),
                K.LeakyReLU(),
            ]
        ),
        MSE,
    )


def frames(keras: Any) -> Iterator[Case]:
    """Convolutions of parts of a series or of frames, in front of a recurrent layer."""
    K, S = keras.layers, keras.Sequential
    yield (
        "brownlee_cnn_lstm",
        S(
            [
                K.TimeDistributed(K.Conv1D(4, 1, activation="relu"), input_shape=(None, 4, 1)),
                K.TimeDistributed(K.MaxPooling1D(2)),
                K.TimeDistributed(K.Flatten()),
                K.LSTM(4, activation="relu"),
                K.Dense(1),
            ]
        ),
        MSE,
    )
    yield (
        "brownlee_conv_lstm",
        S(
            [
                K.ConvLSTM2D(4, (1, 2), activation="relu", input_shape=(2, 1, 4, 1)),
                K.Flatten(),
                K.RepeatVector(5),
                K.LSTM(4, activation="relu", return_sequences=True),
                K.TimeDistributed(K.Dense(5, activation="relu")),
                K.TimeDistributed(K.Dense(1)),
            ]
        ),
        MSE,
    )
    yield (
        "brownlee_encoder_cnn",
        S(
            [
                K.Conv1D(4, 3, activation="relu", input_shape=(T, D)),
                K.Conv1D(4, 3, activation="relu"),
                K.MaxPooling1D(2),
                K.Flatten(),
                K.RepeatVector(5),
                K.LSTM(4, activation="relu", return_sequences=True),
                K.TimeDistributed(K.Dense(5, activation="relu")),
                K.TimeDistributed(K.Dense(1)),
            ]
        ),
        MSE,
    )
    yield (
        "lrcn_spatial_dropout",
        S(
            [
                K.TimeDistributed(K.Conv2D(3, (3, 3), padding="same", activation="relu"), input_shape=(4, 8, 8, 1)),
                K.TimeDistributed(K.MaxPooling2D((2, 2))),
                K.TimeDistributed(K.SpatialDropout2D(0.2)),
                K.TimeDistributed(K.BatchNormalization()),
                K.TimeDistributed(K.Flatten()),
                K.LSTM(4, dropout=0.2, recurrent_dropout=0.2),
                K.Dense(3, activation="softmax"),
            ]
        ),
        CCE,
    )


def nested(keras: Any) -> Iterator[Case]:
    """Models inside of models."""
    K, S, M, Input = keras.layers, keras.Sequential, keras.Model, keras.Input
    ei = Input((T, D))
    enc = M(ei, K.LSTM(3)(K.LSTM(4, return_sequences=True)(ei)), name="encoder")
    di = Input((3,))
    dec = M(di, K.TimeDistributed(K.Dense(D))(K.LSTM(4, return_sequences=True)(K.RepeatVector(T)(di))), name="decoder")
    z = Input((T, D))
    yield "nested_autoencoder", M(z, dec(enc(z))), MSE
    yield (
        "nested_sequential_pair",
        S(
            [
                Input((T, D)),
                S([Input((T, D)), K.LSTM(4), K.Dense(3)]),
                S([Input((3,)), K.RepeatVector(T), K.GRU(4, return_sequences=True), K.TimeDistributed(K.Dense(D))]),
            ]
        ),
        "mae",
    )
    yield (
        "relu_autoencoder",
        S(
            [
                K.LSTM(5, activation="relu", input_shape=(T, D), return_sequences=True),
                K.LSTM(3, activation="relu"),
                K.RepeatVector(T),
                K.LSTM(3, activation="relu", return_sequences=True),
                K.LSTM(5, activation="relu", return_sequences=True),
                K.TimeDistributed(K.Dense(D)),
            ]
        ),
        MSE,
    )

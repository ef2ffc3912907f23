"""What the Keras models of the census that are written as people write them have in common."""

from __future__ import annotations

import importlib
from typing import Any

T, D, V = 8, 3, 12
CCE, MSE, BCE = "categorical_crossentropy", "mse", "binary_crossentropy"
Case = tuple[str, Any, Any]  # name, model, loss


def modern(keras: Any) -> bool:
    """Return whether a library is Keras 3."""
    return int(keras.__version__[0]) >= 3


def tensorflow() -> Any:
    """Return TensorFlow, which Keras 2 runs on."""
    return importlib.import_module("tensorflow")


def mobile_block(keras: Any) -> Any:
    """Return a small block of MobileNetV2."""
    K = keras.layers
    i = K.Input((8, 8, 2))
    x = K.ZeroPadding2D(((0, 1), (0, 1)))(i)
    x = K.Conv2D(4, 3, strides=2, use_bias=False)(x)
    x = K.BatchNormalization(epsilon=1e-3, momentum=0.999)(x)
    x = K.ReLU(6.0)(x)
    y = K.ReLU(6.0)(K.BatchNormalization()(K.DepthwiseConv2D(3, padding="same", use_bias=False)(x)))
    y = K.BatchNormalization()(K.Conv2D(4, 1, use_bias=False)(y))
    return keras.Model(i, K.Add()([x, y]), name="mobilenetv2_small")

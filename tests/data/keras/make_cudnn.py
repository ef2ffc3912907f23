"""Write ``cudnn.npz``: weights of CuDNN layers, and what tf_keras loads from them into plain layers."""

from pathlib import Path

import numpy as np
import tf_keras
from tf_keras.src.saving.legacy.hdf5_format import preprocess_weights_for_loading

H, D = 4, 3
rng, found = np.random.default_rng(0), {}
for kind, gates in (("LSTM", 4), ("GRU", 3)):
    layer = getattr(tf_keras.layers, kind)(H)
    layer.build((None, None, D))
    shapes = [(D, gates * H), (H, gates * H), (2 * gates * H,)]
    given = [rng.normal(size=shape).astype("float32") for shape in shapes]
    plain = preprocess_weights_for_loading(layer, [a.copy() for a in given], "2")
    for number in range(3):
        found |= {f"{kind}-cudnn-{number}": given[number], f"{kind}-plain-{number}": plain[number]}
np.savez_compressed(Path(__file__).parent / "cudnn.npz", **found)

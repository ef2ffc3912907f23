"""Unrolled recurrent layers and masks, compared with the TensorFlow backend of Keras (Keras 2.15 and 3)."""

import numpy as np
import pytest

from tests.networks.keras.making import C, D, H, dense, embedding, layer, lstm, refused, resized, sequential
from unbraid.errors import UnsupportedLayer
from unbraid.networks.keras.reading import load_keras

MASKED, PLAIN = embedding(mask_zero=True), embedding()
X = np.array([[1, 2, 3, 0, 0], [0, 0, 4, 5, 6], [0, 0, 0, 0, 0], [1, 0, 2, 0, 3]])
SEQUENCES = {"return_sequences": True}
UNROLLED = {"return_sequences": True, "unroll": True}


def pair(backward=None, **settings):
    both = {} if backward is None else {"backward_layer": lstm(go_backwards=True, **backward)}
    return layer("Bidirectional", "bi", layer=lstm(**settings), **both)


def weights_of_a_pair(file):
    """Random weights for the layer 'bi', and an output layer of its width."""
    rng = np.random.default_rng(0)
    shapes = [(D, 4 * H), (H, 4 * H), (4 * H,)] * 2
    group = file.create_group("model_weights/bi")
    group.attrs["weight_names"] = [f"w{i}" for i in range(6)]
    for i, shape in enumerate(shapes):
        group[f"w{i}"] = rng.normal(0, 0.6, shape).astype("float32")
    resized("out", "kernel", (2 * H, C))(file)
    file["model_weights/out/kernel"][:] = rng.normal(0, 1, (2 * H, C))
    file["model_weights/emb/embeddings"][:] = rng.normal(0, 1, file["model_weights/emb/embeddings"].shape)


def test_case_of_an_unrolled_pair(shared):
    path = shared / "cases" / "keras" / "3-unroll.keras"
    refused(path, "'bidirectional'", "mirrored timesteps", "unroll=False", error=UnsupportedLayer)


@pytest.mark.parametrize(
    "stages",
    [
        [MASKED, pair(**UNROLLED)],
        [MASKED, layer("Dropout", "drop", rate=0.5), pair(**UNROLLED)],
        [MASKED, pair(backward=UNROLLED, **SEQUENCES)],
        [MASKED, pair(backward=UNROLLED, **UNROLLED)],
    ],
)
def test_an_unrolled_pair_that_reads_a_mask(legacy, stages):
    path = legacy(model=sequential(*stages, dense()), change=weights_of_a_pair)
    refused(path, "'bi'", "mirrored timesteps", error=UnsupportedLayer)


@pytest.mark.parametrize(
    ("first", "unrolled", "looped"),
    [
        (MASKED, pair(unroll=True), pair()),
        (MASKED, pair(unroll=True, zero_output_for_mask=True), pair()),  # Bidirectional overrides it
        (MASKED, pair(backward=SEQUENCES, **UNROLLED), pair(**SEQUENCES)),
        (PLAIN, pair(**UNROLLED), pair(**SEQUENCES)),
    ],
)
def test_other_pairs_compute_the_same_unrolled(legacy, first, unrolled, looped):
    both = [
        load_keras(legacy(model=sequential(first, p, dense()), change=weights_of_a_pair)) for p in (unrolled, looped)
    ]
    first_scores, second_scores = (network.logits(X) for network in both)
    assert np.ptp(first_scores) > 0.01 and (first_scores == second_scores).all()

"""Keras models of text as people write them, with the loss that they are trained with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.census.habits.common import BCE, CCE, MSE, Case, D, T, V, modern


def text(keras: Any) -> Iterator[Case]:
    """Words: taggers, attention, siamese networks, captions and encoders with decoders."""
    K, S, M, Input = keras.layers, keras.Sequential, keras.Model, keras.Input
    yield (
        "masking_rasa",
        S(
            [
                K.Masking(-1, input_shape=(None, D)),
                K.LSTM(4, return_sequences=True, dropout=0.2),
                K.TimeDistributed(K.Dense(4)),
                K.Activation("softmax"),
            ]
        ),
        CCE,
    )
    i = Input((T,), name="lstm")
    e = K.SpatialDropout1D(0.5)(K.Embedding(V, 4)(i))
    a = K.GlobalMaxPooling1D()(K.Conv1D(4, 3, activation="tanh")(K.Bidirectional(K.LSTM(4, return_sequences=True))(e)))
    b = K.GlobalMaxPooling1D()(K.Conv1D(4, 2, activation="tanh")(K.Bidirectional(K.GRU(4, return_sequences=True))(e)))
    j = Input((5,), name="tfidf")
    z = K.Dense(4, activation="tanh")(K.BatchNormalization()(j))
    f = K.BatchNormalization()(K.Dense(5, activation="tanh")(K.BatchNormalization()(K.concatenate([a, b]))))
    yield "kaggle_two_rnn_tfidf", M([i, j], K.Dense(5, activation="sigmoid")(K.concatenate([f, z]))), BCE
    i = Input((T,))
    e = K.Embedding(V, 4, mask_zero=True)(i)
    h = K.Bidirectional(K.LSTM(4, return_sequences=True))(e)
    yield (
        "ner_tagger",
        M(i, K.TimeDistributed(K.Dense(5, activation="softmax"))(K.TimeDistributed(K.Dense(4, activation="relu"))(h))),
        "sparse_categorical_crossentropy",
    )
    w = Input((T,), name="words")
    c = Input((T, 5), name="chars")
    ce = K.TimeDistributed(K.Embedding(V, 3))(c)
    cl = K.TimeDistributed(K.LSTM(3, recurrent_dropout=0.5))(ce)
    h = K.Bidirectional(K.LSTM(4, return_sequences=True))(
        K.SpatialDropout1D(0.3)(K.concatenate([K.Embedding(V, 4)(w), cl]))
    )
    yield "ner_char_lstm", M([w, c], K.TimeDistributed(K.Dense(5, activation="softmax"))(h)), CCE
    cc = K.TimeDistributed(K.Flatten())(
        K.TimeDistributed(K.MaxPooling1D(5))(
            K.TimeDistributed(K.Conv1D(4, 3, padding="same", activation="tanh"))(
                K.Dropout(0.5)(K.TimeDistributed(K.Embedding(V, 3))(c))
            )
        )
    )
    cas = Input((T,), name="casing")
    h = K.Bidirectional(K.LSTM(4, return_sequences=True))(
        K.concatenate([K.Embedding(V, 4, trainable=False)(w), K.Embedding(6, 2)(cas), cc])
    )
    yield "ner_char_cnn", M([w, cas, c], K.TimeDistributed(K.Dense(5, activation="softmax"))(h)), CCE
    si = Input((5,))
    sent = M(si, K.Bidirectional(K.GRU(3))(K.Embedding(V, 4)(si)))
    di = Input((4, 5))
    yield (
        "han_sentences",
        M(di, K.Dense(3, activation="softmax")(K.Bidirectional(K.GRU(4))(K.TimeDistributed(sent)(di)))),
        CCE,
    )
    i = Input((T,))
    e = K.Embedding(V, 4)(i)
    bl = [K.Flatten()(K.MaxPooling1D(T - n + 1)(K.Conv1D(3, n, activation="relu")(e))) for n in (2, 3)]
    yield "text_cnn_plus_lstm", M(i, K.Dense(2, activation="softmax")(K.concatenate([*bl, K.LSTM(4)(e)]))), CCE
    i = Input((T, D))
    h = K.LSTM(4, return_sequences=True)(i)
    a = K.Permute((2, 1))(h)
    a = K.Reshape((4, T))(a)
    a = K.Dense(T, activation="softmax")(a)
    a = K.Permute((2, 1), name="attention_vec")(a)
    yield "attention_permute", M(i, K.Dense(1, activation="sigmoid")(K.Flatten()(K.Multiply()([h, a])))), BCE
    a = K.Dense(1, activation="tanh")(h)
    a = K.Flatten()(a)
    a = K.Activation("softmax")(a)
    a = K.RepeatVector(4)(a)
    a = K.Permute([2, 1])(a)
    yield (
        "attention_repeat",
        M(i, K.Dense(3, activation="softmax")(K.GlobalAveragePooling1D()(K.multiply([h, a])))),
        CCE,
    )
    a = K.Softmax(axis=1)(K.Dense(1, activation="tanh")(h))
    yield "attention_dot", M(i, K.Dense(1, activation="sigmoid")(K.Flatten()(K.Dot(axes=1)([a, h])))), BCE
    yield (
        "before_lstm_attention",
        M(
            i,
            K.Dense(1)(
                K.LSTM(4)(K.Multiply()([i, K.Permute((2, 1))(K.Dense(T, activation="softmax")(K.Permute((2, 1))(i)))]))
            ),
        ),
        MSE,
    )
    s1, s2 = Input((T,), name="q1"), Input((T,), name="q2")
    emb = K.Embedding(V, 4)
    sh = K.LSTM(4)
    a, b = sh(emb(s1)), sh(emb(s2))
    yield (
        "siamese_merge",
        M(
            [s1, s2],
            K.Dense(1, activation="sigmoid")(
                K.BatchNormalization()(K.concatenate([a, b, K.multiply([a, b]), K.subtract([a, b])]))
            ),
        ),
        BCE,
    )
    enc = (
        S(
            [
                K.Embedding(V, 4, input_length=T) if not modern(keras) else K.Embedding(V, 4),
                K.Bidirectional(K.LSTM(3)),
                K.Dense(4),
            ],
            name="tower",
        )
        if not modern(keras)
        else S([Input((T,)), K.Embedding(V, 4), K.Bidirectional(K.LSTM(3)), K.Dense(4)], name="tower")
    )
    yield (
        "two_towers_cosine",
        M([s1, s2], K.Dense(1, activation="sigmoid")(K.Dot(axes=1, normalize=True)([enc(s1), enc(s2)]))),
        BCE,
    )
    im = Input((6,), name="image")
    tx = Input((T,), name="text")
    yield (
        "image_caption_merge",
        M(
            [im, tx],
            K.Dense(V, activation="softmax")(
                K.Dense(4, activation="relu")(
                    K.add(
                        [
                            K.Dense(4, activation="relu")(K.Dropout(0.5)(im)),
                            K.LSTM(4)(K.Dropout(0.5)(K.Embedding(V, 4, mask_zero=True)(tx))),
                        ]
                    )
                )
            ),
        ),
        CCE,
    )
    cap = K.concatenate(
        [
            K.RepeatVector(T)(K.Dense(4, activation="relu")(im)),
            K.TimeDistributed(K.Dense(4))(K.LSTM(4, return_sequences=True)(K.Embedding(V, 4)(tx))),
        ]
    )
    yield "image_caption_repeat", M([im, tx], K.Activation("softmax")(K.Dense(V)(K.Bidirectional(K.LSTM(4))(cap)))), CCE
    cat = Input((1,), name="store")
    num = Input((T, D), name="series")
    yield (
        "entity_embedding",
        M(
            [num, cat],
            K.Dense(1, activation="relu")(K.concatenate([K.GRU(4)(num), K.Flatten()(K.Embedding(6, 3)(cat))])),
        ),
        MSE,
    )
    ei = Input((None,))
    ee = K.Embedding(V, 4)(ei)
    _, fh, fc, bh, bc = K.Bidirectional(K.LSTM(3, return_state=True))(ee)
    st = [K.Concatenate()([fh, bh]), K.Concatenate()([fc, bc])]
    dd = Input((None,))
    de = K.Embedding(V, 4)(dd)
    do, _, _ = K.LSTM(6, return_sequences=True, return_state=True)(de, initial_state=st)
    yield "seq2seq_bidirectional", M([ei, dd], K.Dense(V, activation="softmax")(do)), "sparse_categorical_crossentropy"
    eo, eh, ec = K.LSTM(4, return_sequences=True, return_state=True)(ee)
    do, _, _ = K.LSTM(4, return_sequences=True, return_state=True)(de, initial_state=[eh, ec])
    al = K.Activation("softmax")(K.dot([do, eo], axes=[2, 2]))
    ctx = K.dot([al, eo], axes=[2, 1])
    yield (
        "luong_attention",
        M(
            [ei, dd],
            K.TimeDistributed(K.Dense(V, activation="softmax"))(
                K.TimeDistributed(K.Dense(4, activation="tanh"))(K.concatenate([ctx, do]))
            ),
        ),
        CCE,
    )

"""Users' modules that take lengths, with inputs that are padded at the front: equal to the module, or an error."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from unbraid import Network, Vocabulary, compose, decompose, export_onnx
from unbraid.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore::unbraid.UnbraidWarning")
N, T = 60, 8
WORDS = {f"w{number}": number for number in range(1, 20)}


class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.lstm, self.out = nn.Embedding(20, 6), nn.LSTM(6, 7, batch_first=True), nn.Linear(7, 3)

    def packed(self, words, lengths):
        return pack_padded_sequence(self.embedding(words), lengths.cpu(), batch_first=True, enforce_sorted=False)

    def tagged(self, words, lengths, total):
        """Run the layer; return its outputs (N, T, H)."""
        packed = self.lstm(self.packed(words, lengths))[0]
        return pad_packed_sequence(packed, batch_first=True, total_length=total)[0]


class Classifier(Module):
    """Reads the first words of each row."""

    def forward(self, words, lengths):
        return self.out(self.lstm(self.packed(words, lengths))[1][0][-1])


class Flipping(Module):
    """Reads the last words of each row, backwards."""

    def forward(self, words, lengths):
        return self.out(self.lstm(self.packed(words.flip(1), lengths))[1][0][-1])


class Gathering(Module):
    """Reads the output at the last word of rows that are padded at the end."""

    def forward(self, words, lengths):
        return self.out(self.lstm(self.embedding(words))[0][torch.arange(len(words)), lengths - 1])


class Tagger(Module):
    def forward(self, words, lengths):
        return self.out(self.tagged(words, lengths, T))


class Short(Module):
    """A tagger whose result is as long as the longest sequence."""

    def forward(self, words, lengths):
        return self.out(self.tagged(words, lengths, None))


class Rolling(Module):
    """Moves the words of each row to its front, and the outputs back."""

    def forward(self, words, lengths):
        steps = words.shape[1]
        places = torch.arange(steps) - lengths[:, None]
        outputs = self.tagged(words.gather(1, places % steps), lengths, steps)
        places = (torch.arange(steps) + lengths[:, None]) % steps
        return self.out(outputs.gather(1, places[..., None].expand(-1, -1, 7)))


class Masking(Module):
    """A tagger that does not pack, and leaves out the first timesteps."""

    def forward(self, words, lengths):
        real = torch.arange(words.shape[1]) >= words.shape[1] - lengths[:, None]
        return self.out(self.lstm(self.embedding(words))[0] * real[..., None])


def made(kind):
    torch.manual_seed(1)
    module = kind().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(3)
    return module


def rows(side):
    """Texts of different lengths as indices that are padded on a side, their lengths, and as words."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, T, N)
    lengths[0] = T
    found, texts = np.zeros((N, T), np.int64), []
    for number, length in enumerate(lengths):
        words = rng.integers(1, 20, length)
        found[number, T - length :] = words if side == "left" else 0
        if side == "right":
            found[number, :length] = words
        texts.append([f"w{word}" for word in words])
    return torch.from_numpy(found), torch.from_numpy(lengths), texts


@pytest.mark.parametrize("kind", [Classifier, Flipping, Gathering, Tagger, Rolling, Masking])
def test_arrays_give_what_the_module_gives(kind):
    module, (words, lengths, _) = made(kind), rows("left")
    network = Network.from_torch(module, (words[:6], lengths[:6]))
    with torch.no_grad():
        scores = module(words, lengths).numpy()
    np.testing.assert_allclose(network.logits((words, lengths)), scores, atol=1e-5)
    y = np.random.default_rng(2).integers(0, 3, scores.shape[:-1])
    parts = decompose(network, ((words, lengths), y), keep=1.0)
    np.testing.assert_array_equal(compose(parts).predict_index((words, lengths)), scores.argmax(-1))


@pytest.mark.parametrize("kind", [Classifier, Gathering])
def test_modules_of_texts_are_those_of_arrays_that_the_module_reads(kind):
    """By default a vocabulary pads at the front, which these modules cannot read."""
    words, lengths, texts = rows("right")
    y, settings = np.arange(N) % 3, {"keep": 0.5, "domain": False}
    module, example = made(kind), (words[:6], lengths[:6])
    wanted = decompose(Network.from_torch(module, example), ((words, lengths), y), **settings)
    for side in ("left", "right"):
        network = Network.from_torch(module, example, vocabulary=Vocabulary.from_word_index(WORDS, side=side))
        np.testing.assert_allclose(network.logits(texts), module(words, lengths).detach().numpy(), atol=1e-5)
        parts = decompose(network, (texts, y), **settings)
        for label, part in parts.items():
            np.testing.assert_allclose(part.margins(texts), wanted[label].margins((words, lengths)), atol=1e-5)


def test_a_module_that_reads_the_last_words_gets_them():
    words, lengths, texts = rows("left")
    module = made(Flipping)
    for steps in (None, T):
        vocabulary = Vocabulary.from_word_index(WORDS, side="left", steps=steps)
        network = Network.from_torch(module, (words[:6], lengths[:6]), vocabulary=vocabulary)
        np.testing.assert_allclose(network.logits(texts), module(words, lengths).detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", [Classifier, Gathering, Tagger])
def test_texts_whose_padding_would_be_read_are_refused(kind):
    words, lengths, texts = rows("right")
    example = words[:6], lengths[:6]
    vocabularies = [Vocabulary.from_word_index(WORDS, side=side, steps=T) for side in ("left", "right")]
    network, right = (Network.from_torch(made(kind), example, vocabulary=words) for words in vocabularies)
    with pytest.raises(DataError, match=r"texts are padded at the front to 8 words.*side='right'"):
        network.predict(texts)
    np.testing.assert_array_equal(right.predict(texts), right.predict((words, lengths)))


def test_a_tagger_reads_each_text_alone_or_padded_at_the_end():
    words, lengths, texts = rows("right")
    module, labels = made(Short), [[number % 3] * length for number, length in enumerate(lengths.tolist())]
    left, right = (
        Network.from_torch(module, (words[:6], lengths[:6]), vocabulary=Vocabulary.from_word_index(WORDS, side=side))
        for side in ("left", "right")
    )
    one, two = left.logits(texts), right.logits(texts)
    for length, before, after in zip(lengths.tolist(), one, two, strict=True):
        np.testing.assert_array_equal(before[-length:], after[:length])
    with pytest.raises(DataError, match=r"the tagger reads the first words of each row.*side='right'"):
        decompose(left, (texts, labels))
    assert decompose(right, (texts, labels)).labels == [0, 1, 2]


def test_viterbi_finds_padding_at_the_front():
    words, lengths, _ = rows("left")
    network = Network.from_torch(made(Masking), (words[:6], lengths[:6]))
    composition = compose(decompose(network, ((words, lengths), np.arange(N * T).reshape(N, T) % 3), keep=1.0))
    path, plain = composition.viterbi((words, lengths), np.zeros((3, 3))), composition.predict_index((words, lengths))
    np.testing.assert_array_equal(path, np.where(words.numpy() != 0, plain, -1))
    ends = composition.viterbi((words.flip(1), lengths), np.zeros((3, 3)))
    np.testing.assert_array_equal(ends != -1, words.flip(1).numpy() != 0)


@pytest.mark.parametrize("kind", [Tagger, Rolling])
def test_viterbi_does_not_guess_where_packed_sequences_are(kind):
    words, lengths, _ = rows("left")
    network = Network.from_torch(made(kind), (words[:6], lengths[:6]))
    composition = compose(decompose(network, ((words, lengths), np.arange(N * T).reshape(N, T) % 3), keep=1.0))
    with pytest.raises(DataError, match=r"padded at the front, and the module packs sequences.*valid="):
        composition.viterbi((words, lengths), np.zeros((3, 3)))
    valid = words.numpy() != 0
    path = composition.viterbi((words, lengths), np.zeros((3, 3)), valid=valid)
    np.testing.assert_array_equal(path, np.where(valid, composition.predict_index((words, lengths)), -1))


@pytest.mark.parametrize(
    ("kind", "steps", "reads"), [(Classifier, T, False), (Classifier, None, True), (Flipping, T, True)]
)
def test_an_onnx_file_has_no_vocabulary_that_it_would_read_padding_with(kind, steps, reads, tmp_path, recwarn):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from unbraid.export.onnx_model import OnnxModel

    module, (words, lengths, texts) = made(kind), rows("left")
    vocabulary = Vocabulary.from_word_index(WORDS, steps=steps, side="left")
    network = Network.from_torch(module, (words[:6], lengths[:6]), vocabulary=vocabulary)
    export_onnx(network, tmp_path / "x.onnx", example=(words[:4], lengths[:4]))
    assert any("The file gets no vocabulary" in str(warning.message) for warning in recwarn) is not reads
    model = OnnxModel(tmp_path / "x.onnx")
    if reads:
        np.testing.assert_allclose(model.run(texts)["probabilities"], network.predict_proba(texts), atol=1e-5)
    else:
        with pytest.raises(DataError, match="no vocabulary"):
            model.run(texts)

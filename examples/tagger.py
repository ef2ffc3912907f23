"""Decompose a part-of-speech tagger, and replace its verb module by that of a better trained tagger."""

import random

import torch
from torch import nn

import unbraid

LEXICON = {
    "DET": ["the", "a", "this"],
    "ADJ": ["old", "quick", "light", "cold"],
    "NOUN": ["dog", "train", "light", "run", "cold", "plan"],
    "VERB": ["run", "train", "plan", "light", "see"],
    "ADV": ["often", "quickly"],
}  # the tag of "light" or "run" depends on the context
PATTERNS = ["DET NOUN VERB ADV", "DET ADJ NOUN VERB", "DET NOUN VERB DET ADJ NOUN", "ADV DET ADJ ADJ NOUN VERB"]
vocabulary = unbraid.Vocabulary.from_words(sorted({word for words in LEXICON.values() for word in words}), steps=6)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary.size, 16, padding_idx=0)
        self.lstm = nn.LSTM(16, 24, batch_first=True, bidirectional=True)
        self.tags = nn.Linear(48, len(LEXICON))

    def forward(self, words):
        return self.tags(self.lstm(self.embedding(words))[0])


def sentences(count, seed):
    rng = random.Random(seed)
    tags = [rng.choice(PATTERNS).split() for _ in range(count)]
    return [[rng.choice(LEXICON[tag]) for tag in row] for row in tags], tags


def trained(count, epochs):
    torch.manual_seed(0)
    words, tags = sentences(count, seed=1)
    x = torch.from_numpy(vocabulary.encode(words)[0])
    y = torch.tensor([[list(LEXICON).index(tag) for tag in row] + [-1] * (6 - len(row)) for row in tags])
    module = Tagger()
    optimizer = torch.optim.Adam(module.parameters(), 0.02)
    for _ in range(epochs):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x).flatten(0, 1), y.flatten(), ignore_index=-1).backward()
        optimizer.step()
    network = unbraid.Network.from_torch(module, example=x[:8], labels=list(LEXICON), vocabulary=vocabulary)
    return network, unbraid.decompose(network, (words, tags), keep=0.5)


test, few = sentences(500, seed=2), sentences(50, seed=3)
weak, weak_parts = trained(count=300, epochs=6)
_, better_parts = trained(count=300, epochs=60)
before = unbraid.evaluate(unbraid.compose(weak_parts), test, against=weak)
after = unbraid.evaluate(unbraid.compose({**weak_parts, "VERB": better_parts["VERB"]}, sample=few), test, against=weak)
print(before, f"with the better VERB module: accuracy {after.accuracy:.4f}", sep="\n")
print(*unbraid.compose(better_parts).predict([["the", "light", "run", "often"]])[0][:4])

"""Classify intents with a bidirectional GRU with attention, and reuse two of its modules as a smaller classifier."""

import random

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import unbraid

SAYINGS = {
    "weather": ["will it {be} {day}", "is it going to {be} {day}", "how {be} does it get {day}"],
    "music": ["play {what} again {day}", "put on some {what}", "i want to hear {what}"],
    "travel": ["book a {way} to {city}", "i want to go to {city} {day}", "is there a {way} to {city} {day}"],
    "money": ["send some money to {city}", "how much did i pay for {what}", "pay for the {way} to {city}"],
}
SLOTS = {"be": ["rain", "snow"], "day": ["today", "on sunday"], "what": ["jazz", "that song", "the radio"]}
SLOTS |= {"way": ["train", "flight", "bus"], "city": ["paris", "oslo", "rome"]}


def texts(count, seed):
    rng = random.Random(seed)
    labels = [rng.choice(list(SAYINGS)) for _ in range(count)]
    return [rng.choice(SAYINGS[k]).format(**{n: rng.choice(v) for n, v in SLOTS.items()}) for k in labels], labels


class Intents(nn.Module):
    def __init__(self, words):
        super().__init__()
        self.embedding = nn.Embedding(words, 16, padding_idx=0)
        self.gru = nn.GRU(16, 16, batch_first=True, bidirectional=True)
        self.attention = nn.Linear(32, 1)
        self.out = nn.Linear(32, len(SAYINGS))

    def forward(self, words, lengths):
        packed = pack_padded_sequence(self.embedding(words), lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=words.shape[1])
        scores = self.attention(states).masked_fill((words == 0).unsqueeze(-1), -1e9)
        return self.out((scores.softmax(1) * states).sum(1))


torch.manual_seed(0)
train, test = texts(600, seed=1), texts(300, seed=2)
vocabulary = unbraid.Vocabulary.from_words(sorted({word for text in train[0] for word in text.split()}), steps=10)
x, lengths = (torch.from_numpy(part) for part in vocabulary.encode(train[0]))
y = torch.tensor([list(SAYINGS).index(label) for label in train[1]])
module = Intents(vocabulary.size)
optimizer = torch.optim.Adam(module.parameters(), 0.02)
for _ in range(20):
    optimizer.zero_grad()
    nn.functional.cross_entropy(module(x, lengths), y).backward()
    optimizer.step()
network = unbraid.Network.from_torch(module, (x[:8], lengths[:8]), labels=list(SAYINGS), vocabulary=vocabulary)
parts = unbraid.decompose(network, train, keep=0.5)
print(unbraid.evaluate(unbraid.compose(parts), test, against=network))
few = unbraid.compose([parts["travel"], parts["money"]])  # a classifier of two intents, without training it
print(f"travel or money: accuracy {unbraid.evaluate(few, test, against=network).accuracy:.4f}")
print(*few.predict(["is there a bus to oslo", "pay for the bus to oslo"]))

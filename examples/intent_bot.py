"""An intent bot made of modules of two networks, without a label for both; it also answers "none of these".

Each team trained a network on its own intents, with its own words. The bot needs four of the intents, and no team has
labelled texts for it. Each network stores what its texts look like, and the modules vote with that.
"""

import numpy as np
import torch
from torch import nn

import unbraid
from unbraid.demo.intents import make_intents


class Intents(nn.Module):
    def __init__(self, words, classes):
        super().__init__()
        self.embedding = nn.Embedding(words, 16, padding_idx=0)
        self.body = nn.GRU(16, 24, batch_first=True, bidirectional=True)
        self.out = nn.Linear(48, classes)

    def forward(self, words):
        return self.out(self.body(self.embedding(words))[0].max(1).values)


def parts(labels, seed):
    torch.manual_seed(seed)
    texts, names = make_intents(labels, count=600, seed=seed)
    words = sorted({word for text in texts for word in text.split()})
    vocabulary = unbraid.Vocabulary.from_words(words, steps=10)
    x = torch.from_numpy(vocabulary.encode(texts)[0])
    y = torch.tensor([labels.index(name) for name in names])
    module = Intents(vocabulary.size, len(labels))
    optimizer = torch.optim.Adam(module.parameters(), 0.02)
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x), y).backward()
        optimizer.step()
    network = unbraid.Network.from_torch(module, x[:8], labels=labels, vocabulary=vocabulary)
    return unbraid.decompose(network, (texts, names), keep=0.5)


assistant, bank = parts(["travel", "weather", "music"], seed=1), parts(["balance", "transfer", "card"], seed=2)
bot = unbraid.compose([assistant["travel"], assistant["weather"], bank["transfer"], bank["card"]])

texts, names = make_intents(bot.labels, count=300, seed=4)
foreign = ["zebras graze near the lagoon", "who painted these ceilings", "sonnets rhyme"] * 20
examples = ([*texts, *foreign], [*names, *["none of these"] * len(foreign)])
print(f"without evidence: accuracy {(bot.without_domain().predict(texts) == np.array(names)).mean():.3f}")
print(f"with evidence: accuracy {unbraid.evaluate(bot, (texts, names)).accuracy:.3f}")
print(unbraid.evaluate(bot, examples, unknown="none of these").unknown)
for text in ("is there a bus to oslo", "send ten euros to ana", "zebras graze near the lagoon"):
    print(f"{text}: {bot.predict([text], unknown='none of these')[0]}")

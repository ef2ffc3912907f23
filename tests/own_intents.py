"""Two PyTorch networks of one class with different vocabularies and widths, as a user writes and trains them."""

import numpy as np
import torch
from torch import nn

import unbraid

WORDS = {
    "bank": ["money", "card", "loan", "pay", "my", "please", "now"],
    "travel": ["flight", "hotel", "car", "book", "my", "please", "now", "city", "to", "a"],
}
LABELS = {"bank": ["balance", "transfer", "freeze"], "travel": ["book_flight", "book_hotel", "rent"]}
SIZES = {"bank": {"vocabulary": 9, "hidden": 6}, "travel": {"vocabulary": 12, "hidden": 10}}


class Intents(nn.Module):
    """A classifier of texts; it has a buffer and a layer that is no recurrent one."""

    def __init__(self, vocabulary, hidden, classes=3):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, 5, padding_idx=0)
        self.lstm = nn.LSTM(5, hidden, batch_first=True, bidirectional=True)
        self.norm = nn.BatchNorm1d(2 * hidden)
        self.out = nn.Linear(2 * hidden, classes)

    def forward(self, x):
        states, _ = self.lstm(self.embed(x))
        return self.out(self.norm(states.mean(dim=1)))


def make(facts):
    """A factory that reads what a folder stores."""
    return Intents(facts.embedding_rows["embed"], facts.layers[0].units, facts.classes)


def trained(name, seed=0):
    """A module with random weights in place of trained ones."""
    torch.manual_seed(seed + len(name))
    module = Intents(**SIZES[name]).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.7)
        scores = module(torch.randint(2, SIZES[name]["vocabulary"], (500, 4)))
        module.out.weight /= scores.std(dim=0).unsqueeze(1)  # every class is the answer to some texts
        module.out.bias.zero_()
        module.out.bias -= module(torch.randint(2, SIZES[name]["vocabulary"], (500, 4))).mean(dim=0)
        module.norm.running_mean.fill_(0.1)
    return module


def texts(name, count=90, seed=0):
    """Texts of the words of one network, and the labels that it gives them, as many of each."""
    generator = np.random.default_rng(seed)
    found = [" ".join(row) for row in generator.choice(WORDS[name], (count * 20, 4))]
    with torch.no_grad():
        given = trained(name)(torch.from_numpy(vocabulary(name).encode(found)[0])).argmax(-1).tolist()
    rows = [[n for n, label in enumerate(given) if label == k][: count // 3] for k in range(3)]
    assert all(len(row) == count // 3 for row in rows)
    order = [n for group in zip(*rows, strict=True) for n in group]
    return [found[n] for n in order], [LABELS[name][given[n]] for n in order]


def vocabulary(name):
    """The words of a network; every text is padded to four."""
    return unbraid.Vocabulary.from_word_index({word: n for n, word in enumerate(WORDS[name], 2)}, steps=4)


def network(name, stored=True):
    """A named network; with ``stored`` it holds the arguments of its constructor."""
    words = vocabulary(name)
    example = torch.from_numpy(words.encode(texts(name)[0][:8])[0])
    init = SIZES[name] if stored else None
    return unbraid.Network.from_torch(
        trained(name), example, labels=LABELS[name], vocabulary=words, name=name if stored else None, init=init
    )


def parts(name, stored=True):
    """The modules of a network."""
    return unbraid.decompose(network(name, stored), texts(name), keep=0.6, samples_per_class=20)


def composed(stored=True):
    """Modules of both networks, calibrated on a few labelled texts, and texts of both."""
    bank, travel = parts("bank", stored), parts("travel", stored)
    x, y = (a + b for a, b in zip(texts("bank", 60, 1), texts("travel", 60, 1), strict=True))
    wanted = {label: bank[label] for label in LABELS["bank"][:2]} | {"rent": travel["rent"]}
    chosen = [n for n, label in enumerate(y) if label in wanted]
    sample = [x[n] for n in chosen], [y[n] for n in chosen]
    return unbraid.compose(wanted, sample=sample), x

"""Collect the error messages for PyTorch models that cannot be decomposed, and for invalid files and calls."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import pack_padded_sequence

import unbraid
from benchmarks import files
from benchmarks.measure.torch_models import CLASSES, WORDS, PackedLSTM, Tagger

ROWS = torch.randint(1, WORDS, (6, 9), generator=torch.Generator().manual_seed(0))
TEXTS = (ROWS, torch.tensor([2, 9, 5, 7, 1, 3]))


class Classifier(nn.Module):
    """An embedding, a recurrent layer and an output layer; the other classes change one of them."""

    def __init__(self, layer: nn.Module | None = None, size: int = 10) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 8)
        self.rnn = nn.LSTM(8, 10, batch_first=True) if layer is None else layer
        self.fc: nn.Module = nn.Linear(size, CLASSES)

    def states(self, x: Tensor) -> Tensor:
        return self.rnn(self.embedding(x))[0]

    def forward(self, x: Tensor) -> Any:
        return self.fc(self.states(x)[:, -1])


class Cells(Classifier):
    def __init__(self) -> None:
        super().__init__(nn.LSTMCell(8, 10))

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for t in range(x.size(1)):
            state = self.rnn(self.embedding(x[:, t]), state)
        return self.fc(state[0])


class Transformer(Classifier):
    def __init__(self) -> None:
        super().__init__(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 8)

    def states(self, x: Tensor) -> Tensor:
        return self.rnn(self.embedding(x))


class TwoHeads(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Any:
        last = self.states(x)[:, -1]
        return self.fc(last), self.other(last)


class Scaled(Classifier):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.states(x)[:, -1]) / 3


class Bilinear(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Bilinear(10, 10, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        states = self.states(x)
        return self.fc(states[:, 0], states[:, -1])


class Convolution(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Conv1d(10, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.states(x).transpose(1, 2)).transpose(1, 2)


class Centred(Classifier):
    def forward(self, x: Tensor) -> Tensor:
        last = self.states(x)[:, -1]
        return self.fc(last - last.mean(0))


class Attending(Classifier):
    def forward(self, x: Tensor) -> Tensor:
        last = self.states(x)[:, -1]
        return self.fc(torch.softmax(last @ last.t(), dim=1) @ last)


class Shuffled(Classifier):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.states(x)[torch.randperm(len(x)), -1])


class Flattened(Classifier):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.states(x).reshape(-1, 10)).view(*x.shape, CLASSES)


class StepHead(Classifier):
    def forward(self, x: Tensor) -> Tensor:
        states = self.states(x)
        return torch.stack([self.fc(states[:, t]) for t in range(x.size(1))], dim=1)


class Sorted(Classifier):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.embedding(x), lengths, batch_first=True)
        return self.fc(self.rnn(packed)[1][0][-1])


class Dropping(Classifier):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.dropout(self.states(x)[:, -1]))


class Siamese(Classifier):
    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return self.fc(self.states(first)[:, -1] - self.states(second)[:, -1])


class StepByStep(Classifier):
    def forward(self, x: Tensor) -> Tensor:
        state = None
        for step in self.embedding(x).split(1, dim=1):
            out, state = self.rnn(step, state)
        return self.fc(out[:, -1])


class NormedLSTM(nn.LSTM):
    def forward(self, x: Tensor, hx: Any = None) -> Any:
        out, state = super().forward(x, hx)
        return F.normalize(out, dim=-1), state


class DecayedLSTM(Classifier):
    """Reads the weights of its layer in its forward."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.states(x)[:, -1] * self.rnn.weight_hh_l0.norm())


class MaskedLinear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight * (self.weight > 0), self.bias)


class Nested(Classifier):
    """Characters (N, W, L) of words: the inner layer reads N*W sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.outer = nn.LSTM(10, 10, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.states(x.flatten(0, 1))[:, -1].view(*x.shape[:2], -1)
        return self.fc(self.outer(inner)[0][:, -1])


def _spoiled() -> nn.Module:
    module = Classifier()
    nn.init.constant_(module.rnn.bias_hh_l0, float("nan"))
    return module


def _hooked() -> nn.Module:
    module = Classifier()
    module.rnn.register_forward_hook(lambda layer, given, result: (torch.tanh(3 * result[0]), result[1]))
    return module


def _masked() -> nn.Module:
    module = Classifier()
    module.fc = MaskedLinear(10, CLASSES)
    return module


def _made(module: Any, example: Any = ROWS, **settings: Any) -> Callable[[Path], Any]:
    return lambda folder: unbraid.Network.from_torch(module() if callable(module) else module, example, **settings)


def _whole(folder: Path) -> Path:
    torch.save(Classifier(), folder / "model.pt")
    return folder / "model.pt"


def _checkpoint(folder: Path) -> Path:
    torch.save({"epoch": 3, "model_state_dict": Classifier().state_dict()}, folder / "checkpoint.pt")
    return folder / "checkpoint.pt"


def _state(folder: Path, module: nn.Module) -> Path:
    torch.save(module.state_dict(), folder / "weights.pt")
    return folder / "weights.pt"


def _parametrized() -> nn.Module:
    return Classifier(parametrizations.weight_norm(nn.LSTM(8, 10, batch_first=True), "weight_hh_l0"))


def _scripted() -> nn.Module:
    return torch.jit.trace(Classifier().eval(), ROWS)


REFUSED: dict[str, Callable[[Path], Any]] = {
    "quantized": _made(lambda: torch.ao.quantization.quantize_dynamic(Classifier(), {nn.LSTM, nn.Linear})),
    "ScriptModule": _made(_scripted),
    "torch.compile": _made(lambda: torch.compile(Classifier())),
    "DataParallel": _made(lambda: nn.DataParallel(Classifier())),
    "no recurrent layer": _made(lambda: nn.Sequential(nn.Embedding(WORDS, 8), nn.Flatten(), nn.Linear(72, CLASSES))),
    "transformer": _made(Transformer),
    "two heads": _made(TwoHeads),
    "scores changed behind the head": _made(Scaled),
    "head a Bilinear": _made(Bilinear),
    "batch items interact (mean)": _made(Centred),
    "batch items interact (attention)": _made(Attending),
    "batch items change places": _made(Shuffled),
    "dropout in eval mode": _made(Dropping),
    "batch_first forgotten": _made(lambda: Classifier(nn.LSTM(8, 10))),
    "hook on the layer": _made(_hooked),
    "layer's weights read in forward": _made(DecayedLSTM),
    "subclass of nn.Linear as head": _made(_masked, head="fc"),
    "on the meta device": _made(lambda: Classifier().to("meta")),
    "NaN weights": _made(_spoiled),
    "a class, not an instance": lambda folder: unbraid.Network.from_torch(Classifier, ROWS),
    "a path": lambda folder: unbraid.Network.from_torch(_whole(folder), ROWS),
    "a state dict": lambda folder: unbraid.Network.from_torch(Classifier().state_dict(), ROWS),
    "example of one": _made(Classifier, ROWS[:1]),
    "example of equal rows": _made(Classifier, ROWS[:1].repeat(4, 1)),
    "example without its second argument": _made(PackedLSTM),
    "example of floats for word indices": _made(Classifier, ROWS.float()),
    "example a list of numbers": _made(Classifier, ROWS.tolist()),
    "head= misspelt": _made(Tagger, head="hidden2tags"),
    "head= the wrong layer": _made(Tagger, head="lstm"),
    "labels too few": _made(Tagger, labels=["noun", "verb"]),
    "output= unknown": _made(Tagger, output="relu"),
    "load: a whole module": lambda folder: unbraid.load(_whole(folder)),
    "load_weights: a whole module": lambda folder: unbraid.load_weights(Classifier(), _whole(folder)),
    "load_weights: a checkpoint": lambda folder: unbraid.load_weights(Classifier(), _checkpoint(folder)),
    "load_weights: another class's": lambda folder: unbraid.load_weights(Classifier(), _state(folder, Tagger())),
    "load_weights: no such file": lambda folder: unbraid.load_weights(Classifier(), folder / "nothing.pt"),
    "load_module: without the module": lambda folder: unbraid.load_module(_saved(folder)),
    "load_module: another class": lambda folder: unbraid.load_module(_saved(folder), module=Tagger()),
    "load_module: other sizes": lambda folder: unbraid.load_module(_saved(folder), module=PackedLSTM(hidden_dim=8)),
}


def _saved(folder: Path) -> Path:
    network = unbraid.Network.from_torch(PackedLSTM(num_classes=3), TEXTS)
    unbraid.decompose(network, (TEXTS, [0, 0, 1, 1, 2, 2]))[0].save(folder / "module")
    return folder / "module"


def sentence(made: Callable[[Path], Any]) -> str:
    """Return the name and the message of the error; "accepted" without an error."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation warnings of torch
        folder = Path(name)
        try:
            made(folder)
        except unbraid.UnbraidError as error:
            return f"{type(error).__name__}: {error}".replace(name, "...")
        except Exception as error:  # another error than UnbraidError is a defect that must be visible
            return f"NOT REFUSED, {type(error).__name__}: {str(error).splitlines()[0][:200]}"
    return "accepted"


def run(again: bool) -> None:
    """Collect all messages."""
    path = files.RESULTS / "torch" / "unsupported.json"
    if again or not path.exists():
        files.write(path, {"sentences": {name: sentence(made) for name, made in REFUSED.items()}})

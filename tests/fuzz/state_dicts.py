"""State dicts of PyTorch: zip archives and the older format, and pickles that must not run."""

import os
import pickle
import re
from functools import cache
from io import BytesIO

import torch

from tests.fuzz import own_module, raw_bytes, using, zip_files
from tests.fuzz.kinds import Kind
from unbraid import Network, load_weights


class Runs:
    """A pickle of it calls a function."""

    def __reduce__(self):
        return os.getcwd, ()


def _saved(value, zipped=True):
    file = BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def _old(state):
    """The older format, which holds the address of every storage: here of one, whose place is a constant."""
    flat = torch.cat([tensor.flatten() for tensor in state.values()])
    views = [
        part.view(old.shape)
        for part, old in zip(flat.split([v.numel() for v in state.values()]), state.values(), strict=True)
    ]
    content = _saved(dict(zip(state, views, strict=True)), zipped=False)
    return re.sub(rb"X.\0\0\0\d{9,}", b"X\x0c\0\0\0123456789012", content, flags=re.DOTALL)


@cache
def files():
    """Content of valid files, zipped and not."""
    state = own_module.fresh(1).state_dict()
    return _saved(state), _old(state)


def make(rng, place):
    path = place / "weights.pt"
    (way,) = rng.choices(["values", "pickle", "zip", "bytes", "old"], [40, 20, 10, 10, 20])
    zipped, old = files()
    if way == "values":
        content = _saved(_changed(rng))
    elif way == "pickle":
        members = zip_files.members(zipped)
        name = rng.choice([name for name in members if name.endswith("data.pkl")] * 3 + list(members))
        members[name] = raw_bytes.mutate(rng, members[name])
        content = zip_files.build(members.items())
    elif way == "zip":
        content = zip_files.mutate(rng, zip_files.members(zipped))
    else:
        content = raw_bytes.mutate(rng, zipped if way == "bytes" else old)
    path.write_bytes(content)
    return path


def _changed(rng):
    """A state dict with another value, or something else."""
    state = dict(own_module.fresh(1).state_dict())
    name = rng.choice(list(state))
    old = state[name]
    values = [
        old.double(), old.half(), old.int(), old.to(torch.complex64), old.bool(), old.bfloat16(),
        old.to(torch.float8_e4m3fn),
        old[:-1], old[None], old.T if old.dim() > 1 else old, torch.empty(0), torch.zeros(1).expand(10**9),
        torch.zeros(()),
        old * float("nan"), old + float("inf"), old.to_sparse(), old.to("meta"), old.numpy(), 1, None, "text", [old],
        {"a": old}, Runs(),
        torch.nn.Parameter(old), old.tolist(), (old,),
    ]  # fmt: skip
    state[name] = rng.choice(values)
    if rng.random() < 0.25:
        return rng.choice(
            [own_module.fresh(1), [state], {"state_dict": state}, {}, None, 1, torch.zeros(3), {1: old}, {None: old},
             Runs(), {(): {}},
             {"a": {"b": {"c": state}}}, {**state, "more": old}, {k: v for k, v in state.items() if k != name},
             pickle.Pickler]
        )  # fmt: skip
    return state


def load(path):
    """A fresh module with the weights of the file."""
    return load_weights(own_module.fresh(), path)


def use(module, place):
    """Make it a network, and run that."""
    using.quietly(lambda: _run(module))


def _run(module):
    x = own_module.inputs()[0]
    network = Network.from_torch(module, example=x)
    network.predict(x)


KIND = Kind("state dicts", 6, make, load, use)

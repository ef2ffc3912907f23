"""Small random changes to weights and to training, to find tests that depend on rounding.

Another processor, another instruction set or another number of threads rounds differently, by about 1e-7, and training
amplifies the difference. ``UNBRAID_TEST_JITTER=1e-3:7 pytest`` changes every random weight of the tests by 0.1 % and
every training step by 0.1 % (seed 7), which is far more. A test that fails under it has no room, or compares with
numbers from another run. Without the variable nothing changes.
"""

import functools
import os
import zlib

import torch

VARIABLE = "UNBRAID_TEST_JITTER"


def wanted():
    """Relative size and seed of the changes; None without the variable."""
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    size, _, seed = text.partition(":")
    return float(size), int(seed or 0)


def changed(tensor, key):
    """The tensor, each number changed by chance; the same key gives the same change."""
    found = wanted()
    if found is None or not tensor.is_floating_point():
        return tensor
    size, seed = found
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {key} {tuple(tensor.shape)}".encode()))
    return tensor * (1 + size * torch.randn(tensor.shape, generator=generator).to(tensor))


def changed_weights(weights):
    """Name -> tensor, each changed."""
    return {name: changed(tensor, name) for name, tensor in weights.items()}


def install():
    """Change every step of torch's Adam; to be called once per process."""
    if wanted() is None:
        return
    step = torch.optim.Adam.step

    @functools.wraps(step)
    def jittered(self, *arguments, **settings):
        result = step(self, *arguments, **settings)
        with torch.no_grad():
            for place, parameter in enumerate(p for group in self.param_groups for p in group["params"]):
                if parameter in self.state:
                    key = f"step {int(self.state[parameter]['step'])} parameter {place}"
                    parameter.copy_(changed(parameter, key))
        return result

    torch.optim.Adam.step = jittered

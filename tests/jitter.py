"""Small random changes to weights and to training, to find tests that depend on rounding.

Another processor, another instruction set or another number of threads rounds differently, by about 1e-7. Training
amplifies the difference. ``UNBRAID_TEST_JITTER=1e-3:7 pytest`` changes each random weight of the tests and each
training step by 0.1 % (seed 7), which is much more. A test that fails with it has too small a tolerance, or compares
with numbers of another run. Without the variable nothing changes.
"""

import functools
import os
import zlib

import torch

VARIABLE = "UNBRAID_TEST_JITTER"


def wanted():
    """Return relative size and seed of the changes; None without the variable."""
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    size, _, seed = text.partition(":")
    return float(size), int(seed or 0)


def changed(tensor, key):
    """Change each number of a tensor at random; equal keys give equal changes."""
    found = wanted()
    if found is None or not tensor.is_floating_point():
        return tensor
    size, seed = found
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {key} {tuple(tensor.shape)}".encode()))
    return tensor * (1 + size * torch.randn(tensor.shape, generator=generator).to(tensor))


def changed_weights(weights):
    """Change each tensor of a mapping."""
    return {name: changed(tensor, name) for name, tensor in weights.items()}


def install():
    """Change each step of torch's Adam, and random weights. Call it once per process."""
    if wanted() is None:
        return
    from benchmarks.measure.torch_cases import Case

    torch.optim.Adam.step = _after(torch.optim.Adam.step, _change_step)
    Case.trained = _after(Case.trained, lambda module, *_: _change(module.named_parameters()))


def _after(function, change):
    """Return a function that calls ``function``, then ``change`` with the result and the arguments."""

    @functools.wraps(function)
    def wrapped(*arguments, **settings):
        result = function(*arguments, **settings)
        with torch.no_grad():
            change(result, *arguments)
        return result

    return wrapped


def _change(named):
    for name, parameter in named:
        parameter.copy_(changed(parameter, name))


def _change_step(_, optimizer, *__):
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p in optimizer.state]
    _change((f"step {int(optimizer.state[p]['step'])} parameter {place}", p) for place, p in enumerate(parameters))

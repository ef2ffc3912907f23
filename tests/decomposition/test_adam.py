"""Steps of Adam equal those of torch."""

import torch
from torch import nn

from unbraid.decomposition.adam import Adam


def parameters():
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.randn(2)), nn.Parameter(torch.randn(1))]


def test_steps_equal_those_of_torch():
    ours, theirs = parameters(), parameters()
    adam, torchs = Adam(ours), torch.optim.Adam(theirs)
    for rate in (0.1, 0.02, 0.3):
        torchs.param_groups[0]["lr"] = rate
        for values, optimizer in ((ours, adam.clear), (theirs, torchs.zero_grad)):
            optimizer()
            (values[0].square().sum() * values[1].sin().sum()).backward()  # the last one has no gradient
        adam.step(rate)
        torchs.step()
        assert all(torch.allclose(one, other, atol=1e-7) for one, other in zip(ours, theirs, strict=True))
    assert torch.equal(ours[2], parameters()[2])

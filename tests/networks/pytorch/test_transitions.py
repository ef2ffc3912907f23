"""Which modules hold transition scores."""

import pytest
import torch
from torch import nn

from unbraid.networks.pytorch.transitions import has_transitions


def module(**parts):
    found = nn.Module()
    for name, part in parts.items():
        setattr(found, name, part)
    return found


class Holder(nn.Module):
    def __init__(self, **parameters):
        super().__init__()
        for name, shape in parameters.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape)))


class LinearChainCRF(Holder):
    pass


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (Holder(trans=(4, 4)), True),
        (Holder(pairs=(4, 4), first=(4,)), True),
        (LinearChainCRF(pairs=(4, 4)), True),
        (Holder(transitions=(6, 6)), True),
        (Holder(mix=(4, 4)), False),
        (Holder(trans=(6, 6)), False),
        (nn.Linear(4, 4), False),
        (nn.Embedding(4, 4), False),
    ],
)
def test_transition_scores_of_own_names(part, expected):
    assert has_transitions(module(part=part), 4) is expected
    assert has_transitions(module(outer=nn.Sequential(part)), 4) is expected


def test_a_transformer_holds_none():
    assert not has_transitions(module(transformer=Holder(mix=(4, 4))), 4)

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unbraid.decomposition.reconstruction import parent_scores
from unbraid.decomposition.reconstruction.parent_scores import read_scores
from unbraid.networks.heads import Head


@given(seed=st.integers(0, 999), classes=st.integers(2, 7), scale=st.sampled_from([1.0, 30.0]))
def test_margins_follow_from_the_sums(seed, classes, scale):
    generator = torch.Generator().manual_seed(seed)
    weight, bias = scale * torch.randn(classes, 3, generator=generator), torch.randn(classes, generator=generator)
    parts = [torch.randn(count, 3, generator=generator) for count in (4, 1, 3)]
    found = read_scores(Head(weight, bias), parts)
    features = torch.cat(parts)
    for index in range(classes):
        rows = [index, *(other for other in range(classes) if other != index)]
        head = Head(weight[rows], bias[rows])
        margins = found.margins(index, head(features)[:, 0])
        torch.testing.assert_close(margins, head.margin(features), atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("largest", [1, 4, 9])
def test_scores_in_blocks_are_the_same(largest, monkeypatch):
    head, features = Head(torch.randn(3, 2), torch.randn(3)), torch.randn(8, 2)
    whole = read_scores(head, [features])
    monkeypatch.setattr(parent_scores, "BLOCK", largest)
    for name, own in vars(read_scores(head, [features])).items():
        torch.testing.assert_close(own, vars(whole)[name])

"""Descriptions of a user's module that a folder states wrongly end in a DataError, not in an error of torch."""

import pytest
import torch
from torch import nn

from unbraid import Network
from unbraid.errors import UnbraidError

X = torch.randn(7, 5, 2, generator=torch.Generator().manual_seed(0))


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.LSTM(2, 3, batch_first=True), nn.Linear(3, 4)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


@pytest.mark.parametrize("examples", [1, 3, 4, 7])
@pytest.mark.parametrize(
    "change", [{"time_first": True}, {"many_outputs": True}, {"time_first": True, "many_outputs": True}], ids=str
)
def test_features_of_another_shape_are_refused_or_run(change, examples):
    network = Network.from_torch(Classifier(), X)
    expected = network.logits(X)
    try:
        wrong = Network(network.spec.model_copy(update=change), network.weights(), network.labels, Classifier())
        found = wrong.logits(X[:examples])
    except UnbraidError:
        return
    assert found.reshape(examples, -1).shape == expected[:examples].shape


def test_a_transposed_batch_names_the_output_layer():
    network = Network.from_torch(Classifier(), X)
    spec = network.spec.model_copy(update={"time_first": True})
    with pytest.raises(UnbraidError, match=r"output layer 'out' reads \[\(7, 3\)\] for 7 examples"):
        Network(spec, network.weights(), network.labels, Classifier()).logits(X)

import torch

from tests import jitter


def test_nothing_changes_without_the_variable(monkeypatch):
    monkeypatch.delenv(jitter.VARIABLE, raising=False)
    step = torch.optim.Adam.step
    jitter.install()
    weight = torch.ones(3)
    assert jitter.changed(weight, "w") is weight and torch.optim.Adam.step is step


def test_every_step_of_training_changes_alike_in_every_run(monkeypatch):
    monkeypatch.setenv(jitter.VARIABLE, "1e-3:5")
    monkeypatch.setattr(torch.optim.Adam, "step", torch.optim.Adam.step)  # put back afterwards
    monkeypatch.setattr("benchmarks.measure.torch_cases.Case.trained", lambda self: None)

    def trained():
        weight = torch.ones(4, requires_grad=True)
        optimizer = torch.optim.Adam([weight], lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            weight.square().sum().backward()
            optimizer.step()
        return weight.detach()

    plain = trained()
    jitter.install()
    first, second = trained(), trained()
    assert torch.equal(first, second) and len(set(first.tolist())) == 4
    assert 0 < (first / plain - 1).abs().max() < 0.05
    monkeypatch.setenv(jitter.VARIABLE, "1e-3:6")
    assert not torch.equal(trained(), first)

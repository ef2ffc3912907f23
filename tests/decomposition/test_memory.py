"""The memory of observations is bounded, and a smaller budget gives the same modules."""

import numpy as np
import pytest
import torch

import unbraid
from tests import factory
from unbraid import DecompositionConfig
from unbraid.data.targets import read_targets
from unbraid.decomposition import memory
from unbraid.decomposition.reconstruction import moments as module
from unbraid.decomposition.reconstruction.moments import SampleMoments
from unbraid.errors import ConfigError


def literal(network, x, targets, index):
    """The moments of a class from all observations at once, in float64."""
    with torch.no_grad(), module.watched(network.layers, module._reads) as seen:
        features = network.features(torch.from_numpy(x))
        read = {key: z.double() for parts in seen.values() for key, z in parts.items()}
    read[module.HEAD] = module.with_one(features if features.dim() == 3 else features.unsqueeze(1)).double()
    found = {}
    for key, z in read.items():
        sides = []
        for chosen in (targets.members(index), targets.counted() & ~targets.members(index)):
            own = torch.from_numpy(module.on_steps(module.counts(chosen), z.shape[1])).double()
            rows = (z * own.unsqueeze(-1)).flatten(0, 1)
            if rows[:, -1].sum() > 0.5:
                sides.append(rows.t() @ rows / rows[:, -1].sum())
        found[key] = torch.stack(sides).mean(0)
    return found


@pytest.mark.parametrize("io", ["M:1", "M:N"])
@pytest.mark.parametrize("fitting", [1, 3, 4])
@pytest.mark.parametrize("cells", [("lstm",), ("gru", "gru-before")])
def test_moments_within_any_budget_are_those_of_the_definition(io, cells, fitting, monkeypatch):
    network = factory.network(cells, io, classes=4)
    x, y = factory.examples(network, 40)
    targets = read_targets(y, network.labels, many=network.io.many_outputs, examples=len(x))
    monkeypatch.setattr(SampleMoments, "_pass", counting(SampleMoments._pass, passes := []))
    each = 8 * sum(own.numel() for own in literal(network, x, targets, 0).values())
    found = SampleMoments(network, network.check(x), targets, range(4), (2 + fitting) * each)
    for index in (0, 3, 1, 2):
        own, expected = found.of(index), literal(network, x, targets, index)
        assert own.keys() == expected.keys()
        for key, value in own.items():
            torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=1e-5)
        assert len(found._stored) <= found._fitting() == fitting
    assert (len(passes) == 1) == (fitting == 4)
    for key, value in found.mean([1, 2]).items():
        both = (found.of(1)[key] + found.of(2)[key]) / 2
        torch.testing.assert_close(value, both)


def counting(function, calls):
    def wrapped(*arguments):
        calls.append(1)
        return function(*arguments)

    return wrapped


@pytest.mark.parametrize("io", ["M:1", "M:N"])
def test_modules_do_not_depend_on_the_budget(io):
    network = factory.network(("lstm", "lstm"), io, classes=4, units=6)
    examples = factory.examples(network, 60)
    plain, little = (unbraid.decompose(network, examples, keep=0.5, memory=size) for size in ("1GB", 1))
    for label in network.labels:
        np.testing.assert_allclose(
            plain[label].margins(examples[0]), little[label].margins(examples[0]), rtol=1e-2, atol=1e-2, equal_nan=True
        )
        for name, kept in plain[label].kept_nodes.items():
            np.testing.assert_array_equal(kept, little[label].kept_nodes[name])


def test_the_budget_is_read_from_text_and_is_not_saved(tmp_path):
    config = DecompositionConfig.of(memory="2MB")
    assert config.memory == 2_000_000 and "memory" not in config.model_dump()
    for wrong in ("much", "0MB", 0, -1, 1.5):
        with pytest.raises(ConfigError, match="memory"):
            DecompositionConfig.of(memory=wrong)
    with pytest.raises(ConfigError, match="memory"):
        DecompositionConfig.of(memory="1GB", strategy="paper")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("MemTotal: 100 kB\nMemAvailable:    4000 kB\n", 4000 * 1024),
        ("MemTotal: 100 kB\n", memory.UNKNOWN),
        ("MemAvailable:\n", memory.UNKNOWN),
        (None, memory.UNKNOWN),
    ],
)
def test_free_memory(tmp_path, monkeypatch, content, expected):
    path = tmp_path / "meminfo"
    if content is not None:
        path.write_text(content)
    monkeypatch.setattr(memory, "MEMORY", path)
    assert memory.free_memory() == expected and memory.budget(None) == expected // 4
    assert memory.budget(10) == 10


@pytest.mark.parametrize("per_class", [5, 500])
def test_domain_evidence_does_not_depend_on_what_memory_held(per_class):
    network = factory.network(("lstm",), "M:1", classes=3)
    examples = factory.examples(network, 90)
    one, two = (
        unbraid.decompose(network, examples, keep=0.5, memory=size, samples_per_class=per_class)[0].domain
        for size in (1, None)
    )
    np.testing.assert_allclose(one.features.means, two.features.means, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(one.features.covariance, two.features.covariance, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(one.typicality.quantiles, two.typicality.quantiles, rtol=1e-2, atol=1e-2)

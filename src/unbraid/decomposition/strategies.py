"""The table of strategies, and a function that adds a strategy to it."""

from __future__ import annotations

import inspect

from unbraid.config import DEFAULT_STRATEGY, DecompositionConfig
from unbraid.decomposition.fcnn.strategy import FcnnRelease
from unbraid.decomposition.protocol import FusingStrategy, Strategy
from unbraid.decomposition.reconstruction.importance import NodeScore
from unbraid.decomposition.reconstruction.strategy import ReconstructionStrategy
from unbraid.decomposition.removal.strategy import MagnitudeRemoval, RandomRemoval, Removal
from unbraid.errors import ConfigError

_STRATEGIES: dict[str, Strategy] = {
    "reconstruct": ReconstructionStrategy(),
    "paper": Removal(),
    "random": RandomRemoval(),
    "magnitude": MagnitudeRemoval(),
    "fcnn": FcnnRelease(),
}
BUILT_IN = frozenset(_STRATEGIES)


def strategy_of(config: DecompositionConfig) -> Strategy:
    """Return the strategy of the settings.

    Raises:
        ConfigError: no strategy of that name is registered in this process.
    """
    if config.strategy not in _STRATEGIES:
        raise ConfigError(
            f"strategy {config.strategy!r} is not registered in this process: call unbraid.register_strategy first. "
            f"Registered: {', '.join(_STRATEGIES)}."
        )
    return _STRATEGIES[config.strategy]


def fusing_name(config: DecompositionConfig) -> str:
    """Return the name of the strategy for fusing: that of the settings if it can fuse, else ``reconstruct``."""
    return config.strategy if isinstance(_STRATEGIES.get(config.strategy), FusingStrategy) else DEFAULT_STRATEGY


def fusing_strategy(config: DecompositionConfig) -> FusingStrategy:
    """Return the strategy that fuses modules with these settings; see :func:`fusing_name`."""
    strategy = _STRATEGIES[fusing_name(config)]
    assert isinstance(strategy, FusingStrategy)
    return strategy


def register_strategy(name: str, strategy: type[Strategy] | None = None, *, score: NodeScore | None = None) -> None:
    """Add a strategy, so that ``decompose(..., strategy=name)`` uses it. A later call replaces an earlier one.

    Give either a whole strategy, or only a score of hidden units. With a score, modules are made as by
    ``strategy="reconstruct"``, but from the units with the largest scores.

    Args:
        name: a Python identifier that is not a built-in name.
        strategy: a subclass of :class:`unbraid.Strategy` that can be made without arguments.
        score: called as ``score(network, head, x, counted)`` for each class. It gets the parent network, the output
            layer of the module over all F features, the sampled examples, and a mask (N,) or (N, T) of the decisions to
            use. It returns layer name -> scores (H,) >= 0, larger for units that should stay.

    Raises:
        ConfigError: the name is built in or not an identifier, or both or none of ``strategy`` and ``score`` are given.

    Example:
        >>> import numpy as np
        >>> import unbraid
        >>> def by_fan_out(network, head, x, counted):
        ...     layers = network.recurrent_layers()
        ...     return {name: layer.weight_hh.abs().sum(0).numpy() for name, layer in layers.items()}
        >>> unbraid.register_strategy("fan_out", score=by_fan_out)
        >>> unbraid.DecompositionConfig(strategy="fan_out", keep=0.3).keep
        0.3
    """
    if name in BUILT_IN or not name.isidentifier():
        raise ConfigError(f"strategy name {name!r}: expected an identifier other than {', '.join(sorted(BUILT_IN))}.")
    if (strategy is None) == (score is None):
        raise ConfigError("register_strategy needs exactly one of strategy and score.")
    if strategy is not None:
        if not _is_strategy(strategy):
            raise ConfigError(f"strategy={strategy!r}: expected a subclass of unbraid.Strategy.")
        made: Strategy = strategy()
    else:
        made = ReconstructionStrategy(score)
    _STRATEGIES[name] = made
    DecompositionConfig.models[name] = made.settings


def _is_strategy(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, Strategy)

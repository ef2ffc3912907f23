"""The protocol of a strategy. Shapes: N examples, T timesteps, H hidden units, C classes, K modules."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Protocol, runtime_checkable

from unbraid.config import DecompositionConfig
from unbraid.data.targets import Targets
from unbraid.decomposition.sampling import Sample
from unbraid.errors import ConfigError
from unbraid.modules.module import ConcernModule
from unbraid.networks.inputs import Inputs
from unbraid.networks.network import Network
from unbraid.progress import Advance, Progress

MAKING = "making modules"  # phase after the preparation


class Prepared(Protocol):
    """A network that was observed on a sample once. It makes modules of any size.

    Example:
        >>> from unbraid.config import DecompositionConfig
        >>> from unbraid.decomposition.strategies import strategy_of
        >>> from unbraid.data.targets import read_targets
        >>> from unbraid.demo.small import small_examples, small_network
        >>> from unbraid.progress import silent
        >>> network, config = small_network(), DecompositionConfig.of(strategy="reconstruct")
        >>> x, y = small_examples(network)
        >>> targets = read_targets(y, network.labels, many=False, examples=len(x))
        >>> prepared = strategy_of(config).prepare(network, network.check(x), targets, config, silent)
        >>> [prepared.module(index, 0.5).label for index in prepared.classes]
        ['travel', 'banking', 'weather']
    """

    @property
    def classes(self) -> Sequence[int]:
        """Indices of the classes that a module can be made for."""

    def module(self, index: int, keep: float | None) -> ConcernModule:
        """Make the module of class ``index``.

        Args:
            index: one of :attr:`classes`.
            keep: share of the hidden units of each recurrent layer to keep, in (0, 1]; None for the default of the
                strategy.
        """


@runtime_checkable
class Together(Prepared, Protocol):
    """A prepared network that makes the modules of all its classes in one call, perhaps by several processes."""

    def every(self, keep: float | None, advance: Advance) -> Iterator[ConcernModule]:
        """Make the modules of :attr:`classes`, in this order.

        Args:
            keep: as for :meth:`module`.
            advance: called with the finished work, whose sum is 1 for each class.
        """


@runtime_checkable
class Sharing(Prepared, Protocol):
    """A prepared network that can also make one body for the modules of all its classes (``concern="output"``)."""

    def shared(self, keep: float | None, advance: Advance) -> list[ConcernModule]:
        """Make the modules of :attr:`classes`, in this order, with one body.

        Args:
            keep: share of the hidden units of the body to keep, in (0, 1]; None for the default of the strategy.
            advance: called with the finished work, whose sum is 1 for each class.
        """


class Fusing(Prepared, Protocol):
    """A prepared network that can also make one body for several modules."""

    def together(
        self, members: Sequence[ConcernModule], configs: Sequence[DecompositionConfig], keep: float
    ) -> list[ConcernModule]:
        """Make modules that share one body.

        Args:
            members: the K modules that are fused.
            configs: settings of the K new modules.
            keep: share of the hidden units of the body to keep, in (0, 1].
        """


class Strategy(ABC):
    """A method to choose the units that a module keeps, and to adjust its weights.

    Register a subclass with :func:`unbraid.register_strategy`. Decomposition with ``max_loss``, fusing, saving,
    evaluation and the benchmarks work with every strategy through this class.

    Attributes:
        settings: the class of the settings, a subclass of :class:`unbraid.DecompositionConfig`.
        phases: phase of the work -> its estimated share of the time, for progress. :meth:`prepare` opens the phases by
            name; ``making modules`` follows it.
        numbers: whether it can decompose regression networks, which have no classes. Default False.

    Example:
        >>> import unbraid
        >>> from unbraid.config import ReconstructConfig
        >>> from unbraid.demo.small import small_examples, small_network
        >>> class FixedSize:
        ...     def __init__(self, parts):
        ...         self.modules = list(parts.values())
        ...         self.classes = range(len(self.modules))
        ...     def module(self, index, keep):
        ...         return self.modules[index]
        >>> class Quarter(unbraid.Strategy):
        ...     settings = ReconstructConfig
        ...     def prepare(self, network, x, targets, config, progress):
        ...         return FixedSize(unbraid.decompose(network, (x.tree, targets.y), keep=0.25))
        >>> unbraid.register_strategy("quarter", Quarter)
        >>> network = small_network()
        >>> parts = unbraid.decompose(network, small_examples(network), strategy="quarter")
        >>> parts["travel"].retention().nodes
        0.25
    """

    settings: ClassVar[type[DecompositionConfig]]
    phases: ClassVar[Mapping[str, float]] = {MAKING: 1.0}
    numbers: ClassVar[bool] = False

    @abstractmethod
    def prepare(
        self, network: Network, x: Inputs, targets: Targets, config: DecompositionConfig, progress: Progress
    ) -> Prepared:
        """Observe the network on a sample of the examples.

        Args:
            network: the parent network.
            x: all given examples.
            targets: labels of the examples.
            config: an instance of :attr:`settings`.
            progress: factory of progress bars.

        Raises:
            DataError: a class with too few examples, or labels and decisions with different numbers of timesteps.
        """

    def prepare_languages(
        self, network: Network, x: Inputs, sample: Sample, config: DecompositionConfig, progress: Progress
    ) -> Prepared:
        """Observe an encoder-decoder, whose modules are languages; ``sample`` has the pairs of each language.

        Raises:
            ConfigError: the strategy does not decompose encoder-decoders.
        """
        raise ConfigError(
            f"strategy={config.strategy!r} does not decompose translators: choose 'reconstruct' or 'paper'."
        )


class FusingStrategy(Strategy):
    """A strategy that can also make one body for several modules. For all others, fusing uses ``reconstruct``."""

    @abstractmethod
    def prepare_fusing(
        self,
        network: Network,
        x: Inputs,
        targets: Targets,
        classes: Sequence[int],
        config: DecompositionConfig,
        advance: Advance,
    ) -> Fusing:
        """Observe the network on a sample for the classes in use.

        Args:
            network: the parent network.
            x: all given inputs.
            targets: the decisions of the parent, as labels.
            classes: indices of the classes in use.
            config: an instance of :attr:`settings`.
            advance: called after each class with the work done for it.
        """

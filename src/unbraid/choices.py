"""The named values of settings."""

from __future__ import annotations

from enum import StrEnum


class Mode(StrEnum):
    """Whether one set of kept nodes holds for all timesteps (rolled) or one per timestep (unrolled)."""

    ROLLED = "rolled"
    UNROLLED = "unrolled"


class GateView(StrEnum):
    """What decides over a gate's edges: the unit's hidden state, or each gate's own activation."""

    HIDDEN = "hidden"
    EACH = "each"


class LayerChoice(StrEnum):
    """Which layers are pruned: recurrent layers and the dense layers of a chain behind them, or all hidden layers."""

    RECURRENT = "recurrent"
    ALL = "all"


class HeadKind(StrEnum):
    """What a module's dominant class competes with: the mean of the others' columns, all of them, or one fitted row."""

    MEAN = "mean"
    SOFTMAX = "softmax"
    FITTED = "fitted"


class IOArchitecture(StrEnum):
    """Inputs and outputs over time, as the paper names them."""

    ONE_TO_ONE = "1:1"
    ONE_TO_MANY = "1:N"
    MANY_TO_ONE = "M:1"
    MANY_TO_MANY = "M:N"
    ENCODER_DECODER = "encoder-decoder"

    @property
    def many_outputs(self) -> bool:
        """Whether there is one decision per timestep; a sentence pair is decided on as a whole, by its language."""
        return self in (IOArchitecture.ONE_TO_MANY, IOArchitecture.MANY_TO_MANY)


class Words(StrEnum):
    """Words that modules keep: all (paper), or those that the examples hold.

    A language's module keeps their output columns. Modules of a classifier keep their embedding rows, in one table.
    """

    ALL = "all"
    OWN = "own"


class CapScope(StrEnum):
    """Whether the cap counts over all layers sorted together (paper) or layer by layer (release)."""

    NETWORK = "network"
    LAYER = "layer"


class Negatives(StrEnum):
    """M/(C-1) negatives from every other class (paper), or that many in all, in file order (release)."""

    PER_CLASS = "per_class"
    FIRST = "first"


class Observed(StrEnum):
    """Which timesteps of a one-output example count when rolled: all (paper) or the last (release)."""

    ALL = "all"
    LAST = "last"


class Edges(StrEnum):
    """Which edges go with an unrolled node: all of them (paper), or those that the release really removes."""

    ALL = "all"
    RELEASE = "release"


class ReluRule(StrEnum):
    """CI by rate 0 and then TI (paper), or one rule: rate(pos) - rate(neg) <= -0.5 (release)."""

    PAPER = "paper"
    RELEASE = "release"

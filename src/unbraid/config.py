"""Settings of a decomposition: small reconstructed modules by default, the paper's method or its release on request."""

from __future__ import annotations

import difflib
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from unbraid.errors import ConfigError, quoted


class Mode(StrEnum):
    """Whether one set of kept nodes holds for all timesteps (rolled) or one per timestep (unrolled)."""

    ROLLED = "rolled"
    UNROLLED = "unrolled"


class Strategy(StrEnum):
    """How a module comes by its nodes.

    By the paper's rules; few of them, the others' work reconstructed; or (baselines) as many as the paper's at random
    or by smallest weights.
    """

    PAPER = "paper"
    RECONSTRUCT = "reconstruct"
    RANDOM = "random"
    MAGNITUDE = "magnitude"


class GateView(StrEnum):
    """What decides over a gate's edges: the unit's hidden state, or each gate's own activation."""

    HIDDEN = "hidden"
    EACH = "each"


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
    """Which output columns a language's module keeps: all (paper), or those of words that its examples hold."""

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


REMOVAL_ONLY = {"max_removed", "scope", "observed", "overrun", "relu", "edges", "idle_columns", "encoder"}  # settings


class DecompositionConfig(BaseModel):
    """Everything that decides a decomposition: small reconstructed modules by default, or the paper's method.

    The paper's (Imtiaz et al. 2023, Alg. 1-4) is ``strategy="paper"``; its other settings' defaults are its text. A
    setting that only removal knows (``mode="unrolled"``, ``gates="each"``, ``max_removed``, ...) chooses it as well.

    Attributes:
        mode: ``rolled`` or ``unrolled``.
        strategy: ``reconstruct`` for small modules whose kept nodes take over the others' work; ``paper``; or the
            baselines ``random`` and ``magnitude``, which remove as many nodes as the paper would.
        keep: the share of each recurrent layer's nodes that a module keeps, in (0, 1]. ``reconstruct`` keeps 0.5 where
            neither this nor ``max_loss`` is given; removal then keeps exactly so many, cap and signs aside: the paper's
            choice (or a baseline's) at an equal size.
        max_loss: with ``reconstruct``, instead of a size: the smallest modules whose composition loses at most this
            much accuracy, and which lose at most this much F1 by themselves, on a held-out fifth of the examples.
        refine: with ``reconstruct``, how many gradient steps towards what the parent says follow, without labels; none
            by default. A language's module takes them on all of its pairs, whatever ``samples_per_class``.
        gates: ``hidden`` (a removed node loses its column in every gate) or ``each`` (every gate by itself).
        head: ``mean`` (the paper's two columns), ``softmax`` (dominant against the log-sum-exp of the others,
            so that the module's probability is the parent's own), or ``fitted`` (two columns, the second fitted by
            logistic regression to what the parent decides: for very many classes). ``softmax`` with ``reconstruct``,
            ``mean`` with removal, unless given.
        max_removed: cap on removed nodes, as a share in [0, 1).
        samples_per_class: M, positive examples per class; with many outputs, per class and timestep.
        seed: of the sampling.
        scope: what the cap counts over.
        negatives: how negative examples are drawn.
        observed: which timesteps count for one output when rolled.
        overrun: nodes past the cap still go while first d / their d < overrun; None stops at the cap.
        relu: the rule for rectified layers.
        edges: which edges of an unrolled node go.
        idle_columns: keep the C-2 unused output columns, at zero, so that they share in the module's softmax.
        padding_label: a class that only marks padding: not a module, not observed, left out of the ND mean.
        words: of an encoder-decoder, which output columns (and target embeddings) a language's module keeps.
        encoder: of an encoder-decoder, whether the encoder's layers are taken apart as well as the decoder's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_enum_values=False)

    mode: Mode = Mode.ROLLED
    strategy: Strategy = Strategy.RECONSTRUCT
    gates: GateView = GateView.HIDDEN
    head: HeadKind = HeadKind.SOFTMAX
    max_removed: float = Field(0.2, ge=0, lt=1)
    keep: float | None = Field(None, gt=0, le=1)
    max_loss: float | None = Field(None, ge=0, lt=1)
    refine: int = Field(0, ge=0)
    samples_per_class: int = Field(500, ge=2)
    seed: int = Field(0, ge=0)
    scope: CapScope = CapScope.NETWORK
    negatives: Negatives = Negatives.PER_CLASS
    observed: Observed = Observed.ALL
    overrun: float | None = Field(None, gt=1)
    relu: ReluRule = ReluRule.PAPER
    edges: Edges = Edges.ALL
    idle_columns: bool = False
    padding_label: int | None = None
    words: Words = Words.ALL
    encoder: bool = False

    @model_validator(mode="after")
    def _settled(self) -> DecompositionConfig:
        """What is not given follows from what is; it does not count as given, so that a changed copy settles anew."""
        given = self.model_fields_set
        removes = self.mode is Mode.UNROLLED or self.gates is GateView.EACH or bool(given & REMOVAL_ONLY)
        if "strategy" not in given:
            self.__dict__["strategy"] = Strategy.PAPER if removes else Strategy.RECONSTRUCT
        if "head" not in given:
            self.__dict__["head"] = HeadKind.SOFTMAX if self.strategy is Strategy.RECONSTRUCT else HeadKind.MEAN
        return self

    @classmethod
    def release(cls, **changes: Any) -> DecompositionConfig:
        """The settings of the authors' public release (its usual ones: cap 5 %), changed by ``changes``."""
        settings: dict[str, Any] = {
            "strategy": Strategy.PAPER,
            "max_removed": 0.05,
            "scope": CapScope.LAYER,
            "negatives": Negatives.FIRST,
            "observed": Observed.LAST,
            "overrun": 1.1,
            "relu": ReluRule.RELEASE,
            "edges": Edges.RELEASE,
        }
        return cls.of(**{**settings, **changes})

    @classmethod
    def of(cls, **settings: Any) -> DecompositionConfig:
        """Build from keywords.

        Raises:
            ConfigError: an unknown setting (with the nearest known one) or a value out of range.
        """
        for name in settings:
            if name not in cls.model_fields:
                raise ConfigError(_unknown("setting", name, list(cls.model_fields)))
        try:
            return cls(**settings)._consistent()
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise ConfigError(f"setting {field}={quoted(repr(first['input']))}: {first['msg']}.") from None

    def _consistent(self) -> DecompositionConfig:
        if self.strategy is Strategy.RECONSTRUCT and (self.mode is Mode.UNROLLED or self.gates is GateView.EACH):
            raise ConfigError(
                "strategy='reconstruct' makes smaller layers, so it goes with mode='rolled' and gates='hidden'; "
                f"got mode={str(self.mode)!r}, gates={str(self.gates)!r}."
            )
        if self.max_loss is not None and self.strategy is not Strategy.RECONSTRUCT:
            raise ConfigError(
                f"max_loss={self.max_loss} goes with strategy='reconstruct', got {str(self.strategy)!r}: "
                "give keep instead."
            )
        if self.edges is Edges.RELEASE and self.encoder:
            raise ConfigError("edges='release' and encoder=True: the release takes decoders alone apart; drop one.")
        if self.strategy is Strategy.RECONSTRUCT and self.encoder:
            raise ConfigError("strategy='reconstruct' takes the decoder alone apart; got encoder=True.")
        if self.refine and (self.strategy is not Strategy.RECONSTRUCT or self.head is HeadKind.MEAN):
            raise ConfigError(
                f"refine={self.refine} goes with strategy='reconstruct' and head='softmax' or 'fitted'; "
                f"got strategy={str(self.strategy)!r}, head={str(self.head)!r}."
            )
        if self.keep is not None and self.max_loss is not None:
            raise ConfigError(f"keep={self.keep} and max_loss={self.max_loss} both say how small: give one of them.")
        return self

    def changed(self, **settings: Any) -> DecompositionConfig:
        """A copy with ``settings`` changed; raises ConfigError as :meth:`of` does."""
        return self.of(**{**{name: getattr(self, name) for name in self.model_fields_set}, **settings})


def _unknown(kind: str, name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {name!r}.{hint} Known: {', '.join(known)}."

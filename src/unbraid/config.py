"""Settings of a decomposition: one model per strategy, chosen from flat keywords."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    field_validator,
    model_validator,
)

from unbraid.choices import (
    CapScope,
    Edges,
    GateView,
    HeadKind,
    IOArchitecture,
    LayerChoice,
    Mode,
    Negatives,
    Observed,
    ReluRule,
    Words,
)
from unbraid.errors import ConfigError, quoted
from unbraid.limits import parse_size

__all__ = [
    "CapScope", "DecompositionConfig", "Edges", "FcnnConfig", "GateView", "HeadKind", "IOArchitecture", "LayerChoice",
    "Mode", "Negatives", "Observed", "ReconstructConfig", "ReluRule", "RemovalConfig", "UnknownStrategyConfig", "Words",
]  # fmt: skip

DEFAULT_STRATEGY = "reconstruct"


class DecompositionConfig(BaseModel):
    """Settings of a decomposition.

    Each strategy has a model of its own settings: :class:`ReconstructConfig`, :class:`RemovalConfig`, or the model of a
    registered strategy. ``DecompositionConfig(...)``, :meth:`of` and :func:`unbraid.decompose` take flat keywords and
    choose the model: by ``strategy`` where it is given; the paper's method where a setting is given that only node
    removal has (``mode="unrolled"``, ``gates="each"``, ``max_removed``, ...); ``reconstruct`` otherwise.

    Attributes:
        strategy: name of the strategy: ``reconstruct`` (default) for small modules whose kept nodes take over the work
            of the others, ``paper`` for the method of Imtiaz et al. 2023, the baselines ``random`` and ``magnitude``
            that remove as many nodes as the paper would, or a registered name.
        keep: share of the hidden units of each recurrent layer that a module keeps, in (0, 1]. With ``reconstruct`` the
            default is 0.5 where ``max_loss`` is not given either. With node removal a given share replaces the cap and
            the sign rule of the paper.
        head: output layer of a module. ``mean``: the two columns of the paper. ``softmax``: the class against the
            log-sum-exp of the others, so that the probability of a module is that of the parent. ``fitted``: two
            columns, the second fitted by logistic regression to the decisions of the parent, for very many classes.
            Default: ``softmax`` with ``reconstruct``, ``mean`` with node removal.
        layers: which layers are pruned. ``all``: every recurrent layer and every hidden dense layer. ``recurrent``: the
            recurrent layers and, with node removal, the dense layers of a Keras file behind them, as in the paper. In a
            network of dense layers alone both mean all of them. A dense layer whose activation does not map 0 to 0
            stays whole. Default: ``all`` with ``reconstruct``, ``recurrent`` with node removal. Folders that were
            written before this setting have the value ``recurrent``.
        samples_per_class: M, the number of positive examples per class, at least 2; with many outputs per class and
            timestep.
        seed: seed of the sampling, at least 0.
        negatives: how negative examples are drawn.
        padding_label: index of a class that only marks padding, or several. They get no module, are not observed and
            are left out of the mean of the other classes.
        classes: labels, or positions in the order of the outputs, of the classes that get a module; None: all. The
            others only give negative examples. It is not saved.
        missing: a class with fewer than two examples gets no module and a warning (``skip``, default), or is refused
            (``error``). It is not saved.
        words: of an encoder-decoder, which output columns (and target embeddings) a module of a language keeps. Of a
            classifier with a vocabulary, which rows of the embedding its modules keep: ``own`` keeps those of words in
            the examples (text). Other words are then read as unknown.
        bins: of a regression with one column, the number of quantile bins of its targets, at least 2. Each bin is then
            a class, so that every strategy applies, see :class:`unbraid.Bins`. None (default): no bins. It is not
            saved.

    Example:
        >>> DecompositionConfig(keep=0.3).strategy
        'reconstruct'
        >>> DecompositionConfig(mode="unrolled").strategy
        'paper'
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_enum_values=False)

    strategy: str
    head: HeadKind
    keep: float | None = Field(None, gt=0, le=1)
    layers: LayerChoice = LayerChoice.ALL
    samples_per_class: int = Field(500, ge=2)
    seed: int = Field(0, ge=0)
    negatives: Negatives = Negatives.PER_CLASS
    padding_label: int | tuple[int, ...] | None = None
    classes: tuple[str | int, ...] | None = Field(None, exclude=True)
    missing: Literal["skip", "error"] = Field("skip", exclude=True)
    words: Words = Words.ALL
    bins: int | None = Field(None, ge=2, exclude=True)

    @property
    def padding_labels(self) -> tuple[int, ...]:
        """Indices of all classes that only mark padding."""
        given = self.padding_label
        return () if given is None else (given,) if isinstance(given, int) else given

    models: ClassVar[dict[str, type[DecompositionConfig]]] = {}  # strategy name -> model of its settings

    if not TYPE_CHECKING:

        def __new__(cls, **settings):
            """Make an instance of the class for the settings, if ``cls`` is the base class."""
            return super().__new__(cls if cls is not DecompositionConfig else _chosen(settings))

    @model_validator(mode="wrap")
    @classmethod
    def _stored(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Any:
        """Stored settings, as an instance of the model of their strategy.

        Folders of format 1 hold the settings of all strategies. Those that the strategy does not have are dropped.
        Folders without ``layers`` were written when only recurrent layers were pruned.
        """
        if cls is not DecompositionConfig or not isinstance(data, Mapping):
            return handler(data)
        model = DecompositionConfig.models.get(str(data.get("strategy", DEFAULT_STRATEGY)), UnknownStrategyConfig)
        known = _all_settings() - set(model.model_fields)
        data = {"layers": LayerChoice.RECURRENT, **data}
        return model.model_validate({name: value for name, value in data.items() if name not in known})

    @classmethod
    def release(cls, paper: Literal["rnn", "fcnn"] = "rnn", **changes: Any) -> DecompositionConfig:
        """Settings of the public release of a paper.

        Args:
            paper: ``rnn`` (default) for Imtiaz et al., ICSE 2023, with its usual cap of 5 %; ``fcnn`` for Pan and
                Rajan, ESEC/FSE 2020, whose networks have dense layers alone.
            changes: settings that differ from the release's.

        Raises:
            ConfigError: another ``paper``, or as :meth:`of`.

        Example:
            >>> DecompositionConfig.release().max_removed
            0.05
            >>> DecompositionConfig.release(paper="fcnn").strategy
            'fcnn'
        """
        if paper not in RELEASES:
            raise ConfigError(f"paper={quoted(repr(paper))}: expected one of {', '.join(map(repr, RELEASES))}.")
        return DecompositionConfig.of(**{**RELEASES[paper], **changes})

    @classmethod
    def of(cls, **settings: Any) -> DecompositionConfig:
        """Choose and fill the model of settings.

        Args:
            settings: flat keywords, as :func:`unbraid.decompose` takes them.

        Raises:
            ConfigError: an unknown setting (the message names the nearest known one), a value out of range, or a
                setting that the strategy does not have.
        """
        model = _chosen(settings)
        for name in settings:
            if name not in model.model_fields:
                raise ConfigError(_unfit(name, settings, model))
        try:
            return model(**settings)._consistent()
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]) if first["loc"] else ""
            if name in SHARED_BY_ROLLED:
                raise ConfigError(_unfit(name, settings, model)) from None
            field = ".".join(str(part) for part in first["loc"])
            raise ConfigError(f"setting {field}={quoted(repr(first['input']))}: {first['msg']}.") from None

    def _consistent(self) -> DecompositionConfig:
        """Return the settings; raise ConfigError if two settings contradict each other."""
        return self

    def changed(self, **settings: Any) -> DecompositionConfig:
        """Copy the settings with some changes; raise ConfigError as :meth:`of`.

        Example:
            >>> DecompositionConfig(seed=3).changed(mode="unrolled").seed
            3
        """
        return self.of(**{**{name: getattr(self, name) for name in self.model_fields_set}, **settings})


class ReconstructConfig(DecompositionConfig):
    """Settings of ``strategy="reconstruct"``.

    Attributes:
        max_loss: instead of a size: find the smallest modules whose composition loses at most this share of accuracy.
            Each module alone loses at most this much F1. Both are measured on a held-out fifth of the examples; [0, 1).
            For a regression: the largest mean squared difference to the numbers of the parent, as a share of their
            variance (0.01 is one point of R2), for each number.
        refine: largest number of gradient steps of distillation from the parent, without labels, at least 0 (default).
            A held-out fifth of the sample decides which of the weights stay. For a module of a language the steps use
            all of its pairs and ignore ``samples_per_class``.
        concern: of a regression, ``column`` makes a body for each output column (default). ``output`` makes one body
            that the modules of all columns share, such as all steps of a horizon. It is not saved.
        memory: budget of the observations in bytes, or text such as ``"2GB"``; a quarter of the free memory by default.
            With less memory the sample is passed more often, and the modules are the same up to rounding. The modules
            themselves are not counted. It is not saved.
        mode: always ``rolled``.
        gates: always ``hidden``.
    """

    strategy: str = "reconstruct"
    head: HeadKind = HeadKind.SOFTMAX
    max_loss: float | None = Field(None, ge=0, lt=1)
    refine: int = Field(0, ge=0)
    concern: Literal["column", "output"] = Field("column", exclude=True)
    memory: int | None = Field(None, ge=1, exclude=True)
    mode: Literal[Mode.ROLLED] = Mode.ROLLED
    gates: Literal[GateView.HIDDEN] = GateView.HIDDEN

    @field_validator("memory", mode="before")
    @classmethod
    def _in_bytes(cls, memory: object) -> object:
        return parse_size(memory, "setting memory") if isinstance(memory, str) else memory

    def _consistent(self) -> DecompositionConfig:
        if self.refine and self.head is HeadKind.MEAN:
            raise ConfigError(
                f"refine={self.refine} needs head='softmax' or 'fitted', got head='mean': change one of them."
            )
        if self.keep is not None and self.max_loss is not None:
            raise ConfigError(f"keep={self.keep} and max_loss={self.max_loss} both set the size: give one of them.")
        return self


class RemovalConfig(DecompositionConfig):
    """Settings of node removal: ``strategy="paper"`` (Imtiaz et al. 2023, Alg. 1-4), ``"random"`` or ``"magnitude"``.

    The defaults are the text of the paper.

    Attributes:
        mode: ``rolled`` (one set of nodes for all timesteps) or ``unrolled`` (one set per timestep).
        gates: ``hidden`` (a removed node loses its column in every gate) or ``each`` (every gate by itself).
        max_removed: cap on removed nodes, as a share in [0, 1).
        scope: what the cap counts over.
        observed: which timesteps count for one output when rolled.
        overrun: nodes past the cap are still removed while first d / their d < overrun; None stops at the cap.
        relu: the rule for rectified layers.
        edges: which edges of an unrolled node are removed.
        idle_columns: keep the C - 2 unused output columns, at zero, so that they take part in the module's softmax.
        encoder: of an encoder-decoder, whether the layers of the encoder are decomposed as well.
    """

    strategy: str = "paper"
    head: HeadKind = HeadKind.MEAN
    layers: LayerChoice = LayerChoice.RECURRENT
    mode: Mode = Mode.ROLLED
    gates: GateView = GateView.HIDDEN
    max_removed: float = Field(0.2, ge=0, lt=1)
    scope: CapScope = CapScope.NETWORK
    observed: Observed = Observed.ALL
    overrun: float | None = Field(None, gt=1)
    relu: ReluRule = ReluRule.PAPER
    edges: Edges = Edges.ALL
    idle_columns: bool = False
    encoder: bool = False

    def _consistent(self) -> DecompositionConfig:
        if self.edges is Edges.RELEASE and self.encoder:
            raise ConfigError("edges='release' decomposes decoders alone, got encoder=True: drop one of them.")
        return self


class FcnnConfig(DecompositionConfig):
    """Settings of ``strategy="fcnn"``: the release of Pan and Rajan (ESEC/FSE 2020) for networks of dense layers.

    The defaults are those of the release. Its inputs are pixels / 255 / 255.

    Attributes:
        samples_per_class: largest number of examples of a class, in the order of the file.
        first: number of examples at the beginning of the file that examples of a class are taken from.
        confidence: probability of its class that such an example must exceed, in [0, 1).
        others: number of examples of every other class, the first ones of the file.
        merge: whether the last hidden units that have almost no weight to the class are merged (CM-RIE, default) or
            not (CM-C).
        mode: always ``rolled``.
        gates: always ``hidden``.
    """

    strategy: str = "fcnn"
    head: Literal[HeadKind.MEAN] = HeadKind.MEAN
    samples_per_class: int = Field(1_000, ge=2)
    first: int = Field(10_000, ge=2)
    confidence: float = Field(0.9, ge=0, lt=1)
    others: int = Field(110, ge=1)
    merge: bool = True
    mode: Literal[Mode.ROLLED] = Mode.ROLLED
    gates: Literal[GateView.HIDDEN] = GateView.HIDDEN

    def _consistent(self) -> DecompositionConfig:
        if self.keep is not None:
            raise ConfigError(f"keep={self.keep}: the release of strategy='fcnn' has no size: drop keep.")
        return self


class UnknownStrategyConfig(DecompositionConfig):
    """Stored settings of a strategy that is not registered in this process. Its modules can be used as they are."""

    model_config = ConfigDict(frozen=True, extra="allow")

    head: HeadKind = HeadKind.SOFTMAX


SHARED_BY_ROLLED = {"mode", "gates"}  # fields of both models, with one value alone in the model of reconstruct
DecompositionConfig.models |= {"reconstruct": ReconstructConfig} | dict.fromkeys(
    ("paper", "random", "magnitude"), RemovalConfig
)
DecompositionConfig.models["fcnn"] = FcnnConfig
RELEASE: dict[str, Any] = {
    "strategy": "paper",
    "max_removed": 0.05,
    "scope": CapScope.LAYER,
    "negatives": Negatives.FIRST,
    "observed": Observed.LAST,
    "overrun": 1.1,
    "relu": ReluRule.RELEASE,
    "edges": Edges.RELEASE,
    "layers": LayerChoice.RECURRENT,
}
RELEASES: dict[str, dict[str, Any]] = {"rnn": RELEASE, "fcnn": {"strategy": "fcnn"}}


def _chosen(settings: Mapping[str, Any]) -> type[DecompositionConfig]:
    """Return the class of settings for the keywords; raise ConfigError for an unknown strategy."""
    if "strategy" in settings:
        name, known = str(settings["strategy"]), DecompositionConfig.models
        if name not in known:
            raise ConfigError(_unknown("strategy", name, list(known)))
        return known[name]
    removal = set(RemovalConfig.model_fields) - set(ReconstructConfig.model_fields)
    unrolled = str(settings.get("mode")) == Mode.UNROLLED or str(settings.get("gates")) == GateView.EACH
    return RemovalConfig if unrolled or removal & set(settings) else ReconstructConfig


def _all_settings() -> set[str]:
    return {name for model in DecompositionConfig.models.values() for name in model.model_fields}


def _unfit(name: str, settings: Mapping[str, Any], model: type[DecompositionConfig]) -> str:
    """Return the reason why a setting does not fit the strategy of ``model``."""
    others = [s for s, other in DecompositionConfig.models.items() if other is not model and name in other.model_fields]
    if not others:
        return _unknown("setting", name, sorted(_all_settings()))
    strategy = str(settings.get("strategy", model.model_fields["strategy"].default))
    return (
        f"setting {name}={quoted(repr(settings[name]), 60)} belongs to strategy {' or '.join(map(repr, others))}; "
        f"strategy {strategy!r} does not use it: drop the setting, or change the strategy."
    )


def _unknown(kind: str, name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {name!r}.{hint} Known: {', '.join(known)}."

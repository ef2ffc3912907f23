"""Fit the vote of a composition on a sample: a calibration, a referee or a threshold. Shapes: N examples, K modules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from unbraid.data.targets import Label
from unbraid.errors import ConfigError, DataError, IncompatibleModules
from unbraid.modules.comparability import REFEREE_DROPPED, vote_problems, warn
from unbraid.modules.domain.typicality import REJECTED, best_threshold
from unbraid.modules.module import ConcernModule
from unbraid.modules.rejecting import Rejecting
from unbraid.modules.voting import referee as referees
from unbraid.modules.voting.calibration import Scale, fit_labelled
from unbraid.progress import Progress, silent


class FittedVote(Rejecting):
    """The part of a composition that fits its vote; :class:`unbraid.Composition` adds how modules are exchanged."""

    def with_calibration(self, x: Any, y: Any, progress: Progress = silent) -> Self:
        """Fit a temperature and an offset for each module on a labelled sample.

        See :mod:`unbraid.modules.voting.calibration`. An earlier calibration is not used.

        Args:
            x: inputs with a few examples of each class, from the data that the composition will be used on. Class
                frequencies of the sample act as a prior: a balanced sample of unbalanced classes moves decisions to the
                rare ones.
            y: labels, or positions in :attr:`labels`; (N,), or (N, T) with one decision per timestep. -1 and "" mean no
                label. For lists of words also lists of labels. With positions there is a warning where the network
                of the modules has these labels in another order.
            progress: factory of progress bars, see :mod:`unbraid.progress`.

        Returns:
            a composition of the same modules.

        Raises:
            DataError: inputs or labels do not fit, a margin is NaN, or a class has no example.
            IncompatibleModules: the labels are independent, or the modules predict numbers.

        Warns:
            UnbraidWarning: a referee is dropped. :meth:`with_referee` fits both.

        Example:
            >>> import unbraid
            >>> from unbraid.demo.small import small_modules
            >>> parts, x, y = small_modules()
            >>> composition = unbraid.compose(parts)
            >>> composition.with_calibration(x, y).is_calibrated
            True
        """
        self._check_voting("calibration")
        if self.independent:
            raise IncompatibleModules(
                "calibration makes margins comparable, but these labels are independent: each has its own decision."
            )
        plain = self.plain_margins(x).numpy()
        logs = self._logs_by_module(x)
        truth = self.align(y, x)
        self.warn_of_positions(truth)
        scales = fit_labelled(plain, truth, self.labels, self.many_outputs, self._parents, progress, logs)
        warn(self._referee_dropped())
        return self._made(calibration=scales)

    def with_referee(self, x: Any, y: Any, progress: Progress = silent) -> Self:
        """Fit a calibration and a referee on a labelled sample.

        For modules of different parents. The referee is a linear layer over the margins, the features of the modules
        and the inputs of the parents, see :mod:`unbraid.modules.voting.referee`. Use about twenty examples of each
        class or more.

        Args:
            x: inputs, as for :meth:`with_calibration`.
            y: labels or positions, (N,), as for :meth:`with_calibration`.
            progress: factory of progress bars, see :mod:`unbraid.progress`.

        Returns:
            a composition of the same modules.

        Raises:
            DataError: inputs or labels do not fit, a margin is NaN, or a class has no example.
            IncompatibleModules: a single module, one decision per timestep, independent labels, or numbers.

        Example:
            >>> import unbraid
            >>> from unbraid.demo.small import small_modules
            >>> parts, x, y = small_modules()
            >>> composition = unbraid.compose(parts)
            >>> composition.with_referee(x, y).predict(x).shape
            (120,)
        """
        self._check_voting("a referee")
        referees.check_task(self.labels, self.independent, self.many_outputs)
        self.warn_of_positions(y)
        logs = self._logs_by_module(x)
        scales, judge = referees.fit_labelled(self.evidence(x), y, self.labels, self._parents, progress, logs)
        return self._made(calibration=scales, referee=judge)

    def with_threshold(self, x: Any, unknown: Any = None, rejected: float = REJECTED) -> Self:
        """Choose the typicality below which an input is unknown.

        Args:
            x: inputs of the classes of the composition, without labels; best from the data of the later use.
            unknown: inputs of no class. With them the threshold has the largest mean of the shares of ``x`` that is
                accepted and of ``unknown`` that is rejected. Default None: the threshold rejects a share of ``x``.
            rejected: that share, in [0, 1). Default 0.05.

        Returns:
            a composition of the same modules.

        Raises:
            DataError: the inputs do not fit, or there are none.
            IncompatibleModules: as for :meth:`typicality`.
            ConfigError: ``rejected`` out of range.

        Example:
            >>> import unbraid
            >>> from unbraid.demo.small import small_modules
            >>> parts, x, y = small_modules()
            >>> composition = unbraid.compose(parts).with_threshold(x, rejected=0.5)
            >>> int((composition.predict(x, unknown="other") == "other").sum())
            60
        """
        if not 0 <= rejected < 1:
            raise ConfigError(f"rejected={rejected}: expected a share, at least 0 and below 1.")
        known, foreign = self.typicality(x), None if unknown is None else self.typicality(unknown)
        if not len(known) or (foreign is not None and not len(foreign)):
            raise DataError("a threshold needs inputs: found none.")
        return self._made(referee=self.referee, threshold=best_threshold(known, foreign, rejected))

    def without_referee(self) -> Self:
        """Return the same modules and calibration; margins decide."""
        return self._made()

    def without_domain(self) -> Self:
        """Return the same modules, which vote without domain evidence. A calibration and a referee are dropped.

        Both were fitted to the vote with the evidence.

        Example:
            >>> import unbraid
            >>> from unbraid.demo.small import small_modules
            >>> parts, x, y = small_modules()
            >>> unbraid.compose(parts).without_domain().uses_domain
            False
        """
        return self._made(calibration={}, domain=False)

    def with_modules(self, modules: Mapping[Label, ConcernModule]) -> Self:
        """Return a composition of other modules with the same labels and settings, without a referee."""
        return self._made(modules)

    def problems(self) -> list[str]:
        """List the reasons why the margins of the modules are not comparable, as sentences."""
        return vote_problems(self.modules_by_label, self.calibration, self.separates_parents)

    def _made(
        self,
        modules: Mapping[Label, ConcernModule] | None = None,
        calibration: Mapping[Label, Scale] | None = None,
        referee: referees.Referee | None = None,
        threshold: float | None = None,
        domain: bool | None = None,
    ) -> Self:
        """Build a composition with some other settings. It has no referee unless one is given."""
        return type(self)(
            self.modules_by_label if modules is None else modules,
            self.vote,
            self.calibration if calibration is None else calibration,
            referee,
            self.domain if domain is None else domain,
            self.threshold if threshold is None else threshold,
        )

    @property
    def _parents(self) -> list[str]:
        """Digest of the parent of each module."""
        return [module.parent_sha256 for module in self.modules_by_label.values()]

    def _check_voting(self, what: str) -> None:
        if self.task == "regression":
            raise IncompatibleModules(
                f"{what} is for modules that vote, and these predict numbers, one column each: leave it out."
            )

    def _referee_dropped(self) -> list[str]:
        return [] if self.referee is None else [REFEREE_DROPPED]

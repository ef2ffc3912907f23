"""Decompose a network at several sizes, and compare the sizes with the network on held-out examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import torch

from unbraid.config import DecompositionConfig, IOArchitecture
from unbraid.decomposition.decompose import EVIDENCE
from unbraid.decomposition.decomposition import Decomposition
from unbraid.decomposition.domain import gather, gathers_from
from unbraid.decomposition.losses import Scores, loss_measure
from unbraid.decomposition.observing import Observed, observing, read_arguments
from unbraid.decomposition.processes import processes
from unbraid.errors import ConfigError, NoSize, quoted
from unbraid.modules.composition import Composition
from unbraid.modules.describing import html_table
from unbraid.modules.domain_modules import checked_domain
from unbraid.modules.retention import Retention, mean_retention
from unbraid.networks.network import Network
from unbraid.networks.threads import few_threads
from unbraid.progress import Progress, joined, shown
from unbraid.settings import Settings, lists_settings

NUMBER = int | float | np.floating
ROUNDS = 2.0  # work of one size: its modules, and their evaluation


@dataclass(frozen=True)
class SizeScore:
    """One row of a :class:`SizeTable`.

    Attributes:
        keep: share of the hidden units of each recurrent layer that a module keeps.
        retention: shares of the parent, means of the modules.
        scores: name of a score -> score of the composition of all modules. ``accuracy`` and the mean ``F1`` of the
            single modules; of independent labels ``F1``; of a regression ``change``, the largest mean squared
            difference to a number of the parent, as a share of its variance.
        loss: the largest loss of a score against the parent; below 0 if the modules are better.
        pareto: whether no smaller size has a loss as small.
    """

    keep: float
    retention: Retention
    scores: Scores
    loss: float
    pareto: bool


class SizeTable(Mapping[float, Decomposition]):
    """Decompositions of one network at several sizes: a read-only mapping keep -> decomposition, largest first.

    Attributes:
        rows: the scores of each size on the held-out examples, largest size first.
        parent: name of a score -> score of the parent on them; empty for a regression.
        held_out: number of held-out examples.

    Example:
        >>> import unbraid
        >>> from unbraid.demo.small import small_examples, small_network
        >>> network = small_network()
        >>> table = unbraid.decompose_sizes(network, small_examples(network), [1.0, 0.25])
        >>> [(row.keep, row.retention.nodes) for row in table.rows], table.held_out
        ([(1.0, 1.0), (0.25, 0.25)], 24)
    """

    def __init__(
        self, decompositions: Mapping[float, Decomposition], rows: list[SizeScore], parent: Scores, held_out: int
    ) -> None:
        self.rows, self.parent, self.held_out = rows, dict(parent), held_out
        self._decompositions = dict(decompositions)

    def __getitem__(self, keep: float) -> Decomposition:
        """Return the decomposition of a size; raise NoSize, a KeyError that lists the sizes."""
        if keep not in self._decompositions:
            raise NoSize(f"there is no size {quoted(repr(keep), 40)}, expected one of {list(self)}.")
        return self._decompositions[keep]

    def __iter__(self) -> Any:
        return iter(self._decompositions)

    def __len__(self) -> int:
        return len(self._decompositions)

    def smallest(self, max_loss: float) -> Decomposition:
        """Return the decomposition of the smallest size whose loss is at most ``max_loss``.

        Args:
            max_loss: tolerated loss, in [0, 1): of accuracy and F1, or of a regression the tolerated change.

        Raises:
            NoSize: no size is within it.
            ConfigError: ``max_loss`` out of range.

        Example:
            >>> import unbraid
            >>> from unbraid.demo.small import small_examples, small_network
            >>> network = small_network()
            >>> table = unbraid.decompose_sizes(network, small_examples(network), [1.0, 0.25])
            >>> table.smallest(max_loss=0.9).config.keep
            0.25
        """
        check_max_loss(max_loss)
        for row in reversed(self.rows):
            if row.loss <= max_loss:
                return self[row.keep]
        best = min(self.rows, key=lambda row: row.loss)
        raise NoSize(
            f"no size is within max_loss={max_loss:g}: the smallest loss is {best.loss:.4g}, of keep {best.keep:g}. "
            "Try larger sizes, or tolerate more."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return all rows as plain values, for JSON."""
        return {
            "held_out": self.held_out,
            "parent": dict(self.parent),
            "sizes": [dataclasses.asdict(row) for row in self.rows],
        }

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Return the names of the columns, and the cells of each row as text."""
        names = list(self.rows[0].scores)
        ours = [name for name in names if name in self.parent]
        head = ["keep", "hidden units", "weights", *names, *(f"{name} loss" for name in ours), "Pareto"]
        found = []
        for row in self.rows:
            kept = [f"{row.keep:g}", f"{row.retention.nodes:.1%}", f"{row.retention.weights:.1%}"]
            losses = [f"{self.parent[name] - row.scores[name]:+.4f}" for name in ours]
            scores = [f"{row.scores[name]:.4f}" for name in names]
            found.append([*kept, *scores, *losses, "yes" if row.pareto else "no"])
        return head, found

    def title(self) -> str:
        """Return the line above the rows: the scores of the parent."""
        scores = ", ".join(f"{name} {score:.4f}" for name, score in self.parent.items())
        return f"{len(self)} sizes on {self.held_out:,} held-out examples" + (f"; the network: {scores}" * bool(scores))

    def __str__(self) -> str:
        head, rows = self.cells()
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]
        return "\n".join([self.title(), *lines])

    def __repr__(self) -> str:
        return f"SizeTable({', '.join(f'{keep:g}' for keep in self)}; {self.held_out:,} held-out examples)"

    def _repr_html_(self) -> str:
        """Make a table for notebooks."""
        return html_table(self.title(), *self.cells())


@lists_settings
@torch.inference_mode(False)
@torch.enable_grad()
def decompose_sizes(
    network: Network,
    examples: Any,
    sizes: Iterable[float],
    *,
    config: DecompositionConfig | None = None,
    sample_weight: Any = None,
    domain: bool = True,
    jobs: int = 1,
    progress: Progress | bool | None = None,
    **settings: Unpack[Settings],
) -> SizeTable:
    """Decompose a network at several sizes, and score each on a held-out fifth of the examples.

    The network is observed only once, on the other four fifths. All modules are made of them, also those of the size
    that is used later.

    Args:
        network: the trained network.
        examples: as for :func:`unbraid.decompose`.
        sizes: keep ratios, each in (0, 1], such as ``[0.5, 0.3, 0.15]``.
        config: as for :func:`unbraid.decompose`.
        sample_weight: as for :func:`unbraid.decompose`.
        domain: as for :func:`unbraid.decompose`.
        jobs: as for :func:`unbraid.decompose`.
        progress: as for :func:`unbraid.decompose`.
        **settings: changes to ``config``, except for ``keep`` and ``max_loss``.

    Returns:
        the decompositions by size, with the scores of each.

    Raises:
        ConfigError: sizes that are no numbers in (0, 1] or occur twice, ``keep`` or ``max_loss`` in the settings, an
            encoder-decoder, or as :func:`unbraid.decompose`.
        DataError, UnknownLabel, ArgumentError: as :func:`unbraid.decompose`.

    Example:
        >>> import unbraid
        >>> from unbraid.demo.small import small_examples, small_network
        >>> network = small_network()
        >>> table = unbraid.decompose_sizes(network, small_examples(network), [0.5, 1.0])
        >>> table.rows[0].keep, round(table.rows[0].loss, 4)
        (1.0, 0.0)
        >>> parts = table[0.5]
        >>> parts.labels, parts.config.keep
        (['travel', 'banking', 'weather'], 0.5)
    """
    keeps = read_sizes(sizes)
    examples, config = read_arguments(network, examples, config, settings)
    if config.keep is not None or getattr(config, "max_loss", None) is not None:
        raise ConfigError("sizes= sets the sizes: leave out keep= and max_loss=, and call smallest(max_loss) after it.")
    if network.io is IOArchitecture.ENCODER_DECODER:
        raise ConfigError(
            "sizes are compared with labels, and translations have none: decompose with one keep= a time."
        )
    gathers = checked_domain(domain) and config.bins is None and gathers_from(network)
    rounds, phases = ROUNDS * len(keeps), {"decomposing": 1.0, **({"evidence": EVIDENCE} if gathers else {})}
    with few_threads([network]), processes(jobs), joined(shown(progress), "decomposing", phases) as within:
        with observing(network, examples, config, sample_weight, within, rounds) as seen:
            table = _table(seen, keeps)
        if gathers:
            with within("evidence", len(keeps)) as advance:
                for keep in keeps:
                    gather(table[keep], examples[0], advance)
        return table


def read_sizes(sizes: Any) -> list[float]:
    """Check keep ratios and sort them, largest first; raise ConfigError for anything else."""
    found = list(sizes) if isinstance(sizes, Iterable) and not isinstance(sizes, str | bytes) else [sizes]
    if not found:
        raise ConfigError("sizes= is empty: expected keep ratios, such as [0.5, 0.3, 0.15].")
    for size in found:
        if isinstance(size, bool) or not isinstance(size, NUMBER) or not 0 < size <= 1:
            raise ConfigError(f"sizes= has {quoted(repr(size), 40)}: expected numbers above 0 and at most 1.")
    if len(set(found)) < len(found):
        raise ConfigError(f"sizes={quoted(repr(found), 80)} has a size twice: give each once.")
    return sorted(map(float, found), reverse=True)


def check_max_loss(max_loss: Any) -> None:
    """Raise ConfigError for a tolerated loss outside [0, 1)."""
    if isinstance(max_loss, bool) or not isinstance(max_loss, NUMBER) or not 0 <= max_loss < 1:
        raise ConfigError(f"max_loss={quoted(repr(max_loss), 40)}: expected a share from 0 to below 1, such as 0.01.")


def _table(seen: Observed, keeps: list[float]) -> SizeTable:
    assert seen.held_out is not None
    measure = loss_measure(seen.network, *seen.held_out, list(seen.prepared.classes))
    found, rows, least = {}, [], float("inf")
    for keep in reversed(keeps):  # smallest first, as a larger size is on the Pareto front only with a smaller loss
        modules, config = seen.modules(keep), seen.config.changed(keep=keep)
        for module in modules.values():
            module.config = config
        scores = measure.scores(Composition(modules))
        seen.advance(len(modules))
        loss, kept = measure.loss(scores), mean_retention([module.retention() for module in modules.values()])
        rows.append(SizeScore(keep, kept, scores, loss, pareto=loss < least))
        found[keep] = Decomposition(seen.network, modules, config, seen.skipped)
        least = min(least, loss)
    return SizeTable({keep: found[keep] for keep in keeps}, rows[::-1], measure.parent, len(seen.held_out[0]))

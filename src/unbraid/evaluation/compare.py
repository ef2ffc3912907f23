"""Compare two networks, or modules: what differs, and which is better on examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from unbraid.data.files import as_pair
from unbraid.data.targets import Label
from unbraid.errors import quoted
from unbraid.evaluation.agreement import Agreement, agreement, why_not
from unbraid.evaluation.bootstrap import check_level
from unbraid.evaluation.columns import figure
from unbraid.evaluation.sides import Side, columns_of_labels, side_of
from unbraid.modules.arguments import check_pair
from unbraid.modules.describing import html_table
from unbraid.networks.threads import few_threads

SHOWN, LABEL, SETTING = 5, 40, 60  # labels in one line, characters of a label, characters of a setting
SHARES = ("hidden units", "weights", "FLOPs")


@dataclass(frozen=True)
class Comparison:
    """Results of :func:`unbraid.compare`.

    Attributes:
        settings: name -> setting of the first and of the second, for the settings that differ. None: there is no such
            setting, or it has its default. ``network`` is the start of the digest of the weights.
        sizes: name -> size of the first and of the second: numbers of labels and of weights of the networks, and the
            mean shares of the networks that a module keeps (1 for a network).
        shared: labels that both have.
        only: labels that only the first and only the second has.
        overlap: label -> Jaccard index of the hidden units that both modules of this label keep, in [0, 1]. Only for
            modules of the same parent.
        data: comparison on examples; None without examples.
        not_compared: reason why the examples were not used; None otherwise.

    Example:
        >>> import unbraid
        >>> from unbraid.demo.small import small_examples, small_network
        >>> network = small_network()
        >>> x, y = small_examples(network)
        >>> half = unbraid.decompose(network, (x, y), keep=0.5)
        >>> result = unbraid.compare(network, half, (x, y))
        >>> result.settings["keep"], result.data.decisions, result.shared
        ((None, 0.5), 120, ['travel', 'banking', 'weather'])
    """

    settings: dict[str, tuple[Any, Any]]
    sizes: dict[str, tuple[float, float]]
    shared: list[Label]
    only: tuple[list[Label], list[Label]]
    overlap: dict[Label, float]
    data: Agreement | None = None
    not_compared: str | None = None

    @property
    def mean_overlap(self) -> float | None:
        """Mean of :attr:`overlap`; None if it is empty."""
        return float(np.mean(list(self.overlap.values()))) if self.overlap else None

    def to_dict(self) -> dict[str, Any]:
        """Return all results as plain values, for JSON."""
        plain = dataclasses.asdict(self)
        plain["overlap"] = {str(label): value for label, value in self.overlap.items()}
        if self.data is not None:
            plain["data"]["by_label"] = {str(label): list(row) for label, row in self.data.by_label.items()}
        return {**plain, "mean_overlap": self.mean_overlap}

    def rows(self) -> list[tuple[str, str, str]]:
        """Return the name, the first and the second value of each size and of each setting that differs, as text."""
        sizes = [(name, *(_size(name, value) for value in pair)) for name, pair in self.sizes.items()]
        settings = [(name, *(_setting(value) for value in pair)) for name, pair in self.settings.items()]
        return [*settings, *sizes]  # type: ignore[list-item]  # pairs have two values

    def lines(self) -> list[str]:
        """Return the results that :meth:`rows` does not have, one a line."""
        found = [f"labels: {len(self.shared):,} in both{_names(self.shared)}"]
        found += [
            f"only in the {n}: {len(o):,}{_names(o)}" for n, o in zip(("first", "second"), self.only, strict=True) if o
        ]
        if self.mean_overlap is not None:
            found.append(f"hidden units: mean Jaccard index {self.mean_overlap:.3f} over {len(self.overlap):,} labels")
        if self.not_compared is not None:
            found.append(f"no comparison on examples: {self.not_compared}")
        if not self.settings:
            found.insert(0, "no setting differs, and the networks have equal weights")
        return [*found, *(_data_lines(self.data) if self.data is not None else [])]

    def __str__(self) -> str:
        rows = [("", "first", "second"), *self.rows()]
        widths = [max(len(row[place]) for row in rows) for place in range(3)]
        table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*table, *self.lines()])

    def _repr_html_(self) -> str:
        """Make a table for notebooks."""
        return html_table("\n".join(self.lines()), ["", "first", "second"], self.rows())


def compare(
    first: Any, second: Any, examples: Any = None, *, intervals: float | None = 0.95, seed: int = 0
) -> Comparison:
    """Compare two networks, compositions, decompositions or modules.

    Args:
        first: a Network, a Composition, several modules (a Decomposition, a mapping or a list), or one module.
        second: the same, of any kind.
        examples: (x, y) to compare the decisions on; y may be None, or a DataFrame as for :func:`unbraid.evaluate`.
            Labels are names, or numbers that count the labels of the network. If there are networks of different
            labels, numbers count the labels of ``first``. Default None: no examples.
        intervals: level of the intervals of the agreement and of the difference, by bootstrap over examples, in (0, 1).
            Default 0.95; None for none.
        seed: seed of the bootstrap, at least 0.

    Returns:
        the settings that differ, sizes, labels, overlap of the kept units, and the comparison on examples.

    Raises:
        ArgumentError: an argument of another class.
        DataError: inputs or labels that do not fit both, or no example of a label that both have.
        ConfigError: ``intervals`` or ``seed`` out of range.

    Warns:
        UnbraidWarning: modules of several parents that vote without calibration.

    Example:
        >>> import unbraid
        >>> from unbraid.demo.small import small_examples, small_network
        >>> network = small_network()
        >>> x, y = small_examples(network)
        >>> small, large = (unbraid.decompose(network, (x, y), keep=keep) for keep in (0.25, 0.5))
        >>> result = unbraid.compare(small, large, (x, y))
        >>> result.settings["keep"], result.sizes["hidden units"]
        ((0.25, 0.5), (0.25, 0.5))
        >>> low, high = result.data.intervals["accuracy"]
        >>> low <= result.data.difference["accuracy"] <= high
        True
    """
    check_level(intervals, seed)
    sides = side_of(first, "first"), side_of(second, "second")
    if examples is not None:
        if sides[0].task != "regression":
            examples = as_pair(examples, columns_of_labels(*sides))
        check_pair(examples, "examples")
    return compare_sides(*sides, examples, intervals, seed)


def compare_sides(
    first: Side, second: Side, examples: tuple[Any, Any] | None, intervals: float | None = 0.95, seed: int = 0
) -> Comparison:
    """Implement :func:`compare` for described objects; numbers of labels count :func:`columns_of_labels`."""
    sides = (first, second)
    shared = [label for label in first.labels if label in second.labels]
    only = tuple([label for label in side.labels if label not in shared] for side in sides)
    settings, sizes = ([side.settings() for side in sides], [side.sizes() for side in sides])
    names = dict.fromkeys([*settings[0], *settings[1]])
    pairs = {name: (settings[0].get(name), settings[1].get(name)) for name in names}
    reason, data = None, None
    if examples is not None:
        reason = why_not(first, second, shared)
        if reason is None:
            with few_threads([*first.networks.values(), *second.networks.values()]):
                data = agreement(first, second, shared, examples, intervals, seed)
    return Comparison(
        {name: pair for name, pair in pairs.items() if pair[0] != pair[1]},
        {name: (sizes[0][name], sizes[1][name]) for name in sizes[0]},
        shared,
        only,  # type: ignore[arg-type]  # there are two sides
        _overlap(first, second, shared),
        data,
        reason,
    )


def _overlap(first: Side, second: Side, shared: list[Label]) -> dict[Label, float]:
    """Compute the Jaccard index of the kept units of the modules of each shared label and the same parent."""
    found = {}
    for label in shared:
        pair = [side.modules.get(label) for side in (first, second)]
        if pair[0] is None or pair[1] is None or pair[0].parent_sha256 != pair[1].parent_sha256:
            continue
        ours, theirs = (np.concatenate([mask.ravel() for mask in m.kept_nodes.values()]) for m in pair if m is not None)
        if ours.shape == theirs.shape:
            found[label] = float((ours & theirs).sum() / max((ours | theirs).sum(), 1))
    return found


def _data_lines(data: Agreement) -> list[str]:
    ends = data.intervals.get("agreement")
    interval = (
        "" if ends is None else f" ({100 * (data.level or 0):.4g} % interval {figure(ends[0])} to {figure(ends[1])})"
    )
    kind = "RMSE between both, in standard deviations of the first" if "RMSE" in data.scores else "equal decisions"
    found = [f"{kind}: {figure(data.agreement)}{interval}, over {data.decisions:,}"]
    for name, (ours, theirs) in data.scores.items():
        scale, unit = (100, " points") if name == "accuracy" else (1, "")
        text = f"{name}: {figure(ours)} and {figure(theirs)}, difference {scale * data.difference[name]:+.4g}{unit}"
        if name in data.intervals:
            low, high = (scale * end for end in data.intervals[name])
            text += f" ({100 * (data.level or 0):.4g} % interval {low:+.4g} to {high:+.4g})"
        found.append(text)
    if data.only_right is not None:
        found.append(
            f"right: only the first {data.only_right[0]:,} times, only the second {data.only_right[1]:,} times"
        )
    if data.left_out:
        found.append(f"left out: {data.left_out:,} decisions, of labels that not both have or without a label")
    return found


def _size(name: str, value: float) -> str:
    return f"{value:.1%}" if name in SHARES else f"{value:,}"


def _setting(value: Any) -> str:
    if isinstance(value, Mapping | list):
        value = ", ".join(map(str, value))
    return "-" if value is None else quoted(value, SETTING)


def _names(labels: list[Label]) -> str:
    if not labels:
        return ""
    more = f" and {len(labels) - SHOWN:,} more" if len(labels) > SHOWN else ""
    return f" ({', '.join(quoted(label, LABEL) for label in labels[:SHOWN])}{more})"

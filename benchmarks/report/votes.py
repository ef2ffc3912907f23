"""The sections about votes between networks without labels, and about unknown inputs."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean
from typing import Any

from benchmarks import files
from benchmarks.report.tables import table

VOTES = """\
The inter problems of Tables III and IV between networks with one recurrent layer, modules of 50 % of the units, made
with the training texts. *reuse*: a class of each network. *replace*: all but one class of the first network with a
class of the second. *problems*: their number; as many pairs of classes as in the tables above. *seed*: of the
networks. *margins*: vote of the margins without labels, as before. *evidence*: vote with domain evidence, without
labels. *calibrated*, *referee*: both start from that vote, with 20 labelled held-out texts of each class. *without*:
the referee on these texts without domain evidence. These figures are accuracies on the test parts, in percent.
*worse*: number of problems in which the calibration / the referee has a lower accuracy than the vote without labels,
and its largest loss in points. *trained*: accuracy minus that of a network that was trained for the problem, margins
/ evidence / referee, mean over three problems. The networks trained for *replace* are those of Table IV, seed 0. The
temperature is measured by `decompose` on a fifth of the training texts; the kind of model was chosen on the held-out
parts, with the LSTM networks of seed 0. The rule that shrinks and accepts a calibration or a referee was chosen on
held-out problems of all networks: fitted on 20 held-out texts of each class, compared on the other held-out texts.
There {held_out}. Test figures of earlier rules had been seen before. To hold, against *trained*: reuse without labels
-1.5 / -2.0 (separate / joint words) and with a referee -0.5 / -0.8; replace -0.5; and *worse*: 0. On the test parts
{test}.
Networks of four layers were not measured.
"""
COST = """\
Time of the domain evidence, in CPU time of one pass of the network over all texts of the sample. *modules*:
`decompose(..., domain=False)`. *evidence*: what `domain=True` adds. Both read the same texts, and reading counts as
part of the pass.
"""
SENSORS = """\
Two networks with one LSTM layer of 24 units read synthetic recordings of different sensors, with three movements each:
an accelerometer, with gravity in one of three channels, and a gyroscope. All modules keep 50 % of the units and vote
together without labels. *gravity*: the constant of that channel; noise has a deviation of 0.2. *margins*, *evidence*:
vote without and with domain evidence, a Gaussian of the inputs. *sensor*: decisions for a module of the right sensor.
*networks*: each network on recordings of its own sensor, where the sensor is known. *trained*: a network that was
trained on all six movements. Accuracies in percent, means over three seeds. With less
gravity the Gaussians become alike, and the evidence cannot tell the sensors apart.
"""
UNKNOWN = """\
CLINC-150: networks with one recurrent layer of 128 units that were trained on its intents or on its domains, and its
out-of-scope queries. All modules keep 50 % of the units. *AUROC* / *FPR*: of telling test queries from the 1,000
out-of-scope test queries, and share of out-of-scope queries that are accepted at 95 % recall, in percent. The first
three are scores of the network; Mahalanobis uses class means and a covariance of the training queries. *margin* is
the largest margin of a module. *typicality* is the score of `predict(..., unknown=)`. Its weights were chosen on the
held-out queries and 200 out-of-scope queries (the published held-out and training parts of these), on the LSTM of 150
intents. *discriminant* and *words* are two of its five scores. The score of words was added when the test figures of
the other four were known; its form and its weight were chosen on the held-out queries of the LSTM and the GRU. *in
scope*: accuracy of the composition on test queries. To hold for 150 classes: the AUROC of the best score of the
network, and 0.95. Other networks than these had no part in the choice. {missed}
"""
REJECTED = """\
Decisions of the same compositions. *threshold*: typicality of 0.05 as stored by `decompose`, 5 % of the held-out
queries, or chosen from held-out queries and 100 out-of-scope queries (the published training part of these). *known*
and *unknown*: share of test queries and of out-of-scope test queries that are rejected. *right*: share of test
queries that are accepted and have the right class. All in percent. Networks are more certain on the texts that they
were trained on. `decompose` therefore changes some words of its held-out texts; without this the stored threshold
rejected 12.2 and 16.8 % of the test queries (LSTM, 10 and 150 classes).
"""
MANY, AUROC = 150, 0.95  # classes, and the area to hold for them
PARTS_OF_WORSE = ((sum, "worse than no labels"), (max, "largest loss"))
COLUMNS = ["kind", "words", "data", "cell", "seed", "problems", "margins", "evidence", "calibrated", "referee"]
COLUMNS += ["without", "worse", "trained"]
SENSOR_COLUMNS = ["margins", "evidence", "sensor", "networks", "trained"]
SCORES = {
    "largest probability": "network, largest probability",
    "energy": "network, energy",
    "Mahalanobis": "network, Mahalanobis",
    "margin": "modules, margin",
    "discriminant": "modules, discriminant",
    "words": "modules, words",
    "typicality": "modules, typicality",
}


def sections() -> Iterable[str]:
    """Yield the tables, where there are results."""
    votes = files.read_all("votes")
    if votes:
        yield "\n## Votes between networks without labels\n"
        yield VOTES.format(held_out=_worse(votes, "held-out others "), test=_worse(votes))
        yield table(
            COLUMNS,
            _votes(votes),
        )
        yield ""
    unknown = files.read_all("unknown")
    if unknown:
        yield "\n## Unknown inputs\n"
        yield UNKNOWN.format(missed=_missed(unknown))
        yield table(["classes", "cell", *SCORES, "in scope"], [_detected(result) for result in unknown])
        yield ""
        yield REJECTED
        rows = [row for result in unknown for row in _rejected(result)]
        yield table(["classes", "cell", "threshold", "known", "unknown", "right"], rows)
        yield ""
    if votes or unknown:
        yield "\n## Cost of domain evidence\n"
        yield COST
        yield table(["network", "modules", "evidence"], [*_cost(votes, unknown)])
        yield ""
    sensors = files.read_all("sensors")
    if sensors:
        yield "\n## Votes between sensors without labels\n"
        yield SENSORS
        yield table(["gravity", *SENSOR_COLUMNS], [_sensors(result) for result in reversed(sensors)])


def _votes(results: list[dict[str, Any]]) -> Iterable[list[str]]:
    for kind in ("reuse", "replace"):
        for words in ("separate", "joint"):
            found = [(result, result["vocabularies"][words][kind]) for result in results]
            for result, one in found:
                yield [kind, words, result["data"], result["cell"], str(result["seed"]), *_figures([one])]
            yield [f"**{kind}**", f"**{words}**", "all", "all", "all", *_figures([one for _, one in found])]


def _figures(found: list[dict[str, Any]]) -> list[str]:
    shown = [str(sum(one["problems"] for one in found))]
    for name in ("margins", "domain", "domain, calibrated", "domain, referee", "margins, referee"):
        known = [one[name] for one in found if name in one]
        shown.append(f"{100 * fmean(known):.2f}" if known else "-")
    worse = [
        f"{sum(one[f'{way} worse than no labels'] for one in found)}, "
        f"{100 * max(one[f'{way} largest loss'] for one in found):.2f}"
        for way in ("calibrated", "referee")
    ]
    over = [one for one in found if "domain over scratch" in one]
    names = ("margins over scratch", "domain over scratch", "domain, referee over scratch")
    trained = " / ".join(f"{100 * fmean(one[name] for one in over):+.2f}" for name in names) if over else "-"
    return [*shown, " / ".join(worse), trained]


def _worse(results: list[dict[str, Any]], part: str = "") -> str:
    """Report in how many problems labels gave a lower accuracy than the vote without labels, in a part of the data."""
    found = [one for result in results for kinds in result["vocabularies"].values() for one in kinds.values()]
    total, told = sum(one["problems"] for one in found), []
    for way, name in (("calibrated", "a calibration"), ("referee", "a referee")):
        count, most = (use(one[f"{part}{way} {key}"] for one in found) for use, key in PARTS_OF_WORSE)
        told.append(
            f"{name} is worse in {count} of {total} problems"
            + (f", by at most {100 * most:.2f} points" if count else "")
        )
    return " and ".join(told)


def _missed(results: list[dict[str, Any]]) -> str:
    found = []
    for result in results:
        auroc = result["detection"]["test"]["modules, typicality"]["auroc"]
        if result["classes"] == MANY and auroc < AUROC:
            found.append(f"{result['cell']} ({auroc:.4f})")
    return f"{AUROC} is missed by {', '.join(found)}." if found else f"{AUROC} is met by all."


def _cost(votes: list[dict[str, Any]], unknown: list[dict[str, Any]]) -> Iterable[list[str]]:
    for result in votes:
        for name, cost in result.get("cost", {}).items():
            yield _passes(f"{name}, {result['cell']}, seed {result['seed']}", cost)
    for result in unknown:
        if "cost" in result:
            yield _passes(f"clinc, {result['classes']} classes, {result['cell']}", result["cost"])


def _passes(name: str, cost: dict[str, float]) -> list[str]:
    shown = [f"{cost[part] / cost['pass']:.1f}" if part in cost else "-" for part in ("modules", "evidence")]
    return [name, *shown]


def _sensors(result: dict[str, Any]) -> list[str]:
    return [f"{result['gravity']:g}", *(f"{100 * result[n]:.1f}" if n in result else "-" for n in SENSOR_COLUMNS)]


def _detected(result: dict[str, Any]) -> list[str]:
    found = result["detection"]["test"]
    cells = [f"{found[name]['auroc']:.4f} / {100 * found[name]['fpr']:.1f}" for name in SCORES.values()]
    scope = next(iter(result["rejection"].values()))["accuracy"]
    return [str(result["classes"]), result["cell"], *cells, f"{100 * scope:.2f}"]


def _rejected(result: dict[str, Any]) -> Iterable[list[str]]:
    for name, one in result["rejection"].items():
        shares = (one["rejected_known"], one["rejected_unknown"], one["accuracy_with_rejection"])
        yield [str(result["classes"]), result["cell"], name, *(f"{100 * share:.1f}" for share in shares)]

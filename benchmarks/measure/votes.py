"""Votes between modules of two networks without labels: domain evidence (inter rows of Tables III and IV).

Problems are those of :mod:`benchmarks.experiments.table3` and :mod:`benchmarks.experiments.table4`: a class of a
network with one output and a class of a network with many outputs, and all but one class of the first with one of the
second. Networks have one recurrent layer. Settings were chosen on texts of the held-out parts; figures are of the test
parts, and with the prefix ``held-out`` of those parts.
Shapes: N texts, K modules.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import product
from statistics import fmean
from typing import Any

import numpy as np
import torch
from rich.progress import track

from benchmarks import files
from benchmarks.experiments.experiment import SCALES, Run
from benchmarks.experiments.mixing import Mixture
from benchmarks.experiments.voting import EXAMPLES, chosen, first_of_each, joined, right, scaled
from benchmarks.training.classifiers import Model
from unbraid import Composition, Decomposition, compose, decompose
from unbraid.decomposition.domain import gather
from unbraid.modules.domain.evidence import domain_vote
from unbraid.modules.groups import Evidence
from unbraid.modules.voting import calibration, referee

DATA = ("clinc+brown", "mathqa+toxic")
CELLS = ("LSTM", "GRU", "vanilla")
SEEDS = (0, 1, 2)
KEEP, SAMPLES = 0.5, 500
STORED = {"replace": "replace_inter"}  # kind -> results with networks trained for its problems, of seed 0


def run(again: bool) -> None:
    """Measure each pair of networks that is trained and has no result; train the others first with the classifiers."""
    wanted = [
        Run("reuse_inter", data, cell, 1, seed, SCALES["full"]) for seed, cell, data in product(SEEDS, CELLS, DATA)
    ]
    for one in track(wanted, "votes between networks"):
        path = files.RESULTS / "votes" / f"{one.name}.json"
        models = [Model(name, one.cell, 1, one.seed, joint) for name in one.data.split("+") for joint in (False, True)]
        if (again or not path.exists()) and all(model.path.exists() for model in models):
            files.write(path, {"data": one.data, "cell": one.cell, "seed": one.seed, **_measured(one)})


def _measured(one: Run) -> dict[str, Any]:
    torch.set_num_threads(1)
    result: dict[str, Any] = {"examples": EXAMPLES, "vocabularies": {}}
    for joint in (False, True):
        mixture = Mixture(one, joint)
        pairs, size = mixture.pairs(), mixture.sizes[0]
        drawn = pairs[: one.scale.draws]
        if not joint:
            result["pairs"] = len(pairs)
            result["scratch"] = {"reuse": [mixture.scratch([i], j) for i, j in drawn], "replace": _stored(one)}
        made = [_parts(model) for model in mixture.models]
        both = [parts for parts, _ in made]
        if not joint:
            result["cost"] = {model.data: cost for model, (_, cost) in zip(mixture.models, made, strict=True)}
        test, sample = (_seen(both, part) for part in (mixture.test, mixture.sample))
        kinds = {
            "reuse": {(i, j): [i, size + j] for i, j in pairs},
            "replace": {(i, j): [*(k for k in range(size) if k != i), size + j] for i, j in pairs},
        }
        found = {}
        for kind, problems in kinds.items():
            compared = ("margins", "domain") if kind == "reuse" else ("domain",)
            scores = {pair: _accuracies(test, sample, places, size, compared) for pair, places in problems.items()}
            found[kind] = _summary(scores, drawn, result["scratch"][kind])
        result["vocabularies"]["joint" if joint else "separate"] = found
    return result


def _parts(model: Model) -> tuple[Decomposition, dict[str, float]]:
    """Decompose a network; also measure CPU seconds of a pass over the texts, of the modules, and of the evidence."""
    data, network = model.examples, model.network()
    texts = data.texts["train"]
    moments = [time.process_time()]
    network.logits(texts)
    moments.append(time.process_time())
    settings = {"keep": KEEP, "samples_per_class": SAMPLES, "seed": model.seed, "domain": False}
    parts = decompose(network, (texts, data.train[1]), **settings)
    moments.append(time.process_time())
    gather(parts, texts)
    moments.append(time.process_time())
    return parts, dict(zip(("pass", "modules", "evidence"), np.diff(moments).tolist(), strict=True))


def _stored(one: Run) -> list[float] | None:
    """Return the stored accuracies of networks that were trained for the replaced problems; None for other seeds."""
    path = files.RESULTS / STORED["replace"] / f"{one.name}.json"
    return next((r["scratch"] for r in files.read_all(path.parent.name) if _same(r, one)), None)


def _same(result: dict[str, Any], one: Run) -> bool:
    return all(result[name] == getattr(one, name) for name in ("data", "cell", "layers", "seed"))


class Seen:
    """Evidence about N texts by all modules of two networks.

    Args:
        evidence: margins, features and inputs.
        logs: log densities of the texts for each network, (N, 2).
        truth: class of each text, (N,).
    """

    def __init__(self, evidence: Evidence, logs: np.ndarray, truth: np.ndarray) -> None:
        self.evidence, self.logs, self.truth = evidence, logs, truth

    def problem(self, places: Sequence[int]) -> Seen:
        """Select the texts of some classes and their modules."""
        return self._of(places, np.isin(self.truth, places))

    def split(self, places: Sequence[int]) -> tuple[Seen, Seen]:
        """Select the first EXAMPLES texts of some classes, and their other texts."""
        rows, first = np.isin(self.truth, places), first_of_each(self.truth, EXAMPLES)
        return self._of(places, rows & first), self._of(places, rows & ~first)

    def _of(self, places: Sequence[int], rows: np.ndarray) -> Seen:
        ordered = sorted(range(len(places)), key=places.__getitem__)
        truth = np.asarray(ordered)[np.searchsorted(np.sort(places), self.truth[rows])]
        return Seen(chosen(self.evidence, places, rows), self.logs[rows], truth)


def _seen(both: Sequence[Decomposition], texts: Sequence[list[str]]) -> Seen:
    flat = [text for found in texts for text in found]
    pair = compose([next(iter(parts.values())).renamed(str(n)) for n, parts in enumerate(both)])
    logs = pair.domain_logs(flat)
    assert logs is not None
    evidence = joined([Composition(parts).evidence(flat) for parts in both])
    return Seen(evidence, logs, np.repeat(np.arange(len(texts)), [len(found) for found in texts]))


def _accuracies(
    test: Seen, sample: Seen, places: Sequence[int], size: int, compared: Sequence[str]
) -> dict[str, float]:
    """Compute accuracies without labels, and with EXAMPLES labelled texts of each class."""
    parents = [int(place >= size) for place in places]
    said, many, (few, others) = test.problem(places), sample.problem(places), sample.split(places)
    found = {
        "margins": right(said.evidence.margins, said.truth),
        "domain": right(_voted(said.evidence.margins, said.logs, parents), said.truth),
        "domain alone": float((said.logs.argmax(1) == np.asarray(parents)[said.truth]).mean()),
        "held-out margins": right(many.evidence.margins, many.truth),
        "held-out domain": right(_voted(many.evidence.margins, many.logs, parents), many.truth),
        "held-out others domain": right(_voted(others.evidence.margins, others.logs, parents), others.truth),
    }
    for evidence in compared:
        logs = None if evidence == "margins" else few.logs[:, parents]
        scales = calibration.fit(few.evidence.margins, few.truth, parents, domain=logs)
        judge = _referee(few, scales, parents, logs)
        for part, seen in (("", said), ("held-out others ", others)):
            fair = scaled(seen.evidence.margins, scales)
            fair = fair if logs is None else _voted(fair, seen.logs, parents)
            found[f"{part}{evidence}, calibrated"] = right(fair, seen.truth)
            blocks = [torch.from_numpy(block) for block in (*seen.evidence.features, *seen.evidence.read)]
            judged = judge(torch.from_numpy(np.asarray(fair)).float(), blocks).numpy()
            found[f"{part}{evidence}, referee"] = right(judged, seen.truth)
    return found


def _referee(
    labelled: Seen, scales: Sequence[calibration.Scale], parents: Sequence[int], logs: np.ndarray | None
) -> referee.Referee:
    margins = scaled(labelled.evidence.margins, scales)
    blocks = [*labelled.evidence.features, *labelled.evidence.read]
    return referee.fit(margins, blocks, labelled.truth, parents, domain=logs)


def _voted(margins: np.ndarray, logs: np.ndarray, parents: Sequence[int]) -> np.ndarray:
    """Vote with domain evidence, as a composition does."""
    return domain_vote(torch.from_numpy(np.asarray(margins)), logs, parents, False).numpy()


def _summary(
    scores: dict[tuple[int, int], dict[str, float]], drawn: Sequence[tuple[int, int]], scratch: list[float] | None
) -> dict[str, Any]:
    """Compute means over all problems, and differences from networks that were trained for some of them."""
    names = list(next(iter(scores.values())))
    found: dict[str, Any] = {name: fmean(each[name] for each in scores.values()) for name in names}
    for part, kind in product(("", "held-out others "), ("calibrated", "referee")):
        pairs = [(each[f"{part}domain, {kind}"], each[f"{part}domain"]) for each in scores.values()]
        found[f"{part}{kind} worse than no labels"] = sum(fitted < plain for fitted, plain in pairs)
        found[f"{part}{kind} largest loss"] = max(plain - fitted for fitted, plain in pairs)
    if scratch is not None:
        for name in names:
            found[f"{name} over scratch"] = fmean(
                scores[pair][name] - accuracy for pair, accuracy in zip(drawn, scratch, strict=True)
            )
    return {"problems": len(scores), **found}

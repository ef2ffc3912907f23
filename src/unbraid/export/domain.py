"""The domain evidence of a composition in an ONNX file: log densities of the inputs, and the vote with them.

The log density of a text is a sum over its words, so the file has a table with one row for each word index. Where all
networks have one vocabulary, the indices are those of this vocabulary. Otherwise the file has one more input with
indices of the words of :mod:`unbraid.modules.domain.words`. The log density of numbers is that of a Gaussian. Log
densities are computed in float64. Shapes: N examples, T timesteps, D inputs, V words, K modules, P parents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from unbraid.errors import UnbraidError
from unbraid.export.graph import Graph
from unbraid.export.readers import WORDS, Reader, WordsReader, reader_key
from unbraid.modules.composition import Composition
from unbraid.modules.domain.evidence import LARGEST, Densities
from unbraid.modules.domain.views import as_numbers, groups, numbers_read, reads_at_once, words_meant
from unbraid.networks.network import Network

FLOAT, INT64, DOUBLE = 1, 7, 11  # types of ONNX
STEP, TINY = 1.2e-7, 1e-37  # relative and absolute difference of float32 numbers that are told apart


@dataclass(frozen=True)
class DomainInput:
    """The evidence about the values of one input of the file.

    Attributes:
        reader: position of its reader.
        name: name of the input.
        axis: its axis of examples.
        sizes: of the numbers that a Gaussian reads: of an example, or of a timestep. Empty for words.
        at_once: whether the networks read each example at once, and not timestep by timestep.
        densities: the evidence of each parent.
        table: log densities of the word indices, divided by the temperature, float64 (V + 1, P); the last row is for
            all other indices. None for numbers.
    """

    reader: int
    name: str
    axis: int
    sizes: tuple[int, ...]
    at_once: bool
    densities: Densities
    table: Tensor | None

    def logs(self, x: Tensor) -> np.ndarray:
        """Compute the log densities of the values of the input, (N, P)."""
        x = x.cpu().movedim(self.axis, 0)
        if self.table is None:
            return self.densities.logs(as_numbers(x.numpy(), self.at_once))
        last = len(self.table) - 1
        return self.table[torch.where((x < 0) | (x > last), last, x).long()].sum(1).numpy()

    def nodes(self, graph: Graph) -> str:
        """Add the nodes of the log densities; return the name of the result, float64 (N, P)."""
        return self._of_numbers(graph) if self.table is None else self._of_words(graph, self.table)

    def _of_words(self, graph: Graph, table: Tensor) -> str:
        x, last = graph.node("Cast", self.name, to=INT64), graph.numbers(len(table) - 1)
        wrong = graph.node("Or", graph.node("Less", x, graph.numbers(0)), graph.node("Greater", x, last))
        rows = graph.node("Gather", graph.constant(table), graph.node("Where", wrong, last, x))
        return graph.node("ReduceSum", rows, graph.numbers(1 - self.axis), keepdims=0)

    def _of_numbers(self, graph: Graph) -> str:
        x, found = self._rows(graph), []
        for model in self.densities.gaussians:
            factor = np.linalg.cholesky(model.covariance.astype(np.float64))
            constant = -2 * np.log(np.diag(factor)).sum() - len(factor) * np.log(2 * np.pi)
            apart = graph.node("Sub", x, _double(graph, model.means[0]))
            whitened = graph.node("MatMul", apart, _double(graph, np.linalg.inv(factor).T))
            squares = graph.node("ReduceSum", graph.node("Mul", whitened, whitened), graph.numbers(-1), keepdims=1)
            rows = graph.node("Sub", _double(graph, [constant]), squares)
            found.append(rows if self.at_once else graph.node("ReduceSum", rows, graph.numbers(1), keepdims=0))
        scale = _double(graph, [0.5 / self.densities.temperature])
        return graph.node("Mul", graph.node("Concat", *found, axis=-1), scale)

    def _rows(self, graph: Graph) -> str:
        """Add the nodes of :func:`unbraid.modules.domain.views.as_numbers`, (N, D) or (N, T, D)."""
        x = graph.node("Cast", self.name, to=DOUBLE)
        if self.axis:
            x = graph.node("Transpose", x, perm=[1, 0, *range(2, len(self.sizes) + 2)])
        if len(self.sizes) > 1:
            x = graph.node("Reshape", x, graph.numbers(*([0] if self.at_once else [0, 0]), prod(self.sizes)))
        starts = groups(prod(self.sizes))
        if len(starts) == prod(self.sizes):
            return x
        of_group = np.searchsorted(starts, np.arange(prod(self.sizes)), side="right") - 1
        means = np.eye(len(starts))[of_group] / np.bincount(of_group)
        return graph.node("MatMul", x, _double(graph, means))


def with_domain(composition: Composition, readers: list[Reader]) -> tuple[list[Reader], DomainInput | None]:
    """Find the input that domain evidence reads, and add a reader for it where no network reads it.

    Args:
        composition: the composition.
        readers: the readers of its networks.

    Returns:
        all readers, and the evidence; None if the vote does not use it.

    Raises:
        UnbraidError: evidence about inputs that are no single array.
    """
    densities = composition.densities
    if densities is None:
        return readers, None
    if densities.unigrams is not None and composition.needs_text:
        logs = densities.unigrams.logs / densities.temperature
        added = WordsReader.of(densities.unigrams.words, readers)
        return [*readers, added], DomainInput(len(readers), WORDS, 0, (), True, densities, _with_padding(logs))
    parents = [module.parent for module in composition.modules_by_label.values()]
    first = parents[0]
    wanted = reader_key(first, parents)
    at = next(n for n, reader in enumerate(readers) if reader_key(reader.parents[0], parents) == wanted)
    reader = readers[at]
    if len(reader.names) > 1 or (densities.unigrams is None and numbers_read(first, reader.arrays) is None):
        raise UnbraidError(
            f"the vote uses domain evidence about one input, and the file has {reader.names}: export "
            "composition.without_domain(), calibrated again if it was."
        )
    table = None if densities.unigrams is None else _table(first, densities)
    given = reader.given[0]
    at_once = given.dim() == 2 or reads_at_once(first)
    sizes = () if table is not None else tuple(given.shape[1 if at_once else 2 :])
    axis = reader.inputs.axis_of(given) or 0
    return readers, DomainInput(at, reader.names[0], axis, sizes, at_once, densities, table)


def _with_padding(logs: np.ndarray) -> Tensor:
    """Put a row of zeros for padding before log densities of words."""
    return torch.from_numpy(np.concatenate([np.zeros_like(logs[:1]), logs]))


def _table(network: Network, densities: Densities) -> Tensor:
    """Return the log densities of the word indices of a network, (V + 1, P)."""
    assert network.vocabulary is not None and densities.unigrams is not None
    indices = [*range(network.vocabulary.size), -1]
    return torch.from_numpy(densities.logs(words_meant(network, indices)))


def voted(graph: Graph, composition: Composition, margins: str, logs: str) -> str:
    """Add the nodes of :func:`unbraid.modules.domain.evidence.domain_vote`.

    Args:
        graph: the graph.
        composition: the composition.
        margins: calibrated margins, float32 (N, [T,] K).
        logs: log densities, float64 (N, P).

    Returns:
        name of the margins with the evidence, float32 (N, [T,] K).
    """
    parents = torch.tensor(composition.domain_parents)
    best = graph.node("ReduceMax", logs, graph.numbers(1), keepdims=1)
    own = graph.node("Gather", graph.node("Sub", logs, best), graph.constant(parents), axis=1)
    if composition.many_outputs:
        own = graph.node("Unsqueeze", own, graph.numbers(1))
    votes = graph.node("Cast", graph.log_sigmoid(margins), to=DOUBLE)
    missing = graph.node("IsInf", graph.node("Cast", votes, to=FLOAT))
    votes = graph.node("Where", missing, _double(graph, [-LARGEST]), votes)
    scores = graph.node("Add", votes, own)
    found = graph.node("Cast", graph.one_against_rest(scores, len(parents), torch.float64), to=FLOAT)
    if len(set(composition.domain_parents)) == len(parents):
        return found
    keys = margins
    if composition.vote == "probability":
        odds = graph.node("Exp", graph.node("Neg", graph.node("Cast", margins, to=DOUBLE)))
        keys = graph.node("Reciprocal", graph.node("Add", odds, _double(graph, [1.0])))  # Sigmoid of float64 is limited
    return _in_order(graph, found, keys, parents[:, None] == parents)


def _in_order(graph: Graph, found: str, keys: str, alike: Tensor) -> str:
    """Add nodes that give values (N, [T,] K) the order of their keys among the modules of one parent.

    Args:
        graph: the graph.
        found: the values, float32.
        keys: the keys, of the same shape.
        alike: whether two modules have one parent, booleans (K, K).
    """

    def pairs(values: str) -> tuple[str, str]:
        return graph.node("Unsqueeze", values, graph.numbers(-1)), graph.node("Unsqueeze", values, graph.numbers(-2))

    own, other = pairs(keys)
    lower = graph.node("And", graph.node("Less", other, own), graph.constant(alike))
    least = graph.constant(torch.tensor([-torch.inf]))
    not_above = graph.node("And", graph.node("LessOrEqual", other, own), graph.constant(alike))
    values = graph.node("Where", not_above, pairs(found)[1], least)
    raised = graph.node("ReduceMax", values, graph.numbers(-1), keepdims=0)  # the largest of these with no higher key
    own, other = pairs(raised)
    equal = graph.node("Cast", graph.node("And", lower, graph.node("LessOrEqual", own, other)), to=FLOAT)
    ranks = graph.node("ReduceSum", equal, graph.numbers(-1), keepdims=0)
    size = graph.node("Mul", graph.node("Abs", raised), graph.constant(torch.tensor([STEP])))
    step = graph.node("Mul", graph.node("Add", size, graph.constant(torch.tensor([TINY]))), ranks)
    return graph.node("Where", graph.node("IsNaN", found), found, graph.node("Add", raised, step))


def _double(graph: Graph, values: Sequence[float] | np.ndarray) -> str:
    return graph.constant(torch.from_numpy(np.ascontiguousarray(values, np.float64)))

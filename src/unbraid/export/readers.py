"""The inputs of an exported file: one set of tensors for all parents that read the same word indices.

Shapes: N examples, T timesteps, D features.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unbraid.data.vocabulary import Vocabulary
from unbraid.errors import DataError, UnbraidError, warn_caller
from unbraid.export.check import fixed_steps, random_inputs, tensors, with_steps
from unbraid.export.drawing import drawn, first_that_runs
from unbraid.export.pytorch import input_names
from unbraid.modules.composition import Composition
from unbraid.modules.module import ConcernModule
from unbraid.networks.graph_spec import KerasSpec
from unbraid.networks.inputs import Inputs, leaves, map_tree
from unbraid.networks.network import Network
from unbraid.networks.pytorch.body import TorchBody
from unbraid.networks.spec import NetworkSpec
from unbraid.networks.torch_spec import TorchSpec

Exportable = Network | ConcernModule | Composition
WORDS = "domain_words"  # name of the reader and of the input of the words of domain evidence
EXAMPLES = 4  # of a generated example of a Keras graph
STEPS = 5  # timesteps of a generated example
STAGES = ((1, -2), (4, 0), (3, -4))  # number of examples of a probe, and change of T; for networks of stages


@dataclass(frozen=True)
class Reader:
    """Input tensors of a file, and the parents that read them.

    Attributes:
        name: name of a parent, or ``parent_NUMBER``; "" if the file has no other reader.
        parents: the networks.
        inputs: an example with tensors as leaves.
        steps: T if it is fixed, for networks of stages; None otherwise.
        names: names of the tensors in the file.
    """

    name: str
    parents: list[Network]
    inputs: Inputs
    steps: int | None
    names: list[str]

    @property
    def own(self) -> bool:
        """Whether the parents are PyTorch modules of the user."""
        return isinstance(self.parents[0].spec, TorchSpec)

    @property
    def batch(self) -> int | None:
        """The number of examples that every run must have; None for any number."""
        spec = self.parents[0].spec
        return spec.run.batch if isinstance(spec, TorchSpec) else None

    @property
    def batch_axes(self) -> dict[str, int | None]:
        """Name of each tensor -> its axis of examples."""
        return {name: self.inputs.axis_of(tensor) for name, tensor in zip(self.names, self.given, strict=True)}

    @property
    def arrays(self) -> Inputs:
        """The example with arrays as leaves."""
        arrays = map_tree(lambda leaf: leaf.numpy() if isinstance(leaf, Tensor) else leaf, self.inputs.tree)
        return replace(self.inputs, tree=arrays)

    @property
    def given(self) -> list[Tensor]:
        """The tensors of the example."""
        return [leaf for leaf in leaves(self.inputs.tree) if isinstance(leaf, Tensor)]

    def probe(self, rows: int, change: int, changing: list[list[int]]) -> Any:
        """Make inputs of another size.

        Args:
            rows: number of examples. The examples keep their order, because lengths may be sorted.
            change: change of T, where it is not fixed.
            changing: for each tensor, the axes whose size is dynamic, without that of the examples.
        """
        if self.own:
            tree = self.inputs.take(np.sort(np.arange(rows) % len(self.inputs))).tree
            return with_steps(tree, changing, change)
        steps = self.steps or max(1, STEPS + change)
        return random_inputs(self.parents[0], rows, steps, like=self.inputs.tree)


class WordsReader(Reader):
    """The reader of the words of domain evidence, which no network reads.

    Attributes:
        words: the words of the indices from 1; 0 is padding, and the largest index plus one is any other word.
        run_batch: the number of examples that every run must have; None for any number.
    """

    words: list[str]
    run_batch: int | None

    @classmethod
    def of(cls, words: list[str], readers: Sequence[Reader]) -> WordsReader:
        """Make the reader of words beside those of the networks."""
        count = len(readers[0].inputs)
        made = cls(WORDS, [], Inputs(_words_drawn(len(words), count, STEPS), count), None, [WORDS])
        object.__setattr__(made, "words", words)
        object.__setattr__(made, "run_batch", fixed_batch(readers))
        return made

    @property
    def own(self) -> bool:
        """No network reads the words."""
        return False

    @property
    def batch(self) -> int | None:
        """That of the other readers."""
        return self.run_batch

    def probe(self, rows: int, change: int, changing: list[list[int]]) -> Any:
        """Make inputs of another size; arguments as of :meth:`Reader.probe`."""
        return _words_drawn(len(self.words), rows, max(1, STEPS + change))


def _words_drawn(words: int, rows: int, steps: int) -> Tensor:
    return torch.randint(0, words + 2, (rows, steps), generator=torch.Generator().manual_seed(rows))


def find_readers(model: Exportable, example: Any) -> list[Reader]:
    """Find the readers of a model, in the order of its labels.

    Args:
        model: the model.
        example: a batch of inputs, or None.

    Raises:
        DataError: an example is missing or does not fit.
    """
    found: dict[Hashable, list[Network]] = {}
    parents = parents_of(model)
    for parent in parents:
        found.setdefault(reader_key(parent, parents), []).append(parent)
    several = len(found) > 1
    titles = _titles(parents, [group[0] for group in found.values()]) if several else [""]
    return [_reader(model, title, group, example) for title, group in zip(titles, found.values(), strict=True)]


def reader_key(parent: Network, parents: list[Network]) -> Hashable:
    """Return a key that parents with the same input tensors share."""
    words = [own.vocabulary for own in parents]
    digest = None if None in words or parent.vocabulary is None else parent.vocabulary.digest
    spec = parent.spec
    return digest, (tuple(spec.axes), spec.batch_axis) if isinstance(spec, TorchSpec) else None


def parents_of(model: Exportable) -> list[Network]:
    """Return the parent of each module, or the network itself."""
    if isinstance(model, Composition):
        return [module.parent for module in model.modules_by_label.values()]
    return [model if isinstance(model, Network) else model.parent]


def probes(readers: list[Reader], proto: Any) -> Iterator[list[Any]]:
    """Make inputs of several sizes: for each size a list with the tree of each reader.

    Args:
        readers: the readers.
        proto: the exported model, whose inputs name the dynamic sizes.
    """
    dynamic = {
        value.name: [
            axis
            for axis, size in enumerate(value.type.tensor_type.shape.dim)
            if size.dim_param and size.dim_param != "batch"
        ]
        for value in proto.graph.input
    }
    count = next((len(reader.inputs) for reader in readers if reader.own), None)
    own: tuple[tuple[int, int], ...] = (
        () if count is None else ((count, 0), (1, 0), (count + 3, -1), (2, -2), (count, 3))
    )
    if (batch := fixed_batch(readers)) is not None:
        own = tuple((batch, change) for change in (0, -1, 3))
    for rows, change in own or STAGES:
        yield [r.probe(rows, change, [dynamic.get(name, []) for name in r.names]) for r in readers]


def fixed_batch(readers: Sequence[Reader]) -> int | None:
    """Return the number of examples that every run of a file must have; None for any number.

    Raises:
        UnbraidError: the readers need different numbers.
    """
    sizes = {reader.batch for reader in readers}
    if len(sizes) > 1:
        found = ", ".join("any number" if size is None else str(size) for size in sorted(sizes, key=str))
        raise UnbraidError(
            f"the networks of these modules need batches of different sizes ({found}), and one file has one size: "
            "export the modules of each network alone."
        )
    return next(iter(sizes))


def input_sizes(reader: Reader) -> list[int | str]:
    """Sizes of the input of networks of stages; a dynamic size is given by its name."""
    found: list[int | str] = ["batch", *reader.inputs.tree.shape[1:]]
    spec = reader.parents[0].spec
    if reader.steps is None and not (isinstance(spec, NetworkSpec) and spec.shape is not None):
        found[1] = "time"
    return found


def _reader(model: Exportable, title: str, parents: list[Network], example: Any) -> Reader:
    first = parents[0]
    if not isinstance(first.spec, TorchSpec):
        inputs, steps = _suitable(_read_by(model, parents), first, example)
        return Reader(title, parents, inputs, steps, [title or "x"])
    inputs = _given(first, example)
    assert isinstance(first.body, TorchBody)
    names = input_names(first.body.module, inputs.tree)
    if title:
        names = [title] if len(names) == 1 else [f"{title}.{name}" for name in names]
    return Reader(title, parents, inputs, None, names)


def _titles(parents: list[Network], first: list[Network]) -> list[str]:
    """Return the name of one parent of each reader, or its number in the parents; names must differ."""
    numbers = {sha256: number for number, sha256 in enumerate(dict.fromkeys(p.sha256() for p in parents))}
    plain = [f"parent_{numbers[parent.sha256()]}" for parent in first]
    named = [parent.name or number for parent, number in zip(first, plain, strict=True)]
    clear = len(set(named)) == len(named) and not any("." in name for name in named)
    return named if clear and not {"margins", "probabilities", WORDS} & set(named) else plain


def _read_by(model: Exportable, parents: list[Network]) -> list[Network | ConcernModule]:
    """Return the networks or modules whose masks may fix T."""
    if not isinstance(model, Composition):
        return [model]
    own = {id(parent) for parent in parents}
    return [module for module in model.modules_by_label.values() if id(module.parent) in own]


def _given(network: Network, example: Any) -> Inputs:
    keras = isinstance(network.spec, KerasSpec)
    if example is None and isinstance(network.spec, KerasSpec):
        shapes = [one.shape for one in network.spec.graph.inputs]
        found = first_that_runs(network.logits, drawn(shapes, network.spec.vocabularies, EXAMPLES))
        example = None if found is None else found[0]
    if example is None:
        what = "network, which runs on none of the random inputs that were tried" if keras else "PyTorch module"
        raise DataError(
            f"example is needed: a batch of two or more examples for the {what}. Pass it as "
            "export_onnx(..., example=x[:4])."
        )
    inputs, batch = network.check(example), network.spec.run.batch if isinstance(network.spec, TorchSpec) else None
    if batch is not None:
        return tensors(inputs.take(np.arange(batch) % len(inputs)))
    return tensors(inputs if len(inputs) > 1 else inputs.take(torch.zeros(2, dtype=torch.int64).numpy()))


def _suitable(members: list[Network | ConcernModule], parent: Network, example: Any) -> tuple[Inputs, int | None]:
    """Return an example for a network of stages, given or generated, and T if it is fixed."""
    given = None if example is None else tensors(parent.check(example))
    found = (fixed_steps(member, None if given is None else given.tree) for member in members)
    steps = next((fixed for fixed in found if fixed is not None), None)
    if given is None:
        return tensors(parent.check(random_inputs(parent, 2, steps or STEPS))), steps
    if steps not in (None, given.tree.shape[1]):
        raise DataError(
            f"the example has {given.tree.shape[1]} timesteps, the model reads exactly {steps}: pass another example."
        )
    return given, steps


def text_vocabulary(parent: Network) -> Vocabulary | None:
    """Return the vocabulary of a network for its file; None, with a warning, where it cannot read texts with it.

    A file runs what it is given. So a vocabulary that pads at the front of a fixed number of words is left out for a
    module that reads the first words of each row.
    """
    words = parent.vocabulary
    if words is None or words.padding.side == "right" or not isinstance(parent.spec, TorchSpec):
        return words
    known = words.some_words(2)
    try:
        parent.check([known[:1], known])
    except DataError as error:
        warn_caller(f"{error} The file gets no vocabulary, and takes arrays only.")
        return None
    return words

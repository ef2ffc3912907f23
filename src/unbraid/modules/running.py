"""Run the modules of a composition together, and join their results in the order of their labels.

Shapes: N examples, T timesteps, F features of an output layer, K modules.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sized
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor, nn

from unbraid.config import IOArchitecture
from unbraid.data.targets import Label
from unbraid.data.texts import is_text
from unbraid.errors import DataError
from unbraid.modules.arguments import named_modules
from unbraid.modules.compatibility import check_compatible
from unbraid.modules.groups import Evidence, Group, grouped
from unbraid.modules.module import ConcernModule
from unbraid.modules.positions import warn_of_positions
from unbraid.networks.inputs import Inputs, map_tree
from unbraid.networks.outputs import Task


class JointModules(nn.Module):
    """Modules that read the same inputs. Shared parts of their computation run once.

    Args:
        modules: label -> module.

    Attributes:
        labels: the labels, in order.

    Raises:
        IncompatibleModules: no module, or modules that read different inputs.
    """

    def __init__(self, modules: Mapping[Label, ConcernModule]) -> None:
        super().__init__()
        modules = named_modules(modules)
        check_compatible(list(modules.values()))
        self.labels: list[Label] = list(modules)
        self.members = nn.ModuleList(modules.values())
        self._plan = nn.ModuleList(grouped(list(modules.values())))

    @property
    def modules_by_label(self) -> dict[Label, ConcernModule]:
        """Label -> module, in order."""
        return dict(zip(self.labels, self.members, strict=True))  # type: ignore[arg-type]  # members are modules

    @cached_property
    def many_outputs(self) -> bool:
        """Whether the composition makes one decision per timestep, because all of its modules do."""
        return all(m.io.many_outputs for m in self.modules_by_label.values())

    @property
    def independent(self) -> bool:
        """Whether an example can have several labels, because it can in all parent networks."""
        return self.task == "labels"

    @cached_property
    def task(self) -> Task:
        """The task of all parents; ``classification`` where some have independent labels and some have not."""
        tasks = {m.parent.task for m in self.modules_by_label.values()}
        return tasks.pop() if len(tasks) == 1 else "classification"

    @property
    def io(self) -> IOArchitecture:
        """The input/output type. If any module has one output, the composition has one output."""
        ios = [m.io for m in self.modules_by_label.values()]
        return next((io for io in ios if not io.many_outputs), ios[0])

    @property
    def needs_text(self) -> bool:
        """Whether the same word index means different words in different modules."""
        found = {id(v): v for v in (module.parent.vocabulary for module in self.modules_by_label.values())}
        own = {None if v is None else v.words_digest for v in found.values()} if len(found) > 1 else set()
        return None not in own and len(own) > 1

    def align(self, y: Any, x: Any) -> Any:
        """Pad and truncate lists of labels, one per word, in the same way as the words; return others unchanged."""
        reader = self.modules_by_label[self.labels[0]].parent
        return reader.align(y, reader.check(x), x) if is_text(x) else y

    def warn_of_positions(self, y: Any) -> None:
        """Warn of numbers as labels that could also be positions in the labels of a network."""
        own = [module.original or module for module in self.modules_by_label.values()]
        warn_of_positions(y, self.labels, [module.parent.labels for module in own])

    def check_text(self, x: Any) -> None:
        """Raise DataError for word indices if the vocabularies of the modules differ, or for no inputs."""
        if self.needs_text and isinstance(x, Sized) and not len(x):
            raise DataError("inputs are empty: expected at least one example.")
        if self.needs_text and not is_text(x):
            raise DataError("found word indices, but the vocabularies of the modules differ: pass text.")

    def evidence(self, x: Any) -> Evidence:
        """Compute the inputs of a referee for all examples, in batches.

        Returns:
            margins without calibration, features of each module in the order of the labels, and the inputs of the
            parents.

        Raises:
            DataError: the inputs do not fit, or they are word indices and the vocabularies differ.
        """
        self.check_text(x)
        groups = self._groups
        gathered = self._evidence(groups, [group.checked(x) for group in groups])
        return Evidence(*(map_tree(lambda tensor: tensor.numpy(), part) for part in gathered))

    def plain_margins(self, x: Any) -> Tensor:
        """Compute margins of all examples without calibration, (N, [T,] K)."""
        self.check_text(x)
        groups = self._groups
        found = [torch.from_numpy(group.margins(x)) for group in groups]
        steps = sorted({margins.shape[1] for margins in found}) if self.many_outputs else []
        if len(steps) > 1:
            raise DataError(f"the modules give {steps} timesteps on these inputs: compose networks that give as many.")
        return self._joined(groups, found)

    @property
    def groups(self) -> nn.ModuleList:
        """Groups of modules that run together. They are rebuilt after weights have changed."""
        if not torch.compiler.is_compiling() and not all(group.holds() for group in self._plan):  # type: ignore[operator]
            self._plan = nn.ModuleList(grouped(list(self.modules_by_label.values())))
        return self._plan

    @property
    def _groups(self) -> list[Group]:
        return list(self.groups)  # type: ignore[arg-type]  # all are groups

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Apply ``fn`` as torch does, then share equal weights again, because ``fn`` copies them."""
        super()._apply(fn, recurse)
        self._link()
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        other = type(self).__new__(type(self))
        memo[id(self)] = other
        other.__dict__.update({name: copy.deepcopy(value, memo) for name, value in self.__dict__.items()})
        other._link()
        return other

    def _link(self) -> None:
        for group in self._plan:
            group.link()  # type: ignore[operator]  # all are groups

    def _evidence(self, groups: list[Group], inputs: list[Inputs]) -> Evidence:
        """Compute the evidence of all groups as tensors, from the checked inputs of each group."""
        found = [group.all_evidence(each) for group, each in zip(groups, inputs, strict=True)]
        return self._gathered(
            groups, [Evidence(*(map_tree(torch.from_numpy, part) for part in each)) for each in found]
        )

    def _gathered(self, groups: list[Group], found: list[Evidence]) -> Evidence:
        """Join the evidence of all groups, in the order of the labels."""
        features: list[Any] = [None] * len(self.labels)
        for group, each in zip(groups, found, strict=True):
            for place, block in zip(group.places, each.features, strict=True):
                features[place] = block
        read = [block for each in found for block in each.read]
        return Evidence(self._joined(groups, [each.margins for each in found]), features, read)

    def each_by_itself(self, x: Any) -> Tensor:
        """Compute margins (N, [T,] K) module by module, so that gradients reach the weights of each."""
        features: dict[int, Tensor] = {}
        found = []
        for module in self.modules_by_label.values():
            if id(module.body) not in features:
                features[id(module.body)] = module.body(x)
            margins = module.head.margin(features[id(module.body)])
            if margins.dim() == 2 and not self.many_outputs:
                margins = margins.nan_to_num(-torch.inf).amax(dim=1)
            found.append(margins)
        return torch.stack(found, dim=-1)

    def _joined(self, groups: list[Group], found: list[Tensor]) -> Tensor:
        """Join the margins of the groups (N, [T,] k), in the order of the labels."""
        if not self.many_outputs:
            found = [m if m.dim() == 2 else m.nan_to_num(-torch.inf).amax(dim=1) for m in found]  # its best timestep
        places = [place for group in groups for place in group.places]
        joined = found[0] if len(found) == 1 else torch.cat(found, dim=-1)
        if places == sorted(places):
            return joined
        order = sorted(range(len(places)), key=places.__getitem__)
        return joined[..., order]

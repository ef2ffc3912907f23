"""Joint distillation of the modules of one network, towards the probabilities or numbers of their parent.

No labels are used. In each step a module reads a few examples of its own. Examples on which its error was large at the
start are drawn more often. Their losses have smaller weights, so that the mean of the gradients is that of all
examples. Bodies of equal sizes run as one. The loss on held-out examples decides which weights each module keeps.
Sources: Hinton et al. 2015; for the drawing Katharopoulos and Fleuret 2018.
Shapes: K modules, J classes of a module, N examples, T timesteps, F features, R rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unbraid.decomposition.adam import Adam
from unbraid.decomposition.reconstruction.objectives import Objective
from unbraid.networks.heads import Head, margin
from unbraid.networks.inputs import Inputs, to_device
from unbraid.networks.joined import joined, trained_apart
from unbraid.networks.layers import Layer, decomposable_layers
from unbraid.networks.stages import StageSequence
from unbraid.progress import Advance

EXAMPLES = 2_500  # largest number of examples that modules are trained and compared on
HELD_OUT = 5  # one of HELD_OUT examples is held out
LONGEST = 1.0  # largest Euclidean norm of the gradient of a module
EVERY = 20  # steps between two comparisons on the held-out part
PATIENCE = 4  # comparisons without a better module after which training ends
ROWS = 4096  # rows of a batch without gradients, over all modules
MOST = 16  # largest number of modules that are trained together
MEMORY = 2**29  # bytes for what a step keeps for the gradient
VALUES = 12  # numbers that a timestep keeps for the gradient, for each gate and unit


@dataclass(frozen=True)
class Student:
    """A module to train.

    Attributes:
        body: its sliced body, trained in place.
        inputs: indices of the features that its output layer reads.
        cut: whether the body computes only these.
        rows: output rows over [features, 1], (R, F + 1).
        own: indices of the rows of each of the J classes, the dominant row first.
        heads: output layers of the parent, one for each of these classes.
        seed: seed of the examples that are drawn.
    """

    body: nn.Module
    inputs: Tensor
    cut: bool
    rows: Tensor
    own: Sequence[Sequence[int]]
    heads: Sequence[Head]
    seed: int

    def features(self, x: object) -> Tensor:
        """Compute the inputs of the output layer, (N, [T,] F)."""
        found: Tensor = self.body(x)
        return found if self.cut else found[..., self.inputs]


@dataclass(frozen=True)
class Teaching:
    """Examples, and the features of the parent for them.

    Attributes:
        x: the examples.
        used: mask of the decisions to imitate, (N,) or (N, T).
        features: features of the parent, (N, [T,] F).
    """

    x: Inputs
    used: Tensor
    features: Tensor


def trained(
    students: Sequence[Student],
    names: Collection[str],
    teaching: Teaching,
    steps: int,
    objective: Objective,
    advance: Advance = lambda amount: None,
) -> list[Tensor]:
    """Train sliced bodies in place and their output rows.

    Args:
        students: the modules.
        names: names of the layers whose parameters the bodies own.
        teaching: examples of the parent.
        steps: largest number of Adam steps, at least 1.
        objective: the values that the margins give.
        advance: called after each step with the number of modules that took it. Steps that are left out because no
            module became better count as taken, so that the sum is ``steps`` for each module.

    Returns:
        the new rows of each module, (R, F + 1). On the held-out examples no module is further from its parent than
        before.
    """
    together = _Together.of(students, names)
    runners = [together] if together else [_Alone(student, names) for student in students]
    return [rows for runner in runners for rows in _Training(runner, teaching, objective).run(steps, advance)]


def group_size(layers: Iterable[Layer], share: float, timesteps: int, objective: Objective) -> int:
    """Return how many modules are trained together, so that a step needs less than MEMORY.

    Args:
        layers: the layers of the parent that modules have smaller ones of.
        share: share of their units that a module keeps.
        timesteps: number of timesteps.
        objective: of the training.
    """
    values = sum(share * layer.units * (len(layer.cell.gates) if layer.cell else 1) for layer in layers)
    return max(1, min(MOST, int(MEMORY // (4 * VALUES * objective.steps.batch * timesteps * max(values, 1)))))


def _layers(student: Student, names: Collection[str]) -> list[Layer]:
    return [layer for name, layer in decomposable_layers(student.body).items() if name in names]


def _parameters(student: Student, names: Collection[str]) -> list[nn.Parameter]:
    return [p for layer in _layers(student, names) for p in layer.module.parameters()]


class _Alone:
    """One module, whose own body runs."""

    def __init__(self, student: Student, names: Collection[str]) -> None:
        self.students = [student]
        self.parameters = _parameters(student, names)
        for parameter in self.parameters:
            parameter.requires_grad_(True)

    def features(self, x: object) -> Tensor:
        """Compute the features (1, N, [T,] F)."""
        return self.students[0].features(x).unsqueeze(0)

    def each(self, values: Tensor) -> Tensor:
        """Return the values of a parameter with an axis of modules."""
        return values.unsqueeze(0)

    def store(self) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_(False)
            parameter.grad = None


class _Together:
    """K modules whose bodies run as one."""

    def __init__(self, students: Sequence[Student], body: StageSequence, names: Collection[str]) -> None:
        self.students, self.body = students, body
        self.parts = trained_apart(body, _parameters(students[0], names))
        self.parameters = [p for part in self.parts for p in part.parameters()]

    @classmethod
    def of(cls, students: Sequence[Student], names: Collection[str]) -> _Together | None:
        """Join the bodies of modules of one shape; None if they cannot be joined."""
        first = students[0]
        alike = all(
            s.cut and s.rows.shape == first.rows.shape and list(map(list, s.own)) == list(map(list, first.own))
            for s in students
        )
        if len(students) == 1 or not alike or not isinstance(first.body, StageSequence):
            return None
        body = joined(first.body, [s.body for s in students])
        return cls(students, body, names) if isinstance(body, StageSequence) else None

    def features(self, x: Tensor) -> Tensor:
        """Compute the features (K, N, [T,] F) of inputs (K*N, ...)."""
        with torch.no_grad():
            signal = self.body.opening(x)
        return self.body.rest(signal).unflatten(0, (len(self.students), -1))

    def each(self, values: Tensor) -> Tensor:
        """Return the values of a parameter with an axis of modules."""
        return values.unflatten(0, (-1, len(self.students))).transpose(0, 1)  # a parameter has both directions

    def store(self) -> None:
        for part in self.parts:
            part.store()


class _Training:
    """Adam steps of K modules, each on its own examples."""

    def __init__(self, runner: _Alone | _Together, teaching: Teaching, objective: Objective) -> None:
        students = runner.students
        self.runner, self.teaching, self.objective = runner, teaching, objective
        self.device = students[0].rows.device
        self.own = [torch.tensor([list(s.own[j]) for s in students]) for j in range(len(students[0].own))]
        self.rows = nn.Parameter(torch.stack([s.rows for s in students]))
        with torch.no_grad():
            asked = [torch.stack([head.margin(teaching.features) for head in s.heads]) for s in students]
            self.wanted = objective.wanted(torch.stack(asked))  # (K, J, N, [T])
            flat = self.wanted[..., teaching.used].reshape(*self.wanted.shape[:2], -1)
            variance = (
                flat.var(-1, correction=0).clamp(min=1e-12) if objective.scaled else torch.ones_like(flat[..., 0])
            )
        self.scale = variance.reshape(*variance.shape, *[1] * (self.wanted.dim() - 2))
        order = torch.randperm(len(teaching.x), generator=torch.Generator().manual_seed(0))
        held = len(order) // HELD_OUT
        self.held, self.kept = (order[:held], order[held:]) if held else (order, order)

    @property
    def values(self) -> list[Tensor]:
        """All trained values, with an axis of modules."""
        return [self.runner.each(p.detach()) for p in self.runner.parameters] + [self.rows.detach()]

    def run(self, steps: int, advance: Advance) -> list[Tensor]:
        """Train; return the rows of each module."""
        modules = len(self.runner.students)
        optimizer, way = Adam([*self.runner.parameters, self.rows]), self.objective.steps
        losses, errors = self._judged(torch.arange(len(self.teaching.x)))
        best, found = losses[:, self.held].mean(1), [value.clone() for value in self.values]
        drawn, weights = self._drawn(errors[:, self.kept], steps)
        unchanged = 0
        for step in range(steps):
            optimizer.clear()
            own = slice(step * way.batch, (step + 1) * way.batch)
            (self._losses(drawn[:, own]) * weights[:, own]).mean(1).sum().backward()
            self._clip()
            optimizer.step(way.rate * ((1 + math.cos(math.pi * step / steps)) / 2 if way.falls else 1.0))
            advance(modules)
            if (step + 1) % EVERY and step + 1 < steps:
                continue
            now = self._judged(self.held)[0].mean(1)
            better = now < best
            best = torch.where(better, now, best)
            for value, kept in zip(self.values, found, strict=True):
                kept[better] = value[better]
            unchanged = 0 if better.any() else unchanged + 1
            if unchanged == PATIENCE:
                advance(modules * (steps - step - 1))
                break
        for value, kept in zip(self.values, found, strict=True):
            value.copy_(kept)
        self.runner.store()
        return list(self.rows.detach())

    def _drawn(self, errors: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Draw the examples of all steps; return their rows and the weights of their losses, (K, batch * steps)."""
        way, errors = self.objective.steps, errors.nan_to_num(posinf=0.0)  # what cannot be compared is drawn evenly
        total = errors.sum(1, keepdim=True)
        even = torch.full_like(errors, 1 / errors.shape[1])
        chances = torch.where(total > 0, way.even * even + (1 - way.even) * errors / total.clamp(min=1e-30), even).cpu()
        places = torch.stack(
            [
                torch.multinomial(
                    own, way.batch * steps, replacement=True, generator=torch.Generator().manual_seed(student.seed)
                )
                for own, student in zip(chances, self.runner.students, strict=True)
            ]
        )
        weights = 1 / (errors.shape[1] * chances.gather(1, places))
        return self.kept[places], weights.to(self.device)

    def _margins(self, rows: Tensor) -> Tensor:
        """Compute the margins (K, J, n, [T]) of the modules for examples of their own, rows (K, n)."""
        x = self.teaching.x.take(rows.flatten().numpy())
        features = self.runner.features(to_device(next(x.batches(len(x))), self.device))
        modules = torch.arange(len(rows), device=self.device).unsqueeze(1)
        flat = features.flatten(1, -2)
        found = []
        for own in self.own:
            chosen = self.rows[modules, own.to(self.device)]  # (K, r, F + 1)
            scores = torch.baddbmm(chosen[..., -1].unsqueeze(1), flat, chosen[..., :-1].transpose(1, 2))
            found.append(margin(scores).view(features.shape[:-1]))
        return torch.stack(found, 1)

    def _compared(self, rows: Tensor, compare: Callable[[Tensor, Tensor], Tensor], scale: Tensor) -> Tensor:
        """Compare margins with what is wanted; return sums over the decisions of each example, (K, n).

        They are divided by the mean number of decisions of an example.
        """
        given, used = self._margins(rows), self.teaching.used[rows]  # used: (K, n, [T])
        modules = torch.arange(len(rows)).unsqueeze(1)
        wanted = self.wanted.movedim(1, -1)[modules, rows].movedim(-1, 1)
        values = torch.where(used.unsqueeze(1), compare(given, wanted) / scale, 0.0).mean(1)
        count = self.teaching.used.sum().clamp(min=1) / len(self.teaching.used)
        return values.flatten(2).sum(-1) / count if values.dim() > 2 else values / count

    def _losses(self, rows: Tensor) -> Tensor:
        return self._compared(rows, self.objective.losses, self.scale)

    @torch.no_grad()
    def _judged(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the losses and the errors of all modules on the same examples, each (K, n)."""
        students = len(self.runner.students)
        losses, errors = [], []
        for part in rows.split(max(1, ROWS // students)):
            alike = part.expand(students, -1)
            losses.append(self._losses(alike))
            errors.append(self._compared(alike, self.objective.errors, self.scale.sqrt()))
        return torch.cat(losses, 1), torch.cat(errors, 1)

    def _clip(self) -> None:
        """Shorten the gradient of each module to at most LONGEST."""
        assert self.rows.grad is not None
        gradients = [self.runner.each(p.grad) for p in self.runner.parameters if p.grad is not None]
        gradients.append(self.rows.grad)
        squares = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0)
        factors = (LONGEST / squares.sqrt().clamp(min=1e-12)).clamp(max=1)
        for gradient in gradients:
            gradient *= factors.view(-1, *[1] * (gradient.dim() - 1))

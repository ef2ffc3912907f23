"""What a module decides: margins, probabilities, claims and labels.

Shapes: N examples, T timesteps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unbraid.config import IOArchitecture, Mode
from unbraid.data.targets import Label
from unbraid.errors import DataError
from unbraid.modules.concern import Concern
from unbraid.networks.heads import Head
from unbraid.networks.inputs import Inputs, run_batched
from unbraid.networks.network import Network
from unbraid.networks.outputs import Task, check_decides
from unbraid.networks.precision import check_values
from unbraid.networks.spec import NetworkSpec


class Deciding(nn.Module):
    """The part of a module that decides; :class:`unbraid.ConcernModule` adds how it is made, compared and stored.

    Attributes:
        body: computes the features.
        head: the output layer.
        label: name of the module.
        concern: the hidden units that the module keeps.
    """

    body: nn.Module
    head: Head
    label: Label
    concern: Concern

    @property
    def parent(self) -> Network:
        """The parent network as it is now."""
        raise NotImplementedError

    @property
    def io(self) -> IOArchitecture:
        """The input/output type of the parent."""
        return self.parent.io

    @property
    def task(self) -> Task:
        """The task of the parent."""
        return self.parent.task

    def forward(self, x: Any) -> Tensor:
        """Compute the margin, the log-odds of the class: (N,), or (N, T) with one decision per timestep."""
        return self.head.margin(self.body(x))

    def check_steps(self, x: Inputs) -> None:
        """Check that an unrolled module was made for inputs of this length.

        Args:
            x: checked inputs of the parent.

        Raises:
            DataError: another number of timesteps, texts of different lengths, or weights on the meta device.
        """
        check_values(self.head, f"module {self.label!r}")
        if self.concern.mode is Mode.ROLLED or self.parent.io.value.startswith("1"):
            return
        if x.ragged:
            raise DataError(
                f"texts have different lengths, but the unrolled module {self.label!r} reads a fixed length: set "
                "steps=... in the vocabulary of the network, or decompose with mode='rolled'."
            )
        if not isinstance(self.parent.spec, NetworkSpec):
            return  # it pads shorter batches itself; longer ones are refused when they run
        steps = next(iter(self.concern.steps.values()))  # the first layer has the timesteps of the input
        if x.array.shape[1] != steps:
            raise DataError(
                f"inputs have {x.array.shape[1]} timesteps, the unrolled module {self.label!r} was made for {steps}: "
                "pad or truncate them, or decompose with mode='rolled'."
            )

    def margins(self, x: Any) -> np.ndarray:
        """Compute the margins of all examples, in batches.

        Args:
            x: inputs as the parent reads them: arrays, or text where the parent has a vocabulary.

        Returns:
            log-odds of the class, float (N,), or (N, T) with one decision per timestep; NaN at padding. Of a regression
            the number before the output activation.

        Raises:
            DataError: the inputs do not fit the network.

        Example:
            >>> import unbraid
            >>> from unbraid.demo.small import small_modules
            >>> parts, x, y = small_modules()
            >>> parts["travel"].margins(x).shape
            (120,)
        """
        self.check_steps(inputs := self.parent.check(x))
        return run_batched(self, inputs, self.head.weight.device, decided=not self.io.many_outputs)

    def predict_proba(self, x: Any) -> np.ndarray:
        """Compute the probability of the class, the sigmoid of the margin.

        Args:
            x: inputs, as for :meth:`margins`.

        Returns:
            float (N,) or (N, T), in [0, 1].

        Raises:
            DataError: the inputs do not fit the network.

        Example:
            >>> import unbraid
            >>> from unbraid.demo.small import small_modules
            >>> parts, x, y = small_modules()
            >>> found = parts["travel"].predict_proba(x)
            >>> bool(((0 <= found) & (found <= 1)).all())
            True
        """
        check_decides(self.task, "predict_proba")
        return torch.sigmoid(torch.from_numpy(self.margins(x))).numpy()

    def claims(self, x: Any) -> np.ndarray:
        """Decide which examples belong to the class: those with a margin above 0.

        Args:
            x: inputs, as for :meth:`margins`.

        Returns:
            booleans (N,) or (N, T).

        Raises:
            DataError: the inputs do not fit the network.

        Example:
            >>> import unbraid
            >>> from unbraid.demo.small import small_modules
            >>> parts, x, y = small_modules()
            >>> parts["travel"].claims(x).dtype
            dtype('bool')
        """
        check_decides(self.task, "claims")
        return self.margins(x) > 0

    def predict(self, x: Any) -> np.ndarray:
        """Give the label of the module for each example that it claims, and None for the others.

        A module of a regression gives its number for each example.

        Args:
            x: inputs, as for :meth:`margins`.

        Returns:
            array of objects, (N,) or (N, T); of a regression floats.

        Raises:
            DataError: the inputs do not fit the network.

        Example:
            >>> import unbraid
            >>> from unbraid.demo.small import small_modules
            >>> parts, x, y = small_modules()
            >>> found = parts["travel"].predict(x)
            >>> set(found) <= {"travel", None}
            True
        """
        if self.task == "regression":
            return self.parent.activate(torch.from_numpy(self.margins(x))).numpy()
        claimed = self.claims(x)
        found = np.full(claimed.shape, None, dtype=object)
        found[claimed] = self.label
        return found

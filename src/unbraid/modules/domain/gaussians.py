"""Gaussian models of numeric inputs, and of the features that an output layer reads, with shrunk covariances.

Shapes: N examples, T timesteps, D numbers, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unbraid.errors import DataError, FormatError

MOST = 512  # largest D
LARGEST = 1e15  # largest absolute value of a mean or a covariance
FLOOR = 1e-6  # variance that is added, as a share of the mean variance


def shrunk(deviations: np.ndarray, count: int) -> np.ndarray:
    """Compute a covariance (D, D) from deviations (N, D), shrunk towards equal variances without correlation.

    The weight of the target is the oracle approximating shrinkage (Chen, Wiesel, Eldar and Hero 2010).

    Args:
        deviations: differences from the mean.
        count: number of independent rows, at most N.
    """
    size = deviations.shape[1]
    found = deviations.T @ deviations / max(len(deviations), 1)
    mean = max(float(np.trace(found)) / size, 1e-12)
    squares, trace = float((found**2).sum()), mean * size
    apart = (count + 1 - 2 / size) * (squares - trace**2 / size)
    weight = 1.0 if apart <= 0 else min(1.0, max(0.0, ((1 - 2 / size) * squares + trace**2) / apart))
    return np.asarray((1 - weight) * found + (weight + FLOOR) * mean * np.eye(size))


@dataclass(frozen=True, eq=False)
class Gaussians:
    """One Gaussian, or one for each class with a common covariance.

    Attributes:
        means: (C, D); C is 1 for the inputs of a network.
        covariance: (D, D), positive definite.

    Raises:
        FormatError: values that are not finite, or a covariance that is not symmetric and positive definite.
    """

    means: np.ndarray
    covariance: np.ndarray

    def __post_init__(self) -> None:
        size = self.means.shape[-1] if self.means.ndim == 2 else 0
        if not 1 <= size <= MOST or self.covariance.shape != (size, size):
            raise FormatError(
                f"found means {self.means.shape} and covariance {self.covariance.shape}, expected (C, D) and (D, D) "
                f"with D from 1 to {MOST}."
            )
        if not (np.abs(self.means) <= LARGEST).all() or not (np.abs(self.covariance) <= LARGEST).all():
            raise FormatError(f"found NaN or values above {LARGEST:g}, expected finite values up to this limit.")
        try:
            np.linalg.cholesky(self.covariance.astype(np.float64))
        except np.linalg.LinAlgError:
            raise FormatError("covariance: not positive definite.") from None
        if not np.allclose(self.covariance, self.covariance.T, rtol=1e-4, atol=1e-12):
            raise FormatError("covariance: not symmetric.")

    def distances(self, values: np.ndarray, label: int, columns: np.ndarray | None = None) -> np.ndarray:
        """Compute squared Mahalanobis distances to the mean of a class, divided by the number of columns.

        Args:
            values: (N, d), some columns of the D numbers.
            label: index of the class, in [0, C).
            columns: which columns the values have, (d,); None for all.

        Returns:
            floats (N,), about 1 for inputs of the class.
        """
        chosen = np.arange(self.means.shape[1]) if columns is None else columns
        apart = values.astype(np.float64) - self.means[label, chosen]
        whitened = np.linalg.solve(
            np.linalg.cholesky(self.covariance[np.ix_(chosen, chosen)].astype(np.float64)), apart.T
        )
        return np.asarray((whitened**2).sum(0) / len(chosen))

    def log_ratios(self, values: np.ndarray, label: int, columns: np.ndarray | None = None) -> np.ndarray:
        """Compute the log density under the mean of a class minus that under the mean of all means, (N,).

        It is linear in the values, so that directions in which no classes differ have no effect. Arguments as of
        :meth:`distances`.
        """
        chosen = np.arange(self.means.shape[1]) if columns is None else columns
        middle = self.means[:, chosen].astype(np.float64).mean(0)
        apart = self.means[label, chosen] - middle
        slope = np.linalg.solve(self.covariance[np.ix_(chosen, chosen)].astype(np.float64), apart)
        return np.asarray((values - middle) @ slope - apart @ slope / 2)

    def density(self, values: np.ndarray) -> np.ndarray:
        """Compute log densities under the first mean, (N,), of values (N, D), or their sum over T of (N, T, D)."""
        if values.shape[-1] != self.means.shape[1]:
            raise DataError(
                f"inputs have {values.shape[-1]} numbers, the domain evidence {self.means.shape[1]}: decompose the "
                "network again, or call without_domain()."
            )
        rows = values.reshape(-1, values.shape[-1])
        factor = np.linalg.cholesky(self.covariance.astype(np.float64))
        constant = np.log(np.diag(factor)).sum() + 0.5 * len(factor) * np.log(2 * np.pi)
        found = -0.5 * self.distances(rows, 0) * len(factor) - constant
        return np.asarray(found.reshape(len(values), -1).sum(1))


def dispersion_of(model: Gaussians, values: np.ndarray) -> float:
    """Measure how much more the distances of held-out values (N, [T,] D) vary than those of independent timesteps.

    Returns:
        at least 1. Timesteps of one example depend on each other, so that their evidence is weaker by this factor.
    """
    if not len(values):
        return 1.0
    size, steps = values.shape[-1], int(np.prod(values.shape[1:-1], dtype=int))
    found = model.distances(values.reshape(-1, size), 0).reshape(len(values), -1).sum(1) * size
    return float(np.clip(((found - size * steps) ** 2).mean() / (2 * size * steps), 1.0, 1e6))

"""Gaussians: distances and densities against the formula, shrinkage, and refusals."""

import numpy as np
import pytest

from unbraid.errors import DataError, FormatError
from unbraid.modules.domain.gaussians import Gaussians, dispersion_of, shrunk


def model(size=3, classes=2, seed=0):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(size, size))
    return Gaussians(rng.normal(size=(classes, size)), root @ root.T + np.eye(size))


def test_distances_are_those_of_the_formula():
    own, values = model(), np.random.default_rng(1).normal(size=(5, 3))
    inverse = np.linalg.inv(own.covariance)
    expected = [(v - own.means[1]) @ inverse @ (v - own.means[1]) / 3 for v in values]
    np.testing.assert_allclose(own.distances(values, 1), expected, rtol=1e-9)


def test_distances_of_some_columns_are_those_of_the_marginal():
    own, values = model(), np.random.default_rng(1).normal(size=(5, 2))
    columns = np.asarray([2, 0])
    inverse = np.linalg.inv(own.covariance[np.ix_(columns, columns)])
    expected = [(v - own.means[0, columns]) @ inverse @ (v - own.means[0, columns]) / 2 for v in values]
    np.testing.assert_allclose(own.distances(values, 0, columns), expected, rtol=1e-9)


def test_the_density_is_that_of_the_formula_and_adds_over_time():
    own, values = model(classes=1), np.random.default_rng(1).normal(size=(4, 6, 3))
    inverse, constant = np.linalg.inv(own.covariance), np.linalg.slogdet(2 * np.pi * own.covariance)[1]
    expected = [
        sum(-0.5 * ((v - own.means[0]) @ inverse @ (v - own.means[0]) + constant) for v in steps) for steps in values
    ]
    np.testing.assert_allclose(own.density(values), expected, rtol=1e-9)
    np.testing.assert_allclose(own.density(values[:, 0]), own.density(values[:, :1]), rtol=1e-9)


def test_few_rows_shrink_the_covariance_more():
    rng = np.random.default_rng(0)
    deviations = rng.normal(size=(2000, 4)) @ np.diag([3.0, 1, 1, 1])

    def correlation(found):
        return np.abs(found - np.diag(np.diag(found))).sum() + np.ptp(np.diag(found))

    few, many = shrunk(deviations[:5], 5), shrunk(deviations, 2000)
    np.testing.assert_allclose(many, np.cov(deviations.T, bias=True), atol=0.1)
    assert correlation(few) < correlation(deviations[:5].T @ deviations[:5] / 5)
    assert np.linalg.eigvalsh(shrunk(np.zeros((3, 2)), 3)).min() > 0


def test_equal_timesteps_have_the_dispersion_of_their_number():
    rng = np.random.default_rng(0)
    own = Gaussians(np.zeros((1, 2)), np.eye(2))
    apart, together = rng.normal(size=(3000, 8, 2)), np.repeat(rng.normal(size=(3000, 1, 2)), 8, axis=1)
    assert dispersion_of(own, apart) == pytest.approx(1, abs=0.15)
    assert dispersion_of(own, together) == pytest.approx(8, rel=0.15)
    assert dispersion_of(own, apart[:0]) == 1


@pytest.mark.parametrize(
    ("means", "covariance"),
    [
        (np.zeros((1, 2)), np.eye(3)),
        (np.zeros(2), np.eye(2)),
        (np.zeros((1, 2)), np.zeros((2, 2))),
        (np.zeros((1, 2)), -np.eye(2)),
        (np.zeros((1, 2)), np.asarray([[1, 0.5], [0, 1]])),
        (np.full((1, 2), np.nan), np.eye(2)),
        (np.zeros((1, 2)), np.full((2, 2), np.inf)),
        (np.zeros((1, 0)), np.zeros((0, 0))),
        (np.zeros((1, 600)), np.eye(600)),
    ],
)
def test_values_that_cannot_be_are_refused(means, covariance):
    with pytest.raises(FormatError):
        Gaussians(means, covariance)


def test_inputs_of_another_width_are_refused():
    with pytest.raises(DataError, match="3 numbers"):
        Gaussians(np.zeros((1, 2)), np.eye(2)).density(np.zeros((4, 3)))


def test_log_ratios_are_differences_of_distances():
    own, values = model(size=4, classes=3), np.random.default_rng(1).normal(size=(6, 4))
    middle = Gaussians(own.means.mean(0, keepdims=True), own.covariance)
    expected = 4 * (middle.distances(values, 0) - own.distances(values, 2)) / 2
    np.testing.assert_allclose(own.log_ratios(values, 2), expected, rtol=1e-9)
    columns = np.asarray([3, 1])
    expected = middle.distances(values[:, columns], 0, columns) - own.distances(values[:, columns], 1, columns)
    np.testing.assert_allclose(own.log_ratios(values[:, columns], 1, columns), expected, rtol=1e-9)


def test_the_log_ratio_of_a_single_class_is_zero():
    assert not model(classes=1).log_ratios(np.ones((2, 3)), 0).any()

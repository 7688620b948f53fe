"""A rotation between two spaces is found, and is SciPy's where the rows say all."""

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from scipy.stats import ortho_group

from tsds_jax.encoders.alignment import rotation_between
from tsds_jax.errors import InputError

RNG = np.random.default_rng(0)


def test_a_rotated_and_moved_space_is_brought_back():
    x, turn = RNG.normal(size=(300, 12)), ortho_group.rvs(12, random_state=1)
    target = x @ turn + 5
    rotation = rotation_between(x, target)
    np.testing.assert_allclose(rotation.apply(x), target, atol=0.05)
    np.testing.assert_allclose(rotation.matrix @ rotation.matrix.T, np.eye(12), atol=1e-9)
    more = RNG.normal(size=(5, 12))
    np.testing.assert_allclose(rotation.apply(more), more @ turn + 5, atol=0.05)


def test_with_many_rows_it_is_scipys():
    x = RNG.normal(size=(4000, 6))
    target = x @ ortho_group.rvs(6, random_state=2) + 0.3 * RNG.normal(size=x.shape)
    expected, _ = orthogonal_procrustes(x - x.mean(0), target - target.mean(0))
    np.testing.assert_allclose(rotation_between(x, target).matrix, expected, atol=2e-3)


def test_directions_of_which_the_rows_say_nothing_do_not_turn():
    x = np.zeros((50, 4))
    x[:, :2] = RNG.normal(size=(50, 2))
    matrix = rotation_between(x, x[:, [1, 0, 2, 3]]).matrix
    np.testing.assert_allclose(np.abs(matrix[2:, 2:]), np.eye(2), atol=1e-6)
    np.testing.assert_allclose(matrix[:2, :2], [[0, 1], [1, 0]], atol=0.05)


def test_other_rows_are_refused():
    with pytest.raises(InputError, match=r"shape \(3, 2\), and where they shall lie \(4, 2\)"):
        rotation_between(np.zeros((3, 2)), np.zeros((4, 2)))

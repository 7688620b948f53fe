"""Fits with one point more: the pull of the point, fewer features, and sums by kernels."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from tsds_jax.games import logistic_game
from tsds_jax.games.fused import LANES, curvature_sums, gradient_sums
from tsds_jax.games.one_more import EXACT, Accuracy, Own, fit_one_more, known_fit, own_residual
from tsds_jax.games.products import near

_own_residual = jax.jit(own_residual)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.floats(-1e3, 1e3), st.floats(-6, 6), st.floats(0.01, 100))
def test_a_points_own_residual_solves_its_equation_however_far_on_the_wrong_side_it_is(logit, size, weight):
    reach = 10**size
    found = _own_residual(*(jnp.asarray([number], jnp.float32) for number in (logit, reach, weight)))
    exact = brentq(lambda t: t + weight * expit(logit + t * reach), -weight, weight, xtol=1e-15, rtol=1e-14)
    # What is left is the rounding of the logit: float32 has seven digits of the larger of its two parts.
    assert abs(float(found[0]) - exact) <= 1e-6 * weight + 3e-7 * (abs(logit) + abs(exact) * reach) / max(reach, 1.0)


def anchored(points, features, seed=0, members=60, **options):
    """A game, its fit to the first players, and the others."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(points, features)).astype(np.float32)
    y = (x @ rng.normal(size=features) * 2 + rng.logistic(size=points) > 0).astype(int)
    game = logistic_game(x, y, x[:30], y[:30], classes=2, utility="log_likelihood", **options)
    model = jax.jit(type(game).fit)(game, jnp.arange(points - 1, dtype=jnp.int32), jnp.int32(members)).model
    own = Own(game.x[members:], game.y[members:], game.weight[members:])
    return game, (model.rows[:members], model.labels[:members], model.weight[:members], model.known, own)


@pytest.mark.slow
def test_six_iterations_reach_every_fit_however_much_one_point_weighs():
    # Of 128 features and 100 members a new point's pull is some 50 times what it was among them.
    game, given = anchored(1000, 128, members=100)
    found = fit_one_more(*given, Accuracy(1e-3, (6,), near))
    assert found.converged.all()
    for lane in (0, 300, 899):
        member = np.r_[:100, 100 + lane]
        theirs = LogisticRegression(tol=1e-10, max_iter=10_000).fit(game.x[member, :-1], game.y[member])
        expected = np.append(theirs.coef_[0], theirs.intercept_)
        parameters = np.asarray(given[3].parameters + found.root @ found.change[lane])
        np.testing.assert_allclose(parameters, expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("intercept", ["free", "penalised", "none"])
@pytest.mark.parametrize("members", [0, 1, 2, 7, 16])
def test_fits_in_the_span_of_a_few_rows_are_those_in_all_features(intercept, members, monkeypatch):
    game, (*_, known, _) = anchored(200, 64, members=members, intercept=intercept)
    # The members too, of which nothing is asked: so there is one shape, however many they are.
    own = Own(game.x, game.y, game.weight)
    # As many rows as a small coalition has room for; behind the members some stand twice.
    place = jnp.minimum(jnp.arange(16), max(members, 12))
    given = (game.x[place], game.y[place], 1.0 * (jnp.arange(16) < members), known, own, EXACT)

    def fitted(worth):
        with monkeypatch.context() as patched:
            patched.setattr("tsds_jax.games.one_more._WORTH", worth)
            return fit_one_more(*given)

    turned, plain = fitted(1.25), fitted(1e9)
    np.testing.assert_array_equal(turned.both[members:], plain.both[members:])
    assert turned.converged[members:].all()
    assert plain.converged[members:].all()
    both = np.asarray(plain.both) & (np.arange(200) >= members)
    turned_change, plain_change = (np.asarray(fit.change @ fit.root.T)[both] for fit in (turned, plain))
    largest = np.abs(plain_change).max(initial=0.0)
    # An intercept that two or three points hold is a flat direction; the fewer features come closer to its minimum.
    tolerance = 5e-4 if members < 4 else 5e-5
    np.testing.assert_allclose(turned_change, plain_change, atol=tolerance * largest)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 3])
def test_at_a_weak_penalty_contributions_to_members_that_can_nearly_be_told_apart_are_those_of_refits(classes):
    # Some points pull so hard that a Newton step along their direction moved logits by hundreds, and never came back.
    rng = np.random.default_rng(3)
    x = rng.normal(size=(500, 32)).astype(np.float32)
    y = np.argmax(x @ rng.normal(size=(32, classes)) + rng.gumbel(size=(500, classes)), 1)
    game = logistic_game(x, y, x[:100], y[:100], classes=classes, utility="log_likelihood", C=1000.0)
    members, points = np.arange(200, 260), np.arange(300, 320)
    fit = jax.jit(type(game).fit)(game, jnp.asarray(members, jnp.int32), jnp.int32(60)).model
    found = jax.jit(type(game).add_one_marginals)(game, fit, jnp.asarray(points)).marginal

    def refit(point):
        pair = game.prefix_utilities(jnp.append(members, point), jnp.asarray([60, 61])).utility
        return pair[1] - pair[0]

    expected = np.asarray(jax.jit(jax.vmap(refit))(points))
    np.testing.assert_allclose(found, expected, atol=0.05 * np.abs(expected).max())


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_coordinates_of_a_known_fit_make_its_hessian_the_identity_however_ill_conditioned_it_is(scale):
    # Columns a thousand times as large as others, and a penalty of 1e-5: a condition number of 1e10 and more.
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 20)) * np.where(np.arange(20) < 10, scale, 1.0)
    rows[:, -1] = 1.0
    ridge, labels = np.where(np.arange(20) < 19, 1e-5, 0.0), rng.integers(0, 2, 60)
    given = (jnp.asarray(labels), jnp.ones(60), jnp.zeros(20), jnp.asarray(ridge, jnp.float32))
    known = jax.jit(known_fit)(jnp.asarray(rows, jnp.float32), *given)
    assert known.sound
    root = np.asarray(known.root, np.float64)
    turned = np.float32(rows) @ root
    hessian = 0.25 * turned.T @ turned + root.T @ (ridge[:, None] * root)
    np.testing.assert_allclose(hessian, np.eye(20), atol=3e-5)


@pytest.mark.parametrize(("features", "rows"), [(16, 1), (48, 37), (144, 70)])
@pytest.mark.parametrize("near_ones", [True, False])
def test_sums_by_a_kernel_are_those_of_numpy_in_float64(features, rows, near_ones):
    rng = np.random.default_rng(0)
    point, direction = rng.normal(size=(2, 2 * LANES, features)) * features**-0.5
    x, logit, weight = rng.normal(size=(rows, features)), rng.normal(size=rows), rng.uniform(0.5, 2, rows)
    weight[rows // 2] = 0.0
    known, p = expit(logit), expit(logit + point @ x.T)
    there = known * (1 - known)
    expected = (
        (weight * (p - known - there * (point @ x.T))) @ x,
        (weight * (p * (1 - p) - there) * (direction @ x.T) ** 2).sum(1),
        ((weight != 0) * (direction @ x.T) ** 4).sum(1),
    )

    point, direction, x, weight, logit = (jnp.asarray(a, jnp.float32) for a in (point, direction, x, weight, logit))
    found = (
        gradient_sums(point, x, weight, logit, near=near_ones),
        *curvature_sums(point, direction, x, weight, logit, near=near_ones),
    )
    tolerance = 2e-3 if near_ones and jax.default_backend() == "gpu" else 5e-6
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=tolerance * np.abs(theirs).max())


@cache
def _marginals(most):
    """Of each ``most`` another function: of one, what was compiled with kernels would be called without them too."""
    return jax.jit(lambda game, model, points: game.add_one_marginals(model, points))


@pytest.mark.slow
@pytest.mark.parametrize(("features", "members"), [(20, 0), (20, 1), (20, 9), (20, 60), (64, 9)])
def test_contributions_by_kernels_are_those_without(features, members, monkeypatch):
    game, _ = anchored(200, features, members=members)
    model = jax.jit(type(game).fit)(game, jnp.arange(199, dtype=jnp.int32), jnp.int32(members)).model

    def marginals(most):
        with monkeypatch.context() as patched:
            # Of 64 features too many for a kernel, the span of a few members is not.
            patched.setattr("tsds_jax.games.one_more.fits_in_kernel", lambda features, dtype: features <= most)
            return _marginals(most)(game, model, jnp.arange(70, 170))

    ours, plain = marginals(48), marginals(0)
    assert ours.unconverged.sum() == plain.unconverged.sum() == 0
    np.testing.assert_allclose(ours.marginal, plain.marginal, atol=1e-3 * np.abs(plain.marginal).max() + 1e-7)


def test_contributions_are_numbers_and_counted_where_one_member_and_hardly_a_penalty_leave_no_coordinates():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 60)).astype(np.float32)
    x[0] *= 30
    y = (x @ rng.normal(size=60) / 60**0.5 + rng.logistic(size=12) > 0).astype(int)
    game = logistic_game(x, y, x, y, classes=2, utility="log_likelihood", C=1e8)
    fit = jax.jit(type(game).fit)(game, jnp.arange(12, dtype=jnp.int32), jnp.int32(1)).model
    assert not fit.known.sound  # or this test would show nothing
    found = jax.jit(type(game).add_one_marginals)(game, fit, jnp.arange(1, 12))
    assert np.isfinite(found.marginal).all()
    other = y[1:] != y[0]  # of one class alone no fit is asked
    np.testing.assert_array_equal(found.unconverged, other)

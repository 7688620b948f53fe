"""Softmax regressions with one point more: what a point pulls at, and the fits that begin there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tsds_jax.games import logistic_game, one_more_softmax
from tsds_jax.games.binary import class_mass
from tsds_jax.games.leave_one_out import leave_one_out
from tsds_jax.games.one_more import EXACT, Own
from tsds_jax.games.one_more_softmax import fit_one_more_softmax, known_softmax, pulled
from tsds_jax.games.softmax import fit_softmax

CLASSES, FEATURES, LANES = 4, 6, 40


def metric(kind):
    """An inverse Hessian of a kind beside points, and as one matrix."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(LANES, FEATURES)).astype(np.float32)

    def inverse(size):
        root = rng.normal(size=(size, size)) / np.sqrt(size)
        return root @ root.T + 0.1 * np.eye(size)

    if kind == "together":
        given = inverse(CLASSES * FEATURES)
        whole = given.reshape(CLASSES, FEATURES, CLASSES, FEATURES)
    else:
        given = np.stack([inverse(FEATURES) for _ in range(CLASSES if kind == "apart" else 1)])
        whole = np.einsum("cfg,cd->cfdg", np.broadcast_to(given, (CLASSES, FEATURES, FEATURES)), np.eye(CLASSES))
    known = one_more_softmax.KnownSoftmax(
        jnp.zeros(CLASSES * FEATURES), jnp.asarray(given, jnp.float32), jnp.asarray(True)
    )
    across = np.einsum("lf,cfdg,lg->lcd", x, whole, x)
    return jax.jit(lambda: one_more_softmax._metric(known, x, CLASSES))(), x, whole, across


KINDS = pytest.mark.parametrize("kind", ["together", "apart", "alike"])


@KINDS
def test_a_metric_does_to_a_point_what_its_matrix_does(kind):
    found, x, whole, across = metric(kind)
    rng = np.random.default_rng(4)
    gradient, pull = rng.normal(size=(LANES, CLASSES, FEATURES)), rng.normal(size=(LANES, CLASSES))
    np.testing.assert_allclose(found.step(gradient), np.einsum("lcf,cfdg->ldg", gradient, whole), atol=1e-4)
    np.testing.assert_allclose(found.lift(pull), np.einsum("lc,lf,cfdg->ldg", pull, x, whole), atol=1e-4)
    np.testing.assert_allclose(found.reach(pull), np.einsum("lc,lcd->ld", pull, across), atol=1e-4)


@KINDS
def test_a_points_curvature_is_taken_into_the_metric_as_woodbury_says(kind):
    found, _, _, across = metric(kind)
    rng = np.random.default_rng(5)
    probability = rng.dirichlet(np.full(CLASSES, 0.3), LANES)
    probability[0], probability[1] = [0, 1, 0, 0], [0.5, 0, 0, 0.5]
    weight, given = rng.exponential(size=LANES), rng.normal(size=(LANES, CLASSES))
    if kind == "together":  # the others leave points of negative weight in
        weight[::2] *= -0.5 / np.linalg.eigvalsh(across[::2]).max(1)
    curved = weight[:, None, None] * (
        np.eye(CLASSES) * probability[:, None] - probability[:, :, None] * probability[:, None]
    )
    expected = np.linalg.solve(np.eye(CLASSES) + curved @ across, curved @ given[:, :, None])[:, :, 0]

    @jax.jit
    def bent(probability, weight, given):
        return found.bend(probability, weight)(given)

    single = [jnp.asarray(array, jnp.float32) for array in (probability, weight, given)]
    np.testing.assert_allclose(bent(*single), expected, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [3, 20])
def test_a_point_can_be_taken_out_again(classes):
    x, y = problem(classes, points=120)
    game = logistic_game(x, y, x[:50], y[:50], classes=classes, utility="log_likelihood")
    order = jnp.arange(120)

    @jax.jit
    def without(point):
        rest = jnp.where(jnp.arange(120) < point, order, jnp.append(order[1:], 0))
        return game.prefix_utilities(rest, jnp.array([119])).utility[0]

    whole = jax.jit(lambda: game.prefix_utilities(order, jnp.array([120])).utility[0])()
    values, unconverged = leave_one_out(game)
    assert unconverged == 0
    assert np.abs(values).max() > 1e-3
    expected = [float(whole - without(point)) for point in range(0, 120, 12)]
    np.testing.assert_allclose(values[::12], expected, atol=1e-4)


@KINDS
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_a_points_pulls_solve_their_equations(kind, scale):
    found, _, _, across = metric(kind)
    rng = np.random.default_rng(6)
    logit = (scale * rng.normal(size=(LANES, CLASSES))).astype(np.float32)
    y, weight = rng.integers(0, CLASSES, LANES), rng.exponential(size=LANES).astype(np.float32)
    present = rng.random((LANES, CLASSES)) < 0.8
    present[np.arange(LANES), y] = True
    own = Own(jnp.zeros((LANES, FEATURES)), jnp.asarray(y), jnp.asarray(weight))
    pull = np.asarray(jax.jit(one_more_softmax._own_pulls)(logit, found, present, own))
    there = np.where(present, logit + np.einsum("lc,lcd->ld", pull, across), -np.inf)
    probability = np.exp(there - there.max(1, keepdims=True))
    probability /= probability.sum(1, keepdims=True)
    off = np.abs(pull - weight[:, None] * (np.eye(CLASSES)[y] - probability)).max(1)
    assert np.median(off) < 1e-4
    assert off.max() < 0.1 * weight.max()
    np.testing.assert_allclose(pull.sum(1), 0, atol=1e-5)
    assert (pull[~present] == 0).all()


def problem(classes, points=400, features=8):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(points, features)).astype(np.float32)
    y = np.argmax(2 * x @ rng.normal(size=(features, classes)) + rng.gumbel(size=(points, classes)), 1)
    return x, y


@pytest.mark.slow
def test_most_fits_are_there_after_a_step_or_two_and_all_after_ten():
    # From the fit without, and without the point's own curvature, half took four steps or more and all twelve.
    x, y = problem(3)
    game = logistic_game(x, y, x[:9], y[:9], classes=3)
    members, points = slice(0, 100), slice(100, 400)
    rows, labels, weight = game.x[members], game.y[members], game.weight[members]
    own = Own(game.x[points], game.y[points], game.weight[points])

    @jax.jit
    def share(steps):
        fit = fit_softmax(rows, labels, weight[None], game.ridge, 3).parameters[0]
        known = known_softmax(rows, labels, weight, fit, game.ridge, 3)
        accuracy = EXACT._replace(tolerance=1e-3, steps=(steps,))
        begun = pulled(known, own, class_mass(labels, weight[None], 3)[0])
        return jnp.mean(fit_one_more_softmax(rows, labels, weight, game.ridge, begun, accuracy).converged)

    assert share(1) > 0.6
    assert share(2) > 0.8
    assert share(10) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "largest"), [(3, 2**22), (20, 2**22), (20, 0)])
def test_contributions_are_those_of_refits_whatever_is_known_of_the_hessian(classes, largest, monkeypatch):
    monkeypatch.setattr(one_more_softmax, "_LARGEST_BLOCKS", largest)
    x, y = problem(classes)
    game = logistic_game(x, y, x[:50], y[:50], classes=classes, utility="log_likelihood")
    order, points = jnp.arange(90), jnp.arange(90, 110)

    @jax.jit
    def added(size):
        fitted = game.fit(order, size)
        return fitted.unconverged, game.add_one_marginals(fitted.model, points)

    @jax.jit
    def refitted(size):
        def one(point):
            with_it = jnp.where(jnp.arange(91) == size, point, jnp.append(order, 0))
            utility = game.prefix_utilities(with_it, jnp.stack([size, size + 1])).utility
            return utility[1] - utility[0]

        return jax.lax.map(one, points)

    for members in (3, 30, 90):
        unconverged, found = added(members)
        assert int(unconverged) == 0
        assert not found.unconverged.any()
        expected = refitted(members)
        np.testing.assert_allclose(found.marginal, expected, atol=2e-4 * float(jnp.max(jnp.abs(expected))) + 2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [3, 20])
@pytest.mark.parametrize("C", [1.0, 10.0])
def test_contributions_of_a_class_that_no_member_has_are_those_of_refits(classes, C):
    # One point holds its class's intercept as one point does. Held as by all members it went a percent too short.
    x, y = problem(classes)
    order = np.argsort(y == 1, kind="stable")
    x, y = x[order], y[order]
    members, points = np.arange(200), np.flatnonzero(y == 1)[:6]
    game = logistic_game(x, y, x[:100], y[:100], classes=classes, utility="log_likelihood", C=C)
    assert_contributions_are_those_of_refits(game, members, points, 5e-3)


def assert_contributions_are_those_of_refits(game, members, points, tolerance):
    size = len(members)
    fit = jax.jit(type(game).fit)(game, jnp.asarray(members, jnp.int32), jnp.int32(size)).model
    found = jax.jit(type(game).add_one_marginals)(game, fit, jnp.asarray(points))

    def refit(point):
        pair = game.prefix_utilities(jnp.append(members, point), jnp.asarray([size, size + 1])).utility
        return pair[1] - pair[0]

    expected = np.asarray(jax.jit(jax.vmap(refit))(points))
    assert not found.unconverged.any()
    np.testing.assert_allclose(found.marginal, expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 12])
def test_contributions_of_three_classes_are_those_of_refits_where_features_outnumber_rows(size):
    # Members of one class curve nothing, and those that can be told apart hardly anything beside the Hessian's bound.
    rng = np.random.default_rng(5)
    x = rng.normal(size=(24, 200)).astype(np.float32)
    y = np.argmax(x @ rng.normal(size=(200, 3)) / 200**0.5 + rng.gumbel(size=(24, 3)), 1)
    game = logistic_game(x, y, x, y, classes=3, utility="log_likelihood", C=100.0)
    order = np.random.default_rng(1).permutation(24)
    assert_contributions_are_those_of_refits(game, order[:size], order[size:][:8], 5e-4)


@pytest.mark.slow
def test_contributions_of_three_classes_are_those_of_refits_in_whatever_units_the_features_are():
    # A constant added to a column in all classes was held by its penalty alone, ten orders below the rest.
    x, y = problem(3, features=5)
    x = np.float32(x * [1e5, 3e2, 1, 1e-2, 1e-4])
    game = logistic_game(x, y, x[:100], y[:100], classes=3, utility="log_likelihood")
    assert_contributions_are_those_of_refits(game, np.arange(200, 240), np.arange(300, 320), 2e-3)

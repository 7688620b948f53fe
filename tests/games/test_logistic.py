"""The logistic game against scikit-learn, fit by fit, and its conventions where there is nothing to fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from tsds_jax.games import UTILITIES, logistic_game, utility
from tsds_jax.games.logistic import fit_binary, fit_softmax


def problem(points=60, features=5, rows=40, classes=2, seed=0, noise=1.0, scale=1.0):
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(features, classes))
    x = rng.normal(size=(points + rows, features)) * scale
    y = np.argmax(x / scale @ directions + noise * rng.gumbel(size=(points + rows, classes)), 1)
    return x[:points].astype(np.float32), y[:points], x[points:].astype(np.float32), y[points:]


def prefixes(points):
    return jnp.asarray(np.arange(points) < np.arange(points + 1)[:, None], jnp.float32)


def sklearn_fit(x, y, C):
    model = LogisticRegression(C=C, tol=1e-12, max_iter=100_000)
    return model.fit(x.astype(np.float64), y)


@pytest.mark.parametrize("C", [0.01, 1.0, 30.0])
def test_binary_fits_of_every_prefix_are_scikit_learns(C):
    x, y, *_ = problem()
    rows = jnp.concatenate([jnp.asarray(x), jnp.ones((60, 1))], 1)
    fit = fit_binary(rows, jnp.asarray(y), prefixes(60), jnp.float32(1 / C))
    assert fit.converged.all()
    for size in range(2, 61):
        if len(set(y[:size])) == 2:
            theirs = sklearn_fit(x[:size], y[:size], C)
            expected = np.append(theirs.coef_[0], theirs.intercept_)
            np.testing.assert_allclose(fit.parameters[size], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("classes", [3, 5])
@pytest.mark.parametrize("C", [0.1, 1.0, 10.0])
def test_softmax_fits_of_every_prefix_are_scikit_learns(classes, C):
    x, y, *_ = problem(classes=classes)
    rows = jnp.concatenate([jnp.asarray(x), jnp.ones((60, 1))], 1)
    fit = fit_softmax(rows, jnp.asarray(y), prefixes(60), jnp.float32(1 / C), classes)
    assert fit.converged.all()
    for size in range(2, 61):
        present = sorted(set(y[:size]))
        if len(present) < 2:
            continue
        theirs = sklearn_fit(x[:size], y[:size], C)
        expected = np.concatenate([theirs.coef_, theirs.intercept_[:, None]], 1)
        ours = np.asarray(fit.parameters[size]).reshape(classes, -1)
        assert not ours[[c for c in range(classes) if c not in present]].any()
        ours = ours[present]
        if len(present) == 2:
            ours = ours[1:] - ours[:1]
        else:
            expected[:, -1] -= expected[:, -1].mean()  # scikit-learn leaves the common shift where it fell
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize("classes", [2, 3])
def test_utilities_are_those_of_scikit_learns_predictions(classes):
    x, y, x_val, y_val = problem(classes=classes, seed=3)
    order, sizes = jnp.arange(60), jnp.array([20, 45, 60])
    theirs = [sklearn_fit(x[:size], y[:size], 1.0).predict_proba(x_val) for size in (20, 45, 60)]
    true = [p[np.arange(len(y_val)), y_val] for p in theirs]
    hits = [np.argmax(p, 1) == y_val for p in theirs]
    expected = {
        "accuracy": [h.mean() for h in hits],
        "balanced_accuracy": [np.mean([h[y_val == c].mean() for c in range(classes)]) for h in hits],
        "probability": [p.mean() for p in true],
        "log_likelihood": [np.log(p).mean() for p in true],
    }
    assert set(expected) == set(UTILITIES)
    for name, values in expected.items():
        game = logistic_game(x, y, x_val, y_val, classes=classes, utility=name)
        np.testing.assert_allclose(game.prefix_utilities(order, sizes).utility, values, atol=2e-4)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_coalition_without_some_class_follows_the_rule_of_succession(classes):
    x, _, x_val, y_val = problem(classes=classes)
    y = np.ones(60, int)
    y[30] = 0
    of_one, others = np.mean(y_val == 1), np.mean(y_val != 1)
    empty, four = np.zeros(60, bool), np.arange(60) < 4

    def at(name, coalition):
        return float(utility(logistic_game(x, y, x_val, y_val, classes=classes, utility=name), coalition))

    assert at("accuracy", empty) == pytest.approx(1 / classes)
    assert at("log_likelihood", empty) == pytest.approx(-np.log(classes))
    assert at("accuracy", four) == pytest.approx(of_one)
    assert at("probability", four) == pytest.approx((5 * of_one + others) / (4 + classes), rel=1e-5)


def test_utility_does_not_depend_on_the_order_of_members():
    x, y, x_val, y_val = problem(noise=3.0)
    game = logistic_game(x, y, x_val, y_val, classes=2, utility="log_likelihood")
    order = np.random.default_rng(1).permutation(60)
    there = game.prefix_utilities(jnp.asarray(order), jnp.array([40])).utility
    members = np.zeros(60, bool)
    members[order[:40]] = True
    assert float(utility(game, members)) == pytest.approx(float(there[0]), abs=1e-6)


def test_blocked_gram_gives_the_same_fit(monkeypatch):
    x, y, *_ = problem(points=90)
    rows, labels = jnp.concatenate([jnp.asarray(x), jnp.ones((90, 1))], 1), jnp.asarray(y)
    whole = fit_binary(rows, labels, prefixes(90), jnp.float32(1))
    monkeypatch.setattr("tsds_jax.games.logistic._OUTER_LIMIT", 32 * 21)
    blocked = fit_binary(rows, labels, prefixes(90), jnp.float32(1))
    np.testing.assert_allclose(whole.parameters, blocked.parameters, atol=2e-5)


def test_wide_features_do_not_take_gigabytes():
    points, features, lanes = 512, 385, 64
    shapes = [(points, features), (points,), (lanes, points), ()]
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    arguments[1] = jax.ShapeDtypeStruct((points,), jnp.int32)
    memory = jax.jit(fit_binary).lower(*arguments).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 2**29


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    points=st.integers(1, 12),
    features=st.sampled_from([1, 3, 20]),
    classes=st.integers(2, 4),
    scale=st.sampled_from([1e-4, 1.0, 1e3]),
    kind=st.sampled_from(["random", "duplicates", "constant", "collinear"]),
    rows=st.sampled_from([1, 7]),
    seed=st.integers(0, 5),
)
def test_no_input_gives_a_nan_and_every_utility_is_in_range(points, features, classes, scale, kind, rows, seed):
    x, y, x_val, y_val = problem(12, features, rows, classes, seed, scale=scale)
    if kind == "duplicates":
        x[:] = x[0]
    elif kind == "constant":
        x[:, 0] = x_val[:, 0] = scale
    elif kind == "collinear":
        x[:, -1], x_val[:, -1] = 2 * x[:, 0], 2 * x_val[:, 0]
    order = jnp.arange(12)
    for name in ("accuracy", "log_likelihood"):
        game = logistic_game(x, y, x_val, y_val, classes=classes, utility=name)
        found = np.asarray(_utilities(game, order, jnp.array([0, points, 12])))
        assert np.isfinite(found).all()
        if name == "accuracy":
            assert (found >= 0).all()
            assert (found <= 1 + 1e-6).all()


_utilities = jax.jit(lambda game, order, sizes: game.prefix_utilities(order, sizes).utility)


def test_a_fit_that_stops_early_is_counted_not_hidden(monkeypatch):
    x, y, x_val, y_val = problem(noise=0.1, scale=1e4)
    from tsds_jax.games import logistic, newton

    monkeypatch.setattr(logistic, "minimise", lambda local, start: newton.minimise(local, start, iterations=1))
    game = logistic_game(x, y, x_val, y_val, classes=2, C=1e6)
    found = game.prefix_utilities(jnp.arange(60), jnp.array([50, 60]))
    assert int(found.unconverged) == 2
    assert np.isfinite(found.utility).all()

"""The logistic game against scikit-learn, fit by fit, and its conventions where there is nothing to fit."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from tsds_jax.games import UTILITIES, logistic_game, utility
from tsds_jax.games.binary import anchor, fit_binary, fit_prefixes, neighbours, turned
from tsds_jax.games.descent import descend
from tsds_jax.games.softmax import fit_softmax


def problem(points=60, features=5, rows=40, classes=2, seed=0, noise=1.0, scale=1.0):
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(features, classes))
    x = rng.normal(size=(points + rows, features)) * scale
    y = np.argmax(x / scale @ directions + noise * rng.gumbel(size=(points + rows, classes)), 1)
    return x[:points].astype(np.float32), y[:points], x[points:].astype(np.float32), y[points:]


def ridge(features, C=1.0):
    """The penalty on each parameter: none on the intercept."""
    return jnp.full(features + 1, 1 / C, jnp.float32).at[-1].set(0.0)


def with_constant(x):
    return jnp.concatenate([jnp.asarray(x), jnp.ones((len(x), 1))], 1)


def prefixes(points):
    return jnp.asarray(np.arange(points) < np.arange(points + 1)[:, None], jnp.float32)


def sklearn_fit(x, y, C):
    model = LogisticRegression(C=C, tol=1e-12, max_iter=100_000)
    return model.fit(x.astype(np.float64), y)


@pytest.mark.slow
@pytest.mark.parametrize("C", [0.01, 1.0, 30.0])
def test_binary_fits_of_every_prefix_are_scikit_learns(C):
    x, y, *_ = problem()
    fit = fit_binary(with_constant(x), jnp.asarray(y), prefixes(60), ridge(5, C))
    assert fit.converged.all()
    for size in range(2, 61):
        if len(set(y[:size])) == 2:
            theirs = sklearn_fit(x[:size], y[:size], C)
            expected = np.append(theirs.coef_[0], theirs.intercept_)
            np.testing.assert_allclose(fit.parameters[size], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("classes", [3, 5])
@pytest.mark.parametrize("C", [0.1, 1.0, 10.0])
def test_softmax_fits_of_every_prefix_are_scikit_learns(classes, C):
    x, y, *_ = problem(classes=classes)
    fit = fit_softmax(with_constant(x), jnp.asarray(y), prefixes(60), ridge(5, C), classes)
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


@pytest.mark.slow
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
    per_class = [[h[y_val == c].sum() / len(h) for c in range(classes)] for h in hits]
    expected["class_wise"] = [[a * np.exp(sum(row) - a) for a in row] for row in per_class]
    assert set(expected) == set(UTILITIES)
    for name, values in expected.items():
        game = logistic_game(x, y, x_val, y_val, classes=classes, utility=name)
        np.testing.assert_allclose(_utilities(game, order, sizes), values, atol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 3])
def test_a_coalition_without_some_class_follows_the_rule_of_succession(classes):
    x, _, x_val, y_val = problem(classes=classes)
    y = np.ones(60, int)
    y[30] = 0
    of_one, others = np.mean(y_val == 1), np.mean(y_val != 1)
    empty, four = np.zeros(60, bool), np.arange(60) < 4

    def at(name, coalition):
        game = logistic_game(x, y, x_val, y_val, classes=classes, utility=name)
        return float(jax.jit(utility)(game, coalition))

    assert at("accuracy", empty) == pytest.approx(1 / classes)
    assert at("log_likelihood", empty) == pytest.approx(-np.log(classes))
    assert at("accuracy", four) == pytest.approx(of_one)
    assert at("probability", four) == pytest.approx((5 * of_one + others) / (4 + classes), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 3, 5, 1000])
def test_a_coalition_of_one_class_predicts_it_however_little_it_weighs(classes):
    x, _, x_val, y_val = problem(classes=2)
    y = np.arange(60) % classes
    weight = np.where(y == 1, 1e-6, 1.0).astype(np.float32)

    def at(name, coalition):
        game = logistic_game(x, y, x_val, y_val, classes=classes, utility=name, sample_weight=weight)
        return float(jax.jit(utility)(game, coalition))

    one = (y == 1) & (np.arange(60) < 8)
    assert at("accuracy", one) == pytest.approx(np.mean(y_val == 1))
    # The least that speaks for it is what the log of a float32 a little above 1 has no digits for.
    assert at("log_likelihood", one) == pytest.approx(-np.log(classes), rel=2e-6)


@pytest.mark.slow
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
    rows, labels = with_constant(x), jnp.asarray(y)
    whole = fit_binary(rows, labels, prefixes(90), ridge(5))
    monkeypatch.setattr("tsds_jax.games.binary._OUTER_LIMIT", 32 * 21)
    blocked = fit_binary(rows, labels, prefixes(90), ridge(5))
    np.testing.assert_allclose(whole.parameters, blocked.parameters, atol=2e-5)


def test_wide_features_do_not_take_gigabytes():
    points, features, lanes = 512, 385, 64
    shapes = [(points, features), (points,), (lanes, points), (features,)]
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    arguments[1] = jax.ShapeDtypeStruct((points,), jnp.int32)
    memory = jax.jit(fit_binary).lower(*arguments).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 2**29


@pytest.mark.parametrize("classes", [2, 3])
def test_few_fits_to_many_wide_rows_do_not_take_the_rows_once_for_each(classes):
    points, features, lanes = 20_000, 257, 26
    shapes = [(points, features), (points,), (lanes, points), (features,)]
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    arguments[1] = jax.ShapeDtypeStruct((points,), jnp.int32)
    fit = fit_binary if classes == 2 else partial(fit_softmax, classes=classes)
    memory = jax.jit(fit).lower(*arguments).compile().memory_analysis()
    # A quarter of them.
    assert memory.temp_size_in_bytes < lanes * points * features


@pytest.mark.parametrize("classes", [2, 3])
def test_few_fits_are_the_same_whether_or_not_each_has_rows_of_its_own(classes, monkeypatch):
    x, y, *_ = problem(points=90, classes=classes)
    fit = fit_binary if classes == 2 else partial(fit_softmax, classes=classes)
    rows, labels, some = with_constant(x), jnp.asarray(y), prefixes(90)[::10]
    together = fit(rows, labels, some, ridge(5))
    monkeypatch.setattr("tsds_jax.games.binary._OUTER_LIMIT", 90 * 6)
    np.testing.assert_allclose(fit(rows, labels, some, ridge(5)).parameters, together.parameters, atol=2e-5)


@pytest.mark.slow
@settings(max_examples=15, deadline=None, derandomize=True)
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
    from tsds_jax.games import binary, newton

    monkeypatch.setattr(binary, "minimise", lambda local, start: newton.minimise(local, start, iterations=1))
    game = logistic_game(x, y, x_val, y_val, classes=2, C=1e6)
    found = game.prefix_utilities(jnp.arange(60), jnp.array([50, 60]))
    assert int(found.unconverged) == 2
    assert np.isfinite(found.utility).all()


@pytest.mark.parametrize("C", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("start", [0, 150])
def test_prefixes_fitted_from_anchors_are_scikit_learns(C, start):
    x, y, *_ = problem(points=240, features=12)
    sizes = np.arange(start, start + 90)
    fit = jax.jit(fit_prefixes)(with_constant(x), jnp.asarray(y), jnp.ones(240), jnp.asarray(sizes), ridge(12, C))
    assert fit.converged.all()
    for size, found in zip(sizes[::4], fit.parameters[::4], strict=True):
        if len(set(y[:size])) == 2:
            theirs = sklearn_fit(x[:size], y[:size], C)
            expected = np.append(theirs.coef_[0], theirs.intercept_)
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
def test_every_size_around_an_anchor_has_its_own_newton_step():
    x, y, *_ = problem(points=80)
    rows, weight = with_constant(x), np.random.default_rng(0).uniform(0.5, 2, 80)
    weight[[33, 60]] = 0
    sizes = np.array([*range(30, 50), 49, 50, 50, *range(50, 70)])
    sizes.sort()
    middle = jnp.asarray((np.arange(80) < sizes[len(sizes) // 2]) * weight, jnp.float32)[None]
    fit = fit_binary(rows, jnp.asarray(y), middle, ridge(5))
    signed = turned(rows, jnp.asarray(y))
    known = anchor(signed, middle, fit.parameters, ridge(5))
    start, precondition, sound = neighbours(known, signed, jnp.asarray(weight, jnp.float32), jnp.asarray(sizes)[None])
    assert sound.all()
    beta, wide = np.asarray(fit.parameters[0], np.float64), np.asarray(rows, np.float64)
    p = 1 / (1 + np.exp(-wide @ beta))
    some = np.random.default_rng(1).normal(size=(len(sizes), 6))
    steps = precondition(jnp.asarray(some, jnp.float32))
    for place, size in enumerate(sizes):
        of = wide[:size]
        hessian = of.T @ ((weight * p * (1 - p))[:size, None] * of) + np.diag(ridge(5))
        gradient = of.T @ (weight * (p - y))[:size] + np.asarray(ridge(5)) * beta
        np.testing.assert_allclose(steps[place], np.linalg.solve(hessian, some[place]), rtol=2e-3, atol=1e-4)
        np.testing.assert_allclose(start[place], beta - np.linalg.solve(hessian, gradient), rtol=2e-3, atol=1e-4)


def test_sizes_in_any_order_get_the_same_fits():
    x, y, *_ = problem(points=200)
    sizes = np.random.default_rng(0).permutation(200)[:64]
    fit = jax.jit(fit_prefixes)
    mixed = fit(with_constant(x), jnp.asarray(y), jnp.ones(200), jnp.asarray(sizes), ridge(5))
    tidy = fit(with_constant(x), jnp.asarray(y), jnp.ones(200), jnp.asarray(np.sort(sizes)), ridge(5))
    assert mixed.converged.all()
    np.testing.assert_allclose(mixed.parameters, tidy.parameters[np.argsort(np.argsort(sizes))], atol=3e-4)


@pytest.mark.slow
def test_prefixes_that_do_not_descend_to_their_fit_are_fitted_from_nothing(monkeypatch):
    x, y, *_ = problem(points=120)
    sizes = jnp.arange(20, 100)
    arguments = (with_constant(x), jnp.asarray(y), jnp.ones(120), sizes, ridge(5))
    expected = jax.jit(fit_prefixes)(*arguments).parameters

    def stuck(losses, start, *given, **how):
        found = descend(losses, start, *given, **how)
        lost = jnp.arange(len(start)) % 3 == 0
        return found._replace(
            parameters=jnp.where(lost[:, None], 7.0, found.parameters), converged=found.converged & ~lost
        )

    monkeypatch.setattr("tsds_jax.games.binary.descend", stuck)
    # A function of its own, or what is compiled already would be taken.
    again = jax.jit(lambda *given: fit_prefixes(*given))(*arguments)
    assert again.converged.all()
    np.testing.assert_allclose(again.parameters, expected, atol=3e-4)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 3])
def test_sample_weights_are_scikit_learns(classes):
    x, y, x_val, y_val = problem(points=90, classes=classes, seed=2)
    weight = np.random.default_rng(0).uniform(0.1, 3, 90)
    weight[[3, 50]] = 0
    game = logistic_game(x, y, x_val, y_val, classes=classes, utility="log_likelihood", sample_weight=weight)
    sizes = np.arange(20, 91)
    found = jax.jit(lambda game: game.prefix_utilities(jnp.arange(90), jnp.asarray(sizes)).utility)(game)
    for size, utility_found in list(zip(sizes, found, strict=True))[::7]:
        model = LogisticRegression(tol=1e-12, max_iter=100_000)
        model.fit(x[:size].astype(np.float64), y[:size], sample_weight=weight[:size])
        expected = np.log(model.predict_proba(x_val)[np.arange(len(y_val)), y_val]).mean()
        assert float(utility_found) == pytest.approx(expected, abs=2e-4)


@pytest.mark.slow
def test_a_point_of_weight_zero_changes_nothing():
    x, y, x_val, y_val = problem(points=80)
    weight = np.ones(80)
    weight[70] = 0
    game = logistic_game(x, y, x_val, y_val, classes=2, utility="log_likelihood", sample_weight=weight)
    for size in (0, 5, 40):
        marginal = game.add_one_marginals(game.fit(jnp.arange(60), size).model, jnp.array([70])).marginal
        assert float(marginal[0]) == pytest.approx(0, abs=2e-3 if size > 16 else 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("intercept", ["penalised", "none"])
@pytest.mark.parametrize("classes", [2, 3])
def test_intercepts_are_penalised_or_left_out_as_asked(intercept, classes):
    x, y, x_val, y_val = problem(points=90, classes=classes, seed=1)
    constant = np.full((1, 1), float(intercept == "penalised"))
    rows, rows_val = (np.concatenate([some, constant.repeat(len(some), 0)], 1) for some in (x, x_val))
    game = logistic_game(x, y, x_val, y_val, classes=classes, utility="log_likelihood", intercept=intercept)
    for size in (30, 90):
        model = LogisticRegression(tol=1e-12, max_iter=100_000, fit_intercept=False).fit(rows[:size], y[:size])
        expected = np.log(model.predict_proba(rows_val)[np.arange(len(y_val)), y_val]).mean()
        assert float(utility(game, np.arange(90) < size)) == pytest.approx(expected, abs=2e-4)


def test_validation_weights_count_rows_as_often_as_they_say():
    x, y, x_val, y_val = problem()
    times = np.arange(len(y_val)) % 3
    repeated = logistic_game(x, y, x_val.repeat(times, 0), y_val.repeat(times), classes=2, utility="probability")
    weighted = logistic_game(x, y, x_val, y_val, classes=2, utility="probability", weight_val=times)
    members = np.arange(60) < 30
    assert float(utility(weighted, members)) == pytest.approx(float(utility(repeated, members)), abs=1e-6)


@pytest.mark.slow
def test_hundreds_of_classes_are_fitted_and_added_to():
    classes, points = 300, 350
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(classes, 4))
    y = np.concatenate([np.arange(classes), rng.integers(0, classes, points - classes)])
    x = (centres[y] + 0.1 * rng.normal(size=(points, 4))).astype(np.float32)
    game = logistic_game(x, y, x[:40], y[:40], classes=classes, utility="probability")
    order = jnp.arange(points, dtype=jnp.int32)
    pair = jax.jit(lambda game: game.prefix_utilities(order, jnp.array([300, 301])).utility)(game)
    fitted = jax.jit(lambda game: game.fit(order[:310], 300))(game)
    added = jax.jit(lambda game, model: game.add_one_marginals(model, order[300:302]))(game, fitted.model)
    assert int(fitted.unconverged) == 0
    assert float(added.marginal[0]) == pytest.approx(float(pair[1] - pair[0]), abs=1e-5)


def test_float32_utilities_are_those_of_float64_fits():
    x, y, x_val, y_val = problem(points=150, features=20, rows=80)
    game = logistic_game(x, y, x_val, y_val, classes=2, utility="log_likelihood")
    found = jax.jit(lambda game: game.prefix_utilities(jnp.arange(150), jnp.arange(50, 150)).utility)(game)
    for size in range(50, 150, 9):
        model = sklearn_fit(x[:size], y[:size], 1.0)
        expected = np.log(model.predict_proba(x_val.astype(np.float64))[np.arange(80), y_val]).mean()
        assert float(found[size - 50]) == pytest.approx(expected, abs=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("intercept", ["free", "penalised", "none"])
def test_the_zero_features_that_an_accelerator_wants_change_nothing(intercept, monkeypatch):
    data = problem(features=6)
    order = jnp.arange(60, dtype=jnp.int32)

    def made():
        return logistic_game(*data, classes=2, utility="log_likelihood", intercept=intercept)

    game = made()
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(jax, "default_backend", lambda: "gpu")
        wider = made()
    assert (game.x.shape[1], wider.x.shape[1]) == (7, 8)
    # Beyond 16 members a fit ends within a thousandth of its minimum, where rounding decides how far within.
    fit, add, prefixes = (
        jax.jit(f) for f in (type(game).fit, type(game).add_one_marginals, type(game).prefix_utilities)
    )
    for size, tolerance in ((1, 1e-5), (5, 1e-5), (30, 2e-4)):
        fits = [(some, fit(some, order, jnp.int32(size)).model) for some in (wider, game)]
        one, other = (add(some, model, order[30:]).marginal for some, model in fits)
        np.testing.assert_allclose(one, other, atol=tolerance)
    np.testing.assert_allclose(*(prefixes(some, order, order).utility for some in (wider, game)), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 3])
def test_an_offset_of_the_features_changes_no_value(classes):
    rng = np.random.default_rng(classes)
    x, x_val = rng.normal(size=(60, 5)), rng.normal(size=(40, 5))
    y, y_val = (np.argmax(some[:, :classes], 1) for some in (x, x_val))
    order, sizes = jnp.asarray(rng.permutation(60), jnp.int32), jnp.arange(0, 61, 5)
    near, far = (
        logistic_game(x + offset, y, x_val + offset, y_val, classes=classes, utility="log_likelihood").prefix_utilities(
            order, sizes
        )
        for offset in (0.0, 3000.0)
    )
    assert int(far.unconverged) == 0
    np.testing.assert_allclose(far.utility, near.utility, atol=1e-3)


def test_a_fit_of_three_classes_that_cannot_be_preconditioned_is_not_called_converged_at_zero():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5)).astype(np.float32)
    y = jnp.asarray(np.argmax(x[:, :3] + 0.5 * rng.gumbel(size=(60, 3)), 1))

    def fitted(offset):
        fit = fit_softmax(jnp.asarray(with_constant(x + offset)), y, jnp.ones((1, 60)), ridge(5), 3)
        return np.asarray(fit.parameters[0]).reshape(3, -1)[:, :5], bool(fit.converged[0])

    # A free intercept takes the offset up, and the weights of the features stay as they are.
    right, converged = fitted(np.float32(0))
    assert converged
    lost, converged = fitted(np.float32(3000))
    assert np.abs(lost - right).max() > 0.1  # or this test would show nothing
    assert not converged


def float64_log_likelihood(x, y, x_val, y_val, C):
    """Of the fit by Newton's method in float64, in units of the columns' spread."""
    middle, unit = np.median(x, 0).astype(np.float64), np.median(np.abs(x - np.median(x, 0)), 0).astype(np.float64)
    signed = np.where(y, -1.0, 1.0)[:, None] * np.c_[(x - middle) / unit, np.ones(len(x))]
    penalty = np.r_[1 / (C * unit**2), 0.0]

    def loss(point):
        return np.logaddexp(0, signed @ point).sum() + 0.5 * penalty @ point**2

    point = np.zeros(len(penalty))
    for _ in range(100):
        wrong = expit(signed @ point)
        hessian = signed.T @ ((wrong * (1 - wrong))[:, None] * signed) + np.diag(penalty)
        step = np.linalg.solve(hessian, signed.T @ wrong + penalty * point)
        while loss(point - step) > loss(point) + 1e-9:
            step = step / 2
        point = point - step
    logit = np.c_[(x_val - middle) / unit, np.ones(len(x_val))] @ point
    return -np.logaddexp(0, np.where(y_val, -1.0, 1.0) * logit).mean()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("unit", "C"),
    [([1e5] * 6, 1.0), ([1e5] * 6, 1e-6), ([1e4, 3e2, 1, 1, 1e-2, 1e-4], 1.0), ([1e-6] * 6, 1.0), ([1e-6] * 6, 1e9)],
)
@pytest.mark.parametrize("sizes", [range(50, 60), range(10, 100)])
def test_fits_are_those_of_float64_in_whatever_units_the_features_are(unit, C, sizes):
    # Salaries beside shares: a fit's largest parameter said nothing of one ten thousand times smaller.
    x, y, x_val, y_val = problem(points=100, features=6)
    x, x_val = np.float32(x * unit), np.float32(x_val * unit)
    game = logistic_game(x, y, x_val, y_val, classes=2, utility="log_likelihood", C=C)
    found = jax.jit(type(game).prefix_utilities)(game, jnp.arange(100), jnp.asarray(sizes))
    expected = [float64_log_likelihood(x[:size], y[:size], x_val, y_val, C) for size in sizes]
    assert int(found.unconverged) == 0
    np.testing.assert_allclose(found.utility, expected, rtol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("C", [1.0, 100.0])
@pytest.mark.parametrize("sizes", [np.arange(10, 61), np.r_[10:28:2, 29:60]], ids=["all", "some"])
@pytest.mark.parametrize("far", [[44], [28, 29, 31]], ids=["one", "several"])
def test_a_prefix_without_a_row_that_is_far_from_all_others_is_not_fitted_as_if_it_had_it(far, sizes, C):
    # A missing number that stands as 999999 holds its feature's weight at all but nothing, where it is a member.
    x, y, x_val, y_val = problem(points=60, features=5, seed=1)
    x[far, 0] = 999_999
    game = logistic_game(x, y, x_val, y_val, classes=2, utility="log_likelihood", C=C)
    found = jax.jit(type(game).prefix_utilities)(game, jnp.arange(60), jnp.asarray(sizes))
    expected = [float64_log_likelihood(x[:size], y[:size], x_val, y_val, C) for size in sizes]
    off = np.abs(np.asarray(found.utility) - expected) > 2e-3 * np.abs(expected)
    assert int(found.unconverged) >= off.sum()
    assert off.sum() <= 3


@pytest.mark.slow
@pytest.mark.parametrize("C", [1e3, 1e5, 1e8])
def test_no_prefix_runs_away_where_the_next_ones_fit_says_too_much_of_its_curvature(C):
    # Nearly separable, so a prefix's curvature is a small part of that at its anchor, and Newton's step along a line
    # from there ended billions of times too far: where nothing has a slope, which looked like a minimum.
    along, alone = jax.jit(fit_prefixes), jax.jit(fit_binary)
    for seed in range(8):
        x, y, *_ = problem(points=100, features=6, seed=seed)
        rows, labels = with_constant(x), jnp.asarray(y)
        found = along(rows, labels, jnp.ones(100), jnp.arange(101), ridge(6, C))
        cold = alone(rows, labels, prefixes(100), ridge(6, C))
        assert cold.converged.all()
        assert found.converged.all()
        largest = np.abs(cold.parameters).max(1, keepdims=True)
        assert (np.abs(found.parameters - cold.parameters) / (largest + 1e-6)).max() < 3e-3


@pytest.mark.slow
@pytest.mark.parametrize("C", [1.0, 1e4])
def test_classes_that_change_their_names_turn_the_sign_of_a_fit_and_change_no_digit(C):
    # The loss of label 1 is that of label 0 of the row with its sign turned, and is computed so.
    x, y, *_ = problem(points=80)
    fit, along = jax.jit(fit_binary), jax.jit(fit_prefixes)
    one, other = (fit(with_constant(x), jnp.asarray(label), prefixes(80), ridge(5, C)) for label in (y, 1 - y))
    np.testing.assert_array_equal(one.parameters, -other.parameters)
    one, other = (
        along(with_constant(x), jnp.asarray(label), jnp.ones(80), jnp.arange(81), ridge(5, C)) for label in (y, 1 - y)
    )
    np.testing.assert_array_equal(one.parameters, -other.parameters)


@pytest.mark.slow
def test_fits_whose_hessian_rounding_leaves_indefinite_are_damped_and_counted():
    # A column twice, and a penalty that float32 loses beside it.
    x, y, *_ = problem(points=60)
    rows, weak = with_constant(np.c_[x, 1e3 * x[:, :2], 1e3 * x[:, :2]]), ridge(9, 1e9)
    cold = fit_binary(rows, jnp.asarray(y), prefixes(60)[40:], weak)
    along = fit_prefixes(rows, jnp.asarray(y), jnp.ones(60), jnp.arange(20, 61), weak)
    assert np.isfinite(cold.parameters).all()
    assert np.isfinite(along.parameters).all()
    assert not cold.converged.any()
    assert not along.converged.any()
    right = fit_binary(with_constant(x), jnp.asarray(y), prefixes(60)[40:], ridge(5, 1e9))

    def accuracy(fit, rows):
        return ((np.asarray(fit.parameters) @ np.asarray(rows).T > 0) == y).mean(1)

    # What was found predicts as the fit without the copies does.
    np.testing.assert_allclose(accuracy(cold, rows), accuracy(right, with_constant(x)), atol=0.05)


@pytest.mark.slow
def test_softmax_fits_at_a_strong_penalty_have_as_many_digits_as_others():
    x, y, *_ = problem(classes=3)
    fit = fit_softmax(with_constant(x), jnp.asarray(y), jnp.ones((1, 60)), ridge(5, 1e-6), 3)
    theirs = sklearn_fit(x, y, 1e-6)
    found = np.asarray(fit.parameters[0]).reshape(3, -1)[:, :-1]
    np.testing.assert_allclose(found, theirs.coef_, atol=1e-4 * np.abs(theirs.coef_).max())


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("typical", [1e-12, 1e-30])
def test_a_column_far_smaller_in_most_rows_than_in_some_is_penalised_as_scikit_learn_does(typical, classes):
    # As probabilities of a model that is sure of itself: a third of them near one, the others next to nothing.
    rng = np.random.default_rng(0)
    x, y, *_ = problem(points=60, features=2, classes=classes)
    sure = np.where(y == 1, 1.0, 0.4) * np.exp(0.3 * rng.normal(size=60))
    x = np.c_[x, np.where(rng.random(60) < 0.3, sure, typical * np.exp(rng.normal(size=60)))].astype(np.float32)
    game = logistic_game(x, y, x, y, classes=classes, utility="log_likelihood")
    found = jax.jit(type(game).prefix_utilities)(game, jnp.arange(60), jnp.array([30, 60]))
    theirs = [sklearn_fit(x[:size], y[:size], 1.0).predict_log_proba(x)[np.arange(60), y] for size in (30, 60)]
    assert int(found.unconverged) == 0
    np.testing.assert_allclose(found.utility, np.mean(theirs, 1), atol=1e-4)


def test_a_column_that_is_tiny_in_all_rows_gets_no_weight():
    x, y, x_val, y_val = problem(points=60, features=2)
    tiny = np.float32(1e-25) * x[:, :1]

    def utilities(x, x_val):
        game = logistic_game(x, y, x_val, y_val, classes=2, utility="log_likelihood")
        found = jax.jit(type(game).prefix_utilities)(game, jnp.arange(60), jnp.array([30, 60]))
        assert int(found.unconverged) == 0
        return found.utility

    wider = utilities(np.c_[x, tiny], np.c_[x_val, np.float32(1e-25) * x_val[:, :1]])
    np.testing.assert_allclose(wider, utilities(x, x_val), atol=1e-4)

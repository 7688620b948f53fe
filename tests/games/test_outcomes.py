"""What follows from outcomes whatever the classifier: class-wise utilities, and utilities by validation row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Ridge

from tsds_jax.errors import InputError
from tsds_jax.games import Game, TableGame, by_row, kernel_game, logistic_game, ridge_game, utility
from tsds_jax.games.game import part_of
from tsds_jax.games.utilities import Outcome, RegressionOutcome, row_scores, worth

_utility = jax.jit(utility)
_prefixes = jax.jit(lambda game, order, sizes: game.prefix_utilities(order, sizes).utility)
_added = jax.jit(lambda game, order, size: game.add_one_marginals(game.fit(order, size).model, order))


def problem(classes, points=24, rows=17, features=4, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(points + rows, features)).astype(np.float32)
    if classes:
        y = np.argmax(x[:, :classes] + rng.gumbel(size=(points + rows, min(classes, features))), 1)
    else:
        y = x @ rng.normal(size=features) + rng.normal(size=points + rows)
    return x[:points], y[:points], x[points:], y[points:]


def build(source, classes, **options):
    """A ridge game, or the kernel game of the same rows."""
    x, y, x_val, y_val = problem(classes)
    if source == "ridge":
        return ridge_game(x, y, x_val, y_val, classes=classes, **options)
    return kernel_game(x @ x.T, y, x_val @ x.T, y_val, classes=classes, **options)


def class_wise(x, y, x_val, y_val, classes, weight=None):
    """Utility of each class by its definition, from a fit of scikit-learn's."""
    share = np.full(len(y_val), 1 / len(y_val)) if weight is None else weight / weight.sum()
    scores = Ridge(alpha=1).fit(x.astype(np.float64), np.eye(classes)[y]).predict(x_val.astype(np.float64))
    right = share * (np.argmax(scores, 1) == y_val)
    return np.array([right[y_val == c].sum() * np.exp(right[y_val != c].sum()) for c in range(classes)])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
def test_class_wise_utilities_of_prefixes_and_added_points_are_those_of_the_definition(classes, weighted):
    x, y, x_val, y_val = problem(classes)
    weight = np.random.default_rng(1).random(17) if weighted else None
    game = ridge_game(x, y, x_val, y_val, classes=classes, utility="class_wise", weight_val=weight)
    order = np.random.default_rng(2).permutation(24)

    def of(members):
        return class_wise(x[members], y[members], x_val, y_val, classes, weight)

    found = _prefixes(game, jnp.asarray(order), jnp.arange(1, 25))
    assert found.shape == (24, classes)
    np.testing.assert_allclose(found, [of(order[:size]) for size in range(1, 25)], atol=1e-6)
    for size in (3, 12, 23):
        marginal = _added(game, jnp.asarray(order), jnp.int32(size)).marginal
        assert marginal.shape == (24,)
        for place in range(size, 24):
            change = of(np.append(order[:size], order[place])) - of(order[:size])
            assert float(marginal[place]) == pytest.approx(change[y[order[place]]], abs=1e-6)


@pytest.mark.parametrize("source", ["ridge", "kernel"])
def test_the_part_that_counts_for_a_player_is_its_class_and_other_games_have_none(source):
    game = build(source, 3, utility="class_wise")
    np.testing.assert_array_equal(part_of(game), game.y)
    assert _utility(game, np.arange(24) < 9).shape == (3,)
    assert isinstance(game, Game)
    game = build(source, 3, utility="accuracy")
    assert part_of(game) is None
    assert _utility(game, np.arange(24) < 9).shape == ()
    assert part_of(TableGame(jnp.arange(4.0))) is None


def test_a_class_that_no_validation_row_has_is_worth_nothing():
    x, y, x_val, y_val = problem(3)
    game = ridge_game(x, y, x_val, np.where(y_val == 2, 0, y_val), classes=3, utility="class_wise")
    values = _utility(game, np.ones(24, bool))
    assert float(values[2]) == 0
    assert (values[:2] > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "classes", "name"),
    [
        ("ridge", 3, "accuracy"),
        ("kernel", 2, "balanced_accuracy"),
        ("ridge", 2, "probability"),
        ("ridge", 3, "log_likelihood"),
        ("kernel", 0, "neg_mean_squared_error"),
    ],
)
def test_rows_sum_to_the_utility_and_to_the_marginals(source, classes, name):
    order, sizes = jnp.asarray(np.random.default_rng(0).permutation(24)), jnp.arange(25)
    game = build(source, classes, utility=name)
    rows = by_row(game)
    assert isinstance(rows, Game)
    assert rows.players == 24
    split = _prefixes(rows, order, sizes)
    assert split.shape == (25, 17)
    np.testing.assert_allclose(split.sum(1), _prefixes(game, order, sizes), rtol=1e-5, atol=1e-6)
    for size in (0, 2, 15):
        whole, parts = _added(game, order, jnp.int32(size)), _added(rows, order, jnp.int32(size))
        assert parts.marginal.shape == (24, 17)
        np.testing.assert_allclose(parts.marginal[size:].sum(1), whole.marginal[size:], rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(parts.unconverged, whole.unconverged)


@pytest.mark.parametrize("source", ["ridge", "kernel"])
def test_groups_of_rows_are_sums_of_their_rows(source):
    order, sizes = jnp.asarray(np.random.default_rng(0).permutation(24)), jnp.arange(25)
    game, groups = build(source, 2, utility="probability"), np.arange(17) % 3
    rows, grouped = by_row(game), by_row(game, groups)
    alone, together = _prefixes(rows, order, sizes), _prefixes(grouped, order, sizes)
    expected = np.stack([np.asarray(alone)[:, groups == group].sum(1) for group in range(3)], 1)
    np.testing.assert_allclose(together, expected, atol=1e-6)
    parts = [_added(of, order, jnp.int32(9)).marginal[9:] for of in (rows, grouped)]
    expected = np.stack([np.asarray(parts[0])[:, groups == group].sum(1) for group in range(3)], 1)
    np.testing.assert_allclose(parts[1], expected, atol=1e-6)


@pytest.mark.parametrize("groups", [[0, -1, 1], [0, 1], [0.0, 1.0, 1.0]])
def test_groups_of_rows_that_would_leave_a_row_out_are_refused(groups):
    x, y = np.array([[-1.0], [1.0], [2.0]]), np.array([0, 1, 1])
    with pytest.raises(InputError, match="groups must be one whole number from 0 for each of 3 validation rows"):
        by_row(ridge_game(x, y, x, y, classes=2), groups)


@pytest.mark.parametrize("make", [logistic_game, ridge_game, kernel_game])
def test_games_take_classes_from_0_and_a_positive_penalty_alone(make):
    x, y = np.eye(4), np.array([0, 1, 1, 0])
    for labels, words in (
        (2 * y - 1, "y is -1 at row 0: classes are numbered from 0 to 1"),
        (y + 1, "y is 2 at row 1: classes are numbered from 0 to 1"),
        (0.7 * y, "y must be one whole number for each of 4 rows"),
    ):
        with pytest.raises(InputError, match=words):
            make(x, labels, x, y, classes=2)
        with pytest.raises(InputError, match=words.replace("y ", "y_val ", 1)):
            make(x, y, x, labels, classes=2)
    with pytest.raises(InputError, match="C is -1"):
        make(x, y, x, y, classes=2, C=-1.0)
    make(x, y.astype(bool), x, y.astype(np.uint8), classes=2)
    make(x, y.astype(object), x, y.astype(float), classes=2)


def test_a_row_that_weighs_nothing_adds_nothing_by_row():
    weight = np.ones(17)
    weight[5] = 0
    game = build("ridge", 2, utility="log_likelihood", weight_val=weight)
    assert not np.any(_utility(by_row(game), np.ones(24, bool))[5])


@pytest.mark.parametrize("source", ["ridge", "kernel"])
@pytest.mark.parametrize(
    ("classes", "name", "words"),
    [(0, "r2", "use 'neg_mean_squared_error'"), (2, "class_wise", "use 'accuracy' to split it by row")],
)
def test_a_utility_that_is_no_sum_over_rows_is_not_split(source, classes, name, words):
    with pytest.raises(InputError, match=words):
        by_row(build(source, classes, utility=name))


def test_a_game_without_validation_rows_is_not_split():
    with pytest.raises(InputError, match="a TableGame has no validation rows"):
        by_row(TableGame(jnp.arange(4.0)))


def test_utilities_of_the_other_kind_of_outcome_are_refused():
    rows = jnp.ones(3)
    with pytest.raises(InputError, match="'r2' is unknown: use one of accuracy"):
        row_scores("r2", Outcome(rows, rows))
    for name in ("accuracy", "class_wise"):
        with pytest.raises(InputError, match="is unknown: use one of neg_mean_squared_error, r2"):
            worth(name, RegressionOutcome(rows, rows[:1]), rows, jnp.zeros(3, int), 2)

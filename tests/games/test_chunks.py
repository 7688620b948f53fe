"""How much is computed at once."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tsds_jax as tsds
from tsds_jax.estimators import exact
from tsds_jax.estimators.add_one import add_one_rounds
from tsds_jax.games import group_game, logistic_game, ridge_game
from tsds_jax.games.chunks import even_chunk, numbers_at_once
from tsds_jax.games.game import Marginals
from tsds_jax.games.leave_one_out import leave_one_out


@pytest.mark.parametrize("numbers", [1, 2000, 10**6, 10**8])
def test_a_chunk_on_an_accelerator_fills_its_kernels_and_not_more_memory_than_twice_what_is_meant(numbers, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    chunk = even_chunk(100_000, numbers)
    assert chunk * numbers < 2 * numbers_at_once()
    assert chunk % 64 == 0 or chunk < 64


@pytest.mark.parametrize(
    ("used", "numbers"), [(0, 2**28), (1, 2**25 * 7), (2**33, 2**27), (2**34, 2**25), (2**35, 2**25)]
)
def test_a_chunk_goes_by_the_memory_that_is_free_in_eighths(used, numbers, monkeypatch):
    class Device:
        def memory_stats(self):
            return {"bytes_limit": 2**34, "bytes_in_use": used}

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", lambda: [Device()])
    assert numbers_at_once() == numbers


@pytest.mark.slow
def test_the_compiled_program_takes_the_memory_that_its_chunk_was_planned_for():
    points, rows, classes = 30_000, 1000, 2
    x = np.random.default_rng(0).normal(size=(points, 16)).astype(np.float32)
    y = np.arange(points) % classes
    game = logistic_game(x, y, x[:rows], y[:rows], classes=classes, utility="log_likelihood")
    how = {"subset_size": 64, "chunk": even_chunk(points, rows * classes)}
    program = add_one_rounds.lower(game, jax.random.key(0), np.arange(16, dtype=np.int32), np.int32(16), **how)
    temporary = program.compile().memory_analysis().temp_size_in_bytes
    assert temporary < 16 * numbers_at_once()
    # Without chunks it would not be so.
    whole = add_one_rounds.lower(
        game, jax.random.key(0), np.arange(16, dtype=np.int32), np.int32(16), **{**how, "chunk": points}
    )
    assert whole.compile().memory_analysis().temp_size_in_bytes > 2 * temporary


def test_prefixes_of_a_long_order_of_many_features_gather_few_blocks_at_a_time():
    points, features = 9000, 256
    x = np.random.default_rng(0).normal(size=(points, features)).astype(np.float32)
    game = ridge_game(x, np.arange(points) % 2, x[:100], np.arange(100) % 2, classes=2)
    prefixes = jax.jit(type(game).prefix_utilities).lower(game, np.arange(points), np.arange(points))
    # Of all sizes together it would be 141 times as many.
    assert prefixes.compile().memory_analysis().temp_size_in_bytes < 32 * numbers_at_once()


def test_coalitions_of_large_groups_are_enumerated_a_few_at_a_time():
    points = 4000
    x = np.random.default_rng(0).normal(size=(points, 32)).astype(np.float32)
    game = logistic_game(x, np.arange(points) % 2, x[:100], np.arange(100) % 2, classes=2)
    grouped, members = group_game(game, np.arange(points) % 8), np.zeros((256, 8), bool)
    enumerated = exact._utilities.lower(grouped, members, together=exact._together(grouped)).compile()
    # All coalitions' rows at once would be 33 times as many.
    assert enumerated.memory_analysis().temp_size_in_bytes < 16 * numbers_at_once()


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 3])
def test_many_fits_of_many_features_do_not_each_have_their_matrices_at_a_time(classes):
    features = 1023
    x = np.zeros((40, features), np.float32)
    x[:, 0] = np.arange(40) % 7
    game = logistic_game(x, np.arange(40) % classes, x[:5], np.arange(5) % classes, classes=classes)
    prefixes = jax.jit(type(game).prefix_utilities).lower(game, np.arange(40), np.arange(250) % 40)
    small = logistic_game(x[:8], np.arange(8) % classes, x[:5], np.arange(5) % classes, classes=classes)
    coalitions = exact._utilities.lower(small, np.zeros((256, 8), bool), together=exact._together(small))
    for program in (prefixes, coalitions):
        # Of all at a time it would be 1 GB an array.
        assert program.compile().memory_analysis().temp_size_in_bytes < 6 * 2**28


@pytest.mark.slow
def test_prefixes_of_many_classes_are_fitted_a_few_at_a_time():
    points, classes = 5_000, 100
    x = np.zeros((points, 4), np.float32)
    x[:, 0] = np.arange(points) % 7
    game = logistic_game(x, np.arange(points) % classes, x[:5], np.arange(5), classes=classes)
    prefixes = jax.jit(type(game).prefix_utilities).lower(game, np.arange(points), np.arange(250))
    # Of all at a time it would be thirty times as much an array.
    assert prefixes.compile().memory_analysis().temp_size_in_bytes < 16 * 4 * numbers_at_once()


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "features"), [(2, 1024), (3, 1024), (10, 50)])
def test_fits_of_many_features_are_added_to_a_few_points_at_a_time(classes, features):
    points, rows = 30_000, 10
    x = np.zeros((points, features), np.float32)
    x[:, 0] = np.arange(points) % 7
    game = logistic_game(x, np.arange(points) % classes, x[:rows], np.arange(rows) % classes, classes=classes)
    fitted = jax.eval_shape(type(game).fit, game, np.arange(20), np.int32(20))
    added = jax.jit(type(game).add_one_marginals)
    chunk = even_chunk(points, game.numbers_added(20))
    taken = [
        added.lower(game, fitted.model, np.arange(count)).compile().memory_analysis().temp_size_in_bytes
        for count in (chunk, points)
    ]
    # Six arrays of them, of four bytes a number.
    assert taken[0] < 24 * numbers_at_once() < taken[1]


def test_points_of_many_features_are_added_a_few_at_a_time():
    points, features, rows = 100_000, 256, 4
    x = np.zeros((points, features), np.float32)
    game = ridge_game(x, np.arange(points) % 2, x[:rows], np.arange(rows) % 2, classes=2)
    fitted = jax.eval_shape(type(game).fit, game, np.arange(20), np.int32(20))
    added = jax.jit(type(game).add_one_marginals).lower(game, fitted.model, np.arange(points))
    # Features of all points would be six times as many.
    assert added.compile().memory_analysis().temp_size_in_bytes < 16 * numbers_at_once()


def test_leave_one_out_takes_so_many_points_together_as_the_rows_of_their_fits_allow(monkeypatch):
    points, together = 9000, set()
    x = np.random.default_rng(0).normal(size=(points, 2)).astype(np.float32)
    game = logistic_game(x, np.arange(points) % 2, x[:10], np.arange(10) % 2, classes=2)

    def contributions(game, model, some):
        together.add(len(some))
        return Marginals(jnp.zeros(len(some)), jnp.zeros(len(some), jnp.int32))

    monkeypatch.setattr(type(game), "add_one_marginals", contributions)
    leave_one_out(game)
    # An eighth of them descends at a time.
    assert max(together) / 8 * points * 2 <= numbers_at_once()


@pytest.mark.parametrize("classes", [2, 3])
def test_points_are_added_to_long_coalitions_so_many_together_as_the_rows_of_their_fits_allow(classes, monkeypatch):
    points, together = 9000, []
    x, y = np.random.default_rng(0).normal(size=(points, 2)), np.arange(points) % classes

    def stopped(*given, chunk, **how):
        together.append(chunk)
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["tsds_jax.estimators.add_one"], "add_one_rounds", stopped)
    with pytest.raises(KeyboardInterrupt):
        tsds.value(x, y, x[:10], y[:10], subset_size=points, samples=1)
    assert together[0] / 8 * points * (classes if classes > 2 else 1) <= numbers_at_once()

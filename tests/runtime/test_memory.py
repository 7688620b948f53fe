"""Where a device's memory is full, less is computed together, and the values are the same."""

import contextlib
import sys

import jax
import numpy as np
import pytest

import tsds_jax as tsds
from tsds_jax.encoders import embed
from tsds_jax.errors import TsdsError
from tsds_jax.estimators import add_one, permutation
from tsds_jax.games import logistic_game, ridge_game
from tsds_jax.games.leave_one_out import leave_one_out
from tsds_jax.runtime.memory import halved, in_batches

FULL = "RESOURCE_EXHAUSTED: Out of memory allocating 8589934592 bytes."


@pytest.fixture
def game():
    rng = np.random.default_rng(0)
    x, x_val = rng.normal(size=(20, 3)), rng.normal(size=(15, 3))
    return ridge_game(x, x[:, 0] > 0, x_val, x_val[:, 0] > 0, classes=2)


def crowded(monkeypatch, module, name, argument, room, after=0):
    """Has the function's device full for more than so many together, from a later call on."""
    return filled(monkeypatch, f"tsds_jax.estimators.{module}", name, lambda given, how: how[argument], room, after)


def filled(monkeypatch, module, name, together, room, after):
    """The same of any module, where ``together`` says of a call's arguments how many they are."""
    module = sys.modules[module]
    real, calls = getattr(module, name), []

    def full(*arguments, **how):
        calls.append(together(arguments, how))
        if calls[-1] > room and len(calls) > after:
            raise jax.errors.JaxRuntimeError(FULL)
        return real(*arguments, **how)

    monkeypatch.setattr(module, name, full)
    return calls


def rows_of_batch(given, _):
    _, _, batch, *_ = given
    return len(batch.input_ids)


@contextlib.contextmanager
def compilations(name):
    """One entry for every time that a jitted function of this name is compiled, or read where it was kept."""
    counted, on = [], True

    def listen(event, seconds, **about):
        if on and event.endswith("backend_compile_duration") and about["fun_name"] == f"jit({name})":
            counted.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield counted
    on = False


def values(estimates):
    *_, last = estimates
    return last.moments.mean()[0]


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["add_one", "permutation"])
def test_so_many_are_computed_together_as_the_compiled_program_has_room_for_and_it_is_compiled_once(
    game, monkeypatch, estimator
):
    run, name, size = {
        "add_one": (add_one, "add_one_rounds", {"chunk": 20}),
        "permutation": (permutation, "walk_chains", {"lanes": 20}),
    }[estimator]
    options = {"subset_size": 8, "samples": 17, "seed": 0, **size}
    expected = values(run(game, **options))
    module, (argument,) = sys.modules[f"tsds_jax.estimators.{estimator}"], size
    real = getattr(module, name)
    wanted, called = {}, []

    class Program:
        def __call__(self, *arguments, **how):
            called.append(how[argument])
            return real(*arguments, **how)

        def lower(self, *arguments, **how):
            lowered = real.lower(*arguments, **how)
            wanted[how[argument]] = lowered.compile().memory_analysis()
            return lowered

    def needs(size):
        return wanted[size].temp_size_in_bytes + wanted[size].output_size_in_bytes

    monkeypatch.setattr(module, name, Program())

    def full_but_for(room):
        for place in ("memory", "spread"):
            monkeypatch.setattr(f"tsds_jax.runtime.{place}.device_memory", lambda: (2**30, 2**30 - room))

    full_but_for(0)
    np.testing.assert_allclose(values(run(game, **options)), expected, rtol=1e-5, atol=1e-6)
    # The program for one is not asked about: there is nothing smaller.
    assert list(wanted) == [20, 10, 5, 3, 2]
    assert set(called) == {1}
    assert needs(20) > needs(5)

    called.clear()
    jax.clear_caches()
    full_but_for(needs(5))
    with compilations(name) as counted:
        np.testing.assert_allclose(values(run(game, **options)), expected, rtol=1e-5, atol=1e-6)
    assert set(called) == {5}
    # Of programs for 20, 10 and 5.
    assert len(counted) == 3


@pytest.mark.parametrize("ahead", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_fewer_points_are_valued_together_where_memory_is_full(game, monkeypatch, ahead):
    options = {"subset_size": 8, "samples": 50, "seed": 0, "chunk": 20}
    expected = values(add_one(game, **options))
    if ahead:  # as on an accelerator, whose calls have a thread of their own
        module = sys.modules["tsds_jax.estimators.add_one"]
        monkeypatch.setattr(module.jax, "default_backend", lambda: "gpu")
    chunks = crowded(monkeypatch, "add_one", "add_one_rounds", "chunk", room=6, after=2)
    with pytest.warns(RuntimeWarning, match="no memory for") as told:
        found = values(add_one(game, **options))
    assert [str(one.message) for one in told] == [
        "the device has no memory for 20 points at a time: going on with 10",
        "the device has no memory for 10 points at a time: going on with 5",
    ]
    assert chunks[:2] == [20, 20]
    assert set(chunks[-2:]) == {5}
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_fewer_chains_are_walked_together_where_memory_is_full(game, monkeypatch):
    options = {"subset_size": 8, "samples": 9, "seed": 0, "chunk": 8}
    expected = values(permutation(game, **options))
    crowded(monkeypatch, "permutation", "walk_chains", "lanes", room=2)
    with pytest.warns(RuntimeWarning) as told:
        found = values(permutation(game, **options, lanes=8))
    assert ["8 chains at a time: going on with 4" in str(one.message) for one in told] == [True, False]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_fewer_rows_are_embedded_together_where_memory_is_full(tiny_model, monkeypatch):
    encoder = tsds.load_encoder(tiny_model)
    texts = [f"the film was {'very ' * (number % 7)}good" for number in range(40)]
    expected = embed(encoder, texts, batch_size=8)
    sizes = filled(monkeypatch, "tsds_jax.encoders.embed", "_encode", rows_of_batch, room=3, after=4)
    monkeypatch.setattr(sys.modules["tsds_jax.encoders.embed"], "SECTION", 3)
    with pytest.warns(RuntimeWarning) as told:
        found = embed(encoder, texts, batch_size=8)
    assert [str(one.message).partition("memory for ")[2] for one in told] == [
        "8 rows at a time: going on with 4",
        "4 rows at a time: going on with 2",
    ]
    assert sizes[-1] == 2
    np.testing.assert_allclose(found.values, expected.values, atol=1e-6 * np.abs(expected.values).max())
    assert (found.tokens, found.truncated) == (expected.tokens, expected.truncated)


@pytest.mark.slow
def test_fewer_rows_are_judged_together_where_memory_is_full(tiny_model, tiny_files, monkeypatch):
    options = tsds.FineTuneOptions(steps=1, max_length=24)
    rows = {"validation": tiny_files["validation"], "test": tiny_files["test"], "options": options}
    expected = tsds.finetune(tiny_model, tiny_files["train"], **rows)
    texts = [f"the film was {'very ' * (number % 7)}good" for number in range(60)]
    outputs = expected.model.outputs(texts)
    # Not at the first of them: what was found before is found again.
    sizes = filled(monkeypatch, "tsds_jax.finetuning.target", "_outputs", rows_of_batch, room=11, after=1)
    with pytest.warns(RuntimeWarning) as told:
        found = tsds.finetune(tiny_model, tiny_files["train"], **rows)
    assert "42 rows at a time: going on with 21" in str(told[0].message)
    assert sizes[-1] == 11
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-6)
    assert found.history == [pytest.approx(look, rel=1e-5) for look in expected.history]
    with pytest.warns(RuntimeWarning):
        np.testing.assert_allclose(found.model.outputs(texts), outputs, atol=1e-6)


def test_no_room_for_one_is_an_error_and_another_error_is_itself(monkeypatch):
    with pytest.raises(TsdsError, match="no memory left for points, one at a time"):
        halved(jax.errors.JaxRuntimeError(FULL), 1, "points")
    other = jax.errors.JaxRuntimeError("INTERNAL: the device is gone")
    with pytest.raises(jax.errors.JaxRuntimeError, match="the device is gone"):
        halved(other, 8, "points")
    crowded(monkeypatch, "add_one", "add_one_rounds", "chunk", room=0)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 2)), np.arange(12) % 2
    with pytest.warns(RuntimeWarning), pytest.raises(TsdsError, match="one at a time"):
        tsds.value(x, y, x, y, source="ridge", samples=4, subset_size=4)


def test_batches_of_one_shape_give_all_entries_in_order_where_memory_is_full_on_the_way():
    shapes = []

    def doubled(some):
        shapes.append(len(some))
        if some[0] >= 7 and len(some) > 3:
            raise jax.errors.JaxRuntimeError(FULL)
        return {"doubled": 2 * some}

    with pytest.warns(RuntimeWarning, match="numbers at a time"):
        found = in_batches(doubled, np.arange(18), 7, "numbers")
    np.testing.assert_array_equal(found["doubled"], 2 * np.arange(18))
    assert shapes == [7, 7, 4, 2, 2, 2, 2, 2, 2]


@pytest.mark.slow
def test_leave_one_out_takes_fewer_points_together_where_memory_is_full(monkeypatch):
    rng = np.random.default_rng(0)
    x, x_val = rng.normal(size=(20, 3)), rng.normal(size=(15, 3))
    game = logistic_game(x, x[:, 0] > 0, x_val, x_val[:, 0] > 0, classes=2, utility="log_likelihood")
    expected, _ = leave_one_out(game)
    real = type(game).add_one_marginals

    def full(game, model, points):
        if len(points) > 6:
            raise jax.errors.JaxRuntimeError(FULL)
        return real(game, model, points)

    monkeypatch.setattr(type(game), "add_one_marginals", full)
    with pytest.warns(RuntimeWarning, match="no memory for") as told:
        found, _ = leave_one_out(game)
    assert [str(one.message) for one in told] == [
        "the device has no memory for 20 points at a time: going on with 10",
        "the device has no memory for 10 points at a time: going on with 5",
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)

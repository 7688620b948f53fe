"""Games of functions of one's own: those of games that have the same utilities, each coalition asked about once."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import tsds_jax as tsds
from tsds_jax.games import function_game, group_game, logistic_game, utility

RNG = np.random.default_rng(0)
X, X_VAL = RNG.normal(size=(9, 3)), RNG.normal(size=(40, 3))
Y, Y_VAL = (X[:, 0] > 0).astype(int), (X_VAL[:, 0] > 0).astype(int)


def likelihood(members):
    """What scikit-learn's regression makes of these points."""
    fitted = LogisticRegression(tol=1e-10).fit(X[members], Y[members])
    return float(np.mean(fitted.predict_log_proba(X_VAL)[np.arange(40), Y_VAL]))


def test_a_model_of_scikit_learns_has_the_values_of_the_same_source_classifier():
    game = logistic_game(X, Y, X_VAL, Y_VAL, classes=2, utility="log_likelihood")
    every = ((np.arange(2**9)[:, None] >> np.arange(9)) & 1).astype(bool)
    # Of one class, or nobody, scikit-learn has no fit: these are as the game says.
    few = {tuple(np.flatnonzero(some)): float(utility(game, some)) for some in every if len(np.unique(Y[some])) < 2}

    def same(members):
        known = few.get(tuple(members))
        return likelihood(members) if known is None else known

    ours = tsds.value_game(game, estimator="exact").values
    theirs = tsds.value_game(function_game(same, 9), estimator="exact").values
    np.testing.assert_allclose(theirs, ours, atol=1e-4)


@pytest.mark.parametrize("estimator", ["exact", "add_one", "permutation", "banzhaf", "banzhaf_add_one"])
def test_each_coalition_is_asked_about_once_by_members_in_order(estimator):
    asked = []

    def asks(members):
        asked.append(tuple(members.tolist()))
        return float(len(members) > 2)

    found = tsds.value_game(function_game(asks, 5), estimator=estimator, samples=60)
    assert len(asked) == len(set(asked)) <= 2**5
    assert all(list(members) == sorted(set(members)) for members in asked)
    if not estimator.startswith("banzhaf"):
        np.testing.assert_allclose(found.values, 1 / 5, atol=4 * max(found.stderr.max(), 1e-6))


def test_a_run_goes_on_from_its_checkpoint_and_groups_are_players(tmp_path):
    game = function_game(lambda members: float(np.sqrt(len(members))), 8)
    how = {"estimator": "permutation", "samples": 40, "seed": 1, "truncation": 0.0}
    once = tsds.value_game(game, **how)
    kept = [tsds.value_game(game, checkpoint=tmp_path / "v.npz", **how) for _ in range(2)]
    for found in kept:
        np.testing.assert_array_equal(found.values, once.values)
    groups = np.arange(8) // 2
    by_group = tsds.value_game(game, groups=groups, **how)
    assert group_game(game, groups).players == len(by_group.values) == 4
    np.testing.assert_allclose(by_group.values.sum(), np.sqrt(8), rtol=1e-5)


@pytest.mark.parametrize("estimator", ["exact", "add_one", "permutation", "banzhaf"])
def test_what_all_coalitions_have_in_common_takes_no_digits_from_what_players_add(estimator):
    game = function_game(lambda members: 1e9 + len(members), 4)
    found = tsds.value_game(game, estimator=estimator, samples=400, truncation=0.0)
    np.testing.assert_allclose(found.values, 1, atol=1e-6 if estimator != "banzhaf" else 0.3)


def test_where_a_chain_is_cut_off_no_longer_coalition_is_asked_about():
    asked = []

    def enough(members):
        asked.append(len(members))
        return float(min(len(members), 3))

    tsds.value_game(function_game(enough, 40), estimator="permutation", samples=2, truncation=0.01)
    assert sorted({*asked} - {40}) == [0, 1, 2, 3]


@pytest.mark.parametrize("estimator", ["add_one", "permutation", "banzhaf"])
def test_each_coalition_or_chain_is_heard_of_before_the_next_but_one(estimator):
    asked, heard = [], []

    def asks(members):
        asked.append(members)
        return float(len(members))

    def progress(event):
        heard.append(len(asked))

    tsds.value_game(function_game(asks, 6), estimator=estimator, samples=12, truncation=0.0, progress=progress)
    assert len(set(heard)) > 6
    assert max(np.diff(heard)) <= 3 * 7


def test_devices_ask_one_after_another(on_devices):
    code = """
import time, jax, numpy as np
from tsds_jax import value_game
from tsds_jax.games import function_game
inside, asked = [], []
def asks(members):
    inside.append(1)
    assert len(inside) == 1
    time.sleep(0.002)
    asked.append(tuple(members.tolist()))
    inside.pop()
    return float(len(members))
assert jax.device_count() == 2
for estimator in ("add_one", "permutation", "banzhaf"):
    asked.clear()
    value_game(function_game(asks, 5), estimator=estimator, samples=20)
    assert len(asked) == len(set(asked)), estimator
"""
    subprocess.run([sys.executable, "-c", code], env=on_devices(2), check=True, timeout=300)


class Full(Exception):
    """What a function of one's own may raise."""


@pytest.mark.parametrize("estimator", ["exact", "add_one", "permutation", "banzhaf"])
def test_what_a_function_raises_comes_out_as_it_was_raised(estimator):
    def fails(members):
        if len(members) == 2:
            raise Full("the disk is full")
        return 0.0

    with pytest.raises(Full, match=r"^the disk is full$"):
        tsds.value_game(function_game(fails, 5), estimator=estimator, samples=60)


def test_a_utility_that_is_no_number_is_refused_by_the_number_of_its_players():
    with pytest.raises(tsds.InputError, match=r"the utility of \d players is nan: return a finite number"):
        tsds.value_game(function_game(lambda members: float("nan") if len(members) else 0.0, 4), samples=20)
    with pytest.raises(tsds.InputError, match="players is 0"):
        function_game(len, 0)

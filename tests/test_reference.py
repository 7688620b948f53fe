"""The plain reference of the benchmarks and the library say the same, and share no code."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import tsds_jax as tsds
from tsds_jax.games import knn_shapley
from tsds_jax.selection import Limits, ordered_curve
from tsds_jax.valuation import source_game

FOLDER = Path(__file__).parents[1] / "benchmarks" / "reference"

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="run from a source checkout")


def loaded(name):
    spec = importlib.util.spec_from_file_location(f"reference_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def reference():
    # Thousands of tiny fits: threads would wait for each other.
    with threadpool_limits(1):
        yield loaded("ts_dshapley")


def drawn(reference, points, features=3, rows=60):
    rng = np.random.default_rng(0)
    rule = rng.standard_normal(features)

    def some(number):
        x = rng.standard_normal((number, features))
        return x, (x @ rule + rng.standard_normal(number) > 0).astype(int)

    return reference.Data(*some(points), *some(rows))


def test_the_reference_shares_no_code_with_the_library():
    files = list(FOLDER.glob("*.py"))
    assert files
    for file in files:
        before_main = file.read_text("utf-8").split("def main()")[0]
        assert "import tsds_jax" not in before_main
        assert "from tsds_jax" not in before_main


@pytest.mark.slow
def test_its_chains_of_all_points_converge_to_the_enumerated_shapley_values(reference):
    data = drawn(reference, 7)
    found = reference.ts_dshapley(data, chains=300, subset_size=7, truncation=0.0)
    exact = tsds.value(*data, estimator="exact", utility="accuracy").values
    z = (found.values - exact) / found.stderr
    assert np.abs(z).max() < 4
    assert np.sqrt(np.mean(z**2)) < 2
    assert found.values.sum() == pytest.approx(exact.sum(), abs=1e-6)  # efficiency, chain by chain


@pytest.fixture(scope="module")
def theirs(reference):
    """The reference's values of small subsets, and the data that they are of."""
    data = drawn(reference, 30)
    return data, reference.ts_dshapley(data, chains=300, subset_size=6, truncation=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("how", [{}, {"estimator": "permutation", "truncation": 0.0}], ids=["add_one", "permutation"])
def test_the_librarys_values_of_small_subsets_are_the_references_within_sampling_error(theirs, how):
    data, theirs = theirs
    ours = tsds.value(*data, utility="accuracy", subset_size=6, samples=2000, **how)
    z = (ours.values - theirs.values) / np.hypot(ours.stderr, theirs.stderr)
    assert np.abs(z).max() < 4
    assert 0.6 < np.sqrt(np.mean(z**2)) < 1.4
    assert np.corrcoef(ours.values, theirs.values)[0, 1] > 0.9


@pytest.mark.parametrize("k", [1, 5, 40])
def test_the_librarys_nearest_neighbours_are_the_references(reference, k):
    data = drawn(reference, 30)
    expected = loaded("knn_shapley").knn_shapley(*data, k=k)
    np.testing.assert_allclose(knn_shapley(*data, k=k), expected, atol=1e-7)


def test_truncation_saves_fits_and_gives_what_comes_after_nothing(reference):
    data, order = drawn(reference, 20), np.arange(20)
    marginals, fits = reference.walk_chain(data, order, truncation=0.05)
    every, most = reference.walk_chain(data, order, truncation=0.0)
    assert most == 21
    assert fits < most
    assert (marginals[: fits - 1] == every[: fits - 1]).all()
    assert not marginals[fits - 1 :].any()


def test_it_removes_the_lowest_and_scores_each_cut_as_the_librarys_curve_does(reference):
    data = drawn(reference, 60)
    values = np.random.default_rng(1).standard_normal(60)
    chosen = reference.select(data, values)
    order = Limits.none(data.y).removal_order(values)
    curve = ordered_curve(source_game(*data, utility="accuracy"), order, chosen.cuts)
    np.testing.assert_allclose(chosen.scores, curve.score, atol=1.01 / 60)
    assert np.median(np.abs(chosen.scores - curve.score)) < 1e-6
    assert chosen.removed.tolist() == np.argsort(values)[: chosen.cuts[chosen.scores.argmax()]].tolist()

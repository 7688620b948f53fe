"""The closed-form values of nearest-neighbour games against their definitions, coalition by coalition."""

from itertools import combinations
from math import comb

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsds_jax.errors import InputError
from tsds_jax.games import knn
from tsds_jax.games.knn import KNN_VARIANTS, knn_shapley, plain_values, soft_values, threshold_values


def problem(points=8, rows=6, classes=2, features=3, seed=0, whole=False):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 3, (points + rows, features)) if whole else rng.normal(size=(points + rows, features))
    y = rng.integers(0, classes, points + rows)
    y[:classes] = np.arange(classes)
    return x[:points].astype(np.float32), y[:points], x[points:].astype(np.float32), y[points:]


def score(members, distance, match, k, variant, threshold, classes):
    """The game's definition at one validation row."""
    nearest = sorted(members, key=lambda i: (distance[i], i))
    if variant == "plain":
        return sum(match[i] for i in nearest[:k]) / k
    voting = nearest[:k] if variant == "soft" else [i for i in nearest if distance[i] <= threshold]
    return sum(match[i] for i in voting) / len(voting) if voting else 1 / classes


def enumerated(x, y, x_val, y_val, k=5, variant="plain", threshold=None):
    """Shapley values [rows, points] from all coalitions."""
    points, classes = len(x), len(np.unique(y))
    values = np.zeros((len(x_val), points))
    for row in range(len(x_val)):
        distance = np.linalg.norm(x.astype(np.float64) - x_val[row], axis=1)
        match = (y == y_val[row]).astype(float)
        game = (distance, match, k, variant, threshold, classes)
        known = {s: score(s, *game) for size in range(points + 1) for s in combinations(range(points), size)}
        for s, before in known.items():
            for i in set(range(points)) - set(s):
                gain = known[tuple(sorted((*s, i)))] - before
                values[row, i] += gain / (points * comb(points - 1, len(s)))
    return values


def options(variant, k=5, threshold=1.5):
    return {"variant": variant, "threshold": threshold} if variant == "threshold" else {"variant": variant, "k": k}


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("points", [3, 5, 8])
@pytest.mark.parametrize("k", [1, 2, 4, 5, 7, 8, 20])
@pytest.mark.parametrize("variant", ["plain", "soft"])
def test_values_are_those_of_the_definition_for_k_below_at_and_above_the_points(variant, k, points, classes):
    data = problem(points, 3, classes, seed=k)
    expected = enumerated(*data, k=k, variant=variant)
    found = knn_shapley(*data, k=k, variant=variant, per_validation_point=True)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 1.0, 2.0, np.inf])
def test_threshold_values_are_those_of_the_definition(threshold, classes):
    data = problem(7, 5, classes, seed=classes)
    expected = enumerated(*data, variant="threshold", threshold=threshold)
    found = knn_shapley(*data, variant="threshold", threshold=threshold, per_validation_point=True)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("offset", [0, 1000])
@pytest.mark.parametrize("variant", KNN_VARIANTS)
def test_points_at_one_distance_are_ordered_by_index(variant, offset):
    x, y, x_val, y_val = problem(8, 6, whole=True, features=2, seed=4)
    x, x_val = x + offset, x_val + offset
    x[5] = x[2]
    y[5] = 1 - y[2]
    given = options(variant, k=3, threshold=1.0)
    np.testing.assert_allclose(
        knn_shapley(x, y, x_val, y_val, per_validation_point=True, **given),
        enumerated(x, y, x_val, y_val, **given),
        atol=1e-6,
    )


def test_the_nearer_of_two_equal_points_is_the_first_whatever_rounding_says():
    x, y, x_val, y_val = problem(4001, 64, features=37, seed=5)
    x[1:] = x[1]
    values = knn_shapley(x, y, x_val, y_val, k=1, per_validation_point=True)
    # Distances are two numbers: point 0's and everyone else's. Sorted by index within them:
    distance = np.linalg.norm(x[:2].astype(np.float64) - x_val[:, None], axis=2)
    for row in range(64):
        others = np.arange(1, 4001)
        order = np.r_[0, others] if distance[row, 0] < distance[row, 1] else np.r_[others, 0]
        expected = recursion((y[order] == y_val[row]).astype(np.float64), 1)
        np.testing.assert_allclose(values[row, order], expected, atol=1e-6)


def recursion(match, k):
    """Jia et al.'s recursion in float64, from the farthest point to the nearest."""
    points = len(match)
    values = np.empty(points)
    values[-1] = match[-1] * min(k, points) / (points * k)
    for i in range(points - 1, 0, -1):
        values[i - 1] = values[i] + (match[i - 1] - match[i]) * min(k, i) / (k * i)
    return values


@pytest.mark.parametrize("k", [1, 5, 100])
def test_float32_agrees_with_the_papers_recursion_in_float64_for_many_points(k):
    match = np.random.default_rng(k).integers(0, 2, 20_000).astype(np.float32)
    expected = recursion(match.astype(np.float64), k)
    np.testing.assert_allclose(plain_values(jnp.asarray(match), k), expected, rtol=2e-5, atol=1e-10)


def test_soft_values_agree_with_their_recursion_in_float64_for_many_points():
    points, k, classes = 20_000, 5, 3
    match = np.random.default_rng(0).integers(0, 2, points).astype(np.float64)
    harmonic = np.sum(1 / np.arange(1, k + 1))
    expected = np.empty(points)
    expected[-1] = (match[-1] - 1 / classes + (match[-1] - match[:-1].mean()) * (harmonic - 1)) / points
    for i in range(points - 1, 0, -1):
        factor = min(k, i) / (k * i) + (harmonic - 1) / (points - 1)
        expected[i - 1] = expected[i] + (match[i - 1] - match[i]) * factor
    found = soft_values(jnp.asarray(match, jnp.float32), k, classes)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-9)


def test_threshold_values_are_soft_values_where_all_points_are_inside_and_vote():
    match = np.random.default_rng(1).integers(0, 2, (5, 40)).astype(np.float32)
    soft = soft_values(jnp.asarray(match), 40, 3)
    everyone = threshold_values(jnp.ones(match.shape, bool), jnp.asarray(match), 3)
    np.testing.assert_allclose(everyone, soft, atol=1e-7)


@pytest.mark.parametrize("variant", KNN_VARIANTS)
def test_values_sum_to_the_whole_utility_less_that_of_nobody(variant):
    x, y, x_val, y_val = problem(300, 50, classes=4, seed=7)
    given = options(variant)
    values = knn_shapley(x, y, x_val, y_val, **given)
    gains = []
    for v, label in zip(x_val, y_val, strict=True):
        distance = np.linalg.norm(x.astype(np.float64) - v, axis=1)
        game = (distance, (y == label).astype(float), given.get("k"), variant, given.get("threshold"), 4)
        gains.append(score(range(300), *game) - score((), *game))
    assert values.sum() == pytest.approx(np.mean(gains), abs=1e-6)


@pytest.mark.parametrize("variant", KNN_VARIANTS)
def test_values_depend_on_the_chunk_only_by_rounding(variant):
    data = problem(200, 23, classes=3, seed=8)
    given = options(variant)
    whole = knn_shapley(*data, **given)
    for chunk in (1, 5, 23, 1000):
        np.testing.assert_allclose(knn_shapley(*data, chunk=chunk, **given), whole, atol=1e-8)
        split = knn_shapley(*data, chunk=chunk, per_validation_point=True, **given)
        assert split.shape == (23, 200)
        np.testing.assert_allclose(split.mean(0, dtype=np.float64), whole, atol=1e-8)


def test_one_compilation_serves_all_chunks_and_every_k(monkeypatch):
    traces = []

    def counted(*arguments):
        traces.append(1)
        return knn._ordered_values(*arguments)

    monkeypatch.setattr(knn, "_by_order", jax.jit(counted, static_argnums=4))
    for k in (1, 5, 500):
        knn_shapley(*problem(100, 23), k=k, chunk=5)
    assert len(traces) == 1


def test_both_sorts_order_ties_by_index():
    distance = np.random.default_rng(0).integers(0, 5, (6, 200)).astype(np.float32) * np.float32(1.7e-3)
    expected = np.argsort(distance, 1, kind="stable")
    np.testing.assert_array_equal(knn._order_on_device(jnp.asarray(distance)), expected)
    np.testing.assert_array_equal(knn._order_on_host(jnp.asarray(distance)), expected)


@pytest.mark.parametrize("variant", ["plain", "soft"])
def test_the_sort_on_the_device_gives_the_same_values(variant, monkeypatch):
    data = problem(200, 10, classes=3, whole=True)
    on_host = knn_shapley(*data, variant=variant)
    monkeypatch.setattr(knn, "_order_on_host", knn._order_on_device)
    np.testing.assert_array_equal(knn_shapley(*data, variant=variant), on_host)


def test_equal_rows_are_found_zero_of_either_sign_included():
    x = np.array([[0.0, 1.0], [2.0, 1.0], [-0.0, 1.0], [2.0, 1.0], [1.0, 2.0]], np.float32)
    np.testing.assert_array_equal(knn._first_equal(x), [0, 1, 0, 1, 4])


@pytest.mark.parametrize("variant", KNN_VARIANTS)
def test_a_row_of_double_weight_counts_as_two(variant):
    x, y, x_val, y_val = problem(30, 6)
    given = options(variant)
    twice = np.r_[np.arange(6), 2]
    weight = np.array([1, 1, 2, 1, 1, 1])
    np.testing.assert_allclose(
        knn_shapley(x, y, x_val, y_val, weight_val=weight, chunk=4, **given),
        knn_shapley(x, y, x_val[twice], y_val[twice], **given),
        atol=1e-8,
    )


@pytest.mark.parametrize("variant", KNN_VARIANTS)
def test_weights_of_rows_weigh_the_values_of_the_definition(variant):
    data, given = problem(7, 5, classes=3, seed=11), options(variant, k=2)
    weight = np.array([0.5, 0.0, 3.0, 1.0, 0.1])
    expected = weight / weight.sum() @ enumerated(*data, **given)
    np.testing.assert_allclose(knn_shapley(*data, weight_val=weight, **given), expected, atol=1e-6)
    split = knn_shapley(*data, weight_val=weight, per_validation_point=True, **given)
    np.testing.assert_allclose(np.average(split, 0, weight), expected, atol=1e-6)


@pytest.mark.parametrize("variant", KNN_VARIANTS)
def test_a_far_offset_in_the_features_changes_no_value(variant):
    x, y, x_val, y_val = problem(200, 20, seed=9)
    x, x_val = np.round(x * 64) / 64, np.round(x_val * 64) / 64  # offset exact in float32
    there = knn_shapley(x + 65536, y, x_val + 65536, y_val, **options(variant))
    np.testing.assert_allclose(there, knn_shapley(x, y, x_val, y_val, **options(variant)), atol=1e-7)


def test_labels_may_be_strings():
    x, y, x_val, y_val = problem(20, 5, classes=3)
    names = np.array(["b", "c", "a"])
    np.testing.assert_array_equal(knn_shapley(x, names[y], x_val, names[y_val]), knn_shapley(x, y, x_val, y_val))


@pytest.mark.slow
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    points=st.sampled_from([2, 7]),
    rows=st.sampled_from([1, 4]),
    features=st.sampled_from([1, 9]),
    classes=st.sampled_from([2, 5]),
    k=st.sampled_from([1, 3, 10**9]),
    scale=st.sampled_from([1e-37, 1.0, 1e37]),
    kind=st.sampled_from(["random", "duplicates", "constant", "far"]),
    variant=st.sampled_from(KNN_VARIANTS),
)
def test_no_input_gives_a_nan_and_efficiency_always_holds(points, rows, features, classes, k, scale, kind, variant):
    x, y, x_val, y_val = problem(7, rows, classes, features)
    x, y = x[:points] * np.float32(scale), y[:points] % 2
    y_val = y_val % 2
    x_val = x_val * np.float32(1e37 if kind == "far" else scale)
    if kind == "duplicates":
        x[:] = x[0]
    elif kind == "constant":
        x[:, 0] = x_val[:, 0] = scale
    values = knn_shapley(x, y, x_val, y_val, **options(variant, k, threshold=np.inf))
    assert np.isfinite(values).all()
    matches = y == y_val[:, None]
    if k >= points or variant == "threshold":
        share = matches.mean(1)
        gain = share * min(1, points / k) if variant == "plain" else share - 0.5
        assert values.sum() == pytest.approx(gain.mean(), abs=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"variant": "hard"}, "variant 'hard' is unknown: use one of plain, soft, threshold"),
        ({"k": 0}, "k is 0: give a whole number"),
        ({"k": 2.5}, "k is 2.5"),
        ({"chunk": 0}, "chunk is 0"),
        ({"variant": "threshold"}, "give the radius"),
        ({"threshold": 1.0}, "leave threshold out"),
        ({"variant": "threshold", "threshold": -1.0}, "threshold is -1.0"),
        ({"variant": "threshold", "threshold": float("nan")}, "threshold is nan"),
        ({"weight_val": [1, 2]}, r"weight_val has shape \[2\] for 6 rows"),
        ({"weight_val": [1, 1, -1, 1, 1, 1]}, "weight_val is -1.0 at row 2"),
        ({"weight_val": [0] * 6}, "weight_val is zero everywhere"),
        ({"x_val": np.zeros((6, 2))}, "x_val has 2 features and x 3"),
        ({"x": np.full((8, 3), np.nan)}, "x is nan at row 0, feature 0"),
        ({"y_val": [0, 1, 9, 0, 1, 0]}, "y_val is 9 at row 2"),
        ({"y": [0, 1]}, "y has shape"),
    ],
)
def test_bad_input_is_named(change, words):
    given = dict(zip(("x", "y", "x_val", "y_val"), problem(), strict=True)) | change
    with pytest.raises(InputError, match=words):
        knn_shapley(**given)

import numpy as np
import pytest

from tsds_jax.encoders import fit_pca
from tsds_jax.errors import InputError


def sample(rows, width, rank=None, seed=0):
    rng = np.random.default_rng(seed)
    rank = rank or width
    return (rng.normal(size=(rows, rank)) * np.arange(rank, 0, -1)) @ rng.normal(size=(rank, width)) + 5


@pytest.mark.parametrize(("rows", "width"), [(60, 12), (12, 60), (20, 20)])
def test_components_are_those_of_the_covariance(rows, width):
    x = sample(rows, width)
    pca = fit_pca(x, 8)
    variances, vectors = np.linalg.eigh(np.cov(x.T))
    order = np.argsort(-variances)[:8]
    np.testing.assert_allclose(np.abs(pca.components @ vectors[:, order]), np.eye(8), atol=1e-7)
    np.testing.assert_allclose(pca.explained, variances[order] / variances.sum(), rtol=1e-9)
    np.testing.assert_allclose(pca.components @ pca.components.T, np.eye(8), atol=1e-12)


def test_the_transform_is_centred_and_uncorrelated():
    x = sample(80, 10)
    z = fit_pca(x, 4).transform(x)
    assert z.dtype == np.float32
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(np.corrcoef(z.T), np.eye(4), atol=1e-5)


def test_signs_are_fixed_whatever_the_order_of_the_rows():
    x = sample(50, 9)
    a, b = fit_pca(x, 5), fit_pca(x[::-1], 5)
    np.testing.assert_allclose(a.components, b.components, atol=1e-10)
    assert (np.take_along_axis(a.components, np.abs(a.components).argmax(1)[:, None], 1) > 0).all()


def test_all_components_keep_every_distance():
    x = sample(30, 6)
    z = fit_pca(x, 6).transform(x)
    np.testing.assert_allclose(np.linalg.norm(z[0] - z[1:], axis=1), np.linalg.norm(x[0] - x[1:], axis=1), rtol=1e-5)
    assert fit_pca(x, 6).explained.sum() == pytest.approx(1)


def test_rows_that_are_all_alike_carry_no_variance():
    pca = fit_pca(np.ones((5, 4)), 2)
    np.testing.assert_array_equal(pca.explained, 0)
    np.testing.assert_array_equal(pca.transform(np.ones((3, 4))), 0)


def test_float32_rows_are_fitted_in_float64():
    x = (sample(40, 8) + 1e4).astype(np.float32)
    np.testing.assert_allclose(fit_pca(x, 3).components, fit_pca(x.astype(np.float64), 3).components)


@pytest.mark.parametrize("size", [0, -1, 7, 2.0, True])
def test_a_size_out_of_range_is_named(size):
    with pytest.raises(InputError, match=rf"PCA size .*6 .*{size}"):
        fit_pca(sample(20, 6), size)


def test_a_row_that_is_not_finite_is_named():
    x = sample(20, 6)
    x[3, 2] = np.inf
    with pytest.raises(InputError, match="row 3"):
        fit_pca(x, 2)


def test_another_width_is_refused():
    with pytest.raises(InputError, match=r"width 6 .*\(2, 5\)"):
        fit_pca(sample(20, 6), 2).transform(np.zeros((2, 5)))
    with pytest.raises(InputError, match="shape"):
        fit_pca(np.zeros(5), 2)


def test_rows_on_disk_give_the_components_of_rows_in_memory_and_are_not_held(tmp_path):
    x = (sample(50_000, 24) + 3).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    held, kept = fit_pca(x, 6), fit_pca(mapped, 6)
    np.testing.assert_array_equal(kept.components, held.components)
    np.testing.assert_array_equal(kept.transform(mapped[10:]), held.transform(x[10:]))
    whole = np.linalg.svd(x - x.mean(0, np.float64), full_matrices=False)
    np.testing.assert_allclose(np.abs(kept.components @ whole[2][:6].T), np.eye(6), atol=1e-9)
    np.testing.assert_allclose(kept.explained, whole[1][:6] ** 2 / (whole[1] ** 2).sum(), rtol=1e-9)
    x[40_000, 3] = np.nan
    with pytest.raises(InputError, match="row 40000"):
        fit_pca(x, 6)

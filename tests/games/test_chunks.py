"""How much is computed at once."""

import jax
import pytest

from tsds_jax.games.chunks import even_chunk, numbers_at_once


@pytest.mark.parametrize("numbers", [1, 2000, 10**6, 10**8])
def test_a_chunk_on_an_accelerator_fills_its_kernels_and_not_more_memory_than_twice_what_is_meant(numbers, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    chunk = even_chunk(100_000, numbers)
    assert chunk * numbers < 2 * numbers_at_once()
    assert chunk % 64 == 0 or chunk < 64

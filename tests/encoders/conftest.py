"""A tiny BERT folder with a WordPiece tokenizer, and ways to spoil a copy of it."""

import shutil
from pathlib import Path

import pytest

from tsds_jax.encoders import Encoder, load_encoder

GOLDEN = Path(__file__).parents[1] / "golden" / "bert"


@pytest.fixture(scope="session")
def golden() -> Path:
    return GOLDEN


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    return load_encoder(GOLDEN)


@pytest.fixture
def of_family(tmp_path: Path):
    """An encoder of any family that has golden weights, with the one tokenizer that fits them all."""

    def load(family: str, **how) -> Encoder:
        made = Path(shutil.copytree(GOLDEN.parent / family, tmp_path / family, dirs_exist_ok=True))
        for file in GOLDEN.glob("tokenizer*.json"):
            shutil.copy(file, made)
        return load_encoder(made, **how)

    return load


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(GOLDEN, tmp_path / "model", ignore=shutil.ignore_patterns("expected.npz")))

"""What all tests share: no hub, warnings are errors (see pyproject.toml), small labelled files, a tiny encoder."""

import os
import shutil
import socket
import tempfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Most of a test's time is compilation, and no claim may hang on how code is compiled: without optimisation it takes a
# third to a half of the time. Give XLA_FLAGS to have it otherwise.
if "XLA_FLAGS" not in os.environ:
    plain = ["--xla_backend_optimization_level=0"]
    # Newer ones have no other emitters, and end at a flag that they do not know.
    plain += ["--xla_cpu_use_fusion_emitters=false"] if version("jaxlib").startswith("0.10.") else []
    os.environ["XLA_FLAGS"] = " ".join(plain)
# What one process has compiled the others read, the command line's too. The first process to get here, pytest's own,
# makes the folder; those that it starts inherit it.
_COMPILED = None if "JAX_COMPILATION_CACHE_DIR" in os.environ else tempfile.mkdtemp(prefix="tsds-compiled-")
if _COMPILED:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _COMPILED
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"


# Files of few tests that take long: at the end one worker would be alone with them.
LONG = ("test_killed", "test_processes", "test_spread", "test_finetuning_options", "test_pipeline", "test_memory")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests stay together; those files come first, and then those of most tests."""
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path.stem not in LONG, -tests[item.path], str(item.path)))


def pytest_unconfigure() -> None:
    if _COMPILED:
        shutil.rmtree(_COMPILED, ignore_errors=True)


@pytest.fixture(scope="module", autouse=True)
def compiled_programs_do_not_pile_up():
    """A system allows a process some 65,000 memory maps, and all programs of the suite together take more."""
    yield
    import jax

    jax.clear_caches()


@pytest.fixture(scope="session")
def on_devices():
    """The environment in which a CPU is so many devices. JAX counts them once, so a process of its own has to ask."""

    def environment(count: int) -> dict[str, str]:
        flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={count}"
        return os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}

    return environment


GOOD = ["good", "great", "fine", "lovely", "happy", "bright", "warm", "best", "funny", "clever"]
BAD = ["bad", "awful", "poor", "sad", "dull", "cold", "worst", "boring", "weak", "slow"]
THINGS = ["film", "movie", "story", "plot", "actor", "scene", "music", "dog", "house", "train"]


def sentences(rows: int, seed: int, wrong: float = 0.0) -> list[dict]:
    """Labelled sentences in the golden encoder's vocabulary, a share of them with the wrong label."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(rows):
        positive = bool(rng.random() < 0.5)
        words = rng.choice(GOOD if positive else BAD, 2)
        text = f"the {rng.choice(THINGS)} was {words[0]} and very {words[1]}"
        flipped = bool(rng.random() < wrong)
        found.append({"id": number, "text": text, "label": "pos" if positive != flipped else "neg", "flipped": flipped})
    return found


def write_csv(path: Path, rows: list[dict]) -> Path:
    """A csv file of such sentences."""
    lines = ["id,text,label", *(f"{row['id']},{row['text']},{row['label']}" for row in rows)]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


@pytest.fixture
def flipped_file(tmp_path) -> tuple[Path, list[bool]]:
    """A csv file of 400 rows, and which of them have a wrong label."""
    rows = sentences(400, 0, 0.1)
    return write_csv(tmp_path / "flipped.csv", rows), [row["flipped"] for row in rows]


@pytest.fixture
def free_place() -> str:
    """HOST:PORT where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture(scope="session")
def tiny_model() -> Path:
    """A BERT folder of 32 features and 2 layers."""
    return Path(__file__).parent / "golden" / "bert"


@pytest.fixture(scope="session")
def tiny_files(tmp_path_factory) -> dict[str, str]:
    """Training (a tenth of the labels wrong), validation and test csv files."""
    folder = tmp_path_factory.mktemp("files")
    parts = {"train": (120, 0.1), "validation": (60, 0.0), "test": (50, 0.0)}
    return {
        name: str(write_csv(folder / f"{name}.csv", sentences(rows, seed, wrong)))
        for seed, (name, (rows, wrong)) in enumerate(parts.items())
    }


@pytest.fixture(scope="session")
def tiny_flipped() -> np.ndarray:
    """Which of the tiny training rows have a wrong label."""
    return np.array([row["flipped"] for row in sentences(120, 0, 0.1)])

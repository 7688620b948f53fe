"""Peak memory of a process that values many points."""

from measures.cold import run_cold
from measures.problem import synthetic
from measures.rows import Memory


def memory(points: int, coalitions: int, features: int, rows: int, *, repeats: int) -> Memory:
    """Of `tsds_jax.value` by add-one marginals, arrays and imports included."""
    # Memory and time depend on the arrays' sizes alone; there is no real text of this many points at hand.
    data = synthetic(points, features, rows)
    runs = [
        run_cold(data, source="logistic", estimator="add_one", samples=coalitions, seed=seed) for seed in range(repeats)
    ]
    return Memory(
        f"N = {points:,}, {features} features, {rows:,} validation rows, {coalitions} coalitions (synthetic features)",
        [run.peak for run in runs],
        2 * 2**30,
        [run.seconds for run in runs],
        {"value_seconds": [run.first for run in runs], "import_seconds": [run.imports for run in runs]},
    )

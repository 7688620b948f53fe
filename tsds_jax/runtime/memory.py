"""What a device's memory holds at a time: less together where it has no room."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from tsds_jax.errors import TsdsError


def device_memory() -> tuple[int, int] | None:
    """Bytes of a device's memory, and how many of them are in use; None where it does not say, as a CPU."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return (int(stats["bytes_limit"]), int(stats.get("bytes_in_use", 0))) if "bytes_limit" in stats else None


def with_room(lowered: Callable[[int], jax.stages.Lowered], size: int) -> int:
    """The size, or the half of it, the quarter and so on, rounded up, whose program finds room on the device.

    The compiler's own account of the program is what is asked: what it holds beside its arguments must be free. Of a
    job of several processes all must decide alike, so there it is program and arguments in all the memory. What is
    compiled here a call does not compile again, if its arguments are NumPy's or were put on a device (`Spread`).

    Args:
      lowered: the program that computes so many together, on the arguments that it will have.
      size: how many at most.

    Example:
      >>> with_room(lambda size: jax.jit(lambda x: x * 2).lower(np.ones(size)), 8)
      8
    """
    memory = device_memory()
    if memory is None:
        return size
    limit, used = memory
    several = jax.process_count() > 1
    while size > 1:
        try:
            needs = lowered(size).compile().memory_analysis()
        except jax.errors.JaxRuntimeError as error:  # some compilers do not make what has no room
            if not _says_full(error):
                raise
        else:
            if needs is None:
                return size
            held = needs.temp_size_in_bytes + needs.output_size_in_bytes
            if held <= (limit - needs.argument_size_in_bytes if several else limit - used):
                return size
        size = -(-size // 2)
    return size


def _says_full(error: jax.errors.JaxRuntimeError) -> bool:
    """Whether the error is that a device's memory was full."""
    return "RESOURCE_EXHAUSTED" in str(error)


def halved(error: jax.errors.JaxRuntimeError, size: int, what: str, less: str = "fewer rows or features") -> int:
    """Half as many, rounded up, where the device's memory was full; a warning says so.

    Args:
      error: that a computation raised.
      size: how many were computed together.
      what: of what, in the plural.
      less: what to give where there is no room for one.

    Raises:
      TsdsError: there was no room for a single one, or in a job of several processes, which would all have to halve.
      JaxRuntimeError: the same error, where it is another one.

    Example:
      >>> with warnings.catch_warnings(action="ignore"):
      ...     halved(jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED"), 15, "points")
      8
    """
    if not _says_full(error):
        raise error
    if size <= 1:
        raise TsdsError(f"the device has no memory left for {what}, one at a time: give {less}") from None
    if jax.process_count() > 1:
        raise TsdsError(
            f"a device of process {jax.process_index()} has no memory for {size:,} {what} at a time: use devices that"
            " nothing else runs on, or with more memory"
        ) from None
    half = -(-size // 2)
    warnings.warn(
        f"the device has no memory for {size:,} {what} at a time: going on with {half:,}", RuntimeWarning, stacklevel=2
    )
    return half


def no_room(error: jax.errors.JaxRuntimeError, what: str, less: str) -> Exception:
    """A `TsdsError` where the device's memory was full for ``what``, with what to give instead; else the same error."""
    return TsdsError(f"the device has no memory for {what}: give {less}") if _says_full(error) else error


def in_batches(compute: Callable[[np.ndarray], Any], entries: np.ndarray, size: int, what: str) -> Any:
    """What is computed of all entries, so many at a time, on the host; half as many while the device's memory is full.

    Args:
      compute: maps ``[size]`` entries to arrays with an axis of them. The last batch has its last entry over and over,
        so that all are of one shape and compile once.
      entries: ``[entries]``, at least one.
      size: entries of a batch.
      what: is computed, in the plural: see `halved`.

    Raises:
      TsdsError: see `halved`.

    Example:
      >>> in_batches(lambda some: some * 2, np.arange(5), 2, "numbers")
      array([0, 2, 4, 6, 8])
    """
    found, done = [], 0
    while done < len(entries):
        some = entries[done : done + size]
        try:
            found.append(jax.device_get(compute(np.pad(some, (0, size - len(some)), "edge"))))
        except jax.errors.JaxRuntimeError as error:
            size = halved(error, size, what)
        else:
            done += len(some)
    return jax.tree.map(lambda *parts: np.concatenate(parts)[: len(entries)], *found)

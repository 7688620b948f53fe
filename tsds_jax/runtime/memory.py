"""What to do where a device has no room for what is computed together: less together, and a line that says so."""

import warnings

import jax

from tsds_jax.errors import TsdsError


def halved(error: jax.errors.JaxRuntimeError, size: int, what: str) -> int:
    """Half as many, rounded up, where the device's memory was full; a warning says so.

    Args:
      error: that a computation raised.
      size: how many were computed together.
      what: of what, in the plural.

    Raises:
      TsdsError: there was no room for a single one.
      JaxRuntimeError: the same error, where it is another one.

    Example:
      >>> try:
      ...     compute(points)
      ... except jax.errors.JaxRuntimeError as error:
      ...     chunk = halved(error, chunk, "points")
    """
    if "RESOURCE_EXHAUSTED" not in str(error):
        raise error
    if size <= 1:
        raise TsdsError(
            f"the device has no memory left for {what}, one at a time: give fewer rows or features"
        ) from None
    half = -(-size // 2)
    warnings.warn(
        f"the device has no memory for {size:,} {what} at a time: going on with {half:,}", RuntimeWarning, stacklevel=2
    )
    return half

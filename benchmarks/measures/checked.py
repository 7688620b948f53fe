"""What makes sure that both sides gave one answer: speed at another answer is no speed."""

import numpy as np


def relative(ours: np.ndarray, theirs: np.ndarray, most: float) -> tuple[str, float]:
    """The check of arrays of both sides: how far they differ at most, over the root mean square of theirs."""
    largest = np.abs(ours - theirs).max() / np.sqrt(np.mean(theirs**2))
    return checked("largest difference over the root mean square", float(largest), most)


def checked(what: str, difference: float, most: float) -> tuple[str, float]:
    """A row's check.

    Raises:
      SystemExit: the difference is above ``most``, or is no number.
    """
    if not difference <= most:
        raise SystemExit(f"the sides disagree: {what} is {difference:.2g}, and may be {most:g}")
    return what, difference

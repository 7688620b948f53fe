"""What makes sure that both sides gave one answer: speed at another answer is no speed."""


def checked(what: str, difference: float, most: float) -> tuple[str, float]:
    """A row's check.

    Raises:
      SystemExit: the difference is above ``most``, or is no number.
    """
    if not difference <= most:
        raise SystemExit(f"the sides disagree: {what} is {difference:.2g}, and may be {most:g}")
    return what, difference

"""One family of errors: each message is one line that names the input, the row or value, and the way out."""


class TsdsError(Exception):
    """A failure while working. The command line ends with exit code 1."""

    exit_code = 1


class InputError(TsdsError, ValueError):
    """Something that was given cannot be used. Raised before long work starts; exit code 2."""

    exit_code = 2

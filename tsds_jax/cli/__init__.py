"""The command line, `tsds`: each command a thin layer over one function.

Options come from flags, else from ``--config FILE.toml`` (the flags' names, with ``_`` or ``-``), else from the
defaults in `tsds_jax.options`. Nothing heavy is imported before a command runs, so that ``--help`` is quick.
"""

from tsds_jax.cli.commands import main

__all__ = ["main"]

"""``python -m tsds_jax.cli`` is ``tsds``."""

from tsds_jax.cli import main

main()

"""``python -m tsds_jax.cli`` is ``tsds``."""

from tsds_jax.cli import main

if __name__ == "__main__":
    main()

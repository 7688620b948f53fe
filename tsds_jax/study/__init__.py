"""Methods side by side: what each finds of wrong labels, and what removing its lowest rows does."""

from tsds_jax.study.running import evaluate

__all__ = ["evaluate"]

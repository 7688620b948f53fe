"""A run folder as one self-contained page: what was found, how sure that is, and how it was computed."""

from tsds_jax.report.contents import RunContents, read_run
from tsds_jax.report.page import render_report, write_report

__all__ = ["RunContents", "read_run", "render_report", "write_report"]

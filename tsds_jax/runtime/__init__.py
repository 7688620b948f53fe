"""Where work runs: progress events, run folders."""

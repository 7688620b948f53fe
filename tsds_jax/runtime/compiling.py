"""What the numerical core asks of the compiler."""

# On a CPU of few cores XLA's scheduler for concurrent operations can wait for itself: batches of logistic fits to some
# 700 rows never ended (jaxlib 0.10.2). Without it others take no longer than before.
COMPILER_OPTIONS = {"xla_cpu_enable_concurrency_optimized_scheduler": False}

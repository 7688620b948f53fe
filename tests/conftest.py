"""The strict setting every test runs in: no hub, one JAX platform, warnings are errors (see pyproject.toml)."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

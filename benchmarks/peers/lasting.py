"""Runs a script again and again in one process, which imports what it needs once.

    python lasting.py SCRIPT

Reads a line for each run, the script's arguments as a list of JSON, and answers one when it is over.
"""

import json
import os
import runpy
import sys
from pathlib import Path


def main() -> None:
    script = sys.argv[1]
    sys.path.insert(0, str(Path(script).parent))
    # What the script prints is no answer.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        for line in sys.stdin:
            sys.argv = [script, *json.loads(line)]
            runpy.run_path(script, run_name="__main__")
            print("over", file=answers, flush=True)


if __name__ == "__main__":
    main()

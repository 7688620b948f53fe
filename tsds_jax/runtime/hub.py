"""Whether the Hugging Face hub can be asked at all, found out within seconds and without a word."""

import contextlib
import threading

import huggingface_hub
from huggingface_hub import constants

# Seconds. A mistyped file name is taken for a hub name, so this is how long it takes to hear of the mistake.
PATIENCE = 4.0


def hub_answers() -> bool:
    """Whether the hub sends any answer, be it an error, within `PATIENCE` seconds.

    Without a network `datasets` tries six times in 25 seconds and logs each of them, and `huggingface_hub` may
    wait without end for a model: ask this first.
    """
    answered = threading.Event()

    def ask() -> None:
        with contextlib.suppress(Exception):
            huggingface_hub.get_session().head(constants.ENDPOINT, timeout=PATIENCE)
            answered.set()

    # In a thread, as no timeout ends the look-up of a host name; a daemon, so that none holds up the exit.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    return answered.is_set()

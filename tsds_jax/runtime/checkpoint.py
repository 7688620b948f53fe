"""A file from which a computation goes on that was cut before its end."""

import json
import os
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from tsds_jax.arrays import number_in
from tsds_jax.errors import InputError, TsdsError
from tsds_jax.runtime.files import Arrays, as_path, check_writable, read_arrays, write_arrays
from tsds_jax.runtime.folder import first_difference
from tsds_jax.runtime.processes import first_says, from_first, is_first
from tsds_jax.runtime.signals import Ended, PutOff

_IDENTITY = "identity"


class Checkpoint(PutOff):
    """One .npz file, whole or absent, with what a computation has reached and what computation that is.

    As a context it puts off Ctrl-C and SIGTERM to the next `offer`, which writes before it raises `Ended`. In a job of
    several processes that is the first offer of which all know that one was asked to end.
    """

    def __init__(self, file: str | os.PathLike, identity: Mapping[str, Any], every: float = 60.0) -> None:
        """Opens none yet.

        Args:
          file: that is read, if it is there, and written.
          identity: what makes this computation this one; JSON values.
          every: seconds between writes.

        Raises:
          InputError: the file cannot be written there, or ``every`` is negative.
        """
        number_in("checkpoint_every", every, 0, np.inf, whole=False)
        self.file, self.every = as_path(file), float(every)
        self.identity: dict[str, Any] = json.loads(json.dumps(identity))
        if self.file.is_dir():
            raise InputError(f"{self.file} is a folder: give a file for the checkpoint")
        check_writable(self.file.parent)
        self._written = time.monotonic()

    def read(self) -> Arrays | None:
        """What an earlier try reached, of a job the first process's; None where there was none.

        Raises:
          InputError: the file is of another computation.
          TsdsError: it cannot be read.
        """
        if not from_first(b"there" if is_first() and self.file.exists() else b""):
            return None
        way_out = "delete it to begin anew"
        content, refused = b"", ""
        try:
            content = self.file.read_bytes() if is_first() else b""
        except OSError as error:
            refused = str(error.strerror)
        if refused := first_says(refused):
            raise TsdsError(f"{self.file} cannot be read ({refused}): {way_out}")
        content = from_first(content)
        arrays = read_arrays(self.file, way_out, content)
        try:
            identity = json.loads(str(arrays.pop(_IDENTITY)))
        except (KeyError, ValueError):
            raise TsdsError(f"{self.file} cannot be read (it does not say of what it is): {way_out}") from None
        difference = first_difference(identity, self.identity)
        if difference:
            raise InputError(
                f"{self.file} is of a computation with {difference}: go on with the same, or give another file"
            )
        return arrays

    def offer(self, arrays: Arrays, *, last: bool = False, ends: bool = False) -> None:
        """Writes the arrays if the last time was long enough ago, if there will be no other, or at the end of all.

        Args:
          arrays: what was reached.
          last: whether there will be no other.
          ends: whether a process was asked to end (`asked_of_any`), as all found behind what they computed for this.

        Raises:
          Ended: after writing, where that is so, or Ctrl-C or SIGTERM came to a process that is alone.
        """
        # A process that left by itself would leave the others waiting for it, and with them what they reached.
        ends |= self.asked and jax.process_count() == 1
        if not (last or ends) and time.monotonic() - self._written < self.every:
            return
        # Of a job's processes all have the same to write.
        if is_first():
            write_arrays(self.file, {_IDENTITY: np.asarray(json.dumps(self.identity)), **arrays})
        self._written = time.monotonic()
        if ends:
            raise Ended

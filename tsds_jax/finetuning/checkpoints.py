"""What a run of fine-tuning needs to go on where it stopped, written by Orbax."""

import errno
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax

from tsds_jax.errors import TsdsError
from tsds_jax.runtime.processes import is_first
from tsds_jax.runtime.signals import Ended, PutOff

# From one save to the next passes at least so many times what the last one took, but for one at the end: that is worth
# it where as much as it takes would be lost, and so much of the time from one to the next.
_REST, _WORTH = 20, 0.5
# No room, or none for this user, or none for a file of that size; or a disk that takes nothing any more.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


class Checkpoints(PutOff):
    """The newest checkpoint under a folder: written while the run goes on, whole or absent.

    Arrays are kept as a list of leaves, so that no name or number of a path is turned into something else. With a
    folder, Ctrl-C and SIGTERM make one due, and it is written before `Ended` is raised. Of a job's processes,
    which gather together what each has a part of, the first one's clock and any one's signal are all of them's.
    """

    def __init__(self, folder: Path | None, seconds: float):
        """Those in ``folder``, this far apart, or further where saving takes long; at every step where that is 0.

        Without a folder nothing is written or read.
        """
        self.manager: Any = None
        self.folder, self.seconds, self.rest, self.took = folder, seconds, seconds, 0.0
        self.written = time.monotonic()
        if folder is not None:
            import orbax.checkpoint as ocp  # a second, that a run without a folder does not need

            self.orbax = ocp
            # Of a job's processes the first alone writes; Orbax must not wait for the others.
            me = jax.process_index()
            alone = ocp.options.MultiprocessingOptions(me, {me}, f"process {me}")
            options = ocp.CheckpointManagerOptions(
                max_to_keep=1,
                create=False,
                # The next step gives the arrays' memory away: a save has to be over when `save` comes back.
                enable_async_checkpointing=False,
                # A kill while one is written leaves it half there.
                cleanup_tmp_directories=True,
                multiprocessing_options=alone,
            )
            folder.mkdir(parents=True, exist_ok=True)
            self.manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def __enter__(self) -> Self:
        """Itself."""
        return self if self.manager is None else super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the folder, without what was not written whole: what follows may need the room."""
        if self.folder is not None:
            try:
                self.manager.close()
                for left in self.folder.glob("*.*"):
                    shutil.rmtree(left, ignore_errors=True)  # threads may still write there; Orbax removes that later
            finally:
                super().__exit__(kind, error, trace)

    @property
    def step(self) -> int:
        """The step after which the newest was written; 0 where there is none."""
        return 0 if self.manager is None else self.manager.latest_step() or 0

    @property
    def due(self) -> bool:
        """Whether it is time for another one, for all processes; all have to ask."""
        # The others, which do not write, know less of how long it takes.
        return self.manager is not None and self.agree(time.monotonic() - self.written >= self.rest)

    @property
    def due_at_the_end(self) -> bool:
        """The same after the last step, sooner: what follows the training may fail, or be ended."""
        late = time.monotonic() - self.written >= max(_WORTH * self.seconds, self.took)
        return self.manager is not None and self.agree(late)

    def save(self, step: int, fetch: Callable[[], Any], loop: dict[str, Any]) -> None:
        """Write the state after a step: a pytree of NumPy's arrays, and JSON values. Back when it is on disk.

        Args:
          step: its number.
          fetch: gives the arrays, in all processes; the time that takes is part of the writing's.
          loop: the values.

        Raises:
          Ended: after writing, where Ctrl-C or SIGTERM made it due.
          OSError: it cannot be written; the one before is there.
        """
        began, args = time.monotonic(), self.orbax.args
        leaves = jax.tree.leaves(fetch())
        if is_first():
            try:
                self.manager.save(
                    step,
                    args=args.Composite(arrays=args.StandardSave(leaves), loop=args.JsonSave(loop)),
                    force=True,
                )
            except (OSError, ValueError) as error:
                # TensorStore, which writes the arrays, tells what the system said in its own error's words.
                full = [number for number in _FULL if os.strerror(number) in str(error)]
                if not full:
                    raise
                raise OSError(full[0], os.strerror(full[0]), str(self.folder)) from None
        self.written = time.monotonic()
        self.took = self.written - began
        self.rest = max(self.seconds, _REST * self.took) if self.seconds else 0.0
        if self.agreed:
            raise Ended

    def restore(self, like: Any) -> tuple[Any, dict[str, Any]] | None:
        """The newest state, with arrays in the shape of ``like``; None where there is none.

        Raises:
          TsdsError: it cannot be read.
        """
        step = self.step
        if step == 0:
            return None
        args = self.orbax.args
        shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(like)]
        try:
            found = self.manager.restore(
                step, args=args.Composite(arrays=args.StandardRestore(shapes), loop=args.JsonRestore())
            )
        except Exception as error:  # whatever Orbax and what it stands on raise at damaged files
            reason = " ".join(str(error).split())[:120]
            raise TsdsError(f"the checkpoint in {self.folder} cannot be read ({reason}): delete that folder") from None
        return jax.tree.unflatten(jax.tree.structure(like), found.arrays), found.loop

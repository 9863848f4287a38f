"""Checkpoints: a training that was killed resumes from the last one."""

from __future__ import annotations

import hashlib
import logging
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from segem.config import Config
from segem.io.files import locked, new_directory, sweep_partials, write_text
from segem.learn.learner import Learner
from segem.learn.tensors import write_tensors
from segem.learn.watch import Snapshot
from segem.progress import tell

logger = logging.getLogger(__name__)

STATE, NOTE = "state.safetensors", "training.json"
SHARE_OF_TIME = 0.05
"""Largest share of the time that writing may take, so checkpoints of large nets are further apart."""


class Reached(Config):
    """How far a training has come. Random choices follow from seed and step, so no generator state is kept."""

    step: int = Field(default=0, ge=0)
    seconds: float = Field(default=0.0, ge=0)
    """Time used so far, over all processes."""
    loss: float = math.nan
    """Running average."""
    history: tuple[Snapshot, ...] = ()
    """The looks at the validation sections so far."""

    def after(self, loss: float, seconds: float, smoothing: float) -> Reached:
        """Return the state after one more step, whose loss gets this weight in the running average."""
        running = loss if self.step == 0 else (1 - smoothing) * self.loss + smoothing * loss
        return self.model_copy(update={"step": self.step + 1, "seconds": seconds, "loss": running})

    def seen(self, validation_iou: float) -> Reached:
        """Return the same with one more look at the validation sections, a point of the training's curve."""
        here = Snapshot(step=self.step, seconds=self.seconds, loss=self.loss, validation_iou=validation_iou)
        return self.model_copy(update={"history": (*self.history, here)})


class _Note(Reached):
    schema_version: Literal[2] = 2
    digest: str
    """sha256 of the tensors' file and of all else in here: a flipped bit must not turn into another result."""


class Checkpoints:
    """The last checkpoint of one training, rewritten at intervals; opened by `open_checkpoints`.

    Parameters
    ----------
    folder : Path
        Where the checkpoint lies, whole or not at all.
    every_seconds : float
        Time between two checkpoints.
    every_steps : int
        Most steps between two checkpoints.
    """

    def __init__(self, folder: Path, every_seconds: float, every_steps: int) -> None:
        self.folder, self.every_seconds, self.every_steps = folder, every_seconds, every_steps
        self._step, self._due = 0, time.monotonic() + every_seconds

    def restore(self, learner: Learner) -> Reached:
        """Load the last checkpoint and say so on stderr; a damaged one is named in a warning and not loaded."""
        if not self.folder.is_dir():
            return Reached()
        try:
            note = _Note.model_validate_json((self.folder / NOTE).read_text(encoding="utf-8"))
            reached = Reached(**note.model_dump(exclude={"digest", "schema_version"}))
            whole = _digest(self.folder / STATE, reached) == note.digest
            state = load_file(self.folder / STATE) if whole else None
        except (OSError, ValueError, SafetensorError) as error:
            state, reason = None, str(error).splitlines()[0]
        else:
            reason = "its bytes are not those that were written"
        if state is None:
            logger.warning("%s: the checkpoint is damaged (%s); training starts over", self.folder, reason)
            return Reached()
        # The digest is checked before anything is loaded, so a damaged file changes no weight.
        learner.module.load_state_dict(_part(state, "net."))
        learner.average.load_state_dict(_part(state, "average."))
        _load_optimizer(learner.optimizer, _part(state, "optimizer."))
        self._step, self._due = reached.step, time.monotonic() + self.every_seconds
        tell(f"resuming from step {reached.step}")
        return reached

    def keep(self, reached: Reached, learner: Learner, *, at_once: bool = False) -> None:
        """Replace the last checkpoint if one is due, or `at_once`.

        Raises
        ------
        WorkspaceError
            When the disk refuses; the last checkpoint is then untouched.
        """
        started = time.monotonic()
        if not at_once and started < self._due and reached.step < self._step + self.every_steps:
            return
        # Without the optimiser's moments a resumed training would take other steps and end with other weights.
        state = {f"net.{key}": value for key, value in learner.module.state_dict().items()}
        state |= {f"average.{key}": value for key, value in learner.average.state_dict().items()}
        state |= {
            f"optimizer.{index}.{key}": value
            for index, values in learner.optimizer.state_dict()["state"].items()
            for key, value in values.items()
        }
        # Renamed into place when complete: a kill while writing leaves the last checkpoint.
        with new_directory(self.folder) as partial:
            write_tensors(partial / STATE, state)
            note = _Note(**reached.model_dump(), digest=_digest(partial / STATE, reached))
            write_text(partial / NOTE, note.model_dump_json(indent=2) + "\n")
        # Counted from the end of writing, so that a slow disk cannot make a training do nothing but write.
        ended = time.monotonic()
        self._step, self._due = reached.step, ended + max(self.every_seconds, (ended - started) / SHARE_OF_TIME)


@contextmanager
def open_checkpoints(folder: Path, every_seconds: float, every_steps: int) -> Iterator[Checkpoints]:
    """Hold the checkpoints of one training while it runs; they are removed when the body succeeds.

    Parameters
    ----------
    folder : Path
        Where they are kept; its name is a digest of all that decides the result, so no other training resumes from it.
    every_seconds, every_steps : float, int
        See `Checkpoints`.

    Yields
    ------
    Checkpoints

    Raises
    ------
    WorkspaceError
        When the very same training is running already, or the disk refuses.
    """
    with locked(folder.with_name(f"{folder.name}.lock")):
        sweep_partials(folder.parent, folder.name)
        yield Checkpoints(folder, every_seconds, every_steps)
        # Not in a finally clause: a training that failed or was stopped is resumed from here.
        shutil.rmtree(folder, ignore_errors=True)


def _digest(state: Path, reached: Reached) -> str:
    with state.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(reached.model_dump_json().encode())
    return digest.hexdigest()


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Tensor]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    restored: dict[int, dict[str, Tensor]] = {}
    for key, value in state.items():
        index, _, name = key.partition(".")
        parameter = parameters[int(index)]
        # A file keeps no memory layout, but kernels sum in an order that follows it: restore the parameter's own.
        shaped = (
            torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape and name != "step" else value
        )
        restored.setdefault(int(index), {})[name] = shaped
    optimizer.load_state_dict(optimizer.state_dict() | {"state": restored})

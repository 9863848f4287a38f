"""What every tool is given: the same sections to learn from, and the same budget."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segem.config import Manifest, Split
from segem.io.layers import read_section
from segem.io.volume import Volume
from segem.io.workspace import Workspace

Predict = Callable[[Volume, int], NDArray[np.float32]]
"""Returns the membrane probability (H, W) of a section."""
Part = Literal["train", "validation", "test"]


class Budget:
    """Minutes of training, by the clock or by the processor, and what was made of them.

    Parameters
    ----------
    minutes : float
        Budget.
    threads : int
        Threads that a tool may use.
    processor_time : bool
        Count the processor seconds of this process and of those it has started, divided by `threads`.
    """

    def __init__(self, minutes: float, threads: int, processor_time: bool) -> None:
        self.minutes, self.threads, self.processor_time = minutes, threads, processor_time
        self.steps, self.spent = 0, 0.0
        self.start()

    def now(self) -> float:
        """Return seconds since some moment."""
        return processor_seconds(os.getpid()) / self.threads if self.processor_time else time.monotonic()

    def start(self) -> None:
        """Start the clock; what was loaded and prepared before is free."""
        self._started = self.now()

    def step(self) -> bool:
        """Count a step of training, and return whether there is time for another."""
        self.steps, self.spent = self.steps + 1, (self.now() - self._started) / 60
        return self.spent < self.minutes

    @property
    def share(self) -> float:
        """Share of the budget that was spent when the last step ended."""
        return self.spent / self.minutes


def processor_seconds(pid: int) -> float:
    """Return the processor time of a process and of all that it has started, also of those that have ended."""
    total = 0.0
    with suppress(FileNotFoundError, ProcessLookupError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            total += sum(processor_seconds(int(child)) for child in children.read_text().split())
    return total


@dataclass(frozen=True)
class Course:
    """One training.

    Parameters
    ----------
    manifest : Manifest
        What `volumes` and `splits` come from.
    workspace : Workspace
        Where the volumes are.
    folder : Path
        For whatever the tool wants to write.
    """

    manifest: Manifest
    workspace: Workspace
    volumes: dict[str, Volume]
    splits: dict[str, Split]
    folder: Path
    budget: Budget
    seed: int

    def numbers(self, name: str, part: Part) -> range:
        """Return which sections of a volume are for what."""
        sections = getattr(self.splits[name], part)
        return range(sections.start, sections.stop)

    def stacks(self, part: Part) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.uint8]]]:
        """Yield the name of each volume, its sections (N, H, W) and their truth, 1 on membrane."""
        for name, volume in self.volumes.items():
            sections = self.numbers(name, part)
            truth = volume.label("truth")
            yield (
                name,
                np.stack([read_section(volume.raw, z) for z in sections]),
                np.stack([(read_section(truth, z) != 0).astype(np.uint8) for z in sections]),
            )

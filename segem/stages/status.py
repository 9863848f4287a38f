"""A page that says how a campaign fares, rewritten while it runs, and a line for what each of its steps took."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

from segem.amounts import time_text
from segem.errors import SegemError, WorkspaceError
from segem.io.files import append_line, write_text
from segem.io.run import now
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.records.status import CampaignStatus, StepStatus, StepUsage, VolumeStatus
from segem.stages.side_by_side import STEPS, StepName

PAGE, JSON, USAGE = "status.html", "status.json", "usage.jsonl"
REFRESH_SECONDS = 10.0

logger = logging.getLogger(__name__)


@dataclass
class _Volume:
    """What is known of a volume while its campaign runs."""

    megapixels: float | None = None
    steps: dict[StepName, StepStatus] = field(default_factory=lambda: {step: StepStatus() for step in STEPS})
    begun: float = 0.0
    """When the step under way began, in seconds of a clock that never jumps."""
    cpu_seconds: float = 0.0
    """Of the step under way."""
    reason: str | None = None

    @property
    def running(self) -> StepName | None:
        return next((step for step, status in self.steps.items() if status.state == "running"), None)


class StatusBoard:
    """How a campaign fares, kept on disk: a page for people and the same as JSON; use it as a context manager.

    Parameters
    ----------
    run, project : str
        Names of the run and of the manifest.
    volumes : sequence of str
        In the order of the manifest.
    workspace : Workspace
        Where the run lives.
    on_gpu : sequence of str
        The steps that hold the GPU.
    """

    def __init__(
        self, run: str, project: str, volumes: Sequence[str], workspace: Workspace, on_gpu: Sequence[StepName] = ()
    ) -> None:
        self.run, self.project, self.workspace, self.on_gpu = run, project, workspace, frozenset(on_gpu)
        self.folder = workspace.run(run)
        self._volumes = {name: _Volume() for name in volumes}
        self._state: Literal["running", "complete", "failed", "stopped"] = "running"
        self._started, self._began = now(), time.monotonic()
        self._cpu = _cpu_seconds()
        self._changing = threading.Lock()
        self._over = threading.Event()
        self._refresher = threading.Thread(target=self._refresh, name="status", daemon=True)

    def __enter__(self) -> StatusBoard:
        self.write()
        self._refresher.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._over.set()
        self._refresher.join()
        failed = any(volume.reason is not None for volume in self._volumes.values())
        stopped = kind is not None and not issubclass(kind, Exception)
        self._state = "stopped" if stopped else "failed" if failed or error is not None else "complete"
        self.write()

    def begin(self, name: str, step: StepName) -> None:
        """Note that a step of a volume is under way."""
        with self._changing:
            self._share_cpu()
            volume = self._volumes[name]
            volume.begun, volume.cpu_seconds = time.monotonic(), 0.0
            volume.steps[step] = StepStatus(state="running")
        self.write()

    def end(self, name: str, reason: str | None) -> None:
        """Note that the step of a volume has ended, and why it failed where it did; what it took is kept for accounts.

        Parameters
        ----------
        name : str
            The volume, of which a step is under way.
        reason : str or None
            Why it failed.
        """
        with self._changing:
            self._share_cpu()
            volume = self._volumes[name]
            (step,) = (step for step, status in volume.steps.items() if status.state == "running")
            seconds = time.monotonic() - volume.begun
            volume.reason = reason
            if volume.megapixels is None and reason is None:
                volume.megapixels = self._measure(name)
            rate = volume.megapixels / seconds if volume.megapixels and seconds and reason is None else None
            state: Literal["complete", "failed"] = "complete" if reason is None else "failed"
            volume.steps[step] = StepStatus(state=state, seconds=seconds, megapixels_per_second=rate)
            usage = StepUsage(
                time=now(),
                project=self.project,
                volume=name,
                step=step,
                complete=reason is None,
                megapixels=volume.megapixels,
                seconds=round(seconds, 3),
                cpu_seconds=round(volume.cpu_seconds, 3),
                gpu_seconds=round(seconds, 3) if step in self.on_gpu else 0.0,
            )
        with _told_only(self.run):
            append_line(self.folder / USAGE, usage.model_dump_json())
        self.write()

    def fail(self, reasons: dict[str, str]) -> None:
        """Note volumes that failed otherwise than in a step, with the reason."""
        with self._changing:
            for name, reason in reasons.items():
                self._volumes[name].reason = reason

    def status(self) -> CampaignStatus:
        """Return how the campaign fares at this moment."""
        with self._changing:
            return CampaignStatus(
                run=self.run,
                project=self.project,
                state=self._state,
                started=self._started,
                changed=now(),
                seconds_left=self._left(),
                volumes=tuple(_describe(name, volume) for name, volume in self._volumes.items()),
            )

    def write(self) -> None:
        """Write the page and the JSON."""
        status = self.status()
        with _told_only(self.run):
            write_text(self.folder / JSON, status.model_dump_json(indent=2) + "\n")
            write_text(self.folder / PAGE, render_status(status))

    def _refresh(self) -> None:
        while not self._over.wait(REFRESH_SECONDS):
            with self._changing:
                self._share_cpu()
            self.write()

    def _measure(self, name: str) -> float | None:
        """Return how large a volume is, once it is ingested."""
        try:
            z, y, x = Volume.open(self.workspace.volume(name)).shape
        except SegemError:
            return None
        return z * y * x / 1e6

    def _share_cpu(self) -> None:
        """Add what the processor did since the last time to the steps under way, evenly."""
        before, self._cpu = self._cpu, _cpu_seconds()
        running = [volume for volume in self._volumes.values() if volume.running]
        for volume in running:
            volume.cpu_seconds += (self._cpu - before) / len(running)

    def _left(self) -> float | None:
        """Return how long the rest takes at the rates so far, with as much side by side as so far."""
        ended = [(step, s) for volume in self._volumes.values() for step, s in volume.steps.items() if s.seconds]
        spent = sum(status.seconds or 0.0 for _, status in ended)
        elapsed = time.monotonic() - self._began
        if self._state != "running" or not spent:
            return None
        means = {}
        for step in STEPS:
            took = [status.seconds or 0.0 for name, status in ended if name == step]
            means[step] = sum(took) / len(took) if took else None
        if any(mean is None for mean in means.values()):
            return None
        rest = 0.0
        for volume in self._volumes.values():
            if volume.reason is None:
                waiting = (step for step, status in volume.steps.items() if status.state in ("waiting", "running"))
                rest += sum(self._expect(step, volume, ended, means[step] or 0.0) for step in waiting)
        return rest * min(1.0, elapsed / spent)

    def _expect(
        self, step: StepName, volume: _Volume, ended: Sequence[tuple[StepName, StepStatus]], mean: float
    ) -> float:
        """Return how long a step of a volume is still expected to take."""
        rates = [
            status.megapixels_per_second for name, status in ended if name == step and status.megapixels_per_second
        ]
        whole = volume.megapixels * len(rates) / sum(rates) if volume.megapixels and rates else mean
        gone = time.monotonic() - volume.begun if volume.steps[step].state == "running" else 0.0
        return max(0.0, whole - gone)


def _describe(name: str, volume: _Volume) -> VolumeStatus:
    steps: dict[str, StepStatus] = {str(name): status for name, status in volume.steps.items()}
    running = volume.running
    if running is not None:
        steps[running] = StepStatus(state="running", seconds=time.monotonic() - volume.begun)
    ended = all(status.state == "complete" for status in steps.values())
    begun = any(status.state != "waiting" for status in steps.values())
    state: Literal["waiting", "running", "complete", "failed"] = (
        "failed" if volume.reason is not None else "complete" if ended else "running" if begun else "waiting"
    )
    return VolumeStatus(name=name, state=state, megapixels=volume.megapixels, steps=steps, reason=volume.reason)


def render_status(status: CampaignStatus) -> str:
    """Return the page: a table of volumes and steps, which loads itself again while the campaign runs."""
    environment = Environment(
        loader=PackageLoader("segem.stages", "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["time_text"] = time_text
    return environment.get_template("status.html.j2").render(status=status, steps=STEPS, refresh=REFRESH_SECONDS)


def _cpu_seconds() -> float:
    """Return what this process and those of its workers that have ended took of the processor."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@contextmanager
def _told_only(run: str) -> Iterator[None]:
    """Log what the body cannot write: a full disk stops the steps by themselves, and the page is the least of it."""
    try:
        yield
    except WorkspaceError as error:
        logger.warning("%s: the status is not up to date: %s", run, error)


def read_usage(file: Path) -> list[StepUsage]:
    """Return what the steps of a run took; nothing where no campaign kept it.

    A line that was cut by a kill or a full disk is left out.
    """
    if not file.is_file():
        return []
    found = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            found.append(StepUsage.model_validate_json(line))
        except ValueError:
            continue
    return found

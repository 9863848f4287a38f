"""What a campaign will take, found by taking some sections of each volume through all of it.

A trial meets what no formula knows: this disk, this processor and what else runs on it, how well these images and their
probabilities compress, what this net holds for tiles of this size. Two depths tell what a volume takes by itself from
what each of its sections adds.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from segem.amounts import size_text
from segem.config import ExecutionConfig, VolumeEntry
from segem.errors import ConfigError, SegemError
from segem.geometry import ZYX, Range
from segem.io.files import locked
from segem.io.readers import Stack, open_labels, open_stack
from segem.io.readers.voxel_size import settle_voxel_size
from segem.io.shards import shard_shape
from segem.io.storage import storage_of
from segem.learn.artefact import find_model
from segem.progress import track
from segem.records.forecast import CampaignForecast, VolumeForecast
from segem.stages.campaign import Campaign, describe_failure
from segem.stages.segmentation.budget import half_of_the_machine
from segem.stages.volumes.inspect import free_bytes
from segem.stages.volumes.placement import place_labels

DEPTHS = 3
"""How many times deeper the larger trial is than the smaller one."""


@dataclass(frozen=True)
class Trial:
    """What so many sections took."""

    sections: int
    seconds: float
    disk_bytes: int
    peak_bytes: int
    """The most memory that the process has held until then, this trial and those before it."""


TakeTrials = Callable[[Path, Sequence[Path], Sequence[int], ExecutionConfig], tuple[float, Sequence[Trial]]]
"""Given a folder, manifests of one volume, their depths and the settings, takes each manifest to its report, one after
the other; returns when, by the clock, the first began, and what each took."""


@dataclass(frozen=True)
class Trials:
    """What the trials of one volume took."""

    ready_seconds: float
    """Until a process could begin."""
    first: Trial
    """In a process that has just begun."""
    small: Trial
    """The same once more."""
    large: Trial

    def extrapolate(self, sections: int) -> tuple[float, int]:
        """Return the seconds and the bytes on disk that so many sections take.

        Examples
        --------
        >>> small, large = Trial(2, 5.0, 1200, 0), Trial(6, 9.0, 2000, 0)
        >>> Trials(3.0, Trial(2, 6.0, 1200, 0), small, large).extrapolate(100)
        (103.0, 20800)
        """
        small, large = self.small, self.large
        if small.sections == large.sections:
            return small.seconds, small.disk_bytes
        share = (sections - small.sections) / (large.sections - small.sections)
        # A busy machine may make the larger trial the quicker one.
        gained = max(0.0, large.seconds - small.seconds)
        return small.seconds + share * gained, round(small.disk_bytes + share * (large.disk_bytes - small.disk_bytes))

    @property
    def memory_bytes(self) -> int:
        """What a process holds at most: that of the first trial, and what more sections add to that of the second.

        What a second campaign adds in the same process is none of a process that takes one.
        """
        return self.first.peak_bytes + self.large.peak_bytes - self.small.peak_bytes

    @property
    def start_seconds(self) -> float:
        """What the first volume of a process waits for."""
        return self.ready_seconds + max(0.0, self.first.seconds - self.small.seconds)


def forecast_campaign(job: Campaign, execution: ExecutionConfig, take: TakeTrials) -> CampaignForecast:
    """Return what a campaign is expected to take where nothing of it is finished yet; nothing of it is begun.

    Parameters
    ----------
    job : Campaign
        What `segem.stages.campaign.open_campaign` returned.
    execution : ExecutionConfig
        Device, engine, workers, memory.
    take : callable
        Takes the trials; it is called in another process.

    Returns
    -------
    CampaignForecast
        Volumes that cannot be read, or do not fit the disk or the memory, are refused in it.

    Raises
    ------
    ConfigError
        When the arrays of the workspace lie in a storage.
    WorkspaceError
        When another process makes a forecast in this workspace, or the disk refuses.
    """
    if (storage := storage_of(job.workspace)) is not None:
        raise ConfigError(
            "a forecast is made of trials on the disk of the workspace",
            where=job.run,
            found=f"its arrays lie in {storage.objects.url}",
            fix="plan in a workspace without a storage",
        )
    free, used, starts = free_bytes(job.workspace), 0, [0.0]
    volumes = []
    with locked(job.workspace.root / ".plan.lock"), track("plan", len(job.volumes), "volume") as advance:
        for volume in sorted(job.manifest.volumes, key=lambda volume: -volume.priority):
            found, start = _forecast_volume(volume, job, execution, free - used, take)
            used += found.disk_bytes or 0
            volumes.append(found)
            starts.append(start)
            advance(1)
    return CampaignForecast(
        run=job.run,
        volumes=tuple(volumes),
        start_seconds=max(starts),
        seconds=max(starts) + sum(volume.seconds or 0.0 for volume in volumes),
        disk_bytes=used,
        memory_bytes=max(volume.memory_bytes or 0 for volume in volumes),
        free_bytes=free,
    )


def choose_depths(shape: ZYX, cores: int) -> tuple[int, int]:
    """Return how many sections the two trials of a volume take.

    Examples
    --------
    Enough to keep every core busy, and whole shards, since nothing less is written:

    >>> choose_depths((500, 1024, 1024), 2), choose_depths((500, 8192, 8192), 16), choose_depths((5, 512, 512), 2)
    ((4, 12), (16, 48), (5, 5))
    """
    block = shard_shape(shape)[0]
    small = min(shape[0], -(-cores // block) * block)
    return small, min(shape[0], DEPTHS * small)


def _forecast_volume(
    volume: VolumeEntry, job: Campaign, execution: ExecutionConfig, free: int, take: TakeTrials
) -> tuple[VolumeForecast, float]:
    """Return what a volume takes, of so many bytes that are free, and what a process waits for before it begins."""
    try:
        with open_stack(volume.source, volume) as stack:
            shape = volume.box_within(stack.shape).shape
            chosen = choose_sections(volume, stack, choose_depths(shape, len(os.sched_getaffinity(0))))
        trials = _try(volume, job, execution, chosen, take)
    except SegemError as error:
        return VolumeForecast(name=volume.name, refusal=describe_failure(error)), 0.0
    seconds, disk = trials.extrapolate(shape[0])
    memory = execution.memory or 2 * half_of_the_machine()
    refusal = None
    if disk > free:
        refusal = f"it does not fit the disk: {size_text(disk)} needed, {size_text(max(0, free))} left"
    elif trials.memory_bytes > memory:
        refusal = f"it does not fit the memory: {size_text(trials.memory_bytes)} needed, {size_text(memory)} allowed"
    found = VolumeForecast(
        name=volume.name,
        sections=shape[0],
        tried=trials.large.sections,
        seconds=seconds,
        disk_bytes=disk,
        memory_bytes=trials.memory_bytes,
        refusal=refusal,
    )
    return found, trials.start_seconds


def choose_sections(volume: VolumeEntry, stack: Stack, depths: Sequence[int]) -> list[Range]:
    """Return the sections that each trial of a volume takes: the first of its source, or from the first labelled one.

    Ingest refuses labels of which nothing is known, as those of other sections would be in a trial.

    Parameters
    ----------
    volume : VolumeEntry
        Of the manifest.
    stack : Stack
        Its source, all of it.
    depths : sequence of int
        How many sections each trial takes.

    Raises
    ------
    InputError
        When the labels cannot be read, or belong to no section.
    """
    box, first = volume.box_within(stack.shape), 0
    if volume.labels is not None:
        stated, where = stack.found, volume.source
        voxel = settle_voxel_size(
            volume.voxel_nm, stated.voxel, trusted=volume.trust_voxel, where=where, unitless=stated.unitless
        )
        with open_labels(volume.labels.source, volume.labels, stack) as labels:
            placed = place_labels(labels, stack, box, voxel.size)
            known = (z for z in range(placed.stack.shape[0]) if z not in placed.stack.masked)
            first = placed.place.start[0] + next(known, 0)
    starts = [box.start[0] + min(first, box.shape[0] - depth) for depth in depths]
    return [(start, start + depth) for start, depth in zip(starts, depths, strict=True)]


def _try(
    volume: VolumeEntry, job: Campaign, execution: ExecutionConfig, ranges: Sequence[Range], take: TakeTrials
) -> Trials:
    # On the disk of the workspace, whose speed is part of the answer.
    folder = job.workspace.root / ".plan"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    # A process of its own, since the peak of its memory is that of this volume alone.
    context = get_context("spawn")
    here, there = context.Pipe()
    found: Trials | SegemError
    # The first of a process meets what is loaded once.
    twice = (ranges[0], *ranges)
    manifests = [_write_manifest(folder, volume, job, sections) for sections in twice]
    depths = [stop - start for start, stop in twice]
    child = context.Process(target=_send_trials, args=(there, take, folder, manifests, depths, execution, time.time()))
    child.start()
    there.close()
    try:
        found = here.recv()
    except EOFError:
        found = SegemError(
            "the trial ended without an answer", where=volume.name, fix="run it again with less --memory"
        )
    finally:
        child.join()
        shutil.rmtree(folder, ignore_errors=True)
    if isinstance(found, SegemError):
        raise found
    return found


def _write_manifest(folder: Path, volume: VolumeEntry, job: Campaign, sections: Range) -> Path:
    """Write a manifest of some sections of one volume."""
    _, y, x = (volume.box or ":,:,:").split(",")
    entry = volume.ingest_config().model_dump(mode="json", exclude_unset=True)
    entry |= {"box": f"{sections[0]}:{sections[1]},{y},{x}"}
    manifest = job.manifest.model_dump(mode="json", include={"name", "baseline", "segment"}, exclude_unset=True)
    # By its path, as the workspace of the trial has no models.
    manifest |= {"model": str(find_model(job.manifest.model, job.workspace).path), "volumes": [entry]}
    path = folder / f"{sections[1] - sections[0]}.json"
    path.write_text(json.dumps(manifest), encoding="utf-8")
    return path


def _send_trials(
    there: Connection,
    take: TakeTrials,
    folder: Path,
    manifests: Sequence[Path],
    depths: Sequence[int],
    execution: ExecutionConfig,
    started: float,
) -> None:
    """Take the trials of one volume, in a process of its own, and send what they took."""
    found: Trials | SegemError
    try:
        begun, (first, small, large) = take(folder, manifests, depths, execution)
        found = Trials(begun - started, first, small, large)
    except SegemError as error:
        found = error
    there.send(found)


def measure_peak() -> int:
    """Return the most memory that this process has held so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure_disk(workspace: Path) -> int:
    """Return the bytes of all files of volumes and runs of a workspace."""
    files = (file for kind in ("volumes", "runs") for file in (workspace / kind).rglob("*") if file.is_file())
    return sum(file.stat().st_size for file in files)

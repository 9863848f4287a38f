"""What a run is, on disk: its record, its locks and its result volumes."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

import segem
from segem.config import Config
from segem.errors import SegemError, WorkspaceError
from segem.io.files import disk_errors, locked, write_text
from segem.io.volume import Volume, create_volume
from segem.io.workspace import Workspace

Stage = Literal["baseline", "segment"]
RESULT_LABELS = {"membrane": np.dtype("uint8"), "kmeans": np.dtype("uint8")}


class StageRecord(Config):
    """How one stage of one volume ended."""

    state: Literal["running", "complete", "failed"]
    reason: str | None = None
    """Why it failed."""
    config: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    """What the stage found: thresholds, tile size, blocks computed and skipped."""
    changed: str = ""
    """When the state was reached, ISO 8601 in UTC."""


class VolumeRecord(Config):
    """The stages of one volume in a run; a stage that never started is absent."""

    baseline: StageRecord | None = None
    segment: StageRecord | None = None
    failure: str | None = None
    """Why a volume never reached its stages: its ingest failed."""


class ModelRecord(Config):
    """Which weights a run used."""

    name: str
    digest: str


class RunRecord(Config):
    """The content of ``run.json``."""

    run: str
    created: str
    segem_version: str
    environment: dict[str, str]
    model: ModelRecord | None = None
    volumes: dict[str, VolumeRecord] = {}


def now() -> str:
    """Return the present time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def load_run(workspace: Workspace, run: str) -> RunRecord:
    """Read the record of a run.

    Raises
    ------
    WorkspaceError
        When there is no such run or its record is damaged.
    """
    path = _record_path(workspace, run)
    if not path.is_file():
        known = ", ".join(workspace.runs()) or "none"
        raise WorkspaceError("no such run", where=path.parent, found=f"runs: {known}", fix="start it with `segem run`")
    with disk_errors(path):
        text = path.read_text(encoding="utf-8")
    try:
        return RunRecord.model_validate_json(text)
    except ValidationError as error:
        raise WorkspaceError(
            "the run's record is damaged",
            where=path,
            found=error.errors()[0]["msg"],
            fix="remove the run's folder and run again; finished volumes are not needed for it",
        ) from None


def update_run(
    workspace: Workspace,
    run: str,
    volume: str | None = None,
    *,
    stage: Stage | None = None,
    record: StageRecord | None = None,
    failure: str | None = None,
    model: ModelRecord | None = None,
) -> RunRecord:
    """Change the record of a run, making it if there is none, without losing a concurrent change.

    Parameters
    ----------
    workspace : Workspace
        Where the run lives.
    run : str
        Its name.
    volume : str, optional
        The volume that changed.
    stage, record : optional
        The stage of the volume, and how it ended.
    failure : str, optional
        Why the volume could not be ingested.
    model : ModelRecord, optional
        The weights in use.

    Returns
    -------
    RunRecord
        The record as it now stands on disk.
    """
    path = _record_path(workspace, run)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name("run.lock"), wait=True):
        current = load_run(workspace, run) if path.is_file() else _new_run(run)
        volumes = dict(current.volumes)
        if volume is not None:
            changes: dict[str, Any] = {"failure": failure}
            if stage is not None:
                changes[stage] = record
            volumes[volume] = volumes.get(volume, VolumeRecord()).model_copy(update=changes)
        updated = current.model_copy(update={"volumes": volumes, "model": model or current.model})
        write_text(path, json.dumps(updated.model_dump(mode="json"), indent=2) + "\n")
    return updated


def result_volume(workspace: Workspace, run: str, volume: str) -> Volume:
    """Open the result volume of `volume` in `run`, making it when it is missing or of another shape.

    Returns
    -------
    Volume
        Image = membrane probability (uint8, 255 = membrane), labels ``membrane`` and ``kmeans`` (uint8, 1 = membrane).
    """
    source = Volume.open(workspace.volume(volume))
    path = workspace.result(run, volume)
    if path.exists():
        existing = Volume.open(path)
        if existing.shape == source.shape and existing.voxel_size == source.voxel_size:
            return existing
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    return create_volume(
        path,
        shape=source.shape,
        dtype=np.dtype("uint8"),
        voxel_size=source.voxel_size,
        labels=RESULT_LABELS,
        attributes={"layer": "probability", "scale": "probability = value / 255", "segem_version": segem.__version__},
    )


def volume_lock(workspace: Workspace, run: str, volume: str) -> AbstractContextManager[None]:
    """Hold the right to write one volume of a run, as long as the body runs.

    Raises
    ------
    WorkspaceError
        When another process holds it.
    """
    return locked(workspace.run(run) / f"{volume}.lock")


@contextmanager
def recorded(
    workspace: Workspace,
    run: str,
    volume: str,
    stage: Stage,
    config: Config,
    *,
    facts: dict[str, Any] | None = None,
    model: ModelRecord | None = None,
) -> Iterator[dict[str, Any]]:
    """Keep the record of a stage true while the body runs: running, then complete, or failed with the reason.

    A body that is killed leaves ``running`` behind, which nothing takes for complete.

    Parameters
    ----------
    workspace, run, volume, stage
        What is being made.
    config : Config
        The settings it is made with.
    facts : dict, optional
        What is known of it from the start.
    model : ModelRecord, optional
        The weights in use.

    Yields
    ------
    dict
        The facts; the body adds what it finds.
    """
    found = dict(facts or {})
    settings = config.model_dump(mode="json")

    def note(state: Literal["running", "complete", "failed"], reason: str | None = None) -> None:
        record = StageRecord(state=state, reason=reason, config=settings, facts=found, changed=now())
        update_run(workspace, run, volume, stage=stage, record=record, model=model)

    note("running")
    try:
        yield found
    except SegemError as error:
        note("failed", str(error))
        raise
    except BaseException as error:
        note("failed", f"{type(error).__name__}: {error}")
        raise
    note("complete")


def _record_path(workspace: Workspace, run: str) -> Path:
    return workspace.run(run) / "run.json"


def _new_run(run: str) -> RunRecord:
    environment = {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cpus": str(os.cpu_count()),
    }
    return RunRecord(run=run, created=now(), segem_version=segem.__version__, environment=environment)

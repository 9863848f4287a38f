"""What a run is, on disk: its record, its locks and its result volumes."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

import segem
from segem.config import Config
from segem.errors import InputError, SegemError, WorkspaceError
from segem.io.files import disk_errors, locked, sweep_partials, write_text
from segem.io.volume import Volume, create_volume
from segem.io.workspace import Workspace
from segem.records.run import ModelRecord, RunRecord, Stage, StageRecord, VolumeRecord

RESULT_LABELS = {"membrane": np.dtype("uint8"), "kmeans": np.dtype("uint8")}


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
            fix="move this file away and run again; finished blocks are kept",
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
    again: bool = False,
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
    again : bool
        Let every stage of the volume wait for the attempt that starts now.

    Returns
    -------
    RunRecord
        The record as it now stands on disk.
    """
    path = _record_path(workspace, run)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _record_lock(workspace, run):
        sweep_partials(path.parent, path.name)
        current = load_run(workspace, run) if path.is_file() else _new_run(run)
        volumes = dict(current.volumes)
        if volume is not None:
            changes: dict[str, Any] = {"failure": failure}
            if stage is not None:
                changes[stage] = record
            before = volumes.get(volume, VolumeRecord())
            if again:
                changes |= {"baseline": _waiting(before.baseline), "segment": _waiting(before.segment)}
            volumes[volume] = before.model_copy(update=changes)
        updated = current.model_copy(update={"volumes": volumes, "model": model or current.model})
        write_text(path, json.dumps(updated.model_dump(mode="json"), indent=2) + "\n")
    return updated


def enter_volumes(workspace: Workspace, run: str, names: Iterable[str]) -> None:
    """Note that a run is to finish these volumes, so that one it never reaches is missed.

    They count as done only when this attempt has reached them. What an earlier attempt has made stays noted with the
    settings it was made with, and no finished block is lost, since those are in the ledger.
    """
    for name in names:
        update_run(workspace, run, name, again=True)


def source_digest(workspace: Workspace, volume: str) -> str | None:
    """Return the digest of an ingested volume as it is now.

    Raises
    ------
    SegemError
        When the volume is missing or damaged.
    """
    digest = Volume.open(workspace.volume(volume)).attributes.get("source_digest")
    return None if digest is None else str(digest)


def failure_of(record: RunRecord, volume: str, workspace: Workspace) -> str | None:
    """Return why a volume of a run counts as failed, or None where all that was asked of it is there.

    A run of nothing but `segem baseline` is whole without a model.

    Raises
    ------
    SegemError
        When a volume that was finished is missing or damaged by now.
    """
    entry = record.volumes[volume]
    if entry.failure is not None:
        return entry.failure
    segmenting = record.model is not None or any(v.segment is not None for v in record.volumes.values())
    by_model = segmenting or entry.baseline is None
    stage, what = (entry.segment, "segmentation") if by_model else (entry.baseline, "baseline")
    # A volume that was never reached may not even be ingested.
    reached = stage is not None and stage.state == "complete"
    return fault_of(stage, what, source_digest(workspace, volume) if reached else None)


def fault_of(stage: StageRecord | None, what: str, digest: str | None) -> str | None:
    """Return why the outcome of a stage cannot be used, or None where it can.

    Parameters
    ----------
    stage : StageRecord or None
        What the run's record holds of it.
    what : str
        Name of the stage, for the message.
    digest : str or None
        Digest of the volume as it is now, see `source_digest`.

    Examples
    --------
    >>> fault_of(None, "segmentation", "ab")
    'the segmentation was never started'
    >>> fault_of(StageRecord(state="complete", source_digest="ab"), "segmentation", "cd")
    'the volume has changed since the segmentation; run again'
    """
    if stage is None:
        return f"the {what} was never started"
    if stage.state == "waiting":
        return f"the {what} is still to come in a run that is under way or was stopped; run again"
    if stage.state != "complete":
        return stage.reason or f"the {what} was never finished"
    if stage.source_digest != digest:
        return f"the volume has changed since the {what}; run again"
    return None


def result_volume(workspace: Workspace, run: str, volume: str) -> Volume:
    """Open the result volume of `volume` in `run`; the caller holds its lock.

    It is made when it is missing, and anew when it is damaged or of another shape or voxel size.

    Returns
    -------
    Volume
        Image = membrane probability (uint8, 255 = membrane), labels ``membrane`` and ``kmeans`` (uint8, 1 = membrane).
    """
    source = Volume.open(workspace.volume(volume))
    path = workspace.result(run, volume)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    sweep_partials(path.parent, path.name)
    # What is too damaged to be opened is made anew, or no command could ever finish the run.
    with suppress(InputError, WorkspaceError):
        existing = Volume.open(path)
        if existing.shape == source.shape and existing.voxel_size == source.voxel_size:
            sweep_partials(path)
            return existing
    return create_volume(
        path,
        shape=source.shape,
        dtype=np.dtype("uint8"),
        voxel_size=source.voxel_size,
        labels=RESULT_LABELS,
        attributes={"layer": "probability", "scale": "probability = value / 255", "segem_version": segem.__version__},
    )


def campaign_lock(workspace: Workspace, run: str) -> AbstractContextManager[None]:
    """Hold the right to drive a run from its first volume to its report, as long as the body runs.

    Raises
    ------
    WorkspaceError
        When another process holds it.
    """
    return locked(workspace.run(run) / ".campaign.lock")


def volume_lock(workspace: Workspace, run: str, volume: str) -> AbstractContextManager[None]:
    """Hold the right to write one volume of a run, as long as the body runs.

    Raises
    ------
    WorkspaceError
        When another process holds it.
    """
    return locked(workspace.run(run) / f".{volume}.volume.lock")


@contextmanager
def recorded(
    workspace: Workspace,
    run: str,
    source: Volume,
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
    workspace, run, stage
        What is being made.
    source : Volume
        The ingested volume it is made of.
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

    Raises
    ------
    WorkspaceError
        When the volume was replaced meanwhile: what was made is then of two minds.
    """
    found = dict(facts or {})
    settings = config.model_dump(mode="json")
    digest = source_digest(workspace, source.name)

    def note(state: Literal["running", "complete", "failed"], reason: str | None = None) -> None:
        record = StageRecord(
            state=state,
            reason=reason,
            source_digest=digest,
            model=model,
            config=settings,
            facts=found,
            changed=now(),
        )
        update_run(workspace, run, source.name, stage=stage, record=record, model=model)

    note("running")
    try:
        yield found
        _require_same(source_digest(workspace, source.name), digest, source, stage)
    except SegemError as error:
        note("failed", str(error))
        raise
    except Exception as error:
        note("failed", f"{type(error).__name__}: {error}")
        raise
    except BaseException:
        # Ctrl-C, a signal of the system or of a scheduler: nothing is wrong with the stage.
        note("failed", "interrupted; run the same command again, it goes on from there")
        raise
    note("complete")


def _require_same(found: str | None, expected: str | None, source: Volume, stage: Stage) -> None:
    if found != expected:
        what = f"the volume was replaced during the {stage} stage"
        raise WorkspaceError(what, where=source.path, fix="run the same command again")


def _waiting(stage: StageRecord | None) -> StageRecord | None:
    return None if stage is None else stage.model_copy(update={"state": "waiting", "reason": None})


def _record_lock(workspace: Workspace, run: str) -> AbstractContextManager[None]:
    return locked(workspace.run(run) / ".record.lock", wait=True)


def _record_path(workspace: Workspace, run: str) -> Path:
    return workspace.run(run) / "run.json"


def _new_run(run: str) -> RunRecord:
    environment = {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cpus": str(os.cpu_count()),
    }
    return RunRecord(run=run, created=now(), segem_version=segem.__version__, environment=environment)

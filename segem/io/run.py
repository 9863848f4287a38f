"""What a run is, on disk: its record, its locks and its result volumes."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic, Literal

import numpy as np
from pydantic import ValidationError

import segem
from segem.config import Config, ReviewGoal
from segem.errors import SegemError, WorkspaceError, spell_out
from segem.io.files import disk_errors, locked, sweep_partials, write_text
from segem.io.storage import choose_place
from segem.io.volume import Volume, create_volume
from segem.io.workspace import Workspace
from segem.records.run import AFTERWARDS, SCHEMA, F, ModelRecord, PhaseRecord, RunRecord, StepRecord, VolumeRecord

RESULT_LABELS = {"membrane": np.dtype("uint8"), "baseline": np.dtype("uint8")}
INTERRUPTED = "interrupted; run the same command again, it resumes from there"


@dataclass(frozen=True)
class StepRequest:
    """One step that is asked for: what decides whether a finished result is the one that is wanted."""

    step: str
    """Name of the step."""
    run: str
    volume: str
    config: Config
    layers: tuple[str, ...]
    """What the step writes."""
    model: ModelRecord | None = None
    """The weights that `config` asks for, if it asks for any."""


@dataclass
class StepState(Generic[F]):
    """What is known of a step while it runs; the body of `recorded` keeps it up to date."""

    facts: F


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
    # Before validation, which would call a record of another version damaged.
    _require_known_schema(text, path)
    try:
        return RunRecord.model_validate_json(text)
    except ValidationError as error:
        raise WorkspaceError(
            "the run's record is damaged",
            where=path,
            found=error.errors()[0]["msg"],
            fix="move this file away and run again; finished blocks are kept",
        ) from None


def _require_known_schema(text: str, path: Path) -> None:
    """Raise where a record is whole, but of another version of segem."""
    # What is not JSON at all is reported as damaged by the caller.
    with suppress(ValueError):
        values = json.loads(text)
        found = values.get("schema_version", "none") if isinstance(values, dict) else SCHEMA
        if found != SCHEMA:
            raise WorkspaceError(
                "this run was made by another version of segem, which kept other records",
                where=path,
                expected=f"schema {SCHEMA}",
                found=f"schema {found}",
                fix="run again under another name (--run); what this one holds stays as it is",
            )


def update_run(workspace: Workspace, run: str, change: Callable[[RunRecord], RunRecord]) -> RunRecord:
    """Change the record of a run, making it if there is none, without losing a concurrent change.

    Parameters
    ----------
    workspace : Workspace
        Where the run lives.
    run : str
        Its name.
    change : callable
        Takes the record as it is on disk and returns the changed one.

    Returns
    -------
    RunRecord
        The record as it now stands on disk.
    """
    path = _record_path(workspace, run)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    # Read, change and write under one lock: the volumes of a run may be processed by several processes.
    with _record_lock(workspace, run):
        sweep_partials(path.parent, path.name)
        updated = change(load_run(workspace, run) if path.is_file() else _new_run(run))
        write_text(path, json.dumps(updated.model_dump(mode="json"), indent=2) + "\n")
    return updated


def note_step(workspace: Workspace, run: str, volume: str, step: StepRecord) -> None:
    """Write the state of a step of a volume into a run's record; a step whose layers it takes over is dropped."""

    def change(record: RunRecord) -> RunRecord:
        entry = record.volumes.get(volume, VolumeRecord())
        others = {name: old for name, old in entry.steps.items() if not set(old.layers) & set(step.layers)}
        noted = VolumeRecord(steps=others | {step.step: step})
        changes = {"volumes": record.volumes | {volume: noted}, "model": step.model or record.model}
        return record.model_copy(update=changes)

    update_run(workspace, run, change)


def note_failure(workspace: Workspace, run: str, volume: str, reason: str) -> None:
    """Write into a run's record that a volume failed before any of its steps could say so."""

    def change(record: RunRecord) -> RunRecord:
        noted = record.volumes.get(volume, VolumeRecord()).model_copy(update={"failure": reason})
        return record.model_copy(update={"volumes": record.volumes | {volume: noted}})

    update_run(workspace, run, change)


def enter_volumes(
    workspace: Workspace,
    run: str,
    names: Iterable[str],
    model: ModelRecord | None = None,
    accept: tuple[str, ...] = (),
    review: ReviewGoal | None = None,
) -> None:
    """Note that a run is to finish these volumes, so that one it never reaches is noticed, and what it is then asked.

    They count as done only when this attempt has reached them. What an earlier attempt has made stays noted with the
    settings it was made with, and no finished block is lost, since those are in the ledger.
    """

    def change(record: RunRecord) -> RunRecord:
        entered = {}
        for name in names:
            steps = record.volumes.get(name, VolumeRecord()).steps
            again = {step: old if step in AFTERWARDS else _waiting(old) for step, old in steps.items()}
            entered[name] = VolumeRecord(steps=again)
        changes = {"volumes": record.volumes | entered, "model": model or record.model}
        return record.model_copy(update=changes | {"accept": accept, "review": review})

    update_run(workspace, run, change)


def source_digest(workspace: Workspace, volume: str) -> str | None:
    """Return a digest of an ingested volume as it is now: of its voxels, and of the window where one was given.

    Raises
    ------
    SegemError
        When the volume is missing or damaged.
    """
    noted = Volume.open(workspace.volume(volume)).attributes
    digest, window = noted.get("source_digest"), noted.get("settings", {}).get("window")
    if digest is None or window is None:
        return digest
    # The voxels may be stored as they are; but what is computed of them is normalised by the window.
    return hashlib.sha256(f"{digest} {window}".encode()).hexdigest()


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
    segmenting = record.model is not None or any(v.membrane is not None for v in record.volumes.values())
    by_model = segmenting or entry.baseline is None
    step, what = (entry.membrane, "segmentation") if by_model else (entry.baseline, "baseline")
    # A volume that was never reached may not even be ingested.
    reached = step is not None and step.state == "complete"
    return fault_of(step, what, source_digest(workspace, volume) if reached else None)


def fault_of(step: StepRecord | None, what: str, digest: str | None) -> str | None:
    """Return why the outcome of a step cannot be used, or None if it can.

    Parameters
    ----------
    step : StepRecord or None
        What the run's record holds of it.
    what : str
        Name of what it makes, for the message.
    digest : str or None
        Digest of the volume as it is now, see `source_digest`.

    Examples
    --------
    >>> fault_of(None, "segmentation", "ab")
    'the segmentation was never started'
    """
    if step is None:
        return f"the {what} was never started"
    if step.state == "waiting":
        return f"the {what} is still to come in a run that is under way or was stopped; run again"
    if step.state != "complete":
        return step.reason or f"the {what} was never finished"
    # Complete, but of voxels that have been ingested anew since.
    if step.source_digest != digest:
        return f"the volume has changed since the {what}; run again"
    return None


def result_volume(workspace: Workspace, run: str, volume: str) -> Volume:
    """Open the result volume of `volume` in `run`; the caller holds its lock.

    It is created if it is missing, and again if it is damaged or has another shape or voxel size.

    Returns
    -------
    Volume
        Image: membrane probability (uint8, 255 = membrane). Labels ``membrane`` and ``baseline`` (uint8, 1 = membrane).
    """
    source = Volume.open(workspace.volume(volume))
    path = workspace.result(run, volume)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    sweep_partials(path.parent, path.name)
    # A volume too damaged to be opened is made again, or no command could ever finish the run. Its ledger rows then
    # match no file, so every block is computed again.
    existing = Volume.open_if_whole(path)
    if existing and existing.shape == source.shape and existing.voxel_size == source.voxel_size:
        sweep_partials(path)
        return existing
    return create_volume(
        path,
        shape=source.shape,
        dtype=np.dtype("uint8"),
        voxel_size=source.voxel_size,
        labels=RESULT_LABELS,
        attributes={"layer": "probability", "scale": "probability = value / 255", "segem_version": segem.__version__},
        place=choose_place(workspace, path),
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
    request: StepRequest,
    source: Volume,
    phases: tuple[PhaseRecord, ...],
    facts: F,
    model: ModelRecord | None = None,
) -> Iterator[StepState[F]]:
    """Keep the record of a step true while the body runs: running, then complete, or failed with the reason.

    A body that is killed leaves ``running`` behind, which nothing takes for complete.

    Parameters
    ----------
    workspace : Workspace
        Where the run lives.
    request : StepRequest
        What is being made.
    source : Volume
        The ingested volume it is made of.
    phases : tuple of PhaseRecord
        The sweeps it takes.
    facts : StepFacts
        What is known of it from the start.
    model : ModelRecord, optional
        The weights in use.

    Yields
    ------
    StepState
        The body puts what it finds into its facts.

    Raises
    ------
    WorkspaceError
        When the volume was replaced meanwhile: what was made is then inconsistent.
    """
    state = StepState(facts)
    settings = request.config.model_dump(mode="json")
    # Compared again at the end: an ingest may replace the volume while its blocks are being read.
    digest = source_digest(workspace, source.name)

    def note(how: Literal["running", "complete", "failed"], reason: str | None = None) -> None:
        step = StepRecord(
            step=request.step,
            state=how,
            reason=reason,
            source_digest=digest,
            model=model,
            config=settings,
            layers=request.layers,
            phases=phases,
            facts=state.facts,
            changed=now(),
        )
        note_step(workspace, request.run, source.name, step)

    note("running")
    try:
        yield state
        _require_same(source_digest(workspace, source.name), digest, source, request.step)
    except SegemError as error:
        note("failed", str(error))
        raise
    except Exception as error:
        note("failed", spell_out(f"{type(error).__name__}: {error}"))
        raise
    except BaseException:
        # Ctrl-C, or a signal from the system or a scheduler: nothing is wrong with the step itself.
        note("failed", INTERRUPTED)
        raise
    note("complete")


def _require_same(found: str | None, expected: str | None, source: Volume, step: str) -> None:
    if found != expected:
        what = f"the volume was replaced during the {step} step"
        raise WorkspaceError(what, where=source.path, fix="run the same command again")


def _waiting(step: StepRecord) -> StepRecord:
    return step.model_copy(update={"state": "waiting", "reason": None})


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

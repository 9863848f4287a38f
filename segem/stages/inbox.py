"""An inbox: a folder that is looked at now and then, since network disks announce nothing; each stack is taken once."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from segem.config import Manifest, load_manifest
from segem.config.service import InboxConfig
from segem.errors import InputError, SegemError, WorkspaceError, spell_out
from segem.io.files import disk_errors, locked, write_text
from segem.io.readers.source import list_source_files, name_format
from segem.io.workspace import Workspace
from segem.records.inbox import Fate, FoundStack, InboxLog

UNFINISHED = (".part", ".partial", ".filepart", ".crdownload", ".download", ".tmp", ".temp")
"""How programs call what they have not copied whole yet."""
DONE = ".done"
_CHUNK = 1 << 22


@dataclass(frozen=True)
class Batch:
    """Stacks that were taken together: a campaign of their own."""

    run: str
    manifest: Path
    stacks: tuple[FoundStack, ...]


@dataclass(frozen=True)
class Look:
    """What one look at an inbox has found.

    Parameters
    ----------
    batches : tuple of Batch
        What there is to do: batches of an earlier look that are not over, and one of the stacks that are new.
    remarks : mapping
        Of the other stacks that are new: why they are not taken.
    """

    batches: tuple[Batch, ...]
    remarks: Mapping[str, str]


def look_into(
    config: InboxConfig,
    template: Path,
    workspace: Workspace,
    data_root: Path | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> Look:
    """Take the stacks of an inbox that are new and have stopped growing; nothing in the inbox is changed.

    Parameters
    ----------
    config : InboxConfig
        The folder, and how long a stack must not have changed.
    template : Path
        Manifest that says how they are segmented: its model and settings, and the voxel size of its first volume.
    workspace : Workspace
        Where it is kept which stacks were taken.
    data_root : Path, optional
        Folder that relative paths of the template count from.
    wait : callable
        Called with seconds, between two looks at what is new.

    Returns
    -------
    Look

    Raises
    ------
    InputError
        When there is no such folder.
    WorkspaceError
        When another process looks into it, or the workspace cannot be written.
    ConfigError
        When the template is no manifest.
    """
    described = load_manifest(template, data_root)
    folder = _folder(config, workspace)
    with locked(folder / ".lock"):
        log = _read(folder, config)
        known = {(one.name, one.stamp) for one in log.stacks}
        before = _stamps(config.inbox)
        fresh = {name for name, stamp in before.items() if (name, stamp) not in known and spell_out(name) == name}
        if any(not _is_declared(config.inbox / name) for name in fresh):
            wait(config.settle_seconds)
        remarks: dict[str, str] = {}
        new: list[FoundStack] = []
        # Also what has appeared, or was renamed, since: it is named, and left for the next look.
        for name, stamp in _stamps(config.inbox).items():
            if (name, stamp) in known:
                continue
            if spell_out(name) != name:
                # Neither the list of stacks nor a manifest can hold it, and it must not keep the others from both.
                remarks[spell_out(name)] = "its name is not UTF-8; rename it, and it is taken"
                continue
            path = config.inbox / name
            if not _is_declared(path) and before.get(name) != stamp:
                remarks[name] = "still growing"
                continue
            found = _identify(path, stamp, (*log.stacks, *new), workspace)
            if found is None:
                remarks[name] = "still growing"
                continue
            new.append(found)
            if found.fate == "duplicate":
                remarks[name] = f"the same as {found.reason}"
        log = log.model_copy(update={"stacks": (*log.stacks, *_in_one_run(new, described))})
        _write(folder, log)
        return Look(_batches(log, folder, config, described), remarks)


def close_batch(batch: Batch, failed: Mapping[str, str], config: InboxConfig, workspace: Workspace) -> None:
    """Note that the campaign of a batch is over.

    Parameters
    ----------
    batch : Batch
        As `look_into` gave it.
    failed : mapping
        Reasons by the names of volumes. What failed is not tried again by itself: the same bytes would fail again.
    config : InboxConfig
        The inbox.
    workspace : Workspace
        Where it is kept which stacks were taken.

    Raises
    ------
    WorkspaceError
        When the workspace cannot be written.
    """
    folder = _folder(config, workspace)
    with locked(folder / ".lock"):
        log = _read(folder, config)
        stacks = tuple(
            _decide(one, failed) if one.run == batch.run and one.fate == "taken" else one for one in log.stacks
        )
        _write(folder, log.model_copy(update={"stacks": stacks}))


def _decide(stack: FoundStack, failed: Mapping[str, str]) -> FoundStack:
    fate: Fate = "failed" if stack.volume in failed else "done"
    return stack.model_copy(update={"fate": fate, "reason": failed.get(stack.volume)})


def _stamps(inbox: Path) -> dict[str, str]:
    """Return the state of the files of every stack in the inbox, in the order of their names."""
    if not inbox.is_dir():
        raise InputError("no such inbox", where=inbox, fix="make the folder, or check --inbox; is its disk mounted?")
    with disk_errors(inbox):
        names = sorted(path.name for path in inbox.iterdir())
    stamps = {name: _stamp(inbox / name) for name in names if not _is_passed_over(name)}
    # Of files that make one stack together, by what their metadata say, the first stands for all.
    first = {stamp: name for name, stamp in reversed(stamps.items())}
    return {name: stamp for name, stamp in stamps.items() if stamp is not None and first[stamp] == name}


def _is_passed_over(name: str) -> bool:
    return name.startswith(".") or name.lower().endswith((DONE, *UNFINISHED))


def _is_declared(path: Path) -> bool:
    """Return whether somebody says that a stack is whole."""
    return any(mark.exists() for mark in (path.with_name(f"{path.name}{DONE}"), path.with_suffix(DONE)))


def _stamp(path: Path) -> str | None:
    """Return the state of a stack; None where it is none, or was removed just now."""
    try:
        if not name_format(path):
            return None
        state = [
            (str(file.relative_to(path.parent)), status.st_size, status.st_mtime_ns, status.st_ino)
            for file in _files_of(path)
            for status in [file.stat()]
        ]
    except (OSError, SegemError):
        # A folder without sections yet, or a file that is gone: the next look will tell.
        return None
    return hashlib.sha256(json.dumps(state).encode()).hexdigest()


def _files_of(path: Path) -> list[Path]:
    """Return the files of a stack, in an order that does not depend on which of them it is named by."""
    files = list_source_files(path)
    return files if path.is_dir() else sorted(files)


def _digest(path: Path) -> str:
    digest, files = hashlib.sha256(), _files_of(path)
    for file in files:
        # What a single file is called does not matter.
        if files != [path]:
            digest.update(os.fsencode(file.relative_to(path if path.is_dir() else path.parent)) + b"\0")
        with file.open("rb") as opened:
            while chunk := opened.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def _identify(path: Path, stamp: str, known: tuple[FoundStack, ...], workspace: Workspace) -> FoundStack | None:
    """Return what a stack is; None where it changed while it was read."""
    try:
        digest = _digest(path)
    except (OSError, SegemError):
        return None
    if _stamp(path) != stamp:
        return None
    same = next((one for one in known if one.digest == digest and one.fate != "duplicate"), None)
    if same is not None:
        return same.model_copy(update={"name": path.name, "stamp": stamp, "fate": "duplicate", "reason": same.name})
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", path.name.partition(".")[0]).lstrip("._-")[:80] or "stack"
    taken = {one.volume.lower() for one in known if one.fate != "duplicate"} | {
        name.lower() for name in workspace.volumes()
    }
    volume = f"{stem}-{digest[:8]}" if stem.lower() in taken else stem
    return FoundStack(name=path.name, stamp=stamp, digest=digest, volume=volume, run="", fate="taken")


def _in_one_run(new: list[FoundStack], template: Manifest) -> list[FoundStack]:
    """Give the new stacks the name of their run, which is made of what they are."""
    together = "".join(one.digest for one in new if one.fate == "taken")
    run = f"{template.name[:80]}-{hashlib.sha256(together.encode()).hexdigest()[:8]}"
    return [one.model_copy(update={"run": run}) if one.fate == "taken" else one for one in new]


def _batches(log: InboxLog, folder: Path, config: InboxConfig, template: Manifest) -> tuple[Batch, ...]:
    open_runs = dict.fromkeys(one.run for one in log.stacks if one.fate == "taken")
    batches = []
    for run in open_runs:
        stacks = tuple(one for one in log.stacks if one.run == run and one.fate == "taken")
        manifest = folder / f"{run}.yaml"
        # Kept as it is: the campaign of an earlier look goes on with the settings that it began with.
        if not manifest.exists():
            write_text(manifest, _manifest_of(stacks, config.inbox, template))
        batches.append(Batch(run, manifest, stacks))
    return tuple(batches)


def _manifest_of(stacks: tuple[FoundStack, ...], inbox: Path, template: Manifest) -> str:
    values = template.model_dump(mode="json", exclude_none=True)
    own = {"name", "source", "labels", "second_labels", "split"}
    like = template.volumes[0].model_dump(mode="json", exclude_none=True, exclude=own)
    values["volumes"] = [like | {"name": one.volume, "source": str((inbox / one.name).absolute())} for one in stacks]
    values["accept"] = [str(rule) for rule in template.accept]
    return json.dumps(values, indent=2)


def _folder(config: InboxConfig, workspace: Workspace) -> Path:
    told_apart = hashlib.sha256(str(config.inbox.absolute()).encode()).hexdigest()[:8]
    return workspace.root / "inbox" / f"{config.inbox.absolute().name}-{told_apart}"


def _read(folder: Path, config: InboxConfig) -> InboxLog:
    path = folder / "stacks.json"
    try:
        return InboxLog.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return InboxLog(inbox=str(config.inbox.absolute()))
    except ValueError as error:
        raise WorkspaceError(
            "the list of stacks that were taken is damaged",
            where=path,
            found=error,
            fix="restore it; if you move it away, every stack of the inbox is taken once more",
        ) from error


def _write(folder: Path, log: InboxLog) -> None:
    write_text(folder / "stacks.json", log.model_dump_json(indent=2))

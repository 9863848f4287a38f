"""Downloads public data sets."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from segem.errors import ConfigError, InputError, WorkspaceError
from segem.io.download import Remote, compute_checksum, fetch
from segem.io.files import disk_errors, locked, new_directory, sweep_partials, write_text
from segem.io.unpack import unpack
from segem.records.download import Download, DownloadedFile
from segem.records.fault import describe_fault
from segem.stages.volumes.public_sets import PUBLIC_SETS, PublicSet

logger = logging.getLogger(__name__)

_BEGINS_WITH = {".hdf": b"\x89HDF\r\n\x1a\n"}
"""By the ending of a file; where no checksum is known, this tells it from a page that says why there is none."""


@dataclass(frozen=True)
class DataResult:
    """A public data set on this disk."""

    name: str
    path: Path
    downloaded: bool
    """False where it was there already."""
    checked_by: str
    """``checksum``, or ``first download`` where none was known before."""
    ingest: tuple[str, ...]
    """The commands that ingest its volumes."""


def find_set(name: str, sets: Sequence[PublicSet] = PUBLIC_SETS) -> PublicSet:
    """Return a public data set by its name.

    Raises
    ------
    ConfigError
        When there is none.

    Examples
    --------
    >>> find_set("vnc").licence
    'CC-BY-NC-SA-3.0'
    """
    for each in sets:
        if each.name == name:
            return each
    known = ", ".join(each.name for each in sets)
    raise ConfigError("no such data set", where=name, expected=f"one of {known}", fix="see `segem data list`")


def get_set(chosen: PublicSet, root: Path) -> DataResult:
    """Download a public data set, unless it is there.

    Parameters
    ----------
    chosen : PublicSet
        What `find_set` returned.
    root : Path
        Folder in which the set gets its folder. A file that lies here under its published name is used in place of a
        download.

    Returns
    -------
    DataResult

    Raises
    ------
    ConfigError
        When there is something of this name that segem did not download.
    InputError
        When no mirror gives the files, or one is not what was published, or would do harm.
    WorkspaceError
        When the disk refuses or is too small, or another process downloads the same set.
    """
    there = root.exists()
    try:
        return _get(chosen, root.absolute())
    except WorkspaceError as error:
        # Raised by what writes to workspaces as well.
        fix = (error.fix or "").replace("--workspace", "--to")
        raise WorkspaceError(
            error.what, where=error.where, expected=error.expected, found=error.found, fix=fix
        ) from error
    finally:
        if not there:
            # A folder that was made for nothing goes again.
            with suppress(OSError):
                root.rmdir()


def _get(chosen: PublicSet, root: Path) -> DataResult:
    folder, record_path = root / chosen.name, root / f"{chosen.name}.json"
    with locked(root / f".{chosen.name}.lock"):
        record, there = _read_record(record_path), folder.exists()
        if there and record is None:
            raise ConfigError(
                "there is something of this name that segem did not download",
                where=folder,
                fix="use it as it is, or give another --to",
            )
        if not there:
            sweep_partials(root, chosen.name)
            known = {file.name: file.checksum for file in record.files} if record is not None else {}
            _make(chosen, folder, record_path, known)
    return DataResult(chosen.name, folder, not there, chosen.checked_by, chosen.ingest_lines(folder))


def _make(chosen: PublicSet, folder: Path, record_path: Path, known: Mapping[str, str]) -> None:
    """Download the files of a set and make its folder; `known` are the checksums that are remembered of them."""
    work = folder.with_name(f".{chosen.name}.download")
    with disk_errors(work):
        work.mkdir(exist_ok=True)
    try:
        files = [_obtain(remote, known.get(remote.name), folder.parent, work) for remote in chosen.files]
    finally:
        # Kept where it holds the beginning of a file.
        with suppress(OSError):
            work.rmdir()
    with new_directory(folder) as partial:
        for _, path in files:
            try:
                _put(path, partial)
            except InputError:
                # Whole, but not what it should be: the next attempt must not find it here again.
                shutil.rmtree(work, ignore_errors=True)
                raise
        made = Download(
            name=chosen.name, licence=chosen.licence, cite=chosen.cite, files=tuple(file for file, _ in files)
        )
        # Last, because a first download is remembered only if it is what it should be; and before the folder has its
        # name, because a folder without a record counts as another's.
        write_text(record_path, json.dumps(made.model_dump(mode="json"), indent=2) + "\n")
    shutil.rmtree(work, ignore_errors=True)
    for file in made.files:
        if not file.known and file.name not in known:
            told = "no checksum is published, so this first download is trusted, and remembered"
            logger.warning("%s: %s in %s: %s", file.name, told, record_path, file.checksum)


def _obtain(remote: Remote, remembered: str | None, root: Path, work: Path) -> tuple[DownloadedFile, Path]:
    """Return a file of a set, downloaded or put there by the user, and what is to be remembered of it."""
    expected = remote.checksum or remembered
    path = root / remote.name
    try:
        if not path.is_file():
            path = fetch(Remote(remote.name, remote.urls, expected), work)
    except InputError as error:
        by_hand = f"or fetch {remote.urls[0]} elsewhere and put it at {path}"
        raise InputError(error.what, where=error.where, found=error.found, fix=f"{error.fix}, {by_hand}") from None
    checksum = compute_checksum(path, expected)
    if expected is not None and checksum != expected:
        raise InputError(
            "not the file that was published" if remote.checksum else "not the file that was downloaded first",
            where=path,
            expected=expected,
            found=checksum,
            fix="fetch it again",
        )
    size = path.stat().st_size
    return DownloadedFile(name=remote.name, size_bytes=size, checksum=checksum, known=bool(remote.checksum)), path


def _put(path: Path, folder: Path) -> None:
    if path.suffix == ".zip":
        unpack(path, folder)
        return
    with disk_errors(path), path.open("rb") as file:
        start = _BEGINS_WITH.get(path.suffix, b"")
        if file.read(len(start)) != start:
            raise InputError(
                "not a file of its kind", where=path, expected=path.suffix[1:].upper(), fix="fetch it again"
            )
    with disk_errors(folder):
        # The same bytes under a second name, where the disk can do that.
        with suppress(OSError):
            os.link(path, folder / path.name)
            return
        shutil.copyfile(path, folder / path.name)


def _read_record(path: Path) -> Download | None:
    if not path.exists():
        return None
    with disk_errors(path):
        text = path.read_text(encoding="utf-8")
    try:
        return Download.model_validate_json(text)
    except ValidationError as error:
        raise WorkspaceError(
            "the record of a download is damaged",
            where=path,
            found=describe_fault(error),
            fix="move it elsewhere; the next download is then trusted as if it were the first",
        ) from None

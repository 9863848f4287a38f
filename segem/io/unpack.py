"""Unpacks archives of data sets, which are not trusted."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from segem.errors import InputError, WorkspaceError
from segem.io.files import disk_errors
from segem.io.package import find_harm

_NOISE = "__MACOSX"
"""What macOS adds to archives."""


def unpack(archive: Path, into: Path) -> None:
    """Unpack a zip into an empty folder, without the one folder that all its members may lie in.

    Parameters
    ----------
    archive : Path
        The zip.
    into : Path
        The folder, which is there.

    Raises
    ------
    InputError
        When it is no zip, is damaged, or would write elsewhere or fill the disk.
    WorkspaceError
        When the disk has no room for it, or refuses.
    """
    try:
        opened = zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise InputError("not a zip archive", where=archive.name, found=error, fix="download it again") from None
    with opened as zipped:
        harm = find_harm(zipped)
        if harm is not None:
            raise InputError("the archive would do harm", where=archive.name, found=harm, fix="do not use it")
        members = [member for member in zipped.infolist() if not member.is_dir() and not _is_noise(member)]
        require_room(into, sum(member.file_size for member in members))
        common = len(_common([PurePosixPath(member.filename).parent.parts for member in members]))
        for member in members:
            target = into.joinpath(*PurePosixPath(member.filename).parts[common:])
            with disk_errors(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                _copy(zipped, member, target)


def require_room(folder: Path, needed: int) -> None:
    """Raise where a disk has no room for a number of bytes.

    Raises
    ------
    WorkspaceError
        When it has not.
    """
    with disk_errors(folder):
        free = shutil.disk_usage(folder).free
    if free < needed:
        raise WorkspaceError(
            "the disk is too small",
            where=folder,
            expected=f"{needed / 1e6:.0f} MB free",
            found=f"{free / 1e6:.0f} MB",
            fix="free some space, or choose another --workspace",
        )


def _copy(zipped: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    try:
        with zipped.open(member) as source, target.open("xb") as file:
            shutil.copyfileobj(source, file, 2**20)
    except (EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        # RuntimeError: encrypted, or compressed in a way that Python does not know.
        where = f"{zipped.filename}, {member.filename}"
        raise InputError("the archive is damaged", where=where, found=error, fix="download it again") from None


def _is_noise(member: zipfile.ZipInfo) -> bool:
    return PurePosixPath(member.filename).parts[0] == _NOISE


def _common(folders: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the one outermost folder that all members lie in, if there is one.

    Examples
    --------
    >>> _common([("a", "b"), ("a",)]), _common([("a",), ("b",)]), _common([("a",), ()])
    (('a',), (), ())
    """
    first = {folder[:1] for folder in folders}
    return first.pop() if len(first) == 1 else ()

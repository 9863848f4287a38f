"""The error maps of a report on disk: ``errors/<volume>.json``, which a review begins with."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from segem.errors import WorkspaceError
from segem.io.files import disk_errors, write_text
from segem.records.error_map import ErrorMap

FOLDER = "errors"


def write_error_maps(folder: Path, maps: Iterable[ErrorMap]) -> None:
    """Write the error maps of volumes into the folder of a report.

    Raises
    ------
    WorkspaceError
        When the disk refuses.
    """
    home = folder / FOLDER
    with disk_errors(home):
        home.mkdir(exist_ok=True)
    for one in maps:
        # In one line: a large volume has hundreds of thousands of regions, which nobody reads one by one.
        write_text(home / f"{one.volume}.json", one.model_dump_json(by_alias=True) + "\n")


def read_error_map(folder: Path, volume: str) -> ErrorMap:
    """Read the error map of a volume back from the folder of a report.

    Raises
    ------
    WorkspaceError
        When there is none, it is damaged, or another version of segem wrote it.
    """
    path = folder / FOLDER / f"{volume}.json"
    with disk_errors(path):
        text = path.read_text(encoding="utf-8")
    try:
        return ErrorMap.model_validate_json(text)
    except ValidationError as error:
        raise WorkspaceError(
            "the error map is damaged, or of another version of segem",
            where=path,
            found=error.errors()[0]["msg"],
            fix=f"write it again: `segem report {folder.parent.name}`",
        ) from None

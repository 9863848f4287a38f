"""Reads the report of a run back."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from segem.errors import WorkspaceError
from segem.io.files import disk_errors
from segem.records.scores import Report

INDEX, TABLE, JSON = "index.html", "iou.csv", "report.json"
"""The files of a report, beside its pictures."""


def read_report(folder: Path) -> Report:
    """Read the scores of a run back from the folder of its report.

    Raises
    ------
    WorkspaceError
        When there is no report, it is damaged, or another version of segem wrote it.
    """
    path = folder / JSON
    with disk_errors(path):
        text = path.read_text(encoding="utf-8")
    try:
        return Report.model_validate_json(text)
    except ValidationError as error:
        raise WorkspaceError(
            "the report is damaged, or of another version of segem",
            where=path,
            found=error.errors()[0]["msg"],
            fix=f"write it again: `segem report {folder.parent.name}`",
        ) from None


def version_of_report(folder: Path) -> tuple[int, int] | None:
    """Return a value that changes when a report is written; None where there is none."""
    try:
        status = (folder / JSON).stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns

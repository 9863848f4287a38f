"""Takes in what readers of a report have marked, and keeps it beside the run."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from segem.errors import InputError, WorkspaceError
from segem.io.files import disk_errors, locked, write_text
from segem.io.results import digest_results
from segem.io.run import load_run
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.records.marks import Marks, SectionMark

FILE = "marks.json"


def import_marks(file: Path, run: str, workspace: Workspace) -> Marks:
    """Add the marks of a reader to those of a run.

    Parameters
    ----------
    file : Path
        What the page of the report has saved.
    run : str
        The run it must be of.
    workspace : Workspace
        Where the run lives.

    Returns
    -------
    Marks
        All marks of the run.

    Raises
    ------
    InputError
        When the file holds no marks, or marks of another run, other results, or sections that are not there.
    WorkspaceError
        When there is no such run, or the disk refuses.
    """
    record = load_run(workspace, run)
    digest = digest_results(record)
    with disk_errors(file):
        text = file.read_text(encoding="utf-8-sig", errors="replace")
    marks = _parse(text, file)
    if marks.run != run:
        raise InputError(
            "these marks are of another run", where=file, expected=run, found=marks.run, fix="name that run"
        )
    if marks.digest != digest:
        raise InputError(
            "the results of the run have changed since they were marked",
            where=file,
            expected=f"results {digest[:12]}",
            found=f"results {marks.digest[:12]}",
            fix=f"mark them again in a new report: `segem report {run}`",
        )
    for one in marks.marks:
        _require_section(one, run, tuple(record.volumes), workspace, file)
    path = workspace.run(run) / FILE
    # Two readers' marks may be taken in at once.
    with locked(path.with_name(".marks.lock"), wait=True):
        # Marks of earlier results are dropped: their sections may look different now.
        known = read_marks(run, workspace, digest)
        merged = (known or marks).merge(marks)
        write_text(path, json.dumps(merged.model_dump(mode="json"), indent=2) + "\n")
    return merged


def read_marks(run: str, workspace: Workspace, digest: str) -> Marks | None:
    """Return the marks of a run; None where there are none of these results.

    Raises
    ------
    WorkspaceError
        When the file is damaged.
    """
    path = workspace.run(run) / FILE
    with disk_errors(path):
        if not path.is_file():
            return None
        text = path.read_text(encoding="utf-8")
    try:
        marks = Marks.model_validate_json(text)
    except ValidationError as error:
        raise WorkspaceError(
            "the marks of the run are damaged",
            where=path,
            found=error.errors()[0]["msg"],
            fix="move this file away and take the marks in again: `segem report RUN --import marks.json`",
        ) from None
    return marks if marks.digest == digest else None


def _parse(text: str, file: Path) -> Marks:
    try:
        return Marks.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            "not a file of marks",
            where=file,
            expected="what the page of a report saves (Download marks)",
            found=f"{where}: {first['msg']}" if where else first["msg"],
            fix="save the marks again from the page",
        ) from None


def _require_section(one: SectionMark, run: str, volumes: tuple[str, ...], workspace: Workspace, file: Path) -> None:
    if one.volume not in volumes:
        raise InputError(
            "a mark is of a volume that the run does not have",
            where=file,
            expected=", ".join(volumes) or "none",
            found=one.volume,
            fix="name the run that was marked",
        )
    sections = Volume.open(workspace.result(run, one.volume)).shape[0]
    if one.section >= sections:
        raise InputError(
            "a mark is of a section that the volume does not have",
            where=f"{file}, {one.volume}",
            expected=f"0 to {sections - 1}",
            found=one.section,
            fix="name the run that was marked",
        )

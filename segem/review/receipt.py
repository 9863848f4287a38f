"""What was decided in a review, by whom and when, as a file to be kept: a table, or pages to be printed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from segem.errors import ConfigError
from segem.io.files import new_file, write_text
from segem.io.reviewed import has_log, open_log, verify_review
from segem.io.reviews import ReviewLog
from segem.io.run import load_run
from segem.io.workspace import Workspace
from segem.kernels.flips import overlap
from segem.records.base import Record
from segem.records.review import WORK, Head

ENDINGS = (".csv", ".pdf")
_ROWS_OF_PAGE = 34
_LONGEST_TEXT = 30
# A cell that begins like this is a formula to spreadsheets.
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


class Line(Record):
    """One decision that counts: the last one about its region."""

    volume: str
    section: int
    y: int
    x: int
    height: int
    width: int
    decision: str
    note: str
    person: str
    time: str
    active_seconds: float
    """That the person was at work in this region, on all that they did there."""
    corrections: int
    """Changes of the region's pixels by anybody."""
    entry: int
    digest: str
    """Of the entry; by it, and by the head, it is found in the log that the receipt was written of."""
    head: str
    """End of the log, as `segem report` prints it."""


def write_receipt(path: Path, workspace: Workspace, run: str) -> int:
    """Write what was decided in the review of a run, and return how many regions that are.

    Parameters
    ----------
    path : Path
        Ends in ``.csv`` or ``.pdf``; replaced when it is there.
    workspace : Workspace
        Where the run lies.
    run : str
        Its name.

    Returns
    -------
    int

    Raises
    ------
    ConfigError
        When the file has another ending, or nobody has begun to review the run.
    WorkspaceError
        When the log was changed, or the disk refuses.
    """
    if path.suffix.lower() not in ENDINGS:
        raise ConfigError(
            "no such kind of receipt", where=path, expected=" or ".join(ENDINGS), fix="choose one of these endings"
        )
    if not has_log(workspace, run):
        raise ConfigError("nobody has reviewed this run yet", where=run, fix=f"review it: `segem review {run}`")
    head = verify_review(workspace, run) or Head(entries=0, digest="")
    with open_log(workspace, run) as log:
        lines = [line for volume in load_run(workspace, run).volumes for line in _list_lines(log, volume, head)]
    if path.suffix.lower() == ".csv":
        write_text(path, _tabulate(lines))
    else:
        with new_file(path) as partial:
            _print(partial, run, head, lines)
    return len(lines)


def _list_lines(log: ReviewLog, volume: str, head: Head) -> Iterator[Line]:
    made = log.entries(WORK, volume)
    last = {one.place: one for one in made if one.kind == "decision"}
    for place, one in last.items():
        if place is None:
            continue
        here = [each for each in made if each.place and each.place.z == place.z and overlap(each.place, place)]
        yield Line(
            volume=volume,
            section=place.z,
            **place.model_dump(include={"y", "x", "height", "width"}),
            decision=str(one.detail["decision"]),
            note=str(one.detail["note"]),
            person=one.author,
            time=one.time,
            active_seconds=round(sum(each.active_seconds for each in here if each.author == one.author), 2),
            corrections=sum(each.before is not None for each in here),
            entry=one.number,
            digest=one.digest,
            head=head.digest,
        )


def _tabulate(lines: Sequence[Line]) -> str:
    text = io.StringIO()
    table = csv.DictWriter(text, list(Line.model_fields), lineterminator="\n")
    table.writeheader()
    for line in lines:
        row = line.model_dump()
        table.writerow(
            {key: f"'{v}" if isinstance(v, str) and v.startswith(_FORMULAS) else v for key, v in row.items()}
        )
    return text.getvalue()


def _print(path: Path, run: str, head: Head, lines: Sequence[Line]) -> None:
    """Draw the pages; the same review gives the same file."""
    import matplotlib as mpl
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

    pages = [lines[k : k + _ROWS_OF_PAGE] for k in range(0, len(lines), _ROWS_OF_PAGE)] or [[]]
    names = ("volume", "section", "x, y", "decision", "note", "person", "time (UTC)", "active", "entry, digest")
    # What a person wrote is no formula to matplotlib, either.
    with (
        mpl.rc_context({"pdf.fonttype": 42, "text.parse_math": False}),
        PdfPages(path, metadata={"Title": f"Review of {run}", "CreationDate": None}) as book,
    ):
        for number, page in enumerate(pages, 1):
            figure = Figure(figsize=(11.7, 8.3))
            told = [f"Review of {run}", *(_sum_up(lines) if number == 1 else ())]
            told.append(f"Head of the log: {head.digest} ({head.entries} entries)")
            figure.text(0.04, 0.96, "\n".join(told), va="top", size=9, linespacing=1.5)
            figure.text(0.96, 0.03, f"page {number} of {len(pages)}", ha="right", size=8)
            if page:
                axes = figure.add_axes((0.04, 0.06, 0.92, 0.92 - 0.028 * len(told)))
                axes.axis("off")
                table = axes.table([_cells(line) for line in page], colLabels=names, loc="upper left", cellLoc="left")
                table.auto_set_font_size(False)
                table.set_fontsize(7)
                table.auto_set_column_width(list(range(len(names))))
            book.savefig(figure)


def _cells(line: Line) -> list[str]:
    volume, note, person = (
        text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"
        for text in (line.volume, line.note, line.person)
    )
    return [
        *(volume, str(line.section), f"{line.x}, {line.y}", line.decision, note, person),
        *(line.time[:19].replace("T", " "), f"{line.active_seconds:.0f} s"),
        f"{line.entry}, {line.digest[:16]}",
    ]


def _sum_up(lines: Sequence[Line]) -> Iterator[str]:
    for person in sorted({line.person for line in lines}):
        own = [line for line in lines if line.person == person]
        minutes = sum(line.active_seconds for line in own) / 60
        kinds = {kind: sum(line.decision == kind for line in own) for kind in ("accept", "fix", "reject", "unsure")}
        told = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
        yield f"{person}: {len(own)} regions ({told}), {minutes:.1f} minutes at work"

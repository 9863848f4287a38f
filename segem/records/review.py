"""What reviewers do with the mask of a run: the entries of its log, which are only ever added to."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from segem.records.base import Record

Kind = Literal[
    "correction", "answer", "revert", "decision", "invite", "revoke", "seed", "plant", "claim", "sample", "verdict"
]
Decision = Literal["accept", "fix", "reject", "unsure"]
Answer = Literal["yes", "no", "unknown"]

SHEET = "~"
"""Parts the name of a volume from what tells a person's own entries about it apart; no volume has it in its name."""
WORK: tuple[Kind, ...] = ("correction", "answer", "revert", "decision")
"""What people do to regions; the rest is about the review itself."""

LARGEST_EDGE_PX = 4096
"""Of the rectangle of one entry: its pixels are held in memory."""
MOST_RUNS = 100_000
LONGEST_NOTE = 2000

Pixel = Annotated[int, Field(ge=0, lt=2**31)]
Edge = Annotated[int, Field(ge=1, le=LARGEST_EDGE_PX)]
Runs = Annotated[tuple[Annotated[int, Field(ge=0, lt=2**32)], ...], Field(max_length=MOST_RUNS)]


class Place(Record):
    """A rectangle of one section of a volume."""

    volume: str
    z: Pixel
    y: Pixel
    x: Pixel
    """Its first pixel."""
    height: Edge
    width: Edge


class Draft(Record):
    """What a reviewer asks to be added to the log."""

    id: Annotated[str, Field(pattern=r"^[0-9a-f-]{16,64}$")]
    """Chosen at random by who sends it: what is sent twice, since the answer was lost, is added once."""
    kind: Kind
    place: Place | None = None
    """What it is about; None for what concerns no place."""
    runs: Runs = ()
    """The pixels of `place` that change, 0 to 1 or 1 to 0, as the lengths of runs; see `segem.kernels.runs`."""
    active_seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 0.0
    """How long the reviewer was at work on it: the time since the entry before, without breaks."""
    detail: dict[str, str | int] = {}
    """What its kind adds: decision and note, the answer, the entry that is reverted, or a reviewer's name."""


class Entry(Draft):
    """One entry of the log of a review."""

    number: int
    """1 for the first one."""
    time: str
    """ISO 8601 in UTC."""
    author: str
    before: str | None
    """sha256 of the mask of `place` before the entry; None where no pixel changes."""
    previous: str
    """Digest of the entry before; that of nothing for the first one."""
    digest: str
    """sha256 of all of the above: who changes an entry breaks all that follow."""


class Head(Record):
    """The end of the log, which stands for all of it: kept elsewhere, it shows a log that was written anew."""

    entries: int
    digest: str


class ReviewedLabels(Record):
    """What a model learned from people: the regions of one volume that they say are right, by the log of a run."""

    run: str
    volume: str
    head: Head
    """The end of the log when the labels were taken: with it, every label can be shown to be what people entered."""
    digest: str
    """sha256 of the run, the head and the labels."""
    regions: int
    """Accepted or fixed; all others are unknown."""
    people: tuple[str, ...]
    """Who has worked on the volume."""
    active_seconds: float
    """How long they were at work on it, all regions and questions together."""


EMPTY = Head(entries=0, digest="0" * 64)
"""Of a log without entries."""

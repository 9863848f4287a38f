"""How much of a run people have decided, beside what its manifest asks for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from segem.errors import InputError
from segem.io.reviewed import has_log, open_log
from segem.io.reviews import REGION_PX, ReviewLog
from segem.io.run import load_run
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.tiles import tile_starts
from segem.records.review import EMPTY, SHEET, Head

DECIDED = {"accept", "fix", "reject"}
"""Who is unsure has decided nothing."""


@dataclass(frozen=True)
class ReviewStanding:
    """How far a review is that a run waits for."""

    decided: int
    wanted: int
    """Regions."""
    model: str | None
    """Model of which a new version is trained on them, if any."""
    head: Head
    """The end of the log."""

    @property
    def met(self) -> bool:
        """Whether enough is decided."""
        return self.decided >= self.wanted


def measure_review(workspace: Workspace, run: str) -> ReviewStanding | None:
    """Return how far the review of a run is; None where its manifest asks for none.

    Raises
    ------
    WorkspaceError
        When the run is missing, or its log or a volume cannot be read: fewer regions would be asked for.
    """
    record = load_run(workspace, run)
    goal = record.review
    if goal is None:
        return None
    wanted = goal.regions or 0
    if goal.share is not None:
        wanted = max(1, math.ceil(goal.share * sum(_count_regions(workspace, name) for name in record.volumes)))
    decided, head = 0, EMPTY
    if has_log(workspace, run):
        with open_log(workspace, run) as log:
            decided, head = count_decided(log), log.head()
    return ReviewStanding(decided, wanted, goal.model, head)


def count_decided(log: ReviewLog) -> int:
    """Return how many regions people have accepted, fixed or rejected, by their last decision."""
    made = log.entries(("decision",))
    # Not what is a person's own, such as a hidden control.
    last = {one.place: one.detail["decision"] for one in made if one.place and SHEET not in one.place.volume}
    return sum(decision in DECIDED for decision in last.values())


def _count_regions(workspace: Workspace, volume: str) -> int:
    """Return how many regions the error map cuts a volume into; none of a volume that could not be ingested."""
    try:
        depth, *section = Volume.open(workspace.volume(volume)).shape
    except InputError:
        return 0
    return depth * math.prod(len(tile_starts(length, REGION_PX)) for length in section)

"""What the log of a review says of its people and of the mask, for the report."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from segem.errors import WorkspaceError
from segem.geometry import Box
from segem.io.blocks import read_block
from segem.io.readings import (
    Control,
    FindErrors,
    TwoReadings,
    list_controls,
    list_labelled,
    list_left,
    list_readings,
)
from segem.io.reviewed import has_log, open_log, open_mask, reader_of, require_reviewed_mask, reviewable
from segem.io.reviews import ReadMask, ReviewLog
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.intervals import FEWEST_DRAWN, bound_drawn, bound_share, ratio_of
from segem.kernels.metrics.section import choose_tolerance
from segem.kernels.plain_errors import find_plain_errors
from segem.records.intervals import Ceiling, TooFew
from segem.records.review import WORK, Place
from segem.records.review_findings import Reviewer, ReviewFindings, Sampled, Seen
from segem.stages.reporting.words import count

logger = logging.getLogger(__name__)

FindOverlap = Callable[[Place], tuple[int, int]]
"""Says of a region in how many pixels its mask and its correction both have membrane, and in how many either has."""

_SHARE = ratio_of((1, 0), (0, 1))
_TRUSTED = {"accept", "fix"}


def find_review(workspace: Workspace, run: str) -> ReviewFindings | None:
    """Return what the review of a run says; None where nobody has begun one.

    Parameters
    ----------
    workspace : Workspace
        Where the run lies.
    run : str
        Its name.

    Returns
    -------
    ReviewFindings or None

    Raises
    ------
    WorkspaceError
        When the log or a mask cannot be read.
    """
    if not has_log(workspace, run):
        return None
    planted: list[Control] = []
    labelled: list[Control] = []
    readings: list[TwoReadings] = []
    sampled: list[Sampled] = []
    with open_log(workspace, run) as log:
        for volume in reviewable(workspace, run):
            read = reader_of(open_mask(workspace, run, volume))
            try:
                require_reviewed_mask(log, volume, read)
            except WorkspaceError as error:
                logger.warning("%s: nothing is said of its review: %s", volume, error)
                continue
            planted += list_controls(log, volume)
            source = Volume.open(workspace.volume(volume))
            if source.has_label("truth"):
                labelled += list_labelled(log, volume, read, _judge_by(source))
            readings += list_readings(log, volume, read)
            sampled += estimate_sampled(log, volume, *_find_corrected(log, volume, read))
        return ReviewFindings(
            reviewers=_count_work(log, planted, labelled), agreement=_compare(readings), sampled=tuple(sampled)
        )


def _judge_by(source: Volume) -> FindErrors:
    """Return what finds the plain errors of a mask by the labels of its volume."""
    truth, (_, *pixel_nm) = source.label("truth"), source.voxel_size.zyx
    tolerance_px = round(choose_tolerance((pixel_nm[0], pixel_nm[1])) / min(pixel_nm))

    def find_errors(place: Place, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        box = Box((place.z, place.y, place.x), (place.z + 1, place.y + place.height, place.x + place.width))
        return find_plain_errors(mask, read_block(truth, box, "ingest the volume again")[0], tolerance_px)

    return find_errors


def _count_work(log: ReviewLog, planted: list[Control], labelled: list[Control]) -> tuple[Reviewer, ...]:
    decided: dict[str, set[Place]] = defaultdict(set)
    seconds: dict[str, float] = defaultdict(float)
    for entry in log.entries(WORK):
        seconds[entry.author] += entry.active_seconds
        if entry.kind == "decision" and entry.place is not None:
            decided[entry.author].add(entry.place)
    return tuple(
        Reviewer(
            name=name,
            decided=len(decided[name]),
            active_seconds=round(seconds[name], 2),
            planted=_count_seen(planted, name),
            labelled=_count_seen(labelled, name),
        )
        for name in sorted(seconds)
    )


def _count_seen(controls: list[Control], person: str) -> Seen:
    own = [one.seen for one in controls if one.person == person]
    few = TooFew(too_few=f"{count(len(own), 'region')} with known errors; {FEWEST_DRAWN} or more are needed")
    rate = bound_share(sum(own), len(own)) if len(own) >= FEWEST_DRAWN else few
    return Seen(regions=len(own), seen=sum(own), rate=rate)


def _compare(readings: list[TwoReadings]) -> Ceiling | None:
    if not readings:
        return None
    counts = {
        "iou": np.array([one.overlap for one in readings], np.float64),
        "v_rand": np.array([one.rand for one in readings], np.float64),
    }
    return Ceiling(
        source=f"{count(len(readings), 'region')} that two people have read",
        scores={name: float(_SHARE(table.sum(axis=0))) for name, table in counts.items()},
        intervals={name: bound_drawn(table, _SHARE, "regions read twice") for name, table in counts.items()},
    )


def _find_corrected(log: ReviewLog, volume: str, read: ReadMask) -> tuple[dict[Place, str], FindOverlap]:
    """Return what was decided about regions, and what compares their masks: as they count, or of a control alone."""
    shared = {one.place: str(one.detail["decision"]) for one in log.entries(("decision",), volume) if one.place}
    left = {place: (said, mask) for place, said, mask in list_left(log, volume, read)}

    def find_overlap(place: Place) -> tuple[int, int]:
        return count_overlap(read(place), log.mask(place, read) if place in shared else left[place][1])

    return {place: said for place, (said, _) in left.items()} | shared, find_overlap


def count_overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> tuple[int, int]:
    """Return how many pixels are membrane in both of two masks, and in either.

    Examples
    --------
    >>> count_overlap(np.array([True, True, False]), np.array([True, False, False]))
    (1, 2)
    """
    return int((one & other).sum()), int((one | other).sum())


def estimate_sampled(
    log: ReviewLog, volume: str, decided: Mapping[Place, str], find_overlap: FindOverlap
) -> list[Sampled]:
    """Return what the regions of a volume that were drawn last say of all of it; nothing where none were.

    They count in the order in which they were drawn, up to the first about which nobody has decided: what was decided
    out of turn was chosen by somebody, as the worst of a queue, and not by chance.

    Parameters
    ----------
    log : ReviewLog
        Of the review.
    volume : str
        Name of the volume.
    decided : mapping
        What was decided about regions.
    find_overlap : callable
        Returns what `count_overlap` says of one of these, as it was before any review and as it is corrected.

    Returns
    -------
    list of Sampled
    """
    drawn = log.entries(("sample",), volume)
    if not drawn:
        return []
    chosen = [Place.model_validate(one) for one in json.loads(str(drawn[-1].detail["regions"]))]
    among = int(drawn[-1].detail["among"])
    in_turn = takewhile(decided.__contains__, chosen)
    counts = [find_overlap(place) for place in in_turn if decided[place] in _TRUSTED]
    table = np.array(counts, np.float64).reshape(-1, 2)
    return [
        Sampled(
            volume=volume,
            regions=among,
            chosen=len(chosen),
            decided=len(counts),
            iou=float(_SHARE(table.sum(axis=0))) if counts else None,
            interval=bound_drawn(table, _SHARE, "regions drawn at random", among),
        )
    ]

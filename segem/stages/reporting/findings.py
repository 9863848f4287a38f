"""What the log of a review says of its people and of the mask, for the report."""

from __future__ import annotations

import json
from collections import defaultdict

import numpy as np

from segem.io.readings import Control, TwoReadings, list_controls, list_readings
from segem.io.reviewed import has_log, open_log, open_mask, reader_of, reviewable, trusted_places
from segem.io.reviews import ReadMask, ReviewLog
from segem.io.workspace import Workspace
from segem.kernels.intervals import FEWEST_DRAWN, bound_drawn, bound_share, ratio_of
from segem.records.intervals import TooFew
from segem.records.review import WORK, Place
from segem.records.review_findings import Agreement, Reviewer, ReviewFindings, Sampled

_SHARE = ratio_of((1, 0), (0, 1))


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
    controls: list[Control] = []
    readings: list[TwoReadings] = []
    sampled: list[Sampled] = []
    with open_log(workspace, run) as log:
        for volume in reviewable(workspace, run):
            read = reader_of(open_mask(workspace, run, volume))
            controls += list_controls(log, volume)
            readings += list_readings(log, volume, read)
            sampled += estimate_sampled(log, volume, read)
        return ReviewFindings(
            reviewers=_count_work(log, controls), agreement=_compare(readings), sampled=tuple(sampled)
        )


def _count_work(log: ReviewLog, controls: list[Control]) -> tuple[Reviewer, ...]:
    decided: dict[str, set[Place]] = defaultdict(set)
    seconds: dict[str, float] = defaultdict(float)
    for entry in log.entries(WORK):
        seconds[entry.author] += entry.active_seconds
        if entry.kind == "decision" and entry.place is not None:
            decided[entry.author].add(entry.place)
    found = []
    for name in sorted(seconds):
        own = [one.seen for one in controls if one.person == name]
        few = TooFew(too_few=f"{len(own)} controls; {FEWEST_DRAWN} or more are needed")
        found.append(
            Reviewer(
                name=name,
                decided=len(decided[name]),
                active_seconds=round(seconds[name], 2),
                controls=len(own),
                seen=sum(own),
                hit_rate=bound_share(sum(own), len(own)) if len(own) >= FEWEST_DRAWN else few,
            )
        )
    return tuple(found)


def _compare(readings: list[TwoReadings]) -> Agreement | None:
    if not readings:
        return None
    overlap, rand = (np.array([getattr(one, name) for one in readings], np.float64) for name in ("overlap", "rand"))
    return Agreement(
        regions=len(readings),
        iou=float(_SHARE(overlap.sum(axis=0))),
        iou_interval=bound_drawn(overlap, _SHARE, "regions read twice"),
        v_rand=float(_SHARE(rand.sum(axis=0))),
        v_rand_interval=bound_drawn(rand, _SHARE, "regions read twice"),
    )


def estimate_sampled(log: ReviewLog, volume: str, read: ReadMask) -> list[Sampled]:
    """Return what the regions of a volume that were drawn last say of all of it; nothing where none were."""
    drawn = log.entries(("sample",), volume)
    if not drawn:
        return []
    chosen = [Place.model_validate(one) for one in json.loads(str(drawn[-1].detail["regions"]))]
    among, trusted = int(drawn[-1].detail["among"]), set(trusted_places(log, volume))
    counts = []
    for place in chosen:
        if place in trusted:
            before, after = read(place), log.mask(place, read)
            counts.append((int((before & after).sum()), int((before | after).sum())))
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

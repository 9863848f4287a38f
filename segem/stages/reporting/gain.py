"""What a review has given the model of a run, for its report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from segem.errors import SegemError
from segem.io.models import list_models, read_card
from segem.io.versions import read_promotion
from segem.io.workspace import Workspace
from segem.records.promotion import DifferenceInterval, ScorePair
from segem.records.review_gain import ReviewGain
from segem.records.run import ModelRecord
from segem.stages.reporting.drawing import Table
from segem.stages.reporting.words import NOTHING, count

HEAD = ("Judged on", "Score", "Before", "After", "Gain", "Interval", "Gain in a minute of review")


def find_gain(model: ModelRecord | None, workspace: Workspace) -> ReviewGain | None:
    """Return what a review has given the model of a run.

    Parameters
    ----------
    model : ModelRecord or None
        The model of the run, recognised by its digest.
    workspace : Workspace
        Where models lie.

    Returns
    -------
    ReviewGain or None
        None where the model has not learned from a review, was not judged beside another model, or cannot be read.
    """
    if model is None:
        return None
    # A model that cannot be read costs a report this section, never all of it.
    with suppress(SegemError):
        for name, folder in list_models(workspace):
            if name != model.name:
                continue
            card, digest = read_card(folder)
            decided = read_promotion(folder) if digest == model.digest and card.reviewed else None
            if decided is not None and decided.incumbent is not None:
                return ReviewGain(
                    before=decided.incumbent.name,
                    after=decided.name,
                    confidence=decided.gate.confidence,
                    reviewed=card.reviewed,
                    judged=decided.judged,
                )
    return None


def say_gain(gain: ReviewGain) -> str:
    """Return in a sentence or two what a review consisted of, and how its gain was measured."""
    people = sorted({person for one in gain.reviewed for person in one.people})
    regions, runs = sum(one.regions for one in gain.reviewed), sorted({one.run for one in gain.reviewed})
    return (
        f"{gain.after} comes from a review of {count(regions, 'region')} that {count(len(people), 'person', 'people')} "
        f"accepted or fixed in {' and '.join(runs)}, in {gain.minutes:.0f} minutes of work. Before and after are "
        f"compared on sections that neither model was trained on, with {gain.confidence:.0%} intervals of a paired "
        "bootstrap over blocks; that of V_rand is of its difference within blocks."
    )


def tabulate_gain(gain: ReviewGain) -> Table:
    """Return the scores before and after a review, and what a minute of it gave."""
    return Table(HEAD, tuple(_list_rows(gain)))


def _list_rows(gain: ReviewGain) -> Iterator[tuple[str, ...]]:
    for one in gain.judged:
        pairs: tuple[tuple[str, ScorePair | None, DifferenceInterval | None], ...]
        pairs = (("IoU", one.iou, one.iou_interval), ("V_rand", one.v_rand, one.v_rand_interval))
        for name, pair, interval in pairs:
            if pair is None:
                continue
            yield (
                one.volume,
                name,
                f"{pair.incumbent:.3f}",
                f"{pair.candidate:.3f}",
                f"{pair.difference:+.3f}",
                NOTHING if interval is None else f"{interval.low:+.3f} to {interval.high:+.3f}",
                f"{pair.difference / gain.minutes:+.4f}" if gain.minutes else NOTHING,
            )

"""How sure the scores of a volume are, what they can be held against, and how they differ between two runs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import prod
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from segem.errors import InputError
from segem.geometry import ZYX
from segem.kernels.intervals import POOLED, bound_mean, bound_pooled, compare_means, compare_pooled
from segem.kernels.metrics.segmentation import Measure
from segem.kernels.pieces import Grid
from segem.records.intervals import Band, BlockCounts, Ceiling, Interval, TooFew
from segem.records.run import CrfFacts, SegmentFacts
from segem.records.scores import LayerScores, Scores, VolumeScores
from segem.stages.reporting.tally import MaskTally, Tally

Mask = Literal["model", "closed", "baseline"]
_CELL_SCORES: tuple[tuple[str, Measure], ...] = (("v_rand", "rand"), ("v_info", "information"))


def keep_blocks(grid: Grid, shape: ZYX, total: Tally) -> BlockCounts:
    """Add up what was counted in the tiles of all sections to blocks of tissue.

    Parameters
    ----------
    grid : Grid
        How the volume is cut.
    shape : tuple of int
        Of the volume (z, y, x).
    total : Tally
        Of all sections.
    """
    _, height, width = shape
    parts: ZYX = (1, 1, 1)
    rows: dict[str, tuple[tuple[int, int, int], ...]] = {}
    for mask in get_args(Mask):
        tally: MaskTally = getattr(total, mask)
        if tally.tiles:
            blocks = grid.add_up(np.stack(tally.tiles), (height, width))
            parts = (blocks.shape[0], blocks.shape[1], blocks.shape[2])
            rows[mask] = tuple((tp, fp, fn) for tp, fp, fn in blocks.reshape(-1, 3).tolist())
    return BlockCounts(parts=parts, edge_nm=grid.edge_nm, **rows)


def find_intervals(
    blocks: BlockCounts, tallies: Sequence[Tally], scores: Scores, mask: Mask
) -> dict[str, Interval | TooFew]:
    """Return the 95 % interval of each headline score of one mask, by the name of the score.

    Parameters
    ----------
    blocks : BlockCounts
        What pooled scores are made of.
    tallies : sequence of Tally
        One a section, for V_rand and V_info.
    scores : Scores
        Of the volume.
    mask : {"model", "closed", "baseline"}
        Whose.
    """
    layer: LayerScores | None = getattr(scores, mask)
    if layer is None:
        return {}
    masks = [getattr(tally, mask) for tally in tallies if tally.known]
    return bound_pooled(_counts(blocks, mask), blocks.edge_nm) | _bound_cells(layer, masks)


def _bound_cells(layer: LayerScores, masks: Sequence[MaskTally]) -> dict[str, Interval | TooFew]:
    found = {}
    for name, measure in _CELL_SCORES:
        values = (one.at_threshold_of(measure, getattr(layer, measure)) for one in masks)
        found[name] = bound_mean(np.array([value for value in values if value is not None], float))
    return found


def find_ceiling(grid: Grid, shape: ZYX, tallies: Sequence[Tally], source: str, tolerance_nm: float) -> Ceiling | None:
    """Return how well a second person's labels agree with the truth; None where they share no membrane to agree on.

    Parameters
    ----------
    grid : Grid
        How the volume is cut.
    shape : tuple of int
        Of the volume (z, y, x).
    tallies : sequence of Tally
        One a section.
    source : str
        Where the second labels come from.
    tolerance_nm : float
        What was counted with.
    """
    total = reduce(Tally.__add__, tallies, Tally())
    counted = total.second
    if not counted.confusion.tp + counted.confusion.fn:
        return None
    layer = counted.scores(tolerance_nm)
    named = {name: getattr(layer, name) for name in (*LayerScores.model_fields, "v_rand", "v_info")}
    blocks = grid.add_up(np.stack(counted.tiles), shape[1:])
    return Ceiling(
        source=source,
        known_fraction=total.known_to_both / prod(shape),
        scores={
            name: value for name, value in named.items() if isinstance(value, (int, float)) and name != "tolerance_nm"
        },
        intervals=bound_pooled(blocks, grid.edge_nm)
        | _bound_cells(layer, [one.second for one in tallies if one.known_to_both]),
    )


def find_bands(
    scores: Scores, facts: SegmentFacts | CrfFacts | None, ceiling: Ceiling | None = None
) -> dict[str, Band]:
    """Return what the model's scores can be held against: the baseline's, those on its card, a second observer's."""
    if scores.model is None:
        return {}
    held_out = facts.held_out if isinstance(facts, SegmentFacts) else ()
    found = {}
    for name in (*POOLED, "v_rand", "v_info"):
        known = [value for one in held_out if (value := getattr(one, name, None)) is not None]
        floor = getattr(scores.baseline, name, None)
        highest = None if ceiling is None else ceiling.scores.get(name)
        if floor is not None or known or highest is not None:
            found[name] = Band(floor=floor, held_out=(min(known), max(known)) if known else None, ceiling=highest)
    return found


def compare_volumes(
    first: VolumeScores, second: VolumeScores, masks: tuple[Mask, Mask] = ("model", "model")
) -> dict[str, Interval | TooFew]:
    """Return the 95 % interval of each score of a volume in one run less that in another.

    Parameters
    ----------
    first, second : VolumeScores
        The same volume in two runs; the same one twice to compare its model with its baseline.
    masks : tuple of {"model", "closed", "baseline"}
        Whose scores.

    Returns
    -------
    dict
        By the name of the score: pooled ones, and V_rand and V_info of the model's masks. Empty where either was not
        measured.

    Raises
    ------
    InputError
        When the volumes differ in shape or in what of their truth is known.
    """
    a, b = first.blocks, second.blocks
    if a is None or b is None or not getattr(a, masks[0]) or not getattr(b, masks[1]):
        return {}
    if (first.shape, first.known_fraction, a.parts) != (second.shape, second.known_fraction, b.parts):
        raise InputError(
            "the scores of these volumes cannot be compared",
            where=first.name,
            expected=f"one shape and truth: {first.shape}",
            found=second.shape,
            fix="compare runs on the same volume, reported by the same version of segem",
        )
    found = compare_pooled(_counts(a, masks[0]), _counts(b, masks[1]), a.edge_nm)
    if masks == ("model", "model"):
        pairs = list(zip(first.per_section, second.per_section, strict=True))
        for name, _ in _CELL_SCORES:
            scored = [(getattr(one, name), getattr(other, name)) for one, other in pairs]
            both = np.array([pair for pair in scored if None not in pair], float).reshape(-1, 2)
            found[name] = compare_means(both[:, 0], both[:, 1])
    return found


def _counts(blocks: BlockCounts, mask: Mask) -> NDArray[np.int64]:
    return np.array(getattr(blocks, mask), np.int64).reshape(*blocks.parts, 3)

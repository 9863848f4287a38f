"""The content of ``iou.csv``: a row for each score."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping

from segem.records.expected import Estimate, Expected
from segem.records.intervals import Interval, TooFew
from segem.records.scores import LayerScores, Report, SectionScores, VolumeScores

COLUMNS = ("volume", "section", "mask", "method", "score", "value", "low", "high")
MORE = (
    "mean_iou", "dice", "iou_outside_band", "boundary_f1", "cl_dice", "adapted_rand_error", "voi_split", "voi_merge",
    "merges", "splits",
)  # fmt: skip
"""Scores that volumes and sections have besides IoU, precision, recall, V_rand and V_info."""


def tabulate(scores: Report) -> str:
    r"""Return the table: tidy, so that a row is one score of one mask of a volume, or of one of its sections.

    ``section`` is ``all`` for a whole volume. What was not measured or is not defined has no row.
    ``expected_iou`` is an estimate.

    Examples
    --------
    >>> tabulate(Report(run="r", model=None, created="", segem_version="", environment={}, volumes=()))
    'volume,section,mask,method,score,value,low,high\n'
    """
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    table.writeheader()
    for volume in scores.volumes:
        for section, mask, score, value, interval in _list_scores(volume):
            if value is None:
                continue
            low, high = interval
            # Six digits are more than any score is worth.
            numbers = {"value": value, "low": low, "high": high}
            row = {key: f"{number:.6f}" for key, number in numbers.items() if number is not None}
            kind = {"volume": volume.name, "section": section, "mask": mask, "method": _name_method(volume, mask)}
            table.writerow(kind | {"score": score} | row)
    return text.getvalue()


Ends = tuple[float | None, float | None]
_NO_ENDS: Ends = (None, None)
Row = tuple[str, str, str, float | None, Ends]


def _list_scores(volume: VolumeScores) -> Iterator[Row]:
    scores = volume.scores
    masks: tuple[tuple[str, LayerScores | None, Mapping[str, Interval | TooFew]], ...] = (
        ("model", scores.model, volume.intervals),
        ("closed", scores.closed, volume.closed_intervals),
        ("baseline", scores.baseline, volume.baseline_intervals),
    )
    for mask, layer, intervals in masks:
        if layer is not None:
            yield from (("all", mask, score, value, _ends(intervals.get(score))) for score, value in _of_layer(layer))
    if volume.ceiling is not None:
        found = volume.ceiling
        yield from (
            ("all", "second", name, value, _ends(found.intervals.get(name))) for name, value in found.scores.items()
        )
    if volume.model is not None:
        yield "all", "model", "ece", volume.ece, _NO_ENDS
    if volume.seams is not None:
        yield "all", "model", "seam_ratio", volume.seams.ratio, (volume.seams.low, volume.seams.high)
    if isinstance(volume.expected, Expected):
        yield "all", "model", "expected_iou", volume.expected.iou.value, _ends(volume.expected.iou)
    for one in volume.per_section:
        for mask, score, value in _of_section(one):
            yield str(one.section), mask, score, value, _NO_ENDS


def _ends(found: Interval | Estimate | TooFew | None) -> Ends:
    return (found.low, found.high) if isinstance(found, (Interval, Estimate)) else _NO_ENDS


def _of_layer(layer: LayerScores) -> Iterator[tuple[str, float | None]]:
    yield from (("iou", layer.iou), ("precision", layer.precision), ("recall", layer.recall))
    yield from (("v_rand", layer.v_rand), ("v_info", layer.v_info))
    yield from ((score, getattr(layer, score)) for score in (*MORE, "warping_error"))


def _of_section(one: SectionScores) -> Iterator[tuple[str, str, float | None]]:
    yield "model", "iou", one.iou_model
    for score in ("precision", "recall", "v_rand", "v_info", *MORE):
        yield "model", score, getattr(one, score)
    yield "baseline", "iou", one.iou_baseline


def _name_method(volume: VolumeScores, mask: str) -> str:
    if mask == "baseline":
        return volume.baseline.method if volume.baseline else ""
    if mask == "second":
        return volume.ceiling.source if volume.ceiling else ""
    return volume.model.name if volume.model else ""

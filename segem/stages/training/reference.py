"""Fits what estimates without truth rest on, for the card of a model, on labelled sections it was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from segem.geometry import Range
from segem.io.volume import Volume
from segem.kernels.drift import Traits, choose_evenly, measure_pieces, range_traits
from segem.kernels.expected import ExpectedConfusion, log_odds
from segem.kernels.metrics.iou import Confusion
from segem.kernels.metrics.segmentation import SegmentationSums
from segem.kernels.threshold import threshold_probability
from segem.kernels.truth import is_known
from segem.progress import track
from segem.records.reference import Reference, ReferenceVolume, Spread
from segem.stages.training.labelled import list_labelled, read_one_by_one, read_section_images

MOST_IMAGES = 12
"""Training sections of a volume whose images are measured: they lie next to each other and are much alike."""


@dataclass(frozen=True)
class FitOn:
    """The sections of one volume that a reference is fitted on."""

    volume: Volume
    labelled: Range
    """Sections whose truth the weights were not fitted to."""
    learned: tuple[Range, ...] = ()
    """Sections that the weights were fitted to: their images show what tissue the model knows."""


@dataclass(frozen=True)
class _Compared:
    """Expected and measured counts of a piece."""

    expected: ExpectedConfusion
    measured: Confusion


def fit_reference(
    predict: Callable[[NDArray[np.float32]], NDArray[np.uint8]],
    threshold: float,
    volumes: Sequence[FitOn],
    context: int,
) -> Reference | None:
    """Compare expected with measured scores on labelled sections, and keep what their tissue is like.

    Parameters
    ----------
    predict : callable
        Takes (C, H, W) z-scores and returns the stored probability (H, W) of the section in the middle, calibrated.
    threshold : float
        Probability from which a voxel is membrane.
    volumes : sequence of FitOn
        What to fit on.
    context : int
        Adjacent sections that the net sees.

    Returns
    -------
    Reference or None
        None where no labelled piece holds membrane.

    Raises
    ------
    WorkspaceError
        When a section is missing or damaged on disk.
    """
    pieces, found = 0, []
    for one in volumes:
        fitted, compared = _fit_volume(predict, threshold, one, context)
        if fitted is not None:
            found.append(fitted)
            pieces += compared
    return Reference(pieces=pieces, volumes=tuple(found)) if found else None


def _fit_volume(
    predict: Callable[[NDArray[np.float32]], NDArray[np.uint8]], threshold: float, one: FitOn, context: int
) -> tuple[ReferenceVolume | None, int]:
    volume, traits, compared = one.volume, list(_measure_learned(one)), []
    labelled, cells, pixels = list_labelled(volume, one.labelled), [], []
    with track(f"reference {volume.name}", len(labelled), "section") as advance:
        for section in read_one_by_one(volume, labelled, context):
            stored, image = predict(section.image), section.image[context // 2]
            mask = threshold_probability(stored, threshold)
            for piece in measure_pieces(image, stored, threshold, is_known(section.truth)):
                at = (piece.rows, piece.columns)
                measured = Confusion.count(section.truth[at], mask[at])
                expected = ExpectedConfusion.count(stored[at], threshold, is_known(section.truth[at]))
                traits.append(piece.traits)
                if measured.tp + measured.fn:
                    compared.append(_Compared(expected, measured))
            cells.append(SegmentationSums.count(section.truth, stored))
            # Pixels that nobody labelled part cells: of a painted patch, no more can be merged than it holds.
            pixels += [np.count_nonzero(is_known(section.truth))] * cells[-1].sections
            advance(1)
    if not compared:
        return None, 0
    size = volume.voxel_size
    return (
        ReferenceVolume(
            volume=volume.name,
            source_digest=volume.attributes["source_digest"],
            sections=one.labelled,
            seen_sections=sum(stop - first for first, stop in one.learned),
            pixel_nm=(min(size.y, size.x), max(size.y, size.x)),
            section_nm=size.z,
            section_px=round(float(np.mean(pixels))) if pixels else volume.shape[1] * volume.shape[2],
            cell_sections=len(pixels) or None,
            traits=range_traits(traits),
            iou=_spread_iou(compared),
            v_rand=_spread_v_rand(cells),
        ),
        len(compared),
    )


def _measure_learned(one: FitOn) -> Iterator[Traits]:
    sections = [z for part in one.learned for z in range(*part)]
    for z in (sections[k] for k in choose_evenly(len(sections), MOST_IMAGES)):
        (image,) = read_section_images(one.volume, (z, z + 1), 1)
        yield from (piece.traits for piece in measure_pieces(image[0]))


def _spread_iou(compared: Iterable[_Compared]) -> Spread:
    """Return how far measured IoU lies from expected, of all pieces pooled and of each by itself."""
    pieces = list(compared)
    expected = reduce(ExpectedConfusion.__add__, (one.expected for one in pieces))
    measured = reduce(Confusion.__add__, (one.measured for one in pieces))
    middle = _difference(_Compared(expected, measured))
    return Spread(middle=middle, deviation=_root_mean_square(_difference(one) - middle for one in pieces))


def _difference(one: _Compared) -> float:
    return log_odds(one.measured.iou) - log_odds(one.expected.iou)


def _spread_v_rand(sections: Sequence[SegmentationSums]) -> Spread | None:
    """Return V_rand of all sections, and how far that of each by itself lies from it, at the one best threshold."""
    total = reduce(SegmentationSums.__add__, sections, SegmentationSums.nothing())
    best = total.best("rand")
    if best is None:
        return None
    middle = log_odds(best.value)
    single = (one.at("rand", best.threshold) for one in sections)
    return Spread(
        middle=middle, deviation=_root_mean_square(log_odds(score.value) - middle for score in single if score)
    )


def _root_mean_square(values: Iterable[float]) -> float:
    return sqrt(float(np.mean(np.square(list(values)))))

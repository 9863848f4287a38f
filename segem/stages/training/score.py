"""Scores a net on held-out sections of a labelled volume."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from segem.geometry import Range
from segem.io.volume import Volume
from segem.kernels.metrics.calibration import CalibrationBins
from segem.kernels.metrics.iou import Confusion
from segem.kernels.metrics.segmentation import SegmentationSums
from segem.kernels.threshold import quantize_probability, threshold_probability
from segem.progress import track
from segem.records.card import HeldOutScore
from segem.stages.training.labelled import list_labelled, read_one_by_one


def score_volume(
    predict: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    threshold: float,
    volume: Volume,
    sections: Range,
    context: int,
) -> HeldOutScore:
    """Return the scores of a net on sections of a labelled volume, as the report of a run would show them."""
    confusion, sums, bins = Confusion(), SegmentationSums.nothing(), CalibrationBins()
    labelled = list_labelled(volume, sections)
    with track(f"test {volume.name}", len(labelled), "section") as advance:
        for section in read_one_by_one(volume, labelled, context):
            # The 8 bits that a run stores and the neighbours it sees, so that the scores are those of a run.
            stored = quantize_probability(predict(section.image))
            confusion += Confusion.count(section.truth, threshold_probability(stored, threshold))
            bins += CalibrationBins.count(section.truth, stored / 255)
            sums += SegmentationSums.count(section.truth, stored)
            advance(1)
    rand, information = sums.best("rand"), sums.best("information")
    return HeldOutScore(
        volume=volume.name,
        sections=sections,
        iou=round(confusion.iou, 4),
        v_rand=round(rand.value, 4) if rand else None,
        v_info=round(information.value, 4) if information else None,
        ece=round(bins.error, 4),
    )

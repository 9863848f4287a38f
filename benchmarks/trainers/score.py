"""The one judge of all tools: probabilities of sections against their truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from judged import rand_and_info
from numpy.typing import NDArray

from segem.kernels.metrics.iou import Confusion
from segem.kernels.metrics.segmentation import SegmentationSums
from segem.kernels.threshold import quantize_probability, threshold_probability
from trainers.course import Course, Part, Predict

PARTS: tuple[Part, ...] = ("validation", "test")


def write(predict: Predict, course: Course) -> None:
    """Write the probabilities that the judge needs."""
    for name, volume in course.volumes.items():
        for part in PARTS:
            found = np.stack([predict(volume, z) for z in course.numbers(name, part)])
            np.save(_path(course, name, part), found.astype(np.float32))


def judge(course: Course) -> dict[str, dict[str, float]]:
    """Return the scores on the test sections of each volume, from what `write` has left.

    The threshold is that with the best IoU on the validation sections, averaged over volumes. V_rand and V_info are
    those of their best thresholds, as the ISBI challenge takes them.
    """
    curves = [_ious(truth, _stored(course, name, "validation")) for name, _, truth in course.stacks("validation")]
    threshold = (1 + int(np.argmax(np.mean(curves, axis=0)))) / 255
    scores = {}
    for name, _, truths in course.stacks("test"):
        confusion, cells = Confusion(), SegmentationSums.nothing()
        for truth, stored in zip(truths, _stored(course, name, "test"), strict=True):
            confusion += Confusion.count(truth, threshold_probability(stored, threshold))
            cells += SegmentationSums.count(truth, stored)
        v_rand, v_info = rand_and_info(cells)
        scores[name] = {"threshold": threshold, "iou": confusion.iou, "v_rand": v_rand, "v_info": v_info}
    return scores


def _ious(truth: NDArray[np.uint8], stored: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the IoU at each threshold from 1 / 255 to 1."""
    outside, inside = (np.bincount(stored[truth == k], minlength=256)[::-1].cumsum()[::-1] for k in (0, 1))
    ious: NDArray[np.float64] = inside[1:] / (inside[0] + outside[1:])
    return ious


def _stored(course: Course, volume: str, part: Part) -> NDArray[np.uint8]:
    probability = np.load(_path(course, volume, part))
    if not np.isfinite(probability).all():
        raise ValueError(f"{course.folder.name}: not every probability is a number")
    return quantize_probability(np.clip(probability, 0, 1))


def _path(course: Course, volume: str, part: Part) -> Path:
    return course.folder / f"{volume}-{part}.npy"

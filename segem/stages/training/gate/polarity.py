"""Detects labels that look inverted: membrane where a model, or K-means, finds none."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from segem.errors import InputError
from segem.io.volume import Volume
from segem.kernels.metrics.iou import Confusion
from segem.kernels.truth import is_known
from segem.stages.training.gate.predictions import Predict, predict_with_kmeans, read_truth

logger = logging.getLogger(__name__)

INVERTED = -0.2
"""Correlation of two masks below which one is taken for the inverse of the other; masks that agree have about 0.5."""


def check_polarity(predict: Predict, judged: Iterable[tuple[Volume, range]]) -> None:
    """Raise where labels look like the inverse of a model's mask, by the first labelled section of each volume.

    Raises
    ------
    InputError
        When there is such a volume: a model trained on inverted labels would score well on inverted test labels.
    """
    for volume, sections in judged:
        z, correlation = _correlate(predict, volume, sections)
        if correlation < INVERTED:
            raise InputError(
                "the labels look inverted",
                where=f"{volume.name}, section {z}",
                found=f"membrane where the incumbent, or K-means, finds none (correlation {correlation:.2f})",
                fix="check which value means membrane in the manifest (zero or nonzero); if it is right, give --force",
            )


def warn_of_polarity(volume: Volume, sections: range) -> None:
    """Warn where labels look like the inverse of what K-means finds."""
    z, correlation = _correlate(predict_with_kmeans, volume, sections)
    if correlation < INVERTED:
        logger.warning(
            "%s: the labels look inverted, membrane where K-means finds none (section %d, correlation %.2f); check "
            "which value means membrane in the manifest (zero or nonzero)",
            volume.name,
            z,
            correlation,
        )


def _correlate(predict: Predict, volume: Volume, sections: range) -> tuple[int, float]:
    # One section is enough: polarity is that of the whole file, and masks that agree have a correlation of about 0.5.
    z = next((z for z in sections if is_known(read_truth(volume, z)).any()), sections[0])
    (found,) = predict(volume, range(z, z + 1))
    return z, Confusion.count(read_truth(volume, z), found.mask).correlation

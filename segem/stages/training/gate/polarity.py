"""Tells labels that look inverted: membrane where a model, or K-means, finds none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from segem.errors import InputError
from segem.io.layers import read_section
from segem.io.volume import Volume
from segem.kernels.kmeans import membrane_of, two_means
from segem.kernels.metrics.iou import Confusion
from segem.kernels.normalize import histogram
from segem.kernels.truth import is_known

logger = logging.getLogger(__name__)

Mask = NDArray[np.uint8]
Masks = Callable[[Volume, range], Iterator[Mask]]
"""Finds the membrane of some sections of a volume, one after the other."""

INVERTED = -0.2
"""Correlation of two masks below which one is taken for the inverse of the other; masks that agree have about 0.5."""


def check_polarity(masks: Masks, chosen: Iterable[tuple[Volume, range]]) -> None:
    """Raise where labels are rather the inverse of what a model finds, by the first labelled section of each volume.

    Raises
    ------
    InputError
        When there is such a volume: what learns from inverted labels would pass on them, too.
    """
    for volume, sections in chosen:
        z, correlation = _likeness(masks, volume, sections)
        if correlation < INVERTED:
            raise InputError(
                "the labels look inverted",
                where=f"{volume.name}, section {z}",
                found=f"membrane where the model in use, or K-means, finds none (correlation {correlation:.2f})",
                fix="check which value means membrane in the manifest (zero or nonzero); if it is right, give --force",
            )


def warn_of_polarity(volume: Volume, sections: range) -> None:
    """Warn where labels are rather the inverse of what K-means finds."""
    z, correlation = _likeness(kmeans_masks, volume, sections)
    if correlation < INVERTED:
        logger.warning(
            "%s: the labels look inverted, membrane where K-means finds none (section %d, correlation %.2f); check "
            "which value means membrane in the manifest (zero or nonzero)",
            volume.name,
            z,
            correlation,
        )


def kmeans_masks(volume: Volume, sections: range) -> Iterator[Mask]:
    """Yield what K-means finds in some sections of a volume."""
    again = _ingest_again(volume)
    # The clusters are those of the whole volume, as in the baseline of a run.
    means = two_means(np.sum([histogram(read_section(volume.raw, z, again)) for z in range(volume.shape[0])], axis=0))
    for z in sections:
        yield membrane_of(read_section(volume.raw, z, again), means)


def truth_of(volume: Volume, z: int) -> Mask:
    """Return the truth of a section."""
    return read_section(volume.label("truth"), z, _ingest_again(volume))


def _likeness(masks: Masks, volume: Volume, sections: range) -> tuple[int, float]:
    z = next((z for z in sections if is_known(truth_of(volume, z)).any()), sections[0])
    (mask,) = masks(volume, range(z, z + 1))
    return z, Confusion.count(truth_of(volume, z), mask).correlation


def _ingest_again(volume: Volume) -> str:
    return f"run `segem ingest` for {volume.name} with --again"

"""Predicts the sections that a candidate is judged on, with a model or, where there is none, with K-means."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segem.config import Device
from segem.io.layers import read_section
from segem.io.reviewed_labels import ReviewedVolume
from segem.io.tissue import Tissue
from segem.io.volume import Volume
from segem.kernels.kmeans import fit_two_means, mark_membrane
from segem.kernels.normalize import histogram
from segem.kernels.threshold import quantize_probability, threshold_probability
from segem.kernels.truth import hide_borders
from segem.learn.artefact import Artefact, geometry_of
from segem.learn.checks import check_predicted
from segem.learn.predict import predict_section
from segem.learn.runtimes.choice import choose_device
from segem.learn.sized import nets_by_pixel_size
from segem.stages.training.labelled import read_section_images, read_section_tissue

Mask = NDArray[np.uint8]


class Prediction(NamedTuple):
    """What is found in one section, as a run would store it."""

    probability: NDArray[np.uint8]
    """(H, W), 255 = certain membrane."""
    mask: Mask
    """(H, W), 1 = membrane."""


Predict = Callable[[Volume, Sequence[int]], Iterator[Prediction]]
"""Finds the membrane of some sections of a volume, one after the other."""


def predict_with(model: Artefact | None, device: Device) -> Predict:
    """Return a function that predicts with a model, or with K-means where there is none."""
    return predict_with_kmeans if model is None else _predict_with_net(model, device)


def predict_with_kmeans(volume: Volume, sections: Sequence[int]) -> Iterator[Prediction]:
    """Yield what K-means finds in some sections of a volume."""
    # The clusters are those of the whole volume, as in the baseline of a run.
    means = fit_two_means(np.sum([_count(read_section_tissue(volume, z)) for z in range(volume.shape[0])], axis=0))
    for z in sections:
        tissue = read_section_tissue(volume, z)
        mask = _without_outside(mark_membrane(tissue.image, means), tissue)[0]
        # Two clusters have no probability: every threshold gives the same mask.
        yield Prediction(mask * np.uint8(255), mask)


def read_truth(volume: Volume, z: int) -> Mask:
    """Return the truth of a section."""
    if isinstance(volume, ReviewedVolume):
        return volume.truth(z)
    return read_section(volume.label("truth"), z, _ingest_again(volume))


def hide_unsure(truth: Mask, volume: Volume) -> Mask:
    """Return the truth of a section as far as pixels may be compared with it."""
    # The mask that people corrected was a model's own. They mend gaps and spurs, not where exactly a membrane ends, so
    # there the truth would still be what that model said. Cells are compared with the whole truth: parted from each
    # other by unknown pixels, none could run together.
    return hide_borders(truth) if isinstance(volume, ReviewedVolume) else truth


def _predict_with_net(model: Artefact, device: Device) -> Predict:
    where, context = choose_device(device), geometry_of(model.card).context_sections
    net_for = nets_by_pixel_size(model, where)

    def predict(volume: Volume, sections: Sequence[int]) -> Iterator[Prediction]:
        for z in sections:
            # With neighbours from the whole volume, as in a run.
            (image,) = read_section_images(volume, (z, z + 1), context, seen=(0, volume.shape[0]))
            probability = predict_section(net_for(volume.voxel_size), image, where)
            check_predicted(probability, f"{model.path}, section {z} of {volume.name}")
            # Rounded to the 8 bits that a run stores, so that this is the mask a run would write.
            stored = _without_outside(quantize_probability(probability)[None], read_section_tissue(volume, z))[0]
            yield Prediction(stored, threshold_probability(stored, model.card.threshold))

    return predict


def _count(tissue: Tissue) -> NDArray[np.int64]:
    counts = histogram(tissue.image)
    return counts if tissue.outside is None else counts - histogram(tissue.image[tissue.outside != 0])


def _without_outside(found: Mask, tissue: Tissue) -> Mask:
    return found if tissue.outside is None else np.where(tissue.outside != 0, np.uint8(0), found)


def _ingest_again(volume: Volume) -> str:
    return f"run `segem ingest` for {volume.name} with --again"

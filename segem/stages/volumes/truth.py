"""Labels that were given with a source become labels of the volume: membrane, and the numbers of cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from segem.config import LabelSource
from segem.geometry import Box, VoxelSize, grid
from segem.io.blocks import read_block
from segem.io.readers.voxel_size import warn_of_labels
from segem.io.tissue import read_tissue
from segem.io.volume import Volume
from segem.stages.volumes.alignment import doubt_alignment
from segem.stages.volumes.labels import TruthTally
from segem.stages.volumes.placement import PlacedLabels
from segem.stages.volumes.slabs import write_slab

TRUTH, TRUTH_IDS, SECOND = "truth", "truth-ids", "truth-second"
"""Labels of a volume: membrane, the numbers of its cells where they were given, and membrane by a second person."""


@dataclass(frozen=True)
class GivenTruth:
    """What somebody labelled, and where it lies in the volume."""

    source: LabelSource
    placed: PlacedLabels

    def list_layers(self, label: str) -> dict[str, DTypeLike]:
        """Return the labels it is written to, with their types; numbers of cells are kept for the truth alone."""
        if label != TRUTH or self.source.membrane != "borders":
            return {label: np.uint8}
        # As wide as they came, but no mask: coarse levels of numbers take the nearest, not the largest.
        return {label: np.uint8, TRUTH_IDS: np.dtype(f"u{max(2, self.placed.stack.dtype.itemsize)}")}

    def write(self, volume: Volume, label: str, voxel: VoxelSize, advance: Callable[[int], None]) -> TruthTally:
        """Write it to a label of a volume whose image is written, and return what was counted."""
        painted = TruthTally(self.placed.stack, self.source, voxel)
        numbers = volume.label(TRUTH_IDS) if TRUTH_IDS in self.list_layers(label) else None
        # By whole sections, since borders between cells are made of what lies around a voxel.
        for _, box in grid(volume.shape, (volume.write_block[0], *volume.shape[1:])):
            ids = None if numbers is None else np.zeros(box.shape, numbers.dtype)
            known = self.placed.read_truth(box, painted.add, _outside_of(volume, box), ids)
            write_slab(volume.label(label), box, known)
            if numbers is not None and ids is not None:
                write_slab(numbers, box, ids)
            advance(len(known))
        painted.check()
        return painted

    def warnings(self, volume: Volume, label: str, voxel: VoxelSize, painted: TruthTally) -> Iterator[str]:
        """Yield what is doubtful about it, once it is written."""
        truth = volume.label(label)
        for warning in (
            *warn_of_labels(voxel, self.placed.stack.found.voxel, where=self.placed.stack.source),
            *painted.warnings(),
            *self.placed.warnings(),
            *doubt_alignment(
                lambda box: read_tissue(volume, box).image,
                lambda box: read_block(truth, box, "run the command again"),
                volume.shape,
                self.placed.in_volume(painted.of_both_classes),
            ),
        ):
            yield warning if label == TRUTH else f"second labels: {warning}"


def _outside_of(volume: Volume, box: Box) -> NDArray[np.bool_] | None:
    """Return where a box holds no tissue, or None where it is all tissue."""
    if volume.outside is None:
        return None
    outside: NDArray[np.bool_] = read_block(volume.outside, box, "run the command again") != 0
    return outside if outside.any() else None

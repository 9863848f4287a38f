"""The labelled volumes of a manifest: what each section is for, and their sections as input for training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.config import Manifest, Split, VolumeEntry
from segem.errors import ConfigError, InputError
from segem.geometry import Box, Range, around
from segem.io.blocks import read_block
from segem.io.reviewed_labels import ReviewedVolume
from segem.io.shards import Array, shape_of
from segem.io.tissue import Tissue, read_tissue
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.normalize import zscore
from segem.learn.checks import refuse_unlabelled
from segem.learn.sections import LabelledSection
from segem.stages.volumes.ingest import ingest

NO_SECTIONS: Range = (0, 0)
AROUND_PX = 256
"""Tissue that is shown around the regions of a review: as much as any net of the zoo needs around a pixel."""


@dataclass(frozen=True)
class LabelledVolume:
    """A volume with truth, and what each of its sections is for."""

    volume: Volume
    train: Range
    """Sections that weights are fitted to."""
    validation: Range
    """Sections that fit the calibration and choose the threshold; none where other volumes do both."""
    test: Range | None = None
    """Sections that are only scored, if there are any."""
    weight: float = 1.0
    """How often the volume is drawn in training, relative to the others."""
    rehearsed: bool = False
    """Whether the base model was trained on the volume and must not forget it."""

    @classmethod
    def of_split(cls, volume: Volume, split: Split) -> LabelledVolume:
        """Return a volume whose sections a manifest divides."""
        train, validation = ((part.start, part.stop) for part in (split.train, split.validation))
        test = None if split.test is None else (split.test.start, split.test.stop)
        return cls(volume, train, validation, test, split.weight, split.rehearsed)

    @property
    def name(self) -> str:
        """Name of the volume."""
        return self.volume.name


def open_labelled_volumes(
    manifest: Manifest, workspace: Workspace, replace: bool = False
) -> tuple[LabelledVolume, ...]:
    """Ingest the labelled volumes of a manifest, and decide what each section is for.

    Volumes of these names with another source, voxel size or labels are discarded if `replace` says so, else refused.
    This reads every source file, so callers hand on what is opened here and do not open it again.

    Raises
    ------
    ConfigError
        When no volume has labels, or a split does not fit its volume.
    InputError
        When sources or labels are bad, when nothing is known of the sections of a part, or when those for testing hold
        no membrane.
    """
    labelled = [entry for entry in manifest.volumes if entry.labels is not None]
    if not labelled:
        raise ConfigError(
            "no volume of this manifest has labels", where=manifest.name, fix="give at least one volume labels"
        )
    for entry in labelled:
        ingest(entry.ingest_config(), workspace, replace=replace)
    opened = []
    for entry in labelled:
        volume = Volume.open(workspace.volume(entry.name))
        opened.append(LabelledVolume.of_split(volume, resolve_split(entry, volume)))
    for one in opened:
        unlabelled = find_unlabelled_sections(one.volume)
        bare = unlabelled | _labels_fact(one.volume, "sections_without_membrane")
        for part, sections in (("train", one.train), ("validation", one.validation), ("test", one.test)):
            if sections is not None and unlabelled.issuperset(range(*sections)):
                refuse_unlabelled(part, one.name)
        # Of the other parts training says so; here an empty mask would be a perfect score.
        if one.test is not None and bare.issuperset(range(*one.test)):
            raise InputError(
                "the test labels hold no membrane, so there is nothing to score",
                where=one.name,
                fix="name other sections in the split, or check the labels and their polarity",
            )
    return tuple(opened)


def find_unlabelled_sections(volume: Volume) -> frozenset[int]:
    """Return the sections of a labelled volume without any labelled pixel."""
    return _labels_fact(volume, "unknown_sections")


def _labels_fact(volume: Volume, name: str) -> frozenset[int]:
    """Return the sections that are noted under a name, none where nothing is."""
    return frozenset((volume.attributes.get("labels") or {}).get(name, ()))


def resolve_split(entry: VolumeEntry, volume: Volume) -> Split:
    """Return the split of a labelled volume; without one in the manifest, the last fifth is for validation.

    Raises
    ------
    ConfigError
        When the volume has no truth, or lacks sections that the split names.
    """
    sections = volume.shape[0]
    if not volume.has_label("truth"):
        raise ConfigError("the volume has no truth", where=entry.name, fix="ingest it with labels")
    if entry.split is None:
        # Contiguous, at the end: a section looks so much like the next one that scattered ones would not be
        # independent.
        cut = sections - max(1, sections // 5)
        if cut < 1:
            raise ConfigError(
                "too few sections to train and validate",
                where=entry.name,
                expected="2 or more",
                found=sections,
                fix="give more sections, or leave this volume out",
            )
        return Split.model_validate({"train": [0, cut], "validation": [cut, sections]})
    for part in (entry.split.train, entry.split.validation, entry.split.test):
        if part is not None and part.stop > sections:
            raise ConfigError(
                "the split names sections that do not exist",
                where=entry.name,
                expected=f"0 to {sections}",
                found=f"{part.start} to {part.stop}",
                fix="correct the split in the manifest",
            )
    return entry.split


def read_labelled_sections(
    volume: Volume,
    sections: Range,
    context: int,
    weight: float = 1.0,
    seen: Range | None = None,
    *,
    rehearsed: bool = False,
) -> list[LabelledSection]:
    """Read sections with their truth and their neighbours, as `read_section_images` does.

    Of a volume that people have reviewed, what lies around their regions is read, and no section without any.
    """
    if isinstance(volume, ReviewedVolume):
        return _read_reviewed(volume, sections, context, weight, seen or sections)
    truth, images = volume.label("truth"), read_section_images(volume, sections, context, seen)
    pixel_nm = (volume.voxel_size.y, volume.voxel_size.x)
    return [
        LabelledSection(volume.name, image, _read_section(truth, z, volume.name), weight, rehearsed, pixel_nm)
        for z, image in zip(range(*sections), images, strict=True)
    ]


def list_labelled(volume: Volume, sections: Range) -> Sequence[int]:
    """Return which of some sections are looked at: of a volume that people have reviewed, the ones with regions."""
    return volume.reviewed_sections(sections) if isinstance(volume, ReviewedVolume) else range(*sections)


def read_one_by_one(volume: Volume, sections: Iterable[int], context: int) -> Iterator[LabelledSection]:
    """Yield sections with their truth and the neighbours that a run shows; one is in memory at a time."""
    for z in sections:
        yield from read_labelled_sections(volume, (z, z + 1), context, seen=(0, volume.shape[0]))


def _read_reviewed(
    volume: ReviewedVolume, sections: Range, context: int, weight: float, seen: Range
) -> list[LabelledSection]:
    found = []
    for z in volume.reviewed_sections(sections):
        rows, columns = volume.find_window(z, AROUND_PX)
        (image,) = read_section_images(volume, (z, z + 1), context, seen)
        # Copies: a view would keep the whole section in memory.
        image, truth = image[:, rows, columns].copy(), volume.truth(z)[rows, columns].copy()
        pixel_nm = (volume.voxel_size.y, volume.voxel_size.x)
        found.append(LabelledSection(volume.name, image, truth, weight, pixel_nm=pixel_nm))
    return found


def read_section_images(
    volume: Volume, sections: Range, context: int, seen: Range | None = None
) -> list[NDArray[np.float32]]:
    """Read sections with their neighbours; beyond the range that may be `seen`, the last section repeats.

    That range is `sections` by default, so a net is never trained on an image of another part of the split. Adjacent
    images share memory, so many context sections take hardly more of it than one.
    """
    first, stop = seen or sections
    near = around(context)
    wanted = [min(max(z, first), stop - 1) for z in range(sections[0] + near[0], sections[1] + near[-1])]
    _, height, width = shape_of(volume.raw)
    # One array; each image is a view of `context` adjacent sections.
    images = np.empty((len(wanted), height, width), np.float32)
    for k, z in enumerate(wanted):
        repeated = k > 0 and wanted[k - 1] == z
        images[k] = images[k - 1] if repeated else zscore(read_section_tissue(volume, z).image[0], volume.statistics)
    return [images[k : k + context] for k in range(sections[1] - sections[0])]


def read_section_tissue(volume: Volume, z: int) -> Tissue:
    """Return a section of a volume, as (1, y, x) arrays."""
    _, height, width = volume.shape
    return read_tissue(volume, Box((z, 0, 0), (z + 1, height, width)))


def _read_section(array: Array, z: int, volume: str) -> NDArray[Any]:
    _, height, width = shape_of(array)
    box = Box((z, 0, 0), (z + 1, height, width))
    return read_block(array, box, f"run `segem ingest` for {volume} with --again").reshape(height, width)

"""The labelled volumes of a manifest: what each section is for, and their voxels as nets are trained on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.config import Manifest, Split, VolumeEntry
from segem.errors import ConfigError
from segem.geometry import Box, Range, around
from segem.io.blocks import read_block
from segem.io.shards import Array, shape_of
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.normalize import zscore
from segem.learn.checks import refuse_unlabelled
from segem.learn.sections import LabelledSection
from segem.stages.volumes.ingest import ingest


@dataclass(frozen=True)
class LabelledVolume:
    """A volume with truth, and which of its sections are for what."""

    volume: Volume
    split: Split

    @property
    def name(self) -> str:
        """Name of the volume."""
        return self.volume.name

    @property
    def train(self) -> Range:
        """The sections that weights are fitted to."""
        return self.split.train.start, self.split.train.stop

    @property
    def validation(self) -> Range:
        """The sections that calibrate, and choose the threshold."""
        return self.split.validation.start, self.split.validation.stop

    @property
    def test(self) -> Range | None:
        """The sections that score, if there are any."""
        return None if self.split.test is None else (self.split.test.start, self.split.test.stop)


def open_labelled_volumes(
    manifest: Manifest, workspace: Workspace, replace: bool = False
) -> tuple[LabelledVolume, ...]:
    """Ingest the labelled volumes of a manifest, and settle which of their sections are for what.

    Volumes of their names with another source, voxel size or labels are lost if `replace` says so, or else refused.
    This looks at every source file, so what is opened here is handed on and not opened again.

    Raises
    ------
    ConfigError
        When no volume has labels, or a split does not fit its volume.
    InputError
        When sources or labels are bad, or nothing is known of the sections of a part.
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
        opened.append(LabelledVolume(volume, resolve_split(entry, volume)))
    for one in opened:
        unlabelled = find_unlabelled_sections(one.volume)
        for part, sections in (("train", one.train), ("validation", one.validation), ("test", one.test)):
            if sections is not None and unlabelled.issuperset(range(*sections)):
                refuse_unlabelled(part, one.name)
    return tuple(opened)


def find_unlabelled_sections(volume: Volume) -> frozenset[int]:
    """Return the sections of a labelled volume of which nothing is known."""
    return frozenset((volume.attributes.get("labels") or {}).get("unknown_sections", ()))


def resolve_split(entry: VolumeEntry, volume: Volume) -> Split:
    """Return which sections of a labelled volume train, validate and test; without a split the last fifth validates.

    Raises
    ------
    ConfigError
        When the volume has no truth, or not the sections.
    """
    sections = volume.shape[0]
    if not volume.has_label("truth"):
        raise ConfigError("the volume has no truth", where=entry.name, fix="ingest it with labels")
    if entry.split is None:
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
    """Read sections with their truth and their neighbours, as `read_section_images` does."""
    truth, images = volume.label("truth"), read_section_images(volume, sections, context, seen)
    return [
        LabelledSection(volume.name, image, _read_section(truth, z, volume.name), weight, rehearsed)
        for z, image in zip(range(*sections), images, strict=True)
    ]


def read_section_images(
    volume: Volume, sections: Range, context: int, seen: Range | None = None
) -> list[NDArray[np.float32]]:
    """Read sections with their neighbours; beyond what may be `seen`, by default the sections, the last one repeats.

    So a net is never trained on an image of another part of the split. Images next to each other share their sections,
    so that a net which sees many takes no more memory than one which sees one.
    """
    first, stop = seen or sections
    near = around(context)
    wanted = [min(max(z, first), stop - 1) for z in range(sections[0] + near[0], sections[1] + near[-1])]
    _, height, width = shape_of(volume.raw)
    images = np.empty((len(wanted), height, width), np.float32)
    for k, z in enumerate(wanted):
        repeated = k > 0 and wanted[k - 1] == z
        images[k] = images[k - 1] if repeated else zscore(_read_section(volume.raw, z, volume.name), volume.statistics)
    return [images[k : k + context] for k in range(sections[1] - sections[0])]


def _read_section(array: Array, z: int, volume: str) -> NDArray[Any]:
    _, height, width = shape_of(array)
    box = Box((z, 0, 0), (z + 1, height, width))
    return read_block(array, box, f"run `segem ingest` for {volume} with --again").reshape(height, width)

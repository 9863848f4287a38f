"""Which sections of labelled volumes a model learns from, chooses its threshold on and is scored on; their voxels."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segem.config import Manifest, Split, VolumeEntry
from segem.errors import ConfigError
from segem.geometry import Box, Range, around
from segem.io.blocks import read_block
from segem.io.seen import digests_of, seen_again
from segem.io.shards import Array, shape_of
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.normalize import zscore
from segem.learn.artefact import Artefact
from segem.learn.checks import nothing_known
from segem.learn.sections import LabelledSection
from segem.records.card import ModelCard, TrainedOn
from segem.stages.segmentation.budget import half_of_the_machine
from segem.stages.volumes.ingest import ingest

logger = logging.getLogger(__name__)

_BYTES_A_PIXEL = 4 + 4 + 1
"""While a net learns from it: its grey value, its weight and its truth."""
LEARNED, CHOSE = "learned from", "chose its threshold on"
"""What a model may have done with a section."""


def lessons(
    manifest: Manifest, workspace: Workspace, replace: bool = False
) -> tuple[dict[str, Volume], dict[str, Split]]:
    """Ingest the labelled volumes of a manifest; return them, and which of their sections are for what.

    Volumes of their names with another source, voxel size or labels are lost if `replace` says so, or else refused.

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
    volumes = {entry.name: Volume.open(workspace.volume(entry.name)) for entry in labelled}
    splits = {entry.name: split_of(entry, volumes[entry.name]) for entry in labelled}
    for volume, split in splits.items():
        unknown = unknown_sections(volumes[volume])
        for part in ("train", "validation", "test"):
            sections = getattr(split, part)
            if sections is not None and unknown.issuperset(range(sections.start, sections.stop)):
                raise nothing_known(part, volume)
    return volumes, splits


def require_memory_of_sections(volumes: Mapping[str, Volume], splits: Mapping[str, Split]) -> None:
    """Raise where the sections that teach surely do not fit the machine.

    Raises
    ------
    ConfigError
        Naming what would be needed.
    """
    pixels = sum((s.train.stop - s.train.start) * math.prod(volumes[name].shape[1:]) for name, s in splits.items())
    needed, there = _BYTES_A_PIXEL * pixels, 2 * half_of_the_machine()
    if needed > there:
        raise ConfigError(
            "the sections to learn from do not fit into memory",
            where=", ".join(splits),
            expected=f"at most {there / 1e9:.1f} GB",
            found=f"{needed / 1e9:.1f} GB or more",
            fix="name fewer sections as train in the manifest, or leave a volume out",
        )


def unknown_sections(volume: Volume) -> frozenset[int]:
    """Return the sections of a labelled volume of which nothing is known."""
    return frozenset((volume.attributes.get("labels") or {}).get("unknown_sections", ()))


def trained_on(
    volumes: Mapping[str, Volume], splits: Mapping[str, Split], taught: Mapping[str, Range] | None = None
) -> tuple[TrainedOn, ...]:
    """Return what the card of a model says of the sections that make it; `taught` are those to learn from if fewer."""
    total = sum(split.weight for split in splits.values())
    return tuple(
        used_sections(
            volumes[name],
            name,
            (split.train.start, split.train.stop) if taught is None else taught.get(name, (0, 0)),
            (split.validation.start, split.validation.stop),
            round(split.weight / total, 4),
        )
        for name, split in splits.items()
    )


def used_sections(volume: Volume, name: str, train: Range, validation: Range, share: float) -> TrainedOn:
    """Return what a card says of the sections of one volume, which has this name in the manifest."""
    return TrainedOn(
        volume=name,
        source_digest=volume.attributes["source_digest"],
        train=train,
        validation=validation,
        train_digests=digests_of(volume.attributes, train),
        validation_digests=digests_of(volume.attributes, validation),
        share=share,
    )


def known_of(trained_on: Iterable[TrainedOn], volume: Volume, sections: Range) -> Iterator[tuple[str, Range]]:
    """Yield which of some sections of a volume a model knows, by its card, and what it did with them."""
    parts: tuple[tuple[Literal["train", "validation"], str], ...] = (("train", LEARNED), ("validation", CHOSE))
    for used in trained_on:
        for part, use in parts:
            for start, stop in seen_again(used.model_dump(), part, volume.attributes):
                first, end = max(start, sections[0]), min(stop, sections[1])
                if first < end:
                    yield use, (first, end)


def has_learned(card: ModelCard, volume: Volume, sections: Range) -> bool:
    """Return whether a model has learned from any of some sections of a volume, by its card."""
    return any(use == LEARNED for use, _ in known_of(card.trained_on, volume, sections))


def warn_of_unknown_origin(model: Artefact) -> None:
    """Warn where the card of a model does not say what it learned from, as that of imported weights."""
    if not model.card.trained_on:
        logger.warning(
            "%s: its card does not say what it learned from, so nobody knows whether it has seen the sections that "
            "are tested",
            model.path,
        )


def check_unseen(
    trained_on: Iterable[TrainedOn],
    whose: object,
    volume: Volume,
    sections: Range,
    done: str,
    uses: Iterable[str] = (LEARNED, CHOSE),
) -> None:
    """Raise where a model knows sections of a volume that it is to be ``judged``, ``scored`` or ``calibrated`` on.

    Raises
    ------
    ConfigError
        When it has used some of them in one of these ways.
    """
    for use, (first, end) in known_of(trained_on, volume, sections):
        if use in uses:
            raise ConfigError(
                f"a model cannot be {done} on sections it {use}",
                where=volume.name,
                expected=f"sections {sections[0]} to {sections[1] - 1} unseen by {whose}",
                found=f"{first} to {end - 1}",
                fix=f"name other sections as {'validation' if done == 'calibrated' else 'test'} in the manifest, or "
                "leave this volume out",
            )


def check_apart(
    volumes: Mapping[str, Volume], splits: Mapping[str, Split], taught: Mapping[str, Range], before: Artefact | None
) -> None:
    """Raise where a new model would be calibrated or scored on what it learned from, under whatever name.

    Parameters
    ----------
    volumes, splits : mappings of str to Volume and Split
        By name.
    taught : mapping of str to (int, int)
        The sections of each volume that are learned from.
    before : Artefact or None
        The model that is gone on from.

    Raises
    ------
    ConfigError
        When it would.
    """
    mine = trained_on(volumes, splits, taught)
    if before is not None:
        warn_of_unknown_origin(before)
    for name, split in splits.items():
        volume, fits = volumes[name], (split.validation.start, split.validation.stop)
        tests = (split.test.start, split.test.stop) if split.test is not None else (0, 0)
        check_unseen(mine, "the new model", volume, fits, "calibrated", (LEARNED,))
        check_unseen(mine, "the new model", volume, tests, "scored")
        if before is not None:
            # The threshold of that model is not gone on with, so what chose it may be tested.
            for sections, done in ((fits, "calibrated"), (tests, "scored")):
                check_unseen(before.card.trained_on, before.path, volume, sections, done, (LEARNED,))


def split_of(entry: VolumeEntry, volume: Volume) -> Split:
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


def labelled_sections(
    volume: Volume,
    sections: Range,
    context: int,
    weight: float = 1.0,
    seen: Range | None = None,
    *,
    rehearsed: bool = False,
) -> list[LabelledSection]:
    """Read sections with their truth and their neighbours, as `section_images` does."""
    truth, images = volume.label("truth"), section_images(volume, sections, context, seen)
    return [
        LabelledSection(volume.name, image, _section(truth, z, volume.name), weight, rehearsed)
        for z, image in zip(range(*sections), images, strict=True)
    ]


def section_images(
    volume: Volume, sections: Range, context: int, seen: Range | None = None
) -> list[NDArray[np.float32]]:
    """Read sections with their neighbours; beyond what may be `seen`, by default the sections, the last one repeats.

    So no image of one part of a split is ever learned from in another. Images next to each other share their sections,
    so that a net which sees many takes no more memory than one which sees one.
    """
    first, stop = seen or sections
    near = around(context)
    wanted = [min(max(z, first), stop - 1) for z in range(sections[0] + near[0], sections[1] + near[-1])]
    _, height, width = shape_of(volume.raw)
    images = np.empty((len(wanted), height, width), np.float32)
    for k, z in enumerate(wanted):
        repeated = k > 0 and wanted[k - 1] == z
        images[k] = images[k - 1] if repeated else zscore(_section(volume.raw, z, volume.name), volume.statistics)
    return [images[k : k + context] for k in range(sections[1] - sections[0])]


def _section(array: Array, z: int, volume: str) -> NDArray[Any]:
    _, height, width = shape_of(array)
    box = Box((z, 0, 0), (z + 1, height, width))
    return read_block(array, box, f"run `segem ingest` for {volume} with --again").reshape(height, width)

"""Ingest: one source of sections becomes one OME-Zarr volume of the workspace."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import segem
from segem.config import IngestConfig, LabelSource
from segem.errors import InputError, SegemError
from segem.geometry import ZYX, Box, grid
from segem.io.files import locked, new_directory, sweep_partials
from segem.io.layers import read_section
from segem.io.readers import Stack, list_source_files, open_stack, version_of
from segem.io.readers.stack import check_reachable
from segem.io.replacing import refuse_others
from segem.io.shards import missing_shards
from segem.io.volume import OUTSIDE, Volume, create_volume, write_block
from segem.io.workspace import Workspace
from segem.kernels.scaling import STORED_TYPES, Scaling, ValueSurvey
from segem.progress import track
from segem.stages.volumes.image import ImageTally
from segem.stages.volumes.labels import TruthTally
from segem.stages.volumes.outside import write_outside

logger = logging.getLogger(__name__)

TRUTH = "truth"
SLAB_BYTES = 2**27
"""Most bytes of a source that are read at once, unless a single chunk of it or row of shards is larger."""


@dataclass(frozen=True)
class IngestResult:
    """An ingested volume.

    Parameters
    ----------
    path : Path
        The volume.
    name : str
        Its name.
    shape : tuple of int
        Its extent along (z, y, x).
    skipped : bool
        True when the volume already existed, made from the same source with the same settings.
    warnings : tuple of str
        What the user should know about the data.
    """

    path: Path
    name: str
    shape: ZYX
    skipped: bool
    warnings: tuple[str, ...]


def ingest(config: IngestConfig, workspace: Workspace, *, again: bool = False, replace: bool = False) -> IngestResult:
    """Turn a source of sections into a volume of the workspace.

    The volume appears in one step when it is complete, and replaces an earlier one of the same name. It is kept when
    its configuration and the readers are the same, none of its files is missing and no source file has changed its
    name, size or modification time.

    Parameters
    ----------
    config : IngestConfig
        Name, source, voxel size and labels.
    workspace : Workspace
        Where the volume goes.
    again : bool
        Replace a volume even if it seems up to date, for example because it was damaged on disk.
    replace : bool
        Overwrite a volume that has another source, voxel size or labels.

    Returns
    -------
    IngestResult

    Raises
    ------
    ConfigError
        When the existing volume has another source, voxel size or labels, and `replace` is false.
    InputError
        When the source or its labels are missing, damaged, inconsistent or of a type that is not supported.
    WorkspaceError
        When the workspace cannot be written, or another process is ingesting the same name.

    Notes
    -----
    Voxels are read and written a slab of sections at a time, as deep as a shard, so memory does not grow with their
    number. One name is ingested by one process at a time; a second one is refused, not queued. A volume that is up to
    date is only read, so any number of processes may ingest it at once.
    """
    workspace.prepare()
    path = workspace.volume(config.name)
    fingerprint = fingerprint_source(config)
    # Without the lock: looking changes nothing, so many processes may use an up-to-date volume at once.
    present = None if again else _find_current(path, config, fingerprint)
    if present is not None:
        logger.info("%s: up to date, nothing to ingest", config.name)
        return IngestResult(
            path, config.name, present.shape, skipped=True, warnings=tuple(present.attributes["warnings"])
        )
    with locked(path.with_name(f".{path.name}.lock")):
        # Under the lock no other ingest of this name is alive, so what is unfinished was left by a killed one.
        for partial in sweep_partials(path.parent, path.name):
            logger.warning("%s: removed %s, left by an ingest that was killed", config.name, partial.name)
        if not replace:
            _require_same(path, config)
        with ExitStack() as stack:
            whole = stack.enter_context(open_stack(config.source, config))
            box = config.box_within(whole.shape)
            raw = whole.within(box)
            truth = None
            if config.labels is not None:
                truth = stack.enter_context(_open_labels(config.labels, whole)).within(box)
            _check_type(raw)
            with new_directory(path) as partial:
                warnings = _write(partial, config, raw, truth, fingerprint)
                # Before the volume gets its name: sections of two versions of a source must not stand side by side.
                if fingerprint_source(config) != fingerprint:
                    raise InputError(
                        "the source changed while it was read", where=config.source, fix="run the command again"
                    )
    logger.info("%s: ingested, %d sections of %d x %d px", config.name, *raw.shape)
    for warning in warnings:
        logger.warning("%s: %s", config.name, warning)
    return IngestResult(path, config.name, raw.shape, skipped=False, warnings=warnings)


def fingerprint_source(config: IngestConfig) -> str:
    """Return a digest of the names, sizes and modification times of all source files, without reading voxels.

    A change that alters none of the three is not noticed: give the source a new modification time (``touch``), or
    ingest with `again`.
    """
    digest = hashlib.sha256()
    for source in _sources_of(config):
        for file in list_source_files(source):
            status = check_reachable(file)
            digest.update(json.dumps([str(file), status.st_size, status.st_mtime_ns]).encode())
        digest.update(b"\n")
    return digest.hexdigest()


def describe_settings(config: IngestConfig) -> dict[str, Any]:
    """Return the settings that define a volume, named as on the command line, with resolved paths."""
    labels = config.labels
    return {
        "source": str(config.source.resolve()),
        "dataset": config.dataset,
        "axes": config.axes,
        "channel": config.channel,
        "box": config.box,
        "window": None if config.window is None else ",".join(f"{end:g}" for end in config.window),
        "voxel_nm": ",".join(f"{size:g}" for size in config.voxel_nm),
        "labels": None if labels is None else str(labels.source.resolve()),
        "membrane": None if labels is None else str(labels.membrane),
        "labels_dataset": None if labels is None else labels.dataset,
        "ignore": None if labels is None else labels.ignore,
    }


def _require_same(path: Path, config: IngestConfig) -> None:
    """Raise if another volume would be overwritten; labels may be added to one that has none."""
    held: dict[str, Any] = {}
    # A volume too damaged to be read may be replaced.
    with suppress(SegemError):
        held = Volume(path).attributes.get("settings", {})
    if held:
        # Volumes ingested by earlier versions of segem have no such setting.
        held = {"ignore": None} | held
    asked = describe_settings(config)
    new = [key for key in ("labels", "membrane", "labels_dataset", "ignore") if held.get("labels") is None]
    refuse_others(
        held,
        {key: value for key, value in asked.items() if key in held and key not in new},
        what="there is another volume of this name",
        where=config.name,
        fix="give another name, or --replace to `segem ingest`, `run`, `train` or `retrain` to lose what is there",
    )


def _find_current(path: Path, config: IngestConfig, fingerprint: str) -> Volume | None:
    """Return the existing volume, if it is the one that this ingest would make."""
    if not path.exists():
        return None
    try:
        volume = Volume.open(path)
        noted = volume.attributes
        layers = [volume.raw, *(volume.label(name) for name in volume.labels())]
        lost = [file for layer in layers for file in missing_shards(layer)]
    except SegemError as error:
        logger.warning("%s: ingested again, it is damaged: %s", config.name, error)
        return None
    made_by = {
        "config_hash": config.config_hash(),
        "source_fingerprint": fingerprint,
        "readers": _readers_of(config),
    }
    same = all(noted.get(key) == value for key, value in made_by.items())
    # Labelled volumes ingested by earlier versions of segem have no digests of their sections.
    same = same and (config.labels is None or "section_digests" in noted)
    if lost:
        logger.warning("%s: ingested again, %d files are lost, the first is %s", config.name, len(lost), lost[0])
    return volume if same and not lost else None


def _readers_of(config: IngestConfig) -> list[str]:
    """Return what reads the sources, with versions, so that a volume read by an older reader is made again."""
    return [version_of(source) for source in _sources_of(config)]


def _sources_of(config: IngestConfig) -> list[Path]:
    return [config.source] if config.labels is None else [config.source, config.labels.source]


def _open_labels(labels: LabelSource, raw: Stack) -> Stack:
    stack = open_stack(labels.source, labels)
    if stack.shape == raw.shape:
        return stack
    stack.close()
    raise InputError(
        "the labels do not fit the image",
        where=labels.source,
        expected=f"(z, y, x) {raw.shape} as in {raw.source}",
        found=stack.shape,
        fix="give one label section for every image section, of the same size",
    )


def _check_type(raw: Stack) -> None:
    if raw.dtype.kind not in "biuf":
        raise InputError(
            "intensities of an unsupported type",
            where=raw.source,
            expected="whole or floating-point numbers",
            found=raw.dtype,
            fix="convert it to 8 or 16 bit grey (Fiji: Image > Type > 16-bit)",
        )


def _write(partial: Path, config: IngestConfig, raw: Stack, truth: Stack | None, fingerprint: str) -> tuple[str, ...]:
    scaling, not_numbers = _choose_scaling(raw, config)
    volume = create_volume(
        partial,
        shape=raw.shape,
        dtype=scaling.dtype,
        voxel_size=config.voxel_size,
        labels={} if truth is None else {TRUTH: np.uint8},
        attributes={},
    )
    image, painted = ImageTally(raw.shape, scaling.dtype, each=truth is not None), None
    stacks = 1 if truth is None else 2
    with track(f"ingest {config.name}", stacks * raw.shape[0], "section") as advance:
        for box, slab in _slabs(raw, volume.write_block):
            stored = scaling.store(slab)
            image.add(box, stored)
            _write_slab(volume.raw, box, stored)
            advance(_sections(box, raw.shape))
        image.finish(volume)
        outside = write_outside(volume, image.areas, {*image.whole, *_masked(config, raw)}, scaling.nothing)
        if truth is not None and config.labels is not None:
            painted = TruthTally(truth, config.labels)
            # By whole sections, since borders between cells are made of what lies around a voxel.
            for box, slab in _slabs(truth, (volume.write_block[0], *raw.shape[1:])):
                known = np.empty(box.shape, np.uint8)
                for z, section in enumerate(slab, box.start[0]):
                    known[z - box.start[0]] = painted.add(z, section, _outside_of_section(volume, z))
                _write_slab(volume.label(TRUTH), box, known)
                advance(_sections(box, raw.shape))
            painted.check()
    for label in (None, *volume.labels()):
        volume.build_pyramid(label)
    warnings = (
        *raw.warnings,
        *image.warnings(raw),
        *outside.warnings(not_numbers),
        *_scaling_warnings(scaling, config),
        *(() if painted is None else painted.warnings()),
    )
    # Last, when all that is noted is known; the volume still has its hidden name.
    volume.set_attributes(
        # Absolute, since an export from another folder must know that it is about to replace the source.
        source=str(config.source.absolute()),
        settings=describe_settings(config),
        source_digest=image.source_digest,
        **({"section_digests": image.section_digests} if truth is not None else {}),
        source_fingerprint=fingerprint,
        config_hash=config.config_hash(),
        readers=_readers_of(config),
        segem_version=segem.__version__,
        sections=raw.shape[0],
        dtype=str(scaling.dtype),
        **({} if raw.dtype == scaling.dtype else {"intensities": scaling.to_dict(raw.dtype)}),
        **({OUTSIDE: outside.facts()} if outside.voxels else {}),
        statistics=image.statistics(outside, _window_of(config, scaling)),
        labels=None if painted is None else painted.facts(),
        warnings=list(warnings),
    )
    return warnings


def _choose_scaling(raw: Stack, config: IngestConfig) -> tuple[Scaling, int]:
    """Return how the intensities of a source are stored, and how many of them are no numbers."""
    if raw.dtype in STORED_TYPES:
        return Scaling(raw.dtype), 0
    survey = ValueSurvey(raw.shape)
    # Of other types all values must be seen first; that is another pass over the source.
    with track(f"survey {config.name}", raw.shape[0], "section") as advance:
        for box, slab in _slabs(raw, raw.chunk):
            survey.add(box, slab)
            advance(_sections(box, raw.shape))
    try:
        return survey.choose(config.window), survey.not_numbers
    except InputError as error:
        raise InputError("not one voxel is a number", where=raw.source, fix="check the source") from error


def _scaling_warnings(scaling: Scaling, config: IngestConfig) -> Iterator[str]:
    if scaling.clipped is not None and config.window is None:
        low, high = scaling.clipped
        yield f"intensities below {low:g} or above {high:g} were clipped, to keep the others apart: --window sets both"


def _window_of(config: IngestConfig, scaling: Scaling) -> tuple[int, int] | None:
    """Return the window that the user gave, as stored intensities."""
    if config.window is None:
        return None
    low, high = (min(max(scaling.level(end), 0), np.iinfo(scaling.dtype).max) for end in config.window)
    return math.floor(low), math.ceil(high)


def _masked(config: IngestConfig, raw: Stack) -> tuple[int, ...]:
    """Return the sections that are only there for missing ones, and that nothing may count."""
    return raw.filled if config.missing == "mask" else ()


def _outside_of_section(volume: Volume, z: int) -> NDArray[np.bool_] | None:
    if volume.outside is None:
        return None
    outside = read_section(volume.outside, z, "run the command again") != 0
    return outside if outside.any() else None


def _sections(box: Box, shape: ZYX) -> float:
    return box.size / (shape[1] * shape[2])


def _slabs(stack: Stack, block: ZYX) -> Iterator[tuple[Box, NDArray[Any]]]:
    for _, box in grid(stack.shape, slab_shape(stack.shape, stack.dtype.itemsize, block, stack.chunk)):
        yield box, stack.read(box)


def slab_shape(shape: ZYX, itemsize: int, block: ZYX, chunk: ZYX) -> ZYX:
    """Return how much of a source is read at a time: whole blocks, and whole chunks of it where memory allows.

    Parameters
    ----------
    shape : tuple of int
        Of the source, (z, y, x).
    itemsize : int
        Bytes of a voxel.
    block : tuple of int
        What is written at a time.
    chunk : tuple of int
        What is decoded at a time.

    Returns
    -------
    tuple of int
        Along (z, y, x).

    Examples
    --------
    Sections at a time, rows of a large section, and a column of sections where chunks are deep:

    >>> slab_shape((100, 1024, 1024), 1, (4, 1024, 1024), (1, 1024, 1024))
    (4, 1024, 1024)
    >>> slab_shape((100, 32768, 32768), 1, (1, 2048, 2048), (1, 64, 32768))
    (1, 2048, 32768)
    >>> slab_shape((100, 32768, 32768), 1, (1, 2048, 2048), (64, 64, 64))
    (32, 2048, 2048)
    """
    depth, height = (min(n, math.lcm(b, c)) for n, b, c in zip(shape[:2], block[:2], chunk[:2], strict=True))
    if depth * height * shape[2] * itemsize <= SLAB_BYTES:
        return depth, height, shape[2]
    if depth > block[0]:
        height, width = min(shape[1], block[1]), min(shape[2], block[2])
        fitting = SLAB_BYTES // (height * width * itemsize)
        return min(depth, max(block[0], fitting // block[0] * block[0])), height, width
    # A chunk as high as a section is decoded whole, so to read a part of it at a time would save nothing.
    return depth, height if chunk[1] >= shape[1] else min(shape[1], block[1]), shape[2]


def _write_slab(array: Any, box: Box, slab: NDArray[Any]) -> None:
    for _, part in grid(box.shape, array.shards):
        start, stop = ([a + b for a, b in zip(box.start, end, strict=True)] for end in (part.start, part.stop))
        write_block(array, Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2])), slab[part.slices])

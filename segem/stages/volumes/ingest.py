"""Ingest: one source of sections becomes one OME-Zarr volume of the workspace."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import segem
from segem.config import IngestConfig, LabelSource
from segem.errors import InputError, SegemError
from segem.geometry import ZYX, Box, grid
from segem.io.blocks import read_block
from segem.io.chunks import Array
from segem.io.files import locked, new_directory, sweep_partials
from segem.io.readers import Stack, list_source_files, open_labels, open_stack, version_of
from segem.io.readers.stack import check_reachable
from segem.io.readers.voxel_size import SettledVoxelSize, describe_size, settle_voxel_size, warn_of_labels
from segem.io.replacing import refuse_others
from segem.io.seen import DIGEST_DIGITS
from segem.io.shards import missing_shards
from segem.io.volume import Volume, create_volume, write_block
from segem.io.workspace import Workspace
from segem.kernels.normalize import IntensityStatistics, histogram
from segem.progress import track
from segem.stages.volumes.alignment import doubt_alignment
from segem.stages.volumes.labels import TruthTally, write_values
from segem.stages.volumes.quality import measure_quality

logger = logging.getLogger(__name__)

TRUTH = "truth"
RAW_TYPES = (np.dtype(np.uint8), np.dtype(np.uint16))

_OF_LABELS = ("labels", "membrane", "border_nm", "zero_means", "labels_dataset", "ignore", "unpainted")

_TYPE_FIXES = {
    "b": "give the grey image; a mask of one bit can only be a label",
    "f": "scale it to 8 or 16 bit grey (Fiji: Image > Type > 16-bit)",
    "i": "shift it to unsigned 16 bit (Fiji: Image > Type > 16-bit)",
}


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
    voxel_nm : tuple of float
        Its voxel size along (z, y, x).
    voxel_from : str
        Who says so: you (given), or a place in the source.
    skipped : bool
        True when the volume already existed, made from the same source with the same settings.
    warnings : tuple of str
        What the user should know about the data.
    """

    path: Path
    name: str
    shape: ZYX
    voxel_nm: tuple[float, float, float]
    voxel_from: str
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
            path,
            config.name,
            present.shape,
            present.voxel_size.zyx,
            present.attributes["voxel"]["origin"],
            skipped=True,
            warnings=tuple(present.attributes["warnings"]),
        )
    with locked(path.with_name(f".{path.name}.lock")):
        # Under the lock no other ingest of this name is alive, so what is unfinished was left by a killed one.
        for partial in sweep_partials(path.parent, path.name):
            logger.warning("%s: removed %s, left by an ingest that was killed", config.name, partial.name)
        if not replace:
            _require_same(path, config)
        with ExitStack() as stack:
            whole = stack.enter_context(open_stack(config.source, config))
            voxel = settle_voxel_size(
                config.voxel_nm, whole.found.voxel, trusted=config.trust_voxel, where=config.source
            )
            box = config.box_within(whole.shape)
            raw = whole.within(box)
            truth = None
            if config.labels is not None:
                truth = stack.enter_context(open_truth(config.labels, whole)).within(box)
            check_type(raw)
            with new_directory(path) as partial:
                warnings = _write(partial, config, raw, truth, voxel, fingerprint)
                # Before the volume gets its name: sections of two versions of a source must not stand side by side.
                if fingerprint_source(config) != fingerprint:
                    raise InputError(
                        "the source changed while it was read", where=config.source, fix="run the command again"
                    )
    size = describe_size(voxel.size.zyx)
    logger.info(
        "%s: ingested, %d sections of %d x %d px, voxels of %s nm (%s)", config.name, *raw.shape, size, voxel.origin
    )
    for warning in warnings:
        logger.warning("%s: %s", config.name, warning)
    return IngestResult(path, config.name, raw.shape, voxel.size.zyx, voxel.origin, skipped=False, warnings=warnings)


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
    settings: dict[str, Any] = {
        "source": str(config.source.resolve()),
        "dataset": config.dataset,
        "axes": config.axes,
        "channel": config.channel,
        "box": config.box,
        "unwritten": config.unwritten,
        "missing": config.missing,
        "voxel_nm": None if config.voxel_nm is None else ",".join(f"{size:g}" for size in config.voxel_nm),
        **dict.fromkeys(_OF_LABELS),
    }
    if config.labels is not None:
        settings |= {
            "labels": str(config.labels.source.resolve()),
            "membrane": write_values(config.labels.membrane),
            "border_nm": config.labels.border_nm,
            "zero_means": config.labels.zero_means,
            "labels_dataset": config.labels.dataset,
            # One value as the number that earlier versions of segem noted.
            "ignore": write_values(config.labels.ignored) if len(config.labels.ignored) > 1 else config.labels.ignore,
            "unpainted": config.labels.unpainted,
        }
    return settings


def _require_same(path: Path, config: IngestConfig) -> None:
    """Raise if another volume would be overwritten; labels may be added to one that has none."""
    held: dict[str, Any] = {}
    # A volume too damaged to be read may be replaced.
    with suppress(SegemError):
        held = Volume(path).attributes.get("settings", {})
    if held:
        # Volumes ingested by earlier versions of segem have no such settings.
        held = {"ignore": None, "unpainted": None if held.get("labels") is None else "labelled"} | held
    asked = describe_settings(config)
    new = _OF_LABELS if held.get("labels") is None else ()
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


def open_truth(labels: LabelSource, raw: Stack) -> Stack:
    """Open labels, after checking that they have the shape of the image."""
    stack = open_labels(labels.source, labels, raw)
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


def check_type(raw: Stack) -> None:
    """Raise InputError where the intensities are of a type that no image can have."""
    if raw.dtype not in RAW_TYPES:
        raise InputError(
            "intensities of an unsupported type",
            where=raw.source,
            expected="uint8 or uint16",
            found=raw.dtype,
            fix=_TYPE_FIXES.get(raw.dtype.kind, "convert it to 8 or 16 bit grey (Fiji: Image > Type > 16-bit)"),
        )


def _write(
    partial: Path,
    config: IngestConfig,
    raw: Stack,
    truth: Stack | None,
    voxel: SettledVoxelSize,
    fingerprint: str,
) -> tuple[str, ...]:
    volume = create_volume(
        partial,
        shape=raw.shape,
        dtype=raw.dtype,
        voxel_size=voxel.size,
        labels={} if truth is None else {TRUTH: np.uint8},
        attributes={},
    )
    image, painted = _ImageTally(raw.dtype, each=truth is not None), None
    stacks = 1 if truth is None else 2
    with track(f"ingest {config.name}", stacks * raw.shape[0], "section") as advance:
        # Slabs as deep as a shard, so that each shard is written once and whole.
        for box, slab in _slabs(raw, volume.write_block):
            for section in slab:
                image.add(section)
                advance(1)
            _write_slab(volume.raw, box, slab)
        if truth is not None and config.labels is not None:
            painted = TruthTally(truth, config.labels, voxel.size)
            for box, slab in _slabs(truth, volume.write_block):
                known = np.stack([painted.add(z, section) for z, section in enumerate(slab, box.start[0])])
                advance(len(known))
                _write_slab(volume.label(TRUTH), box, known)
            painted.check()
    volume.build_pyramid()
    if truth is not None:
        volume.build_pyramid(TRUTH)
    unusual = measure_quality(volume).summarise()
    warnings = (
        *raw.warnings,
        *image.warnings(raw),
        *(() if truth is None else warn_of_labels(voxel.size, truth.found.voxel, where=truth.source)),
        *_warn_of_labels(volume, painted),
        *(() if unusual is None else (unusual,)),
    )
    # Last, when all that is noted is known; the volume still has its hidden name.
    volume.set_attributes(
        # Absolute, since an export from another folder must know that it is about to replace the source.
        source=str(config.source.absolute()),
        settings=describe_settings(config),
        source_digest=image.digest.hexdigest(),
        **({"section_digests": image.of_sections} if truth is not None else {}),
        source_fingerprint=fingerprint,
        config_hash=config.config_hash(),
        readers=_readers_of(config),
        segem_version=segem.__version__,
        sections=raw.shape[0],
        voxel=voxel.facts(),
        dtype=str(raw.dtype),
        statistics=image.statistics(),
        labels=None if painted is None else painted.facts(),
        warnings=list(warnings),
    )
    return warnings


def _warn_of_labels(volume: Volume, painted: TruthTally | None) -> Iterator[str]:
    if painted is not None:
        yield from painted.warnings()
        image, truth = _reader(volume.raw), _reader(volume.label(TRUTH))
        yield from doubt_alignment(image, truth, volume.shape, painted.of_both_classes)


def _reader(array: Array) -> Callable[[Box], NDArray[Any]]:
    return lambda box: read_block(array, box, fix="run the command again")


def _slabs(stack: Stack, write_block: ZYX) -> Iterator[tuple[Box, NDArray[Any]]]:
    _, height, width = stack.shape
    for _, box in grid(stack.shape, (write_block[0], height, width)):
        slab = np.empty(box.shape, stack.dtype)
        for z in range(box.start[0], box.stop[0]):
            slab[z - box.start[0]] = stack.section(z)
        yield box, slab


def _write_slab(array: Any, box: Box, slab: NDArray[Any]) -> None:
    depth, height, width = array.shards
    for _, part in grid(box.shape, (depth, height, width)):
        (z, y, x), stop = part.start, part.stop
        z0 = box.start[0]
        write_block(array, Box((z + z0, y, x), (stop[0] + z0, stop[1], stop[2])), slab[part.slices])


@dataclass
class _ImageTally:
    """What is counted while the sections of an image are read."""

    dtype: np.dtype[Any]
    each: bool
    """Whether each section gets a digest of its own, by which a model's training sections are recognised later."""
    of_sections: list[str] = field(default_factory=list)
    digest: Any = field(default_factory=hashlib.sha256)
    constant: list[int] = field(default_factory=list)
    sections: int = 0
    counts: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.counts = np.zeros(int(np.iinfo(self.dtype).max) + 1, np.int64)

    def add(self, section: NDArray[Any]) -> None:
        # Little endian, so that a volume has one digest whatever the byte order of its source or of the machine.
        data = np.ascontiguousarray(section, section.dtype.newbyteorder("<"))
        self.digest.update(data)
        counts = histogram(section)
        self.counts += counts
        constant = np.count_nonzero(counts) == 1
        if constant:
            self.constant.append(self.sections)
        # A constant section holds no tissue, and its digest would match those of other volumes.
        if self.each:
            self.of_sections.append("" if constant else hashlib.sha256(data.data).hexdigest()[:DIGEST_DIGITS])
        self.sections += 1

    def statistics(self) -> dict[str, Any]:
        return {**IntensityStatistics.from_histogram(self.counts).to_dict(), "constant_sections": self.constant}

    def warnings(self, raw: Stack) -> Iterator[str]:
        if self.constant:
            listed = ", ".join(raw.label_of(z) for z in self.constant[:5])
            more = f" and {len(self.constant) - 5} more" if len(self.constant) > 5 else ""
            yield f"{len(self.constant)} of {self.sections} sections hold one intensity only: {listed}{more}"

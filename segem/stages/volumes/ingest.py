"""Ingest: one source of sections becomes one OME-Zarr volume of the workspace."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import segem
from segem.config import IngestConfig, Selection, Url, place_source
from segem.errors import InputError, SegemError, StorageError
from segem.geometry import ZYX
from segem.io.files import locked, new_directory, sweep_partials
from segem.io.readers import Stack, fingerprint_files, open_labels, open_stack, version_of
from segem.io.readers.voxel_size import SettledVoxelSize, describe_size, settle_voxel_size
from segem.io.shards import files_of, missing_shards
from segem.io.storage import choose_place
from segem.io.storage_copy import kept
from segem.io.volume import OUTSIDE, Volume, create_volume
from segem.io.workspace import Workspace
from segem.kernels.axes import AxisTally, say_swapped
from segem.progress import track
from segem.stages.volumes.image import ImageTally
from segem.stages.volumes.intensities import check_type, choose_scaling, warn_of_scaling, window_of
from segem.stages.volumes.outside import write_outside
from segem.stages.volumes.placement import place_labels
from segem.stages.volumes.quality import measure_quality
from segem.stages.volumes.settings import describe_settings, require_same_settings
from segem.stages.volumes.slabs import count_sections, read_slabs, write_behind
from segem.stages.volumes.truth import SECOND, TRUTH, GivenTruth

logger = logging.getLogger(__name__)


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
    with locked(path.with_name(f".{path.name}.lock")), kept(workspace, path):
        # Under the lock no other ingest of this name is alive, so what is unfinished was left by a killed one.
        for partial in sweep_partials(path.parent, path.name):
            logger.warning("%s: removed %s, left by an ingest that was killed", config.name, partial.name)
        if not replace:
            require_same_settings(path, config)
        with ExitStack() as stack:
            whole = stack.enter_context(open_stack(config.source, config))
            voxel = settle_voxel_size(
                config.voxel_nm,
                whole.found.voxel,
                trusted=config.trust_voxel,
                where=config.source,
                unitless=whole.found.unitless,
            )
            box = config.box_within(whole.shape)
            raw = whole.within(box)
            truths = {
                label: GivenTruth(
                    given,
                    place_labels(stack.enter_context(open_labels(given.source, given, whole)), whole, box, voxel.size),
                )
                for label, given in ((TRUTH, config.labels), (SECOND, config.second_labels))
                if given is not None
            }
            check_type(raw)
            with new_directory(path) as partial:
                place = choose_place(workspace, path)
                warnings = _write(partial, config, raw, truths, voxel, fingerprint, place)
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
    for source, chosen in _sources_of(config):
        digest.update(fingerprint_files(source, chosen).encode())
    return digest.hexdigest()


def _find_current(path: Path, config: IngestConfig, fingerprint: str) -> Volume | None:
    """Return the existing volume, if it is the one that this ingest would make."""
    if not path.exists():
        return None
    try:
        volume = Volume.open(path)
        noted = volume.attributes
        layers = [volume.raw, *(volume.label(name) for name in volume.labels())]
        lost = [files_of(layer).name(key) for layer in layers for key in missing_shards(layer)]
    except StorageError:
        raise
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
    return [version_of(source) for source, _ in _sources_of(config)]


def _sources_of(config: IngestConfig) -> list[tuple[Path | Url, Selection]]:
    return [(one.source, one) for one in (config, config.labels, config.second_labels) if one is not None]


def _write(
    partial: Path,
    config: IngestConfig,
    raw: Stack,
    truths: Mapping[str, GivenTruth],
    voxel: SettledVoxelSize,
    fingerprint: str,
    place: Url | None,
) -> tuple[str, ...]:
    scaling, not_numbers = choose_scaling(raw, config)
    volume = create_volume(
        partial,
        shape=raw.shape,
        dtype=scaling.dtype,
        voxel_size=voxel.size,
        labels={name: kind for label, truth in truths.items() for name, kind in truth.list_layers(label).items()},
        attributes={},
        place=place,
    )
    image, painted = ImageTally(raw.shape, scaling.dtype, each=TRUTH in truths), {}
    with track(f"ingest {config.name}", (1 + len(truths)) * raw.shape[0], "section") as advance:
        with write_behind(volume.raw) as write:
            for box, slab in read_slabs(raw, volume.write_block):
                stored = scaling.store(slab)
                write(box, stored)
                image.add(box, stored)
                advance(count_sections(box, raw.shape))
                # Before the next one is read, which may be as large.
                del slab, stored
        image.finish(volume)
        outside = write_outside(volume, image.areas, {*image.whole, *raw.masked}, scaling.nothing)
        for label, truth in truths.items():
            painted[label] = truth.write(volume, label, voxel.size, advance)
    for layer in (None, *volume.labels()):
        volume.build_pyramid(layer)
    # First of all that is noted, since tissue is read by it.
    volume.set_attributes(statistics=image.statistics(outside, window_of(config, scaling)))
    axes = AxisTally() if raw.axes_guessed else None
    unusual = measure_quality(volume, outside.flat, axes).summarise()
    warnings = (
        *raw.warnings,
        *(say_swapped(axes.find_doubt(), raw.axes, raw.axes_from) if axes else ()),
        *image.warnings(raw),
        *outside.warnings(not_numbers),
        *warn_of_scaling(scaling, config, image.counts, raw.dtype),
        *(
            told
            for label, tally in painted.items()
            for told in truths[label].warnings(volume, label, voxel.size, tally)
        ),
        *(() if unusual is None else (unusual,)),
    )
    # Last, when all that is noted is known; the volume still has its hidden name.
    volume.set_attributes(
        # Absolute, since an export from another folder must know that it is about to replace the source.
        source=str(place_source(config.source, Path.cwd())),
        settings=describe_settings(config),
        **_describe_downloads([raw, *(truth.placed.stack for truth in truths.values())]),
        source_digest=image.source_digest,
        **({"section_digests": image.section_digests} if truths else {}),
        source_fingerprint=fingerprint,
        config_hash=config.config_hash(),
        readers=_readers_of(config),
        segem_version=segem.__version__,
        sections=raw.shape[0],
        voxel=voxel.facts(),
        dtype=str(scaling.dtype),
        **({} if raw.dtype == scaling.dtype else {"intensities": scaling.to_dict(raw.dtype)}),
        **({OUTSIDE: outside.facts()} if outside.voxels else {}),
        labels=None if TRUTH not in painted else truths[TRUTH].placed.facts(painted[TRUTH].facts()),
        **({} if SECOND not in painted else {"second_labels": truths[SECOND].placed.facts(painted[SECOND].facts())}),
        warnings=list(warnings),
    )
    return warnings


def _describe_downloads(stacks: Sequence[Stack]) -> dict[str, dict[str, str | None]]:
    """Return digests of sources that lie elsewhere, where nobody can say later what they were."""
    digests = {str(stack.source): stack.found.digest for stack in stacks if isinstance(stack.source, Url)}
    return {"downloads": digests} if digests else {}

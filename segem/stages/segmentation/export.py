"""Writes one layer of a run as a multi-page TIFF that every viewer opens."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import tifffile

from segem.errors import ConfigError, SegemError
from segem.io.files import disk_errors, new_file
from segem.io.layers import layer_of, read_section
from segem.io.run import fault_of, load_run, source_digest
from segem.io.shards import Array
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.progress import track

LAYERS = ("raw", "truth", "probability", "membrane", "baseline")
MASKS = ("truth", "membrane", "baseline")
LEVELS = np.array([0, 255, 128], np.uint8)
"""What is written of a mask for not membrane, membrane and, in a truth, unknown."""


def export(
    run: str,
    volume: str,
    layer: str,
    out: Path,
    workspace: Workspace,
    *,
    force: bool = False,
) -> Path:
    """Write a layer section by section; masks come out as 0 and 255, to be seen, and unknown truth as 128.

    Parameters
    ----------
    run, volume : str
        Names of the run and of a volume in it.
    layer : {"raw", "truth", "probability", "membrane", "baseline"}
        What to write.
    out : Path
        The TIFF to make; whole or absent.
    workspace : Workspace
        Where the run lies.
    force : bool
        Replace a file that exists; never one that a volume was read from, or that is the workspace's own.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    ConfigError
        When the layer is unknown, or the stage that makes it has not finished; or when `out` exists and `force` is
        false, or lies where it would harm the data.
    """
    _check_harmless(out, workspace, force)
    array = _layer(run, volume, layer, workspace)
    voxel_size = Volume.open(workspace.volume(volume)).voxel_size
    with (
        disk_errors(out),
        new_file(out) as partial,
        tifffile.TiffWriter(partial, bigtiff=array.nbytes > 2**31) as tiff,
        track(f"export {layer}", array.shape[0], "section") as advance,
    ):
        for z in range(array.shape[0]):
            section = read_section(array, z)
            tiff.write(
                LEVELS[section] if layer in MASKS else section,
                compression="zlib",
                contiguous=False,
                # TIFF knows pixels per inch or centimetre only.
                resolution=(1e7 / voxel_size.x, 1e7 / voxel_size.y),
                resolutionunit="CENTIMETER",
                metadata=None,
            )
            advance(1)
    return out


def _check_harmless(out: Path, workspace: Workspace, force: bool) -> None:
    """Raise if a file at `out` would replace or disturb something that cannot be exported again."""
    # Both the name itself and the file that it leads to if it is a link.
    places = {out.parent.resolve() / out.name, out.resolve()}
    # The workspace, and what its volumes were read from: the only copies of somebody's data.
    kept = [workspace.root / folder for folder in ("volumes", "runs", "models")]
    for name in workspace.volumes():
        with suppress(SegemError):  # a volume that cannot be read names no source
            noted = Volume(workspace.volume(name)).attributes
            kept += [Path(source["source"]) for source in (noted, noted.get("labels") or {}) if "source" in source]
    for folder in kept:
        if any(place.is_relative_to(folder.resolve()) for place in places):
            raise ConfigError(
                "an export must not write here",
                where=out,
                found=f"{folder}, which is the workspace's own or the source of a volume",
                fix="choose a name elsewhere",
            )
    if out.is_dir():
        raise ConfigError("this is a folder", where=out, fix="give the name of the TIFF to write")
    if os.path.lexists(out) and not force:
        raise ConfigError("the file exists already", where=out, fix="choose another name, or --force to replace it")


def _layer(run: str, volume: str, layer: str, workspace: Workspace) -> Array:
    if layer not in LAYERS:
        raise ConfigError("no such layer", where=layer, found=f"known: {', '.join(LAYERS)}", fix="choose one of these")
    record = load_run(workspace, run)
    if volume not in record.volumes:
        known = ", ".join(record.volumes) or "none"
        raise ConfigError(
            "no such volume in this run", where=volume, found=f"known: {known}", fix="choose one of these"
        )
    source = Volume.open(workspace.volume(volume))
    if layer == "raw":
        return source.raw
    if layer == "truth":
        return source.label("truth")
    step = record.volumes[volume].writer_of(layer)
    fault = fault_of(step, "baseline" if layer == "baseline" else "segmentation", source_digest(workspace, volume))
    if fault is not None:
        raise ConfigError(
            f"the {layer} of this volume is not finished",
            where=f"{run}/{volume}",
            found=fault,
            fix=f"run `segem {'baseline' if layer == 'baseline' else 'segment'} {volume} --run {run}` to the end first",
        )
    return layer_of(Volume.open(workspace.result(run, volume)), layer)

"""Writes one layer of a run as a file that other programs open."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.errors import ConfigError, SegemError
from segem.geometry import Box
from segem.io.blocks import read_block
from segem.io.layers import layer_of
from segem.io.reviewed import REVIEWED, has_log, open_log, replay, trusted_places
from segem.io.run import fault_of, load_run, source_digest
from segem.io.shards import Array, shape_of
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.io.writers import Layer, find_writer
from segem.progress import track
from segem.records.run import CellsFacts
from segem.stages.segmentation.verify import outdated

LAYERS = (
    "raw",
    "truth",
    "probability",
    "membrane",
    "membrane-closed",
    "cells",
    "baseline",
    "reviewed",
    "reviewed-regions",
)
MASKS = ("truth", "membrane", "membrane-closed", "baseline", "reviewed", "reviewed-regions")
MAKERS = {
    "baseline": "baseline {volume} --run {run}",
    "cells": "cells {volume} --of {run}",
    "membrane-closed": "cells {volume} --of {run}",
}
"""The command that makes a layer; `segem segment` makes the others."""
UNKNOWN = 2
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
    layer : str
        What to write, one of `LAYERS`; ``reviewed`` is the mask with the corrections of its review as they are now, and
        ``reviewed-regions`` the same where a region was accepted or fixed, and unknown elsewhere.
    out : Path
        What to make, whole or absent; its ending names the format, see `segem.io.writers`.
    workspace : Workspace
        Where the run lies.
    force : bool
        Replace a file that exists; never a folder, nor a file that a volume was read from or that is the
        workspace's own.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    ConfigError
        When the layer or the format is unknown, or the stage that makes the layer has not finished; or when `out`
        exists and `force` is false, is a folder, or lies where it would harm the data.
    """
    find_writer(out)
    _check_harmless(out, workspace, force)
    return write_layer(run, volume, layer, out, workspace)


def write_layer(run: str, volume: str, layer: str, out: Path, workspace: Workspace) -> Path:
    """Write a layer as `export` does, whatever file is there; the caller knows that it may be replaced.

    Raises
    ------
    ConfigError
        When the layer or the format is unknown, or the stage that makes the layer has not finished.
    """
    write = find_writer(out)
    array = _layer(run, volume, layer, workspace)
    trusted = _trusted(run, volume, workspace) if layer == "reviewed-regions" else None
    depth, height, width = shape = shape_of(array)
    with track(f"export {layer}", depth, "section") as advance:

        def read(box: Box) -> NDArray[Any]:
            voxels = read_block(array, box, "run `segem verify` to see the extent")
            advance(box.size / (height * width))
            if trusted is not None:
                voxels = np.where(_within(trusted, box), voxels, UNKNOWN)
            return LEVELS[voxels] if layer in MASKS else voxels

        size = Volume.open(workspace.volume(volume)).voxel_size
        write(out, Layer(layer, shape, np.dtype(array.dtype), size, read))
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
        # Not even with `force`: nobody knows what else is in it.
        raise ConfigError("this is a folder", where=out, fix="give a name that is free, or remove it first")
    if os.path.lexists(out) and not force:
        raise ConfigError("the file exists already", where=out, fix="choose another name, or --force to replace it")


def _layer(run: str, volume: str, layer: str, workspace: Workspace) -> Array:
    if layer not in LAYERS:
        raise ConfigError(
            "no such layer", where=layer, expected=f"one of {', '.join(LAYERS)}", fix="choose one of these"
        )
    record = load_run(workspace, run)
    if volume not in record.volumes:
        known = ", ".join(record.volumes) or "none"
        raise ConfigError(
            "no such volume in this run", where=volume, expected=f"one of {known}", fix="choose one of these"
        )
    source = Volume.open(workspace.volume(volume))
    if layer == "raw":
        return source.raw
    if layer == "truth":
        return source.label("truth")
    if layer in {REVIEWED, "reviewed-regions"}:
        if not has_log(workspace, run):
            raise ConfigError("nobody has reviewed this run", where=run, fix=f"review it first: `segem review {run}`")
        with open_log(workspace, run) as log:
            return replay(workspace, run, volume, log)
    step = record.volumes[volume].writer_of(layer)
    command = MAKERS.get(layer, "segment {volume} --run {run}").format(volume=volume, run=run)
    made = {"baseline": "baseline", "cells": "division into cells"}.get(command.partition(" ")[0], "segmentation")
    fault = fault_of(step, made, source_digest(workspace, volume))
    if fault is None and step is not None and isinstance(step.facts, CellsFacts):
        fault = outdated(step.facts, volume, run, workspace)
    if fault is not None:
        raise ConfigError(
            f"the layer {layer} of this volume is not finished",
            where=f"{run}/{volume}",
            found=fault,
            fix=f"run `segem {command}` to the end first",
        )
    return layer_of(Volume.open(workspace.result(run, volume)), layer)


def _trusted(run: str, volume: str, workspace: Workspace) -> list[Box]:
    """Return the regions that people say are right."""
    with open_log(workspace, run) as log:
        places = trusted_places(log, volume)
    return [Box((p.z, p.y, p.x), (p.z + 1, p.y + p.height, p.x + p.width)) for p in places]


def _within(boxes: list[Box], box: Box) -> NDArray[np.bool_]:
    """Return which voxels of a box lie in any of others."""
    within = np.zeros(box.shape, bool)
    for other in boxes:
        within[other.intersect(box).relative_to(box.start).slices] = True
    return within

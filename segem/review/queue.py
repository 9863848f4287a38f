"""Puts the regions of a volume in the order in which they are to be looked at."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

from segem.errors import InputError, WorkspaceError
from segem.io.layers import Layers
from segem.io.run import load_run
from segem.io.workspace import Workspace
from segem.records.error_map import ErrorMap, RegionError
from segem.records.review_queue import Region
from segem.records.run import CrfFacts, SegmentFacts
from segem.stages.reporting.error_maps import FOLDER, read_error_map
from segem.stages.reporting.expected import estimate_volume


def rank_regions(workspace: Workspace, run: str, volume: str, most: int | None = None) -> list[Region]:
    """Return the regions of a volume with tissue, those first where most pixels are expected to be wrong.

    Parameters
    ----------
    workspace : Workspace
        Where the run lies.
    run, volume : str
        Names of the run and of a volume that it has segmented.
    most : int, optional
        So many of them alone.

    Returns
    -------
    list of Region
        Of equal ones, in their order.

    Raises
    ------
    InputError
        When the run has no probability of this volume.
    WorkspaceError
        When the run is missing, or a layer cannot be read.
    """
    errors = map_errors(workspace, run, volume)
    return [_describe(one, errors) for one in errors.rank(most)]


def map_errors(workspace: Workspace, run: str, volume: str) -> ErrorMap:
    """Return the error map of a volume: that of the report where it is of this mask, or else a new one; see above."""
    facts, folder = find_facts(workspace, run, volume), workspace.report(run)
    # To read every section takes minutes for a large volume. A map that cannot be read is made again.
    if _is_written(workspace, run, volume):
        with suppress(WorkspaceError):
            return read_error_map(folder, volume)
    return estimate_volume(Layers.open(run, volume, workspace, segmented=True, clustered=False), facts)[1]


def find_facts(workspace: Workspace, run: str, volume: str) -> SegmentFacts | CrfFacts:
    """Return how a run has segmented a volume.

    Raises
    ------
    InputError
        When it has not.
    WorkspaceError
        When the run is missing.
    """
    noted = load_run(workspace, run).volumes.get(volume)
    if noted is None or noted.membrane_facts is None:
        raise InputError(
            "the run has no probability of this volume", where=f"{volume} of {run}", fix="see `segem report`"
        )
    return noted.membrane_facts


def _is_written(workspace: Workspace, run: str, volume: str) -> bool:
    """Return whether the report of a run was written since it segmented a volume."""
    step, path = load_run(workspace, run).volumes[volume].membrane, workspace.report(run) / FOLDER / f"{volume}.json"
    if step is None or not step.changed or not path.is_file():
        return False
    return path.stat().st_mtime > datetime.fromisoformat(step.changed).timestamp()


def _describe(one: RegionError, errors: ErrorMap) -> Region:
    share = f"{one.expected:.1%} of its pixels are expected to be wrong"
    return Region(
        volume=errors.volume,
        z=one.section,
        y=one.y_px[0],
        x=one.x_px[0],
        height_px=one.y_px[1] - one.y_px[0],
        width_px=one.x_px[1] - one.x_px[0],
        priority=one.expected,
        # Where the volume has no estimate, the numbers order regions, and say no more.
        reason="; ".join((share if errors.abstains is None else "the model is in doubt here", *one.reasons)),
    )

"""What a campaign needs besides its steps: checks at the start, a lock on its run, and a record of failures."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from segem.config import ExecutionConfig, Manifest, check_name, load_manifest
from segem.config.resources import ResourceConfig
from segem.errors import SegemError, WorkspaceError, spell_out
from segem.io.replacing import require_same_request
from segem.io.review_standing import ReviewStanding as ReviewStanding
from segem.io.review_standing import measure_review
from segem.io.run import campaign_lock, enter_volumes, note_failure
from segem.io.workspace import Workspace, default_run, open_workspace
from segem.learn.artefact import find_model, model_record
from segem.learn.engine import choose_device
from segem.learn.scale import AS_IS, scales_of
from segem.records.run import ModelRecord
from segem.stages.segmentation.baseline import request_baseline
from segem.stages.segmentation.budget import Budget
from segem.stages.segmentation.segment import request_segmentation
from segem.stages.side_by_side import Places, assign_places
from segem.stages.status import StatusBoard

BYTES_BESIDE = 300_000_000
"""What a step takes while a net computes another volume: ingest, baseline or score of sections of usual size."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Campaign:
    """A campaign that is ready to start: manifest and model are valid, and the workspace can be written."""

    run: str
    source: Path
    """The YAML file that the manifest was read from."""
    data_root: Path | None
    manifest: Manifest
    workspace: Workspace
    model: ModelRecord
    replace: bool = False
    """Whether results under the same names that were made with other settings are overwritten."""

    @property
    def volumes(self) -> tuple[str, ...]:
        """The names of the manifest's volumes."""
        return tuple(volume.name for volume in self.manifest.volumes)


def open_campaign(
    manifest: Path, run: str | None, workspace: Path, data_root: Path | None = None, *, replace: bool = False
) -> Campaign:
    """Check everything that would fail every volume alike, before the first one starts.

    Parameters
    ----------
    manifest : Path
        The YAML file.
    run : str or None
        Name of the run; made from the manifest and the date when absent.
    workspace : Path
        Root of the workspace; made when missing.
    data_root : Path, optional
        Folder that relative sources count from; the manifest's own when absent.
    replace : bool
        Overwrite results of this run, and volumes of the workspace, that were made with other settings.

    Returns
    -------
    Campaign

    Raises
    ------
    ConfigError
        When the manifest or the name is wrong, or the run holds results that were made with other settings and
        `replace` is false.
    WorkspaceError
        When the workspace cannot be written.
    ModelError
        When the model is missing or damaged.
    """
    loaded = load_manifest(manifest, data_root)
    name = check_name(run, "run") if run else default_run(loaded.name, loaded)
    opened = open_workspace(workspace)
    sweep = loaded.segment_config()
    model = find_model(sweep.model, opened)
    for volume in () if replace else loaded.volumes:
        require_same_request(opened, request_baseline(volume.name, name, loaded.baseline))
        require_same_request(opened, request_segmentation(volume.name, name, sweep, model))
    return Campaign(name, manifest, data_root, loaded, opened, model_record(model), replace)


@contextmanager
def hold_run(job: Campaign) -> Iterator[None]:
    """Lock the run against other campaigns while the body runs.

    Raises
    ------
    WorkspaceError
        When another process works on the run, or the disk refuses.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(campaign_lock(job.workspace, job.run))
        except WorkspaceError as error:
            raise WorkspaceError(
                f"run {job.run} cannot start: {error.what}", where=error.where, found=error.found, fix=error.fix
            ) from error
        yield


def record_volumes(job: Campaign) -> None:
    """Write every volume into the run's record before the first one starts, so that one never reached is reported.

    Raises
    ------
    WorkspaceError
        When the record cannot be written.
    """
    # With the model, or a run stopped after its baselines would look as if nothing else had been asked of it.
    accept = tuple(map(str, job.manifest.accept))
    enter_volumes(job.workspace, job.run, job.volumes, job.model, accept, job.manifest.review)


def await_review(job: Campaign) -> str | None:
    """Return what a finished campaign waits for, in words; None where no review is asked for, or enough is reviewed.

    Raises
    ------
    WorkspaceError
        When the log of the review cannot be read.
    """
    standing = measure_review(job.workspace, job.run)
    if standing is None or standing.met:
        return None
    return (
        f"{job.run}: {standing.decided} of {standing.wanted} regions are reviewed; open the others with "
        f"`segem review {job.run}`"
    )


def place_steps(job: Campaign, execution: ExecutionConfig) -> tuple[Places, ExecutionConfig]:
    """Return which steps may run side by side, and the settings by which they share the memory.

    Where the memory that was set does not hold a tile of the net beside another step, volumes are taken one after the
    other. Tiles are as large as without others beside them, so that every block has the same bytes.

    Raises
    ------
    ConfigError
        When not even a small tile fits, or there is no such device.
    """
    gpu = choose_device(execution.device).type != "cpu"
    places = assign_places(job.manifest.resources, execution, gpu=gpu, cores=len(os.sched_getaffinity(0)))
    # Workers have memory of their own, and this process none of their tiles.
    beside = min(places.volumes, len(job.volumes)) - 1 if execution.engine == "loop" else 0
    reserved = execution.model_copy(update={"reserved": beside * BYTES_BESIDE})
    if beside and not _fits(job, reserved):
        logger.warning("volumes are taken one after the other: the memory allowed holds no two steps side by side")
        alone = ResourceConfig(cpu=1)
        # On a GPU as well: the net would stand beside another step.
        return assign_places(alone, execution, gpu=False, cores=1), execution
    return places, reserved


def open_board(job: Campaign, execution: ExecutionConfig) -> StatusBoard:
    """Return what keeps the status page of a campaign, and notes what its steps take."""
    gpu = choose_device(execution.device).type != "cpu"
    return StatusBoard(job.run, job.manifest.name, job.volumes, job.workspace, ("segment",) if gpu else ())


def _fits(job: Campaign, execution: ExecutionConfig) -> bool:
    """Return whether a tile fits the memory that is left beside other steps."""
    config = job.manifest.segment_config()
    artefact = find_model(config.model, job.workspace)
    budget = Budget.of(artefact, execution, scales_of(AS_IS, config.resample))
    tile_px = config.tile_px or budget.tile_px
    return budget.resident + budget.voxel_bytes * tile_px**2 <= budget.memory


def record_failure(volume: str, run: str, reason: str, workspace: Workspace) -> None:
    """Write into the run's record why a volume failed, for the report.

    Raises
    ------
    WorkspaceError
        When the record cannot be written.
    """
    note_failure(workspace, run, volume, reason)


def describe_failure(error: Exception) -> str:
    r"""Return why a volume failed, in one line.

    Examples
    --------
    >>> describe_failure(ValueError("two\nlines"))
    'ValueError: two lines'
    """
    text = str(error) if isinstance(error, SegemError) else f"{type(error).__name__}: {error}"
    return spell_out(" ".join(text.split()))

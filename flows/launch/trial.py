"""Campaigns of a few sections, by which `segem run --plan` finds what a whole one takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from flows.launch.local import use_prefect
from segem.config import ExecutionConfig
from segem.stages.forecast import Trial, measure_disk, measure_peak


def take_trials(
    folder: Path, manifests: Sequence[Path], depths: Sequence[int], execution: ExecutionConfig
) -> tuple[float, list[Trial]]:
    """Run a campaign of each manifest in a workspace of its own, on a private Prefect server or that of the user.

    Parameters
    ----------
    folder : Path
        Existing folder for the workspaces.
    manifests : sequence of Path
        Each of one volume.
    depths : sequence of int
        Its sections, for each manifest.
    execution : ExecutionConfig
        Device, engine, workers, memory.

    Returns
    -------
    float
        When the first one began, in seconds of the clock that `time.time` reads.
    list of Trial
        What each took.

    Raises
    ------
    SegemError
        When one fails.
    """
    with use_prefect(folder / ".prefect"):
        from flows.campaign import campaign

        first, trials = time.time(), []
        for number, (manifest, depth) in enumerate(zip(manifests, depths, strict=True)):
            workspace, begun = folder / str(number), time.monotonic()
            campaign(manifest, "trial", workspace, None, execution)
            took = time.monotonic() - begun
            trials.append(Trial(depth, took, measure_disk(workspace), measure_peak()))
    return first, trials

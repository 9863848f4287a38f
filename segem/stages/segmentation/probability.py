"""The probability of a run, as steps take it that make something of it."""

from __future__ import annotations

from segem.errors import WorkspaceError
from segem.io.run import fault_of, load_run, source_digest
from segem.io.workspace import Workspace
from segem.records.run import CrfFacts, SegmentFacts, StepRecord


def require_probability(
    volume: str, run: str, workspace: Workspace, purpose: str
) -> tuple[StepRecord, SegmentFacts | CrfFacts]:
    """Return the step that made the probability of a volume, and how, or say that it is not whole.

    Parameters
    ----------
    volume, run : str
        Whose.
    workspace : Workspace
        Where the run lives.
    purpose : str
        What it is wanted for, such as "refine"; for the message.

    Returns
    -------
    tuple of StepRecord and SegmentFacts or CrfFacts

    Raises
    ------
    WorkspaceError
        When the run is missing, or its segmentation of the volume is not finished or of another image.
    """
    entry = load_run(workspace, run).volumes.get(volume)
    step = entry.membrane if entry is not None else None
    fault = fault_of(step, "segmentation", source_digest(workspace, volume))
    if step is None or fault is not None:
        raise WorkspaceError(
            f"there is no whole probability to {purpose}",
            where=f"{volume} of run {run}",
            found=fault,
            fix=f"run `segem segment {volume} --run {run}` to the end first",
        )
    if not isinstance(step.facts, SegmentFacts | CrfFacts):
        raise TypeError(f"no probability comes of the step {step.facts.step}")
    return step, step.facts

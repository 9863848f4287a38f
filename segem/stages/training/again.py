"""Which volumes a model that has learned from a review segments again, and how."""

from __future__ import annotations

from dataclasses import dataclass

from segem.config import SegmentConfig
from segem.io.run import load_run
from segem.io.workspace import Workspace
from segem.records.promotion import Promotion
from segem.records.review import ReviewedLabels
from segem.records.run import StepRecord

_LONGEST_RUN = 60
"""Of the part of a name that comes from the reviewed run: with the version, a name stays within 100 characters."""


@dataclass(frozen=True)
class Again:
    """A run of the reviewed volumes by the model that has learned from them."""

    run: str
    volumes: dict[str, SegmentConfig]
    """How each is segmented."""


def plan_again(decided: Promotion, reviewed: tuple[ReviewedLabels, ...], workspace: Workspace) -> Again | None:
    """Return the run in which the reviewed volumes are segmented again.

    Parameters
    ----------
    decided : Promotion
        The decision on the new model.
    reviewed : tuple of ReviewedLabels
        What it has learned from, all of one run.
    workspace : Workspace
        Where that run lies.

    Returns
    -------
    Again or None
        Named after the reviewed run and the version of the model, with the settings of that run, except for the
        threshold, which is the model's own. None where nothing was reviewed, or the model was kept aside.

    Raises
    ------
    WorkspaceError
        When the reviewed run is gone.
    """
    if not reviewed or not decided.promoted:
        return None
    run = reviewed[0].run
    steps = load_run(workspace, run).volumes
    volumes = {one.volume: _like(steps[one.volume].membrane, decided.name) for one in reviewed}
    return Again(f"{run[:_LONGEST_RUN]}-{decided.version}", volumes)


def _like(step: StepRecord | None, model: str) -> SegmentConfig:
    """Return the settings of an earlier segmentation with another model; the default ones after a CRF or K-means."""
    known = SegmentConfig.model_fields.keys() - {"model", "threshold"}
    settings = {} if step is None or step.step != "segment" else {k: v for k, v in step.config.items() if k in known}
    return SegmentConfig.model_validate(settings | {"model": model})

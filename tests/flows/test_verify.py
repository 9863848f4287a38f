"""The weekly look at all runs of a workspace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flows.verify import verify_step, verify_weekly
from segem.config import ExecutionConfig, SegmentConfig
from segem.errors import IncompleteError
from segem.io.workspace import Workspace
from segem.stages.campaign import hold_run, open_campaign, record_volumes
from segem.stages.segmentation.segment import segment
from segem.stages.volumes.ingest import ingest

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def workspace(manifest_of: Callable[..., Path], tiny_model: Path, tmp_path: Path) -> Workspace:
    """A workspace with four runs of one volume."""
    job = open_campaign(manifest_of("alpha"), "under-way", tmp_path / "w")
    ingest(job.manifest.volumes[0].ingest_config(), job.workspace)
    for run in ("lost", "sound", "under-way", "unreadable"):
        segment("alpha", run, SegmentConfig(model=str(tiny_model)), ExecutionConfig(), job.workspace)
    return job.workspace


def test_the_weekly_look_sees_every_run(
    workspace: Workspace, manifest_of: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A record that is damaged now will be so in a few seconds too.
    monkeypatch.setattr("flows.verify.verify_step", verify_step.with_options(retries=0))
    assert verify_weekly(workspace.root) == 4
    (workspace.run("unreadable") / "run.json").write_text("{", encoding="utf-8")
    next((workspace.result("lost", "alpha") / "labels/membrane").rglob("c/0/0/0")).unlink()
    job = open_campaign(manifest_of("alpha"), "under-way", workspace.root)
    with hold_run(job):
        record_volumes(job)
        state = verify_weekly(workspace.root, return_state=True)

    error = state.result(raise_on_failure=False)
    assert isinstance(error, IncompleteError)
    assert "2 of 3 runs are not whole" in str(error)
    assert "lost, alpha: segment block (0, 0, 0): its file is missing" in str(error)
    assert "unreadable, -: " in str(error)
    assert "the run's record is damaged" in str(error)
    # What nobody works on any more, and is not whole, is no longer passed over.
    assert "under-way" not in str(error)
    error = verify_weekly(workspace.root, return_state=True).result(raise_on_failure=False)
    assert "3 of 4 runs are not whole" in str(error)

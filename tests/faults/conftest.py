"""A segmentation that nothing disturbed, for the disturbed ones to be compared with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tifffile

from segem.config import IngestConfig
from segem.io.workspace import Workspace
from segem.stages.segmentation.segment import segment
from segem.stages.volumes.ingest import ingest
from tests.faults import harness
from tests.integration.conftest import artefact, make_artefact, workspace

__all__ = ["Undisturbed", "artefact", "undisturbed", "undisturbed_step", "workspace"]


class Undisturbed:
    """A workspace before any run, and what a run makes of it."""

    def __init__(self, folder: Path, step: str) -> None:
        self.workspace = Workspace(folder / "workspace")
        self.workspace.prepare()
        make_artefact(self.workspace, seed=0)
        tifffile.imwrite(folder / "noise.tif", harness.noise(), photometric="minisblack")
        ingest(
            IngestConfig(name="noise", source=folder / "noise.tif", voxel_nm=(50, 4, 4)),
            self.workspace,
        )
        self.context = harness.processes()
        self.step, self.job = step, harness.JOBS[step]
        # What these are made of; cells lie in the run itself.
        if step in ("crf", "cells"):
            run = "segmented" if step == "crf" else "r"
            segment("noise", run, harness.CONFIG, harness.QUIET, self.workspace)
        self.reference = self.copy(folder / "reference")
        harness.run_to_the_end(self.context, self.job, self.reference.root)
        self.digest = harness.output_digest(self.reference)
        again = self.copy(folder / "again")
        self.seconds = harness.run_to_the_end(self.context, self.job, again.root)
        assert harness.output_digest(again) == self.digest

    def copy(self, root: Path) -> Workspace:
        shutil.copytree(self.workspace.root, root)
        return Workspace(root)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return Undisturbed(tmp_path_factory.mktemp("undisturbed"), "segment")


@pytest.fixture(scope="session", params=list(harness.JOBS))
def undisturbed_step(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Every step of block work in turn."""
    return Undisturbed(tmp_path_factory.mktemp(f"undisturbed-{request.param}"), request.param)

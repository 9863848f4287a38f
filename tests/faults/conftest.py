"""A segmentation that nothing disturbed, for the disturbed ones to be compared with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tifffile

from segem.config import IngestConfig
from segem.io.workspace import Workspace
from segem.stages.volumes.ingest import ingest
from tests.faults import harness
from tests.integration.conftest import artefact, make_artefact, workspace

__all__ = ["Undisturbed", "artefact", "undisturbed", "workspace"]


class Undisturbed:
    """A workspace before any run, and what a run makes of it."""

    def __init__(self, folder: Path) -> None:
        self.workspace = Workspace(folder / "workspace")
        self.workspace.prepare()
        make_artefact(self.workspace, seed=0)
        tifffile.imwrite(folder / "noise.tif", harness.noise(), photometric="minisblack")
        ingest(
            IngestConfig(name="noise", source=folder / "noise.tif", voxel_nm=(50, 4, 4)),
            self.workspace,
        )
        self.context = harness.processes()
        self.reference = self.copy(folder / "reference")
        harness.run_to_the_end(self.context, harness.segment_noise, self.reference.root)
        self.digest = harness.output_digest(self.reference)
        again = self.copy(folder / "again")
        self.seconds = harness.run_to_the_end(self.context, harness.segment_noise, again.root)
        assert harness.output_digest(again) == self.digest

    def copy(self, root: Path) -> Workspace:
        shutil.copytree(self.workspace.root, root)
        return Workspace(root)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return Undisturbed(tmp_path_factory.mktemp("undisturbed"))

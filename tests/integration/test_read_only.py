"""A workspace on a disk that may only be read."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from segem.cli import app
from segem.config import BaselineConfig, IngestConfig
from segem.errors import WorkspaceError
from segem.io.snapshot import restore_snapshot, take_snapshot
from segem.io.workspace import Workspace
from segem.stages.segmentation.baseline import baseline
from segem.stages.segmentation.verify import verify
from segem.stages.volumes.ingest import ingest


@pytest.fixture(scope="module")
def read_only(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Return a workspace with one run on a disk that was made read-only."""
    root = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(root)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    space = Workspace(root / "w")
    source = tmp_path_factory.mktemp("source") / "a.tif"
    tifffile.imwrite(source, np.random.default_rng(0).integers(0, 256, (2, 64, 64), np.uint8), photometric="minisblack")
    ingest(IngestConfig(name="v", source=source, voxel_nm=(50, 4, 4)), space)
    baseline("v", "r", BaselineConfig(), space)
    subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
    yield space
    subprocess.run(["umount", "-l", str(root)], check=True)


def test_a_run_can_be_verified(read_only: Workspace) -> None:
    assert verify("r", read_only) == []


def test_runs_are_listed_and_scored(read_only: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["runs"], ["evaluate", "r"], ["verify", "r"]):
        app([*words, "--workspace", str(read_only.root)], standalone_mode=False)
    assert "r: whole" in capsys.readouterr().out


def test_what_needs_to_write_says_so(read_only: Workspace) -> None:
    with pytest.raises(WorkspaceError, match=r"Read-only file system.*choose a --workspace on a writable disk"):
        baseline("v", "other", BaselineConfig(), read_only)


def test_it_can_be_backed_up(read_only: Workspace, tmp_path: Path) -> None:
    take_snapshot(read_only.root, tmp_path / "b")
    restore_snapshot(tmp_path / "b", tmp_path / "again")
    assert verify("r", Workspace(tmp_path / "again")) == []

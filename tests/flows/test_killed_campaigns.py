"""A campaign of a real service whose processes are killed at random moments: every volume is whole in the end, and the
same as where volumes were worked on one after the other and nobody was killed.

SEGEM_CAMPAIGN_KILLS is the number of kills of each kind, SEGEM_CAMPAIGN_VOLUMES that of volumes. Unless asked for,
only the flow run and the service are killed, and blocks are computed without dask, whose workers take long to start.
"""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tifffile
import yaml

from flows.launch.lease import leases_in
from segem.execute.loop import WRITERS
from segem.io.layers import layers_of
from segem.io.shards import path_of
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.stages.reporting.read import read_report
from segem.stages.segmentation.verify import verify
from tests.flows.conftest import RunningService, serving
from tests.flows.test_campaigns import command, digest_shards, limited
from tests.processes import PATIENCE, ROOT, clean_environment, free_port, wait_for

pytestmark = [pytest.mark.server, pytest.mark.slow]

KILLS = int(os.environ.get("SEGEM_CAMPAIGN_KILLS", "0"))
VICTIMS = ("flow", "worker", "dask worker", "service") * KILLS or ("flow", "service")
VOLUMES = int(os.environ.get("SEGEM_CAMPAIGN_VOLUMES", "2"))
SHAPE = (64, 64, 64)
"""Eight blocks of eight sections."""
AT_ONCE = 2
"""Volumes that are computed side by side."""
EXECUTION: dict[str, Any] = {"device": "cpu", "engine": "dask", "workers": 2} if KILLS else {"device": "cpu"}
LAYERS = {"segment": ("probability", "membrane"), "baseline": ("baseline",)}


@pytest.fixture
def manifest(tmp_path: Path, tiny_model: Path) -> Path:
    """Return a manifest of volumes of noise."""
    noise = np.random.default_rng(0).integers(0, 256, (VOLUMES, *SHAPE), np.uint8)
    volumes = []
    for number, raw in enumerate(noise):
        source = tmp_path / f"noise-{number}.tif"
        tifffile.imwrite(source, raw, photometric="minisblack")
        volumes.append({"name": f"noise-{number}", "source": str(source), "voxel_nm": [50, 4, 4]})
    path = tmp_path / "manifest.yaml"
    path.write_text(yaml.safe_dump({"name": "noise", "model": str(tiny_model), "volumes": volumes}), encoding="utf-8")
    return path


class Campaign:
    """Campaigns of one service, one after the other, as long as there is something left to kill."""

    def __init__(self, manifest: Path, root: Path) -> None:
        self.manifest, self.workspace, self.log, self.port = manifest, root / "w", root / "log", free_port()
        self.runs: list[str] = []
        self.stack = ExitStack()

    def serve(self) -> None:
        """Start the service, as systemd would when it is gone."""
        self.service: RunningService = self.stack.enter_context(serving(self.workspace, self.log, self.port))

    def begin(self) -> None:
        """Start a campaign under a name of its own."""
        self.runs.append(f"r{len(self.runs) + 1}")
        self.first = self.service.start(
            "campaign/campaign",
            manifest=str(self.manifest),
            run=self.runs[-1],
            execution=EXECUTION,
            restarts=1000,
        )

    def states(self) -> list[str]:
        """Return the states of the flow run and of those that were started in its place."""
        return [self.service.state(self.first), *self.service.runs_in_place_of(self.first)]

    def process(self) -> psutil.Process | None:
        """Return the process of the flow run, if one is at work."""
        for held in [lease.process() for lease in leases_in(self.service.service.leases)]:
            # It may end at this very moment.
            with suppress(psutil.NoSuchProcess):
                if held is not None:
                    return psutil.Process(held.pid)
        return None

    def await_process(self) -> psutil.Process | None:
        """Wait for a process to be at work; None when the campaign is done."""
        wait_for(
            lambda: self.process() is not None or "COMPLETED" in self.states(), 240, self.service.service.flows_log
        )
        return self.process()


def kill(victim: str, campaign: Campaign, flow: psutil.Process) -> None:
    """Kill one process; where the flow run dies of it, check that little of what it did is lost."""
    if victim == "dask worker":
        workers = [one for one in flow.children(recursive=True) if "spawn_main" in " ".join(one.cmdline())]
        if workers:
            workers[0].kill()
        return
    if victim == "worker":
        for child in psutil.Process(campaign.service.process.pid).children():
            if "flows.launch.worker" in child.cmdline():
                child.kill()
        return
    if victim == "service":
        campaign.service.process.kill()
        campaign.service.process.wait()
        campaign.serve()
        return
    family = flow.children(recursive=True)
    flow.kill()
    psutil.wait_procs([flow, *family], 60)
    workspace = Workspace(campaign.workspace)
    assert count_lost(workspace, campaign.runs[-1]) <= AT_ONCE * EXECUTION.get("workers", 1) * (WRITERS + 1)


def count_lost(workspace: Workspace, run: str) -> int:
    """Return how many blocks have files and no row in the ledger: they are computed again."""
    if not workspace.ledger(run).is_file():
        return 0
    with closing(sqlite3.connect(workspace.ledger(run))) as ledger:
        rows = ledger.execute(
            "select volume, step, count(*) from blocks where phase = 'blocks' group by 1, 2"
        ).fetchall()
    kept = {(volume, step): number for volume, step, number in rows}
    lost = 0
    for folder in workspace.run(run).glob("*.ome.zarr"):
        result = Volume.open(folder)
        for step, layers in LAYERS.items():
            if {*layers} <= {"probability", *result.labels()}:
                roots = [path_of(array) for array in layers_of(result, layers)]
                touched = {file.relative_to(root) for root in roots for file in root.glob("c/*/*/[0-9]*")}
                lost += max(0, len(touched) - kept.get((folder.name.removesuffix(".ome.zarr"), step), 0))
    return lost


@pytest.mark.timeout(PATIENCE * (600 + 600 * KILLS))
def test_a_campaign_is_whole_whatever_is_killed(manifest: Path, tmp_path: Path) -> None:
    one_by_one, side_by_side = limited(manifest, 1), limited(manifest, AT_ONCE)
    done = subprocess.run(
        command(one_by_one, tmp_path / "undisturbed"),
        env=clean_environment(),
        cwd=ROOT,
        check=False,
        timeout=600 * PATIENCE,
    )
    assert done.returncode == 0
    alone = digest_shards(tmp_path / "undisturbed")
    assert len(alone) >= 3 * 8 * VOLUMES, "three layers of eight blocks"

    rng = random.Random(0)
    victims = rng.sample(VICTIMS, len(VICTIMS))
    campaign = Campaign(side_by_side, tmp_path)
    with campaign.stack:
        campaign.serve()
        campaign.begin()
        while victims:
            flow = campaign.await_process()
            if flow is None:
                campaign.begin()
                continue
            # The first seconds are those of imports; after that the work.
            time.sleep(rng.uniform(0, 12 if KILLS else 6))
            # It may have come to its end before.
            with suppress(psutil.NoSuchProcess):
                kill(victims[-1], campaign, flow)
                victims.pop()
        wait_for(lambda: "COMPLETED" in campaign.states(), 600, campaign.service.service.flows_log)
        assert set(campaign.states()) <= {"COMPLETED", "CRASHED"}
        assert "FAILED" not in campaign.states()

        for run in campaign.runs:
            workspace = Workspace(campaign.workspace)
            report = read_report(workspace.report(run))
            assert [volume.state for volume in report.volumes] == ["complete"] * VOLUMES
            assert verify(run, workspace) == []
            shards = {name: digest for name, digest in digest_shards(campaign.workspace).items() if f"/{run}/" in name}
            assert {name.replace(f"/{run}/", "/r1/"): digest for name, digest in shards.items()} == alone

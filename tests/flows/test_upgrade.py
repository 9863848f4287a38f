"""A service that grows old: upgraded, and gone back from by a backup, with a run half done and a schedule.

Two versions of Prefect are not at hand. A database of an older one is made by taking back its last migrations.
"""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile
import yaml

from flows.launch.lease import Lease
from flows.launch.service import Service
from segem.config import ExecutionConfig, load_manifest
from segem.io.run import load_run
from segem.io.snapshot import list_snapshots, restore_snapshot, take_snapshot
from segem.io.workspace import Workspace
from segem.stages.segmentation.baseline import baseline
from segem.stages.segmentation.segment import segment
from segem.stages.segmentation.verify import verify
from segem.stages.volumes.ingest import ingest
from tests.flows.conftest import ENDS, RunningService, serving
from tests.flows.test_campaigns import digest_shards
from tests.processes import ROOT, clean_environment, free_port, python, wait_for

pytestmark = [pytest.mark.server, pytest.mark.slow]

VOLUMES, BLOCKS = 2, 8
EARLIER = 2
"""Migrations that are taken back."""
DIE = """
import os, signal, sys
from itertools import count
from pathlib import Path
from segem.io import snapshot
job, source, target, last = getattr(snapshot, sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
seen = count()

def strike(event, arguments):
    writes = event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)
    if writes and str(arguments[0]).startswith(str(target.parent)) and next(seen) == last:
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(strike)
job(source, target)
"""
EXECUTION = ExecutionConfig(device="cpu")
SECONDS_BETWEEN = 60


@pytest.fixture
def manifest(tmp_path: Path, tiny_model: Path) -> Path:
    """Return a manifest of volumes of noise."""
    volumes = []
    for number in range(VOLUMES):
        source, rng = tmp_path / f"noise-{number}.tif", np.random.default_rng(number)
        tifffile.imwrite(source, rng.integers(0, 256, (8 * BLOCKS, 64, 64), np.uint8), photometric="minisblack")
        volumes.append({"name": f"noise-{number}", "source": str(source), "voxel_nm": [50, 4, 4]})
    path = tmp_path / "manifest.yaml"
    path.write_text(yaml.safe_dump({"name": "noise", "model": str(tiny_model), "volumes": volumes}), encoding="utf-8")
    return path


def digest_undisturbed(manifest: Path, root: Path) -> dict[str, str]:
    """Return the shards of a run that no service has anything to do with."""
    space, described = Workspace(root), load_manifest(manifest)
    space.prepare()
    for volume in described.volumes:
        ingest(volume.ingest_config(), space)
        baseline(volume.name, "r1", described.baseline, space, EXECUTION)
        segment(volume.name, "r1", described.segment_config(), EXECUTION, space)
    return digest_shards(root)


def count_segmented(root: Path) -> int:
    """Return how many blocks of the net the ledger of the run holds."""
    with closing(sqlite3.connect(f"file:{Workspace(root).ledger('r1')}?mode=ro", uri=True)) as ledger:
        try:
            return int(ledger.execute("select count(*) from blocks where step = 'segment'").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


def revision_of(root: Path) -> str:
    with closing(sqlite3.connect(Service(root).database)) as database:
        return str(database.execute("select version_num from alembic_version").fetchone()[0])


def is_pending(process: int, number: signal.Signals) -> bool:
    """Return whether a signal waits for a process that was stopped."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    waiting = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigPnd", "ShdPnd"))]
    return any(mask >> (number - 1) & 1 for mask in waiting)


def stop_half_way(running: RunningService, flow_run: str, last: Callable[[], object]) -> int:
    """Stop the service with Ctrl-C when some blocks are done, and return how many; `last` is done before.

    The flow run is held as soon as it is half way, so that it cannot end sooner than it is told to stop.
    """
    root = running.service.workspace
    lease = Lease(running.service.leases / f"{flow_run}.lease")
    deadline = time.monotonic() + 240
    while not (Workspace(root).ledger("r1").is_file() and count_segmented(root) >= BLOCKS // 4):
        assert time.monotonic() < deadline, running.service.flows_log.read_text()[-3000:]
        time.sleep(0.002)
    flow = psutil.Process(lease.process().pid)
    flow.suspend()
    last()
    running.process.send_signal(signal.SIGINT)
    wait_for(lambda: is_pending(flow.pid, signal.SIGTERM), 120, running.log)
    flow.resume()
    assert running.process.wait(240) == 0
    return count_segmented(root)


def die_half_way(job: str, source: Path, target: Path, files: int) -> None:
    """Do a job of `segem.io.snapshot` in a process that is killed when it writes the file in the middle."""
    command = [*python(DIE), job, str(source), str(target), str(files // 2)]
    assert subprocess.run(command, cwd=ROOT, timeout=240).returncode == -signal.SIGKILL


def age(root: Path) -> None:
    """Leave the database of the service as an older version of Prefect would."""
    service = Service(root)
    command = [sys.executable, "-m", "prefect", "server", "database", "downgrade", "-y", "-r", f"-{EARLIER}"]
    environment = clean_environment(**service.server_environment())
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr


def require_resumed(running: RunningService, flow_run: str, kept: int, shards: dict[str, str]) -> None:
    """Wait until the half-done run is whole, by a flow run that the service has started in place of the stopped one."""
    root = running.service.workspace
    assert running.state(flow_run) == "CRASHED", "what ran was stopped"
    wait_for(lambda: running.runs_in_place_of(flow_run) == ["COMPLETED"], 600, running.service.flows_log)
    facts = [volume.steps["segment"].facts for volume in load_run(Workspace(root), "r1").volumes.values()]
    assert [sum(one.skipped for one in facts), sum(one.computed for one in facts)] == [kept, VOLUMES * BLOCKS - kept]
    assert verify("r1", Workspace(root)) == []
    assert digest_shards(root) == shards


def require_fired(running: RunningService) -> None:
    """Wait until the schedule fires by itself, and its flow run has verified all runs."""
    since = datetime.now(UTC).isoformat()
    wanted = {"expected_start_time": {"after_": since}, "tags": {"all_": ["auto-scheduled"]}}
    ended = {"flow_runs": wanted | {"state": {"type": {"any_": list(ENDS)}}}}
    wait_for(lambda: running.api("POST", "/flow_runs/filter", ended) != [], 600, running.service.flows_log)
    for found in running.api("POST", "/flow_runs/filter", ended):
        assert found["state_type"] == "COMPLETED", found["state"]["message"]


@pytest.mark.timeout(1800)
def test_a_half_done_run_and_a_schedule_outlive_an_upgrade_and_the_way_back(manifest: Path, tmp_path: Path) -> None:
    shards = digest_undisturbed(manifest, tmp_path / "undisturbed")
    root, log, port, backups = tmp_path / "w", tmp_path / "log", free_port(), tmp_path / "backups"
    with serving(root, log, port) as before:
        schedules = f"/deployments/{before.api('GET', '/deployments/name/verify-weekly/verify-weekly')['id']}/schedules"
        often = [{"schedule": {"interval": SECONDS_BETWEEN}, "active": True}]
        parameters = {"manifest": str(manifest), "run": "r1", "execution": {"device": "cpu"}, "restarts": 3}
        flow_run = before.start("campaign/campaign", **parameters)
        # Not before: what is due while the campaign takes the only place would come first afterwards.
        kept = stop_half_way(before, flow_run, lambda: before.api("POST", schedules, often))
    assert 0 < kept < VOLUMES * BLOCKS
    newest = revision_of(root)
    age(root)
    older = revision_of(root)
    assert older != newest

    files = len([path for path in root.rglob("*") if path.is_file()])
    die_half_way("take_snapshot", root, backups, files)
    assert list_snapshots(backups) == []
    take_snapshot(root, backups)

    # The new version, whose deployments are not those that are registered.
    (Service(root).root / "registered").write_text("by an older version", encoding="ascii")
    with serving(root, log, port) as after:
        assert revision_of(root) == newest
        require_resumed(after, flow_run, kept, shards)

    # And the way back from it, with all that it has done lost.
    root.rename(tmp_path / "newer")
    die_half_way("restore_snapshot", backups, root, files)
    assert not root.exists()
    restore_snapshot(backups, root)
    assert (revision_of(root), count_segmented(root)) == (older, kept)
    with serving(root, log, port) as restored:
        require_resumed(restored, flow_run, kept, shards)
        require_fired(restored)


def test_a_database_of_a_newer_prefect_is_named(tmp_path: Path) -> None:
    service = Service(tmp_path)
    service.prepare()
    with closing(sqlite3.connect(service.database)) as database:
        database.execute("create table alembic_version (version_num varchar(32) not null)")
        database.execute("insert into alembic_version values ('0123456789ab')")
        database.commit()
    done = subprocess.run(
        [sys.executable, "-m", "segem", "serve", "--workspace", str(tmp_path), "--port", "0"],
        env=clean_environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 1
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "Can't locate revision identified by '0123456789ab'" in error
    assert "a newer version of Prefect has changed it, go back by a backup (segem restore)" in error

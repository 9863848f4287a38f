"""Blocks on a dask.distributed cluster of processes on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from segem.config import ExecutionConfig
from segem.execute.tasks import run_tasks, watched
from segem.execute.work import Outcomes, Sweep, cores
from segem.progress import is_shown, tell

REVIVE_SECONDS = 5.0
"""How often dead workers are replaced."""


def run_local_cluster(sweep: Sweep, execution: ExecutionConfig, on_voxels: Callable[[int], None]) -> Outcomes:
    """Finish blocks on worker processes of this machine; blocks lost with a dead worker are given to another."""
    # The workers share the cores; each block gets its share as threads, and every worker takes one block at a time.
    threads = max(1, cores() // execution.workers)
    with _cluster(execution.workers, sweep.scratch) as client:
        yield from run_tasks(client, sweep, on_voxels, threads)


@contextmanager
def _cluster(workers: int, scratch: Path) -> Iterator[Any]:
    import dask
    from distributed import Client, LocalCluster

    settings = {
        "distributed.worker.daemon": False,
        "distributed.comm.timeouts.connect": "60s",
        # What dask observes of itself, dozens of times a second, costs 2 to 3 % of the cores that compute.
        "distributed.worker.profile.enabled": False,
        "distributed.admin.tick.interval": "1s",
        "distributed.admin.system-monitor.interval": "5s",
    }
    with (
        tempfile.TemporaryDirectory(dir=scratch, prefix=".dask-") as folder,
        dask.config.set(settings),
        # Everything stays on loopback: dask unpickles and runs whatever it receives.
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            # segem plans memory itself; dask would pause or kill workers by an estimate of its own.
            memory_limit=0,
            local_directory=folder,
        ) as cluster,
        Client(cluster) as client,
        # dask gives up on a worker that is killed while it starts, or that is slow to restart; with no worker left, the
        # run would wait forever.
        watched(partial(cluster.scale, workers), REVIVE_SECONDS),
    ):
        if is_shown() and find_spec("bokeh"):
            tell(f"dask shows what the workers do at {cluster.dashboard_link}")
        yield client

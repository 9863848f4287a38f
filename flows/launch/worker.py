"""The worker of the service: one that holds a lease for each flow run, from before the server hears of it to its end.

The service starts it as ``python -m flows.launch.worker NAME LIMIT``, with the settings in the environment.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.workers.process import ProcessWorker

from flows.launch.deployments import POOL
from flows.launch.launcher import WORKSPACE
from flows.launch.lease import take
from flows.launch.service import Service

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun
    from prefect.workers.process import ProcessJobConfiguration, ProcessWorkerResult


class LeasingWorker(ProcessWorker):
    """Prefect's worker for processes, with a lease for each run."""

    @classmethod
    def __dispatch_key__(cls) -> str:
        """Return the name in Prefect's table of workers, where Prefect's own keeps its place."""
        return "segem-process"

    def __init__(self, leases: Path, **options: Any) -> None:
        super().__init__(**options)
        self._leases = leases
        self._held: dict[str, int] = {}

    async def _propose_pending_state(self, flow_run: FlowRun) -> bool:
        # Before the run is PENDING: a worker that is killed in between leaves a lease without a run, which is harmless.
        # The other way round it would leave a run that nobody works on and nobody can tell from a living one.
        self._held[str(flow_run.id)] = take(self._leases, str(flow_run.id))
        ready = await super()._propose_pending_state(flow_run)
        if not ready:
            self._let_go(flow_run)
        return ready

    async def run(
        self, flow_run: FlowRun, configuration: ProcessJobConfiguration, task_status: Any = None
    ) -> ProcessWorkerResult:
        """Start the process of a run and wait for its end."""
        try:
            return await super().run(flow_run, configuration, task_status)
        finally:
            self._let_go(flow_run)

    async def _submit_run_and_capture_errors(self, flow_run: FlowRun, task_status: Any = None) -> Any:
        try:
            return await super()._submit_run_and_capture_errors(flow_run, task_status)
        finally:
            # What failed before the process was to start.
            self._let_go(flow_run)

    def _let_go(self, flow_run: FlowRun) -> None:
        """Give up the lock; the reaper removes the file when it has seen how the run ended."""
        held = self._held.pop(str(flow_run.id), None)
        if held is not None:
            os.close(held)


async def work(name: str, limit: int) -> None:
    """Pick up runs and start their processes until SIGTERM or SIGINT."""
    worker = LeasingWorker(
        Service(Path(os.environ[WORKSPACE])).leases,
        name=name,
        work_pool_name=POOL,
        limit=limit,
        create_pool_if_not_found=False,
    )
    working = asyncio.ensure_future(worker.start())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, working.cancel)
    # The service holds the other end: without it there is no server, and the next service brings its own worker. The
    # processes of the runs are left at work, since they may be done when that one looks for them.
    loop.add_reader(sys.stdin, os._exit, 1)
    try:
        await working
    except asyncio.CancelledError:
        return


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], int(sys.argv[2])))

"""Runs one flow run that a worker has picked up, in this process, and holds its lease until the process ends.

The worker calls it as ``python -m flows.launch.launcher`` in place of ``python -m prefect.engine``.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

from flows.launch.lease import join
from flows.launch.service import Service, open_log

WORKSPACE = "SEGEM_SERVICE"
"""Variable that names the workspace whose service runs the flow."""
FLOW_RUN = "PREFECT__FLOW_RUN_ID"


def main() -> None:
    """Join the lease of the flow run, and run it; a run that was found dead meanwhile is left alone."""
    flow_run, service = os.environ[FLOW_RUN], Service(Path(os.environ[WORKSPACE]))
    # Held until the process is gone; nothing closes it.
    if join(service.leases / f"{flow_run}.lease") is None:
        sys.exit(f"flow run {flow_run} was found dead before it began: it is not run here")
    # Not to the worker, as Prefect would have it: who prints to a worker that was killed is stopped by that.
    log = open_log(service.flows_log)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(log, stream.fileno())
    os.close(log)
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

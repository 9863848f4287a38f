"""Where the report of a run opens from another machine: the service serves it, through the same ssh tunnel."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

REPORTS = "/reports"
"""Path under which the service serves reports."""
RUN_LABEL = "segem.run"
"""Label of a flow run: the name that its campaign has given the run of the workspace."""
VARIABLE = "SEGEM_REPORTS"
"""Variable by which the service tells flows where that is."""


def link_to_report(run: str, page: Path) -> str:
    """Return the address of a run's report: that of the service, or that of the file where no service runs the flow.

    Examples
    --------
    >>> link_to_report("monday", Path("/w/runs/monday/report/index.html"))
    'file:///w/runs/monday/report/index.html'
    """
    served = os.environ.get(VARIABLE)
    return f"{served}/{quote(run)}/{page.name}" if served else page.absolute().as_uri()


def is_watched() -> bool:
    """Return whether a service runs the flow, so that people may look at its page meanwhile."""
    return VARIABLE in os.environ

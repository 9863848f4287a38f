"""Every run of a workspace read back: what was green stays green, or is named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefect import flow

from flows.pages import show_table
from flows.steps import step
from segem.errors import IncompleteError
from segem.io.workspace import open_workspace
from segem.stages.segmentation.verify import Fault, verify


@step("verify", "verify {run}")
def verify_step(run: str, workspace: Path) -> list[Fault]:
    """Read back everything that a run was made of and has made."""
    return verify(run, open_workspace(workspace))


@flow(name="verify-weekly", flow_run_name="verify {workspace}")
def verify_weekly(workspace: Path = Path("workspace"), runs: Sequence[str] = ()) -> int:
    """Read back all data of every run, and fail with the names of those that are missing, damaged or out of date.

    Parameters
    ----------
    workspace : Path
        Root of the workspace.
    runs : sequence of str
        Names of the runs; all that there are when empty.

    Raises
    ------
    IncompleteError
        When a run is not whole; the message names each one with its faults.
    """
    space = open_workspace(workspace)
    names = list(runs) or space.runs()
    found = {run: verify_step(run, space.root) for run in names}
    rows = [
        {"run": run, "volume": fault.volume, "fault": fault.what} for run, faults in found.items() for fault in faults
    ]
    show_table(
        "verified-runs",
        rows or [{"run": run, "volume": "-", "fault": "whole"} for run in names],
        f"{len(names)} runs read back",
    )
    if rows:
        damaged = sorted({row["run"] for row in rows})
        raise IncompleteError(
            f"{len(damaged)} of {len(names)} runs are not whole",
            where=space.root,
            found="; ".join(f"{row['run']}, {row['volume']}: {row['fault']}" for row in rows),
            fix=f"segem verify {damaged[0]} --repair computes again what is damaged",
        )
    return len(names)

"""Every run of a workspace read back: what was green stays green, or is named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefect import flow

from flows.notices import told_when_red
from flows.pages import show_table
from flows.steps import step
from segem.errors import IncompleteError, SegemError
from segem.io.workspace import Workspace, open_workspace
from segem.stages.segmentation.verify import Fault, find_under_way, verify


@step("verify", "verify {run}")
def verify_step(run: str, workspace: Path) -> list[Fault]:
    """Read back everything that a run was made of and has made."""
    return verify(run, open_workspace(workspace))


@flow(name="verify-weekly", flow_run_name="verify {workspace}")
def verify_weekly(workspace: Path = Path("workspace"), runs: Sequence[str] = ()) -> int:
    """Read back all data of every run, and fail with the names of those that are missing, damaged or out of date.

    A run that a process is just making is passed over: it says itself how it ended. A failure is told like that of a
    campaign.

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
    ConfigError
        When the workspace does not say properly who is to be told.
    """
    space = open_workspace(workspace)
    with told_when_red(space.root, "the weekly look at all runs", of_run=False):
        return _look_at_all(space, list(runs) or space.runs())


def _look_at_all(space: Workspace, names: Sequence[str]) -> int:
    """Return how many runs were looked at; raise where one of them is not whole."""
    under_way = find_under_way(space)
    found = {run: _look_at(run, space.root) for run in names if run not in under_way}
    rows = [
        {"run": run, "volume": fault.volume, "fault": fault.what} for run, faults in found.items() for fault in faults
    ]
    passed_over = [
        {"run": run, "volume": "-", "fault": "passed over, a process is making it"} for run in names if run in under_way
    ]
    show_table(
        "verified-runs",
        (rows or [{"run": run, "volume": "-", "fault": "whole"} for run in found]) + passed_over,
        f"{len(found)} runs read back",
    )
    if rows:
        damaged = sorted({row["run"] for row in rows})
        raise IncompleteError(
            f"{len(damaged)} of {len(found)} runs are not whole",
            where=space.root,
            found="; ".join(f"{row['run']}, {row['volume']}: {row['fault']}" for row in rows),
            fix=f"segem verify {damaged[0]} --repair computes again what is damaged",
        )
    return len(found)


def _look_at(run: str, workspace: Path) -> list[Fault]:
    """Return the faults of a run; one that cannot be read at all does not keep the others from being looked at."""
    try:
        return verify_step(run, workspace)
    except SegemError as error:
        return [Fault("-", str(error))]

"""What the runs of each project took, from what campaigns and reviews have noted."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from segem.io.reviewed import has_log, open_log
from segem.io.workspace import Workspace
from segem.records.status import ProjectAccount, StepUsage
from segem.stages.status import USAGE, read_usage


@dataclass
class _Project:
    runs: set[str] = field(default_factory=set)
    megapixels: dict[str, float] = field(default_factory=dict)
    """Of each volume that was segmented."""
    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0
    reviewer_seconds: float = 0.0

    def add(self, run: str, usage: StepUsage) -> None:
        self.runs.add(run)
        self.cpu_seconds += usage.cpu_seconds
        self.gpu_seconds += usage.gpu_seconds
        if usage.complete and usage.step == "segment" and usage.megapixels is not None:
            self.megapixels[usage.volume] = usage.megapixels


def keep_accounts(workspace: Workspace) -> list[ProjectAccount]:
    """Return what each project of a workspace took, by name; a project is what manifests of one name make.

    Parameters
    ----------
    workspace : Workspace
        Where its runs live; those that `segem purge` has removed count no more.

    Returns
    -------
    list of ProjectAccount

    Raises
    ------
    WorkspaceError
        When the log of a review cannot be read.
    """
    projects: defaultdict[str, _Project] = defaultdict(_Project)
    for run in workspace.runs():
        steps = read_usage(workspace.run(run) / USAGE)
        for usage in steps:
            projects[usage.project].add(run, usage)
        # A run belongs to the project that drove it last; one that no campaign has driven belongs to none.
        if steps:
            projects[steps[-1].project].reviewer_seconds += _reviewer_seconds(workspace, run)
    return [
        ProjectAccount(
            project=name,
            runs=len(project.runs),
            volumes=len(project.megapixels),
            megapixels=round(sum(project.megapixels.values()), 3),
            cpu_hours=round(project.cpu_seconds / 3600, 4),
            gpu_hours=round(project.gpu_seconds / 3600, 4),
            reviewer_minutes=round(project.reviewer_seconds / 60, 2),
        )
        for name, project in sorted(projects.items())
    ]


def write_csv(accounts: Iterable[ProjectAccount]) -> str:
    r"""Return accounts as CSV, a line for each project.

    Examples
    --------
    >>> write_csv([])
    'project,runs,volumes,megapixels,cpu_hours,gpu_hours,reviewer_minutes\n'
    """
    columns: Sequence[str] = tuple(ProjectAccount.model_fields)
    text = io.StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(account.model_dump() for account in accounts)
    return text.getvalue()


def _reviewer_seconds(workspace: Workspace, run: str) -> float:
    if not has_log(workspace, run):
        return 0.0
    with open_log(workspace, run) as log:
        return sum(entry.active_seconds for entry in log.entries())

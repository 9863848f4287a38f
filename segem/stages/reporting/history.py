"""How the volumes of a run fared in the other runs of the workspace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from segem.errors import SegemError
from segem.io.runs import list_runs
from segem.io.workspace import Workspace
from segem.records.scores import Report, VolumeScores
from segem.stages.reporting.drawing import MANY, Chart, Key, Reading, Table, drawn, name_lines
from segem.stages.reporting.read import read_report
from segem.stages.reporting.words import NOTHING, say_score

MOST_RUNS = 8
"""Runs that are looked back on."""
_MOST_LINES = len(MANY)
_READING = Reading(
    shown="Membrane IoU of the model on the same voxels, in the runs of this workspace, the oldest first.",
    good="Lines that rise, or stay where they were.",
    bad="A volume that falls from one run to the next.",
    do="Compare the two runs (segem report RUN EARLIER) before you use the newer one.",
)


@dataclass(frozen=True)
class History:
    """Earlier runs, and what each volume reached in them and in this run."""

    runs: tuple[str, ...]
    """The oldest first; this run is the last."""
    ious: Mapping[str, tuple[float | None, ...]]
    """Of each volume, a value a run; None where it was not scored there on the same voxels."""


def look_back(report: Report, workspace: Workspace) -> History | None:
    """Return what the volumes of a run reached in earlier runs that have a report; None where in none.

    Parameters
    ----------
    report : Report
        Of this run.
    workspace : Workspace
        Where the runs live.
    """
    earlier: list[Report] = []
    for one in list_runs(workspace):
        if one.run == report.run or not one.created or one.created > report.created:
            continue
        # A report of another version of segem, or none at all, tells nothing here and is no fault of this run.
        try:
            found = read_report(workspace.report(one.run))
        except SegemError:
            continue
        if any(_find(volume, found) is not None for volume in report.volumes):
            earlier.append(found)
        if len(earlier) == MOST_RUNS:
            break
    if not earlier:
        return None
    runs = [*reversed(earlier), report]
    ious = {volume.name: tuple(_find(volume, one) for one in runs) for volume in report.volumes}
    return History(
        tuple(one.run for one in runs),
        {name: values for name, values in ious.items() if any(value is not None for value in values[:-1])},
    )


def draw_history(history: History) -> Chart:
    """Draw a line for each volume over the runs; of many volumes, those that changed most."""
    moved = sorted(history.ious, key=lambda name: -_spread(history.ious[name]))[:_MOST_LINES]
    shown = [name for name in history.ious if name in moved]
    across = range(len(history.runs))
    with drawn("history", 250, bottom_px=44, top_px=22 + 17 * -(-len(shown) // 3)) as ((axes,), svg):
        lines: list[Key] = []
        for colour, name in zip(MANY, shown, strict=False):
            values = [float("nan") if value is None else value for value in history.ious[name]]
            axes.plot(across, values, "-o", color=colour, markersize=4)
            lines.append(Key(name if len(name) < 16 else name[:14] + "…", colour))
        axes.set_ylim(0, 1)
        axes.set_xlim(-0.3, len(history.runs) - 0.7)
        axes.set_xticks(list(across), [str(place + 1) for place in across])
        axes.set_xlabel("run, the oldest first; this one is the last")
        name_lines(axes, lines, columns=3)
    rows = tuple(
        (name, *(NOTHING if v is None else say_score(v) for v in values)) for name, values in history.ious.items()
    )
    most = "" if len(shown) == len(history.ious) else f" Shown are the {len(shown)} volumes that changed most."
    return Chart(
        "history",
        "Earlier runs",
        f"Membrane IoU of the model in {len(history.runs)} runs.{most}",
        svg[0],
        _READING,
        Table(("Volume", *history.runs), rows),
        "Runs may have been trained on these sections: see the report of each.",
    )


def _find(volume: VolumeScores, report: Report) -> float | None:
    same = next((one for one in report.volumes if one.name == volume.name), None)
    # The same name with other voxels is another volume.
    if same is None or volume.source_digest is None or same.source_digest != volume.source_digest:
        return None
    return same.iou.model if same.iou else None


def _spread(values: tuple[float | None, ...]) -> float:
    known = [value for value in values if value is not None]
    return max(known) - min(known)

"""How volumes fared in earlier runs."""

from __future__ import annotations

import pytest

from segem.io.workspace import Workspace
from segem.records.run import RunRecord
from segem.records.scores import LayerScores, Report, Scores, VolumeScores
from segem.stages.reporting.history import draw_history, look_back
from tests.fabricate import new_workspace


def layer(iou):
    return LayerScores(iou=iou, precision=1, recall=1, rand=None, information=None)


def made(run, day, *, digest="same", iou=0.5, name="fly"):
    volume = VolumeScores(name=name, state="complete", source_digest=digest, scores=Scores(model=layer(iou)))
    created = f"2026-01-0{day}T00:00:00+00:00"
    return Report(run=run, created=created, segem_version="1", environment={}, model=None, volumes=(volume,))


def keep(workspace: Workspace, report: Report) -> Report:
    record = RunRecord(run=report.run, created=report.created, segem_version="1", environment={})
    workspace.report(report.run).mkdir(parents=True)
    (workspace.run(report.run) / "run.json").write_text(record.model_dump_json())
    (workspace.report(report.run) / "report.json").write_text(report.model_dump_json())
    return report


@pytest.fixture
def workspace(tmp_path):
    return new_workspace(tmp_path / "w")


def test_earlier_runs_on_the_same_voxels_count_and_later_ones_do_not(workspace):
    keep(workspace, made("third", 3, iou=0.6))
    keep(workspace, made("first", 1, iou=0.4))
    keep(workspace, made("other", 2, digest="other voxels"))
    keep(workspace, made("later", 9))
    now = keep(workspace, made("now", 5, iou=0.7))
    found = look_back(now, workspace)
    assert found is not None
    assert found.runs == ("first", "third", "now")
    assert found.ious == {"fly": (0.4, 0.6, 0.7)}
    chart = draw_history(found)
    assert chart.table.rows == (("fly", "0.400", "0.600", "0.700"),)


def test_a_damaged_report_of_an_earlier_run_costs_nothing(workspace):
    keep(workspace, made("first", 1))
    (workspace.report("first") / "report.json").write_text("{")
    assert look_back(keep(workspace, made("now", 5)), workspace) is None

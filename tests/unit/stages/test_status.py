"""What the status of a campaign says while it runs and when it ends, and what accounts make of it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from segem.errors import WorkspaceError
from segem.geometry import VoxelSize
from segem.io.reviewed import open_log
from segem.io.run import enter_volumes
from segem.io.volume import create_volume
from segem.io.workspace import Workspace, open_workspace
from segem.records.review import Draft, Place
from segem.records.status import CampaignStatus
from segem.stages import status as module
from segem.stages.accounts import keep_accounts, write_csv
from segem.stages.side_by_side import STEPS
from segem.stages.status import JSON, PAGE, USAGE, StatusBoard, read_usage

SHAPE = (2, 1000, 1000)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    space = open_workspace(tmp_path / "w")
    enter_volumes(space, "r", ["a", "b"])
    create_volume(
        space.volume("a"),
        shape=SHAPE,
        dtype=np.uint8,
        voxel_size=VoxelSize(50, 4, 4),
        labels={},
        attributes={},
    )
    return space


def read(workspace: Workspace) -> CampaignStatus:
    return CampaignStatus.model_validate_json((workspace.run("r") / JSON).read_text())


def page(workspace: Workspace) -> str:
    return (workspace.run("r") / PAGE).read_text()


def test_a_campaign_under_way_says_what_runs_and_how_fast_it_was(workspace: Workspace) -> None:
    with StatusBoard("r", "p", ["a", "b"], workspace) as board:
        assert [volume.state for volume in read(workspace).volumes] == ["waiting", "waiting"]
        board.begin("a", "ingest")
        time.sleep(0.01)
        board.end("a", None)
        board.begin("a", "baseline")

        one, other = read(workspace).volumes
        assert (one.state, other.state, one.megapixels) == ("running", "waiting", 2.0)
        ingest = one.steps["ingest"]
        assert ingest.seconds is not None
        assert ingest.seconds >= 0.01
        assert ingest.megapixels_per_second == pytest.approx(2.0 / ingest.seconds)
        assert [status.state for status in one.steps.values()] == ["complete", "running", "waiting", "waiting"]
        assert read(workspace).seconds_left is None, "nothing is known of the steps to come"
        assert 'http-equiv="refresh"' in page(workspace)


def test_time_left_follows_from_the_rates_so_far(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("segem.stages.status.time.monotonic", lambda: clock[0])
    board = StatusBoard("r", "p", ["a", "b"], workspace)
    for step in STEPS:
        board.begin("a", step)
        clock[0] += 5.0
        board.end("a", None)
    # One after the other: four steps of five seconds are still to come, and nothing was side by side.
    assert board.status().seconds_left == pytest.approx(20.0)
    board.begin("b", "ingest")
    clock[0] += 2.0
    assert board.status().seconds_left == pytest.approx(18.0 * min(1.0, 22.0 / 20.0))


def test_a_page_is_written_again_while_nothing_changes(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REFRESH_SECONDS", 0.01)
    with StatusBoard("r", "p", ["a"], workspace) as board:
        board.begin("a", "ingest")
        before = (workspace.run("r") / PAGE).stat().st_ino
        deadline = time.monotonic() + 30
        while (workspace.run("r") / PAGE).stat().st_ino == before:
            assert time.monotonic() < deadline
            time.sleep(0.005)


@pytest.mark.parametrize(
    ("error", "reason", "state"),
    [
        (None, None, "complete"),
        (None, "no luck", "failed"),
        (ValueError, None, "failed"),
        (KeyboardInterrupt, None, "stopped"),
    ],
)
def test_the_end_is_said(
    workspace: Workspace, error: type[BaseException] | None, reason: str | None, state: str
) -> None:
    def campaign() -> None:
        with StatusBoard("r", "p", ["a"], workspace) as board:
            board.begin("a", "ingest")
            board.end("a", reason)
            if error is not None:
                raise error

    if error is None:
        campaign()
    else:
        with pytest.raises(error):
            campaign()
    assert read(workspace).state == state
    assert "refresh" not in page(workspace)
    assert reason is None or reason in page(workspace)


def test_a_page_that_cannot_be_written_stops_no_step(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise WorkspaceError("the disk is full")

    monkeypatch.setattr(module, "write_text", refuse)
    monkeypatch.setattr(module, "append_line", refuse)
    with StatusBoard("r", "p", ["a"], workspace) as board:
        board.begin("a", "ingest")
        board.end("a", None)
    assert "r: the status is not up to date: the disk is full" in caplog.messages


def test_a_name_or_a_reason_cannot_change_the_page(workspace: Workspace) -> None:
    with StatusBoard("r", "p", ["a"], workspace) as board:
        board.begin("a", "ingest")
        board.end("a", "<script>alert(1)</script>")
    assert "<script>" not in page(workspace)


def test_accounts_add_up_what_steps_and_reviewers_took(workspace: Workspace) -> None:
    for attempt in ("failed", None):
        with StatusBoard("r", "p", ["a"], workspace, on_gpu=("segment",)) as board:
            for step in ("ingest", "segment"):
                board.begin("a", step)
                sum(range(10**6))
                board.end("a", attempt if step == "segment" else None)
        # Once before a whole line and once at the end; a power cut may leave anything.
        with (workspace.run("r") / USAGE).open("ab") as file:
            file.write(b'{"time": "cut by a full disk \xff')
    steps = read_usage(workspace.run("r") / USAGE)
    assert [(usage.step, usage.complete) for usage in steps] == [
        ("ingest", True),
        ("segment", False),
        ("ingest", True),
        ("segment", True),
    ]
    assert all(usage.cpu_seconds > 0 for usage in steps)
    with open_log(workspace, "r") as log:
        place = Place(volume="a", z=0, y=0, x=0, height=1, width=1)
        draft = Draft(id="0" * 32, kind="answer", place=place, active_seconds=90.0, detail={"answer": "yes"})
        log.append(draft, "ann", 0, lambda _: np.zeros((1, 1), bool))

    (account,) = keep_accounts(workspace)

    assert (account.project, account.runs, account.volumes, account.megapixels) == ("p", 1, 1, 2.0)
    assert account.reviewer_minutes == 1.5
    assert account.cpu_hours == pytest.approx(sum(usage.cpu_seconds for usage in steps) / 3600, abs=1e-4)
    assert write_csv([account]).splitlines()[1].startswith("p,1,1,2.0,")
    assert json.loads(account.model_dump_json())["gpu_hours"] == pytest.approx(
        sum(usage.seconds for usage in steps if usage.step == "segment") / 3600, abs=1e-4
    )

"""Enough decisions are told of once: to a Prefect server where there is one, and otherwise to the person."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segem.cli.review_goal import watch_goal
from segem.config import ReviewGoal
from segem.errors import ConfigError
from segem.io.review_standing import ReviewStanding, measure_review
from segem.io.run import enter_volumes
from segem.io.workspace import Workspace
from segem.records.review import Decision, Draft, Place
from segem.review.session import Review
from tests.fabricate import add_model, add_volume, new_workspace, tissue

RUN, NAME = "monday", "cortex"


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    workspace, (image, truth) = new_workspace(tmp_path / "w"), tissue((2, 64, 520))
    add_volume(workspace, NAME, image)
    add_model(workspace, RUN, NAME, truth * np.uint8(255))
    return workspace


def ask(space: Workspace, **goal: Any) -> None:
    enter_volumes(space, RUN, [NAME], review=ReviewGoal(**goal))
    # As a campaign leaves it.
    add_model(space, RUN, NAME, tissue((2, 64, 520))[1] * np.uint8(255))


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, str, ReviewStanding]]:
    told = list[tuple[Path, str, ReviewStanding]]()

    def announce(root: Path, run: str, standing: ReviewStanding) -> bool:
        told.append((root, run, standing))
        return True

    monkeypatch.setattr("flows.launch.review_event.announce_review", announce)
    return told


def reviewing(space: Workspace) -> tuple[Review, Callable[[int, Decision], None]]:
    """Open the review as the command does, and return what decides a region; all it has started has ended then."""
    opened = Review(space, RUN)
    opened.on_decision = watch_goal(space, RUN)

    def decide(z: int, decision: Decision) -> None:
        number, where = opened.log.head().entries, Place(volume=NAME, z=z, y=0, x=0, height=64, width=260)
        detail: dict[str, str | int] = {"decision": decision, "note": ""}
        opened.append(Draft(id=f"{number:032x}", kind="decision", place=where, detail=detail), "ana", number)
        for thread in threading.enumerate():
            if thread.name == "announce":
                thread.join()

    return opened, decide


def test_the_decision_that_is_enough_is_announced_once(
    space: Workspace, sent: list[tuple[Path, str, ReviewStanding]], capsys: pytest.CaptureFixture[str]
) -> None:
    ask(space, share=0.5, model="mine")
    opened, decide = reviewing(space)
    assert capsys.readouterr().err == "monday: 0 of 2 regions are decided\n", "half of 2 sections of 2 regions"
    decide(0, "accept")
    decide(0, "fix")
    decide(1, "unsure")
    assert sent == []
    decide(1, "reject")
    decide(1, "accept")
    opened.close()
    ((root, run, standing),) = sent
    assert (root, run) == (space.root, RUN)
    assert (standing.decided, standing.wanted, standing.model) == (2, 2, "mine")
    assert standing.head.entries == 4
    assert (
        "2 of 2 regions are decided, which is enough; mine is retrained by the Prefect server"
        in capsys.readouterr().err
    )
    # Whoever opens it again is told what is left to do, and nothing is sent a second time.
    opened, decide = reviewing(space)
    decide(0, "accept")
    opened.close()
    assert len(sent) == 1
    assert "segem retrain --from-reviews monday --out mine" in capsys.readouterr().err


@pytest.mark.parametrize("fails", [False, True])
def test_without_a_server_the_command_is_said(
    space: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fails: bool
) -> None:
    def announce(*_: object) -> bool:
        if fails:
            raise ConfigError("the Prefect server does not take the event", fix="run `segem retrain` yourself")
        return False

    monkeypatch.setattr("flows.launch.review_event.announce_review", announce)
    ask(space, regions=1, model="mine")
    opened, decide = reviewing(space)
    decide(0, "reject")
    opened.close()
    said = "the Prefect server does not take the event" if fails else "segem retrain --from-reviews monday --out mine"
    assert said in capsys.readouterr().err


def test_a_volume_that_cannot_be_read_makes_no_goal_smaller_and_no_decision_fail(
    space: Workspace, sent: list[tuple[Path, str, ReviewStanding]], capsys: pytest.CaptureFixture[str]
) -> None:
    ask(space, share=1, model="mine")
    opened, decide = reviewing(space)
    noted = space.volume(NAME) / "zarr.json"
    noted.rename(noted.with_suffix(".away"))
    decide(0, "accept")
    assert "how much is decided cannot be told" in capsys.readouterr().err
    assert sent == []
    watch_goal(space, RUN)()
    assert capsys.readouterr().err.count("cannot be told") == 2, "at the start, and after a decision"
    noted.with_suffix(".away").rename(noted)
    decide(1, "accept")
    opened.close()
    assert sent == []
    standing = measure_review(space, RUN)
    assert standing is not None
    assert (standing.decided, standing.wanted) == (2, 4)


def test_without_a_goal_nothing_is_counted_and_without_a_model_nothing_is_sent(
    space: Workspace, sent: list[tuple[Path, str, ReviewStanding]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert measure_review(space, RUN) is None
    watch_goal(space, RUN)()
    assert capsys.readouterr().err == ""
    ask(space, regions=1)
    opened, decide = reviewing(space)
    decide(0, "accept")
    opened.close()
    assert sent == []
    assert capsys.readouterr().err.splitlines()[-1] == "monday: 1 of 1 regions are decided, which is enough"


@pytest.mark.parametrize("goal", [{}, {"regions": 3, "share": 0.1}, {"regions": 0}, {"share": 1.5}])
def test_a_goal_is_a_number_of_regions_or_a_share_of_them(goal: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"regions|share"):
        ReviewGoal(**goal)

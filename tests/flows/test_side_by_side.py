"""Steps side by side in threads: what they overlap, what a failure stops, and what Ctrl-C does."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest

from flows.side_by_side import carry_out
from segem.config import ExecutionConfig
from segem.config.resources import ResourceConfig
from segem.progress import track
from segem.stages.side_by_side import STEPS, Course, Places, StepName, assign_places

LONG_S = 60.0


def two_places() -> Places:
    return assign_places(ResourceConfig(cpu=2), ExecutionConfig(), gpu=False, cores=2)


def ignore(_: Sequence[Course], __: Course, ___: Exception | None) -> None:
    pass


def test_one_is_ingested_while_another_is_computed() -> None:
    # Both wait for each other: one after the other, neither would ever end.
    meeting = threading.Barrier(2, timeout=LONG_S)

    def take(volume: str, step: StepName) -> None:
        if (volume, step) in {("a", "segment"), ("b", "ingest")}:
            meeting.wait()

    slow_start = Course("a", ahead=STEPS[2:])
    carry_out([slow_start, Course("b")], two_places(), take, ignore)


def test_a_volume_that_fails_stops_no_other_and_takes_no_further_step() -> None:
    taken, heard = [], []

    def take(volume: str, step: StepName) -> None:
        taken.append((volume, step))
        if (volume, step) == ("b", "baseline"):
            raise ValueError("no such luck")

    def hear(courses: Sequence[Course], course: Course, error: Exception | None) -> None:
        heard.append((course.volume, str(error), sum(not each.ahead for each in courses)))

    carry_out([Course("a"), Course("b"), Course("c")], two_places(), take, hear)

    for volume in "ac":
        assert [step for name, step in taken if name == volume] == list(STEPS)
    assert [step for name, step in taken if name == "b"] == ["ingest", "baseline"]
    assert [(volume, error) for volume, error, _ in heard if error != "None"] == [("b", "no such luck")]
    assert heard[-1][2] == 3


def test_what_stops_the_process_ends_the_other_steps_too() -> None:
    working = threading.Event()
    ended = []

    def take(volume: str, _: StepName) -> None:
        if volume == "a":
            assert working.wait(LONG_S)
            raise KeyboardInterrupt
        try:
            with track("work without end", None) as advance:
                working.set()
                while True:
                    advance(1)
                    time.sleep(0.001)
        except BaseException as error:
            ended.append(type(error))
            raise

    with pytest.raises(KeyboardInterrupt):
        carry_out([Course("a"), Course("b"), Course("c")], two_places(), take, ignore)

    assert ended == [KeyboardInterrupt], "the second volume was ended, and the third never begun"
    with track("later work", 1) as advance:
        advance(1)

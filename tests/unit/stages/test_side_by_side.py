"""Which steps may run side by side: limits hold, everything is finished, priorities count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segem.config import ExecutionConfig
from segem.config.resources import ResourceConfig
from segem.stages.side_by_side import STEPS, Course, Places, StepName, assign_places, choose_next

DASK = ExecutionConfig(engine="dask", workers=2)


def places_of(cpu: int | None, *, gpu: bool = False, cores: int = 8, dask: bool = False) -> Places:
    return assign_places(ResourceConfig(cpu=cpu), DASK if dask else ExecutionConfig(), gpu=gpu, cores=cores)


def at(volume: str, step: StepName, *, running: bool = False) -> Course:
    """Return a volume whose next step is this one."""
    return Course(volume, 0, STEPS[STEPS.index(step) :], running)


def names(courses: Sequence[Course]) -> list[str]:
    return [course.volume for course in courses]


@pytest.mark.parametrize(("cores", "cpu", "limit"), [(1, None, 1), (2, None, 2), (64, None, 2), (1, 3, 3), (64, 1, 1)])
def test_limits_follow_from_the_machine_unless_they_are_given(cores: int, cpu: int | None, limit: int) -> None:
    places = places_of(cpu, cores=cores)
    assert places.limits["cpu"] == places.volumes == limit


def test_the_next_volume_is_ingested_while_one_is_computed() -> None:
    computing = at("a", "segment", running=True)
    assert names(choose_next([computing, Course("b"), Course("c")], places_of(2))) == ["b"]


def test_there_is_one_net_at_a_time() -> None:
    computing, ready = at("a", "segment", running=True), at("b", "segment")
    assert choose_next([computing, ready], places_of(8)) == ()
    assert choose_next([computing, ready], places_of(8, gpu=True)) == ()
    assert names(choose_next([at("a", "score", running=True), ready], places_of(8))) == ["b"]


def test_a_gpu_leaves_the_processor_to_others() -> None:
    computing = at("a", "segment", running=True)
    others = [Course("b"), Course("c"), Course("d")]
    assert names(choose_next([computing, *others], places_of(2, gpu=True))) == ["b", "c"]
    assert names(choose_next([computing, *others], places_of(2))) == ["b"]


def test_workers_of_a_cluster_are_not_doubled_by_a_second_step() -> None:
    computing, clustered = at("a", "segment", running=True), at("b", "baseline")
    assert choose_next([computing, clustered], places_of(2, dask=True)) == ()
    assert names(choose_next([computing, clustered], places_of(2))) == ["b"]


def test_those_begun_are_finished_before_the_next_is_begun() -> None:
    courses = [at("a", "segment", running=True), at("b", "segment"), Course("c")]
    assert choose_next(courses, places_of(2)) == (), "a place is free, and two volumes are begun"
    assert names(choose_next([courses[0], at("b", "score").end(), courses[2]], places_of(2))) == ["c"]


def test_a_volume_that_failed_makes_room() -> None:
    failed = at("a", "ingest", running=True).end(failed=True)
    assert (failed.ahead, failed.begun) == ((), False)
    assert names(choose_next([failed, Course("b"), Course("c"), Course("d")], places_of(2))) == ["b", "c"]


def test_priority_counts_before_the_order_of_the_manifest() -> None:
    courses = [Course("a"), Course("b", 5), Course("c", -1), Course("d", 5)]
    assert names(choose_next(courses, places_of(8))) == ["b", "d", "a", "c"]
    assert names(choose_next(courses, places_of(1))) == ["b"]


@given(st.data())
def test_any_order_of_ends_finishes_all_within_the_limits(data: st.DataObject) -> None:
    places = places_of(
        data.draw(st.integers(1, 4)), gpu=data.draw(st.booleans()), dask=data.draw(st.booleans()), cores=4
    )
    priorities = data.draw(st.lists(st.integers(-1, 1), min_size=1, max_size=6))
    courses = {str(i): Course(str(i), priority) for i, priority in enumerate(priorities)}
    taken = []
    while any(course.ahead for course in courses.values()):
        for course in choose_next(tuple(courses.values()), places):
            courses[course.volume] = course.start()
        running = [course for course in courses.values() if course.running]
        assert running, "something is ahead and nothing runs: a deadlock"
        occupied = Counter(resource for course in running for resource in places.needs[course.ahead[0]])
        assert all(occupied[resource] <= places.limits[resource] for resource in occupied)
        assert sum(course.begun for course in courses.values()) <= places.volumes
        over = data.draw(st.sampled_from(running))
        taken.append((over.volume, over.ahead[0]))
        courses[over.volume] = over.end()
    for volume in courses:
        assert tuple(step for name, step in taken if name == volume) == STEPS

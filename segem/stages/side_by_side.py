"""Which steps of a campaign may run side by side: a plan as data, made anew whenever a step ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from segem.config import ExecutionConfig
from segem.config.resources import ResourceConfig

StepName = Literal["ingest", "baseline", "segment", "score"]
Resource = Literal["cpu", "gpu", "engine"]

STEPS: tuple[StepName, ...] = ("ingest", "baseline", "segment", "score")
"""What a campaign does with each volume, in this order."""


@dataclass(frozen=True)
class Course:
    """A volume on its way through the steps of a campaign.

    Parameters
    ----------
    volume : str
        Its name.
    priority : int
        Volumes with a higher one are taken first.
    ahead : tuple of str
        Steps that are still to come; the first of them is under way where `running`.
    running : bool
        Whether a step is under way.
    """

    volume: str
    priority: int = 0
    ahead: tuple[StepName, ...] = STEPS
    running: bool = False

    @property
    def begun(self) -> bool:
        """Whether a step was started, and not all are over."""
        return bool(self.ahead) and (self.running or self.ahead != STEPS)

    def start(self) -> Course:
        """Return the volume with its next step under way."""
        return replace(self, running=True)

    def end(self, *, failed: bool = False) -> Course:
        """Return the volume after the step that was under way; one that failed takes no further step."""
        return replace(self, running=False, ahead=() if failed else self.ahead[1:])


@dataclass(frozen=True)
class Places:
    """How many steps each resource takes at a time, and which resources a step occupies.

    Parameters
    ----------
    limits : mapping
        Places of each resource.
    needs : mapping
        The resources of which a step takes one place each.
    """

    limits: Mapping[Resource, int]
    needs: Mapping[StepName, frozenset[Resource]]

    @property
    def volumes(self) -> int:
        """Volumes that are begun and not over, at most: as many as can be worked on."""
        return self.limits["cpu"] + self.limits.get("gpu", 0)


def assign_places(resources: ResourceConfig, execution: ExecutionConfig, *, gpu: bool, cores: int) -> Places:
    """Return what each step occupies on this machine.

    Parameters
    ----------
    resources : ResourceConfig
        Limits; those that are absent follow from the machine.
    execution : ExecutionConfig
        The engine that computes blocks.
    gpu : bool
        Whether the net runs on a GPU.
    cores : int
        Cores that this process may use.

    Examples
    --------
    >>> sorted(assign_places(ResourceConfig(), ExecutionConfig(), gpu=False, cores=8).needs["segment"])
    ['cpu', 'engine']
    """
    # One net at a time, as two would not fit the memory that tiles are planned for; it keeps every core busy by itself.
    segment: set[Resource] = {"engine", "gpu"} if gpu else {"engine", "cpu"}
    # Several workers are as many as the machine is to have: a second step of block work would double them.
    baseline: set[Resource] = {"cpu"} if execution.engine == "loop" else {"cpu", "engine"}
    limits: dict[Resource, int] = {"cpu": resources.cpu or min(2, cores), "engine": 1}
    if gpu:
        limits["gpu"] = resources.gpu
    return Places(
        limits,
        {
            "ingest": frozenset({"cpu"}),
            "baseline": frozenset(baseline),
            "segment": frozenset(segment),
            "score": frozenset({"cpu"}),
        },
    )


def choose_next(courses: Sequence[Course], places: Places) -> tuple[Course, ...]:
    """Return the volumes whose next step may start now.

    A volume of higher priority is taken first, then one that comes first in the manifest. No more volumes are begun
    than can be worked on, so that those that are begun are finished before the next.

    Parameters
    ----------
    courses : sequence of Course
        All volumes in the order of the manifest, with what runs now.
    places : Places
        What the steps occupy.

    Examples
    --------
    >>> places = assign_places(ResourceConfig(cpu=2), ExecutionConfig(), gpu=False, cores=2)
    >>> a, b, c = (Course(name) for name in "abc")
    >>> [each.volume for each in choose_next((a, b, c), places)]
    ['a', 'b']
    >>> ready = replace(b, ahead=("segment", "score"))
    >>> computing = replace(a, ahead=("segment", "score"), running=True)
    >>> choose_next((computing, ready, c), places)
    ()
    >>> [each.volume for each in choose_next((computing.end(), ready, c), places)]
    ['a', 'b']
    """
    taken = Counter(r for course in courses if course.running for r in places.needs[course.ahead[0]])
    begun = sum(course.begun for course in courses)
    chosen = []
    # Sorting is stable: within one priority the order of the manifest stays.
    for course in sorted(courses, key=lambda course: -course.priority):
        if course.running or not course.ahead or (not course.begun and begun >= places.volumes):
            continue
        needed = places.needs[course.ahead[0]]
        if all(taken[resource] < places.limits[resource] for resource in needed):
            begun += not course.begun
            taken.update(needed)
            chosen.append(course)
    return tuple(chosen)

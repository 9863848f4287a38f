"""Carries out the steps of a campaign side by side, each started as soon as the plan lets it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from queue import SimpleQueue

from segem.progress import stopping
from segem.stages.side_by_side import Course, Places, StepName, choose_next

Take = Callable[[str, StepName], object]
"""Takes one step of the volume of this name, in a thread."""


def carry_out(
    courses: Sequence[Course],
    places: Places,
    take: Take,
    on_change: Callable[[Sequence[Course], Course, Exception | None], None],
) -> None:
    """Take every volume through its steps; one that fails takes no further step, and stops no other.

    Parameters
    ----------
    courses : sequence of Course
        The volumes in the order of the manifest.
    places : Places
        What may run side by side.
    take : callable
        Takes one step of one volume; tasks that it calls belong to the flow that calls this.
    on_change : callable
        Called by this thread when a step begins or has ended, with all volumes, the one it belongs to, and the error of
        a step that failed.
    """
    now = {course.volume: course for course in courses}
    ended: SimpleQueue[tuple[str, Future[object]]] = SimpleQueue()
    with ThreadPoolExecutor(len(courses), "volume") as threads:
        try:
            while any(course.ahead for course in now.values()):
                for course in choose_next(tuple(now.values()), places):
                    now[course.volume] = course.start()
                    on_change(tuple(now.values()), now[course.volume], None)
                    # The context carries the flow run that tasks belong to.
                    future = threads.submit(copy_context().run, take, course.volume, course.ahead[0])
                    future.add_done_callback(lambda future, name=course.volume: ended.put((name, future)))  # type: ignore[misc]
                name, future = ended.get()
                error = future.exception()
                # Any error at all: one volume must not stop the others. What stops the process stops them all.
                if not isinstance(error, Exception | None):
                    raise error  # noqa: TRY301 - it ends the others below
                now[name] = now[name].end(failed=error is not None)
                on_change(tuple(now.values()), now[name], error)
        except BaseException:
            # Ctrl-C or SIGTERM reaches this thread alone, and those of the steps must not finish their volumes first.
            with stopping():
                threads.shutdown(cancel_futures=True)
            raise

"""Says when as much of a run is reviewed as its manifest asks for, and lets a Prefect server know."""

from __future__ import annotations

import threading
from collections.abc import Callable

from segem.errors import SegemError
from segem.io.review_standing import ReviewStanding, measure_review
from segem.io.run import load_run
from segem.io.workspace import Workspace
from segem.progress import tell


def watch_goal(workspace: Workspace, run: str) -> Callable[[], None]:
    """Return what is to be called after each decision of a review.

    Of a run whose manifest asks for a review it counts what is decided. When that is enough, it says so once, and sends
    the event that starts a retraining where PREFECT_API_URL names a server.

    Parameters
    ----------
    workspace : Workspace
        Where the run lies.
    run : str
        Its name.

    Raises
    ------
    WorkspaceError
        When the run cannot be read.
    """
    if load_run(workspace, run).review is None:
        return lambda: None

    def measure() -> ReviewStanding | None:
        # A decision is in the log by then, and people can work: neither may fail of what cannot be counted.
        try:
            return measure_review(workspace, run)
        except SegemError as error:
            tell(f"{run}: how much is decided cannot be told: {error}")
            return None

    told, busy, at_start = False, threading.Lock(), measure()
    if at_start is not None:
        tell(f"{run}: {at_start.decided} of {at_start.wanted} regions are decided")
        told = at_start.met
        if told and at_start.model is not None:
            tell(f"to train on them: segem retrain --from-reviews {run} --out {at_start.model}")

    def decided() -> None:
        nonlocal told
        with busy:
            standing = None if told else measure()
            if standing is None or not standing.met:
                return
            told = True
        # Beside the request: whoever decides the last region does not wait for a server.
        threading.Thread(target=_announce, args=(workspace, run, standing), name="announce").start()

    return decided


def _announce(workspace: Workspace, run: str, standing: ReviewStanding) -> None:
    enough = f"{run}: {standing.decided} of {standing.wanted} regions are decided, which is enough"
    if standing.model is None:
        tell(enough)
        return
    from flows.launch.review_event import announce_review

    try:
        sent = announce_review(workspace.root, run, standing)
    except SegemError as error:
        tell(f"{enough}; error: {error}")
        return
    by_hand = f"train on them with: segem retrain --from-reviews {run} --out {standing.model}"
    tell(f"{enough}; {f'{standing.model} is retrained by the Prefect server' if sent else by_hand}")

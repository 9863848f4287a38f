"""Tells a Prefect server that enough of a run is reviewed, so that it can start what waits for that."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from flows.launch.local import PREFECT_SETTINGS
from segem.errors import ConfigError
from segem.stages.campaign import ReviewStanding

EVENT = "segem.review.enough"


def announce_review(workspace: Path, run: str, standing: ReviewStanding) -> bool:
    """Send the event that starts ``retrain-reviewed`` to the server of PREFECT_API_URL.

    Parameters
    ----------
    workspace : Path
        Root of the workspace, as the worker sees it too.
    run : str
        Name of the run.
    standing : ReviewStanding
        How far its review is.

    Returns
    -------
    bool
        Whether there is a server; it then has the event.

    Raises
    ------
    ConfigError
        When the server does not take it.
    """
    if not os.environ.get("PREFECT_API_URL"):
        return False
    for key, value in PREFECT_SETTINGS.items():
        os.environ.setdefault(key, value)
    from prefect.client.orchestration import get_client

    where = workspace.resolve()
    event = {
        # The same for the same end of the log: what is sent twice is one event.
        "id": str(uuid5(NAMESPACE_URL, f"{where}/{run}/{standing.head.digest}")),
        "occurred": datetime.now(UTC).isoformat(),
        "event": EVENT,
        "resource": {"prefect.resource.id": f"segem.run.{run}"},
        "payload": {"workspace": str(where), "run": run, "model": standing.model, "regions": standing.decided},
    }
    try:
        # By a request, which is answered, and not by Prefect's websocket, which drops events that it cannot send.
        with get_client(sync_client=True) as client:
            client.request("POST", "/events", json=[event]).raise_for_status()
    except Exception as error:
        raise ConfigError(
            "the Prefect server does not take the event that starts a retraining",
            where=os.environ["PREFECT_API_URL"],
            found=str(error) or type(error).__name__,
            fix=f"run `segem retrain --from-reviews {run} --out {standing.model or 'NAME'}` yourself",
        ) from error
    return True

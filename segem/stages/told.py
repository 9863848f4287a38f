"""What people were told of failures, so that the same is not told again and again: ``told.json`` of a workspace."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from segem.errors import WorkspaceError
from segem.io.files import write_text

TOLD = "told.json"
AGAIN_SECONDS = 24 * 3600.0
"""What has not changed is told again after so long."""


def was_told(workspace: Path, name: str, news: str) -> bool:
    """Return whether this was the last that was told of something, within the last day.

    Parameters
    ----------
    workspace : Path
        Root of the workspace.
    name : str
        What has failed.
    news : str
        What there is to say of it, or a digest of that.

    Returns
    -------
    bool
    """
    return bool(_read(workspace).get(name, {}).get("news") == news)


def note_told(workspace: Path, name: str, news: str | None) -> None:
    """Note what was told of something; a workspace that cannot be written costs no more than telling it again.

    Parameters
    ----------
    workspace : Path
        Root of the workspace.
    name : str
        What has failed.
    news : str or None
        What was told of it; None where it has gone well, after which each failure is news.
    """
    told = _read(workspace)
    if news is None and name not in told:
        return
    noted = {} if news is None else {name: {"news": news, "at": time.time()}}
    with suppress(WorkspaceError):
        write_text(workspace / TOLD, json.dumps({one: told[one] for one in told if one != name} | noted, indent=1))


def _read(workspace: Path) -> dict[str, dict[str, Any]]:
    """Return what was told within the last day, by the names of what has failed."""
    try:
        found = json.loads((workspace / TOLD).read_text(encoding="utf-8"))
        return {name: one for name, one in found.items() if time.time() - one["at"] < AGAIN_SECONDS}
    # Lost, it costs a mail that says the same again.
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}

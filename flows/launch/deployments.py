"""What `prefect.yaml` says of the deployments, read without Prefect and without a flow being imported."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import yaml

POOL = "segem-local"
"""The work pool of the deployments."""


def read_deployments() -> list[dict[str, Any]]:
    """Return the deployments as they are written there.

    Examples
    --------
    >>> [one["name"] for one in read_deployments()][:2]
    ['campaign', 'campaign-on-new-data']
    """
    text = files("flows").joinpath("prefect.yaml").read_text(encoding="utf-8")
    deployments: list[dict[str, Any]] = yaml.safe_load(text)["deployments"]
    return deployments

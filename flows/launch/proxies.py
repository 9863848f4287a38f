"""Proxies, which stand between this machine and others, and have no part in what it asks itself."""

from __future__ import annotations

import os

from segem.guard import LOOPBACK


def spare_loopback() -> dict[str, str]:
    """Return the variables that keep a proxy from what is asked of this machine, and of all that they name already.

    Examples
    --------
    >>> sorted(spare_loopback())
    ['NO_PROXY', 'no_proxy']
    """
    named = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = [host.strip() for host in named.split(",") if host.strip()]
    # An asterisk means all hosts only where it stands alone.
    spared = named if hosts == ["*"] or LOOPBACK in hosts else ",".join([*hosts, LOOPBACK])
    return {"NO_PROXY": spared, "no_proxy": spared}

"""Blocks on the workers of a dask scheduler that somebody else has started, on this machine or on others."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from segem.config import ExecutionConfig
from segem.errors import ConfigError, ServerError
from segem.execute.tasks import WorkerWatch, run_tasks, watched
from segem.execute.work import Outcomes, Sweep
from segem.progress import tell

CONNECT_SECONDS = 30
LOOK_SECONDS = 5.0
"""How often it is looked whether there are workers."""


def run_remote_scheduler(sweep: Sweep, execution: ExecutionConfig, on_voxels: Callable[[int], None]) -> Outcomes:
    """Finish blocks on the workers of a scheduler that runs already; they may come and go."""
    # Never without one: `segem.execute.run` takes this engine only where a scheduler is named.
    address = address_of(execution.cluster or "")
    with _connected(address) as client:
        yield from run_tasks(client, sweep, on_voxels)


def address_of(cluster: str) -> str:
    """Return the address of a scheduler, as given or as its scheduler file says, if it is safe to connect to.

    Parameters
    ----------
    cluster : str
        ``tls://HOST:PORT``, or the path of the file that ``dask scheduler --scheduler-file`` writes.

    Raises
    ------
    ConfigError
        When the file cannot be read, or the scheduler is neither encrypted nor on this machine.

    Examples
    --------
    >>> address_of("tcp://127.0.0.1:8786")
    'tcp://127.0.0.1:8786'
    >>> address_of("tcp://head:8786")
    Traceback (most recent call last):
    segem.errors.ConfigError: tcp://head:8786: the scheduler is on another machine and not encrypted; expected tls://...
    """
    address = _address_in(Path(cluster)) if cluster.endswith(".json") else cluster
    # dask runs whatever it receives: whoever can speak to a worker can do what its user may.
    if not (address.startswith("tls://") or _is_here(address)):
        raise ConfigError(
            "the scheduler is on another machine and not encrypted",
            where=address,
            expected="tls://",
            fix="start scheduler and workers with --protocol tls and certificates, as docs/how-to/clusters.md shows",
        )
    return address


def _address_in(file: Path) -> str:
    try:
        address = json.loads(file.read_text(encoding="utf-8"))["address"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            "this is no scheduler file",
            where=file,
            found=getattr(error, "strerror", None) or f"{type(error).__name__}: {error}",
            fix="give the file that `dask scheduler --scheduler-file` has written; it must be running",
        ) from None
    return str(address)


def _is_here(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    from distributed import Client, Security

    # All else about certificates comes from dask's own configuration, its files or environment variables.
    security = Security(require_encryption=address.startswith("tls://"))
    if address.startswith("tls://") and not security.tls_ca_file:
        raise ConfigError(
            "no certificates are configured for an encrypted scheduler",
            where=address,
            expected="distributed.comm.tls in dask's configuration",
            fix="set DASK_DISTRIBUTED__COMM__TLS__CA_FILE, ..__CLIENT__CERT and ..__CLIENT__KEY, or use ~/.config/dask",
        )
    try:
        client = Client(address, security=security, timeout=CONNECT_SECONDS, set_as_default=False)
    # Certificates that cannot be read are a ValueError or an OSError too.
    except (OSError, ValueError) as error:
        raise ServerError(
            "cannot reach the dask scheduler",
            where=address,
            found=error,
            fix="check that it runs, and that both sides use certificates of the same authority",
        ) from None
    hint = f"start some with `dask worker {address}`"
    with client, watched(WorkerWatch(client, hint), LOOK_SECONDS):
        tell(f"{len(client.nthreads())} workers at {address}")
        yield client

"""Prefect's server on the database of a service, with every deployment registered."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from flows.launch.service import PASSWORD, Service
from segem.errors import ServerError, WorkspaceError
from segem.serving import ServerConfig, listen, serve

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

PACKAGES = ("flows", "segem/config")
"""What forms of deployments are made of."""


@contextmanager
def serve_history(service: Service, port: int = 0, *, passing: bool = False) -> Iterator[tuple[str, SyncPrefectClient]]:
    """Serve Prefect on the database of a service while the body runs; the caller holds the service.

    Parameters
    ----------
    service : Service
        Whose database it is.
    port : int
        0 takes a free one.
    passing : bool
        For a moment only: without the page, without what runs in the background, and at an address that is forgotten.

    Yields
    ------
    tuple
        The address of the server, and a client of it.

    Raises
    ------
    ServerError
        When the port is taken.
    WorkspaceError
        When the server does not start, or the deployments cannot be registered.
    """
    with listen(ServerConfig(port=port)) as listener:
        before = service.address()
        settings = service.prepare(int(listener.address.rpartition(":")[2]))
        # Prefect reads its settings when it is first imported.
        os.environ.update(service.server_environment())
        from prefect.client.orchestration import get_client
        from prefect.context import refresh_global_settings_context
        from prefect.server.api.server import create_app

        from flows.launch.web import HEADERS, make_web

        refresh_global_settings_context()
        try:
            web = make_web(create_app(ephemeral=passing), service.workspace, settings[PASSWORD])
            with serve(web, listener, headers=HEADERS), get_client(sync_client=True) as client:
                _register(service)
                yield listener.address, client
        except ServerError as error:
            raise WorkspaceError(
                "Prefect's server does not start",
                where=service.home,
                found=_find_fault() or error.found,
                fix="check `segem doctor` and the free space; where the database is damaged, or a newer version of "
                "Prefect has changed it, go back by a backup (segem restore) or install that version again",
            ) from error
        finally:
            if passing:
                service.prepare(int(before.rpartition(":")[2]))


def _find_fault() -> str | None:
    """Return why the database cannot be brought up to date, which the server itself tells nobody; None where it can."""
    from prefect.server.database.dependencies import provide_database_interface

    try:
        asyncio.run(provide_database_interface().create_db())
    except Exception as error:
        return " ".join(str(error).split())
    return None


def _register(service: Service) -> None:
    """Register the deployments, unless nothing has changed since the last time: it takes as long as loading torch."""
    made_of = _fingerprint(service)
    known = service.root / "registered"
    if known.exists() and known.read_text(encoding="ascii") == made_of and service.database.exists():
        _unpause()
        return
    done = subprocess.run(  # noqa: S603 - this Python, and a path
        [sys.executable, "-m", "flows.launch.register", str(service.workspace)],
        env={**os.environ, **service.client_environment()},
        capture_output=True,
        text=True,
        start_new_session=True,
        check=False,
    )
    if done.returncode:
        raise WorkspaceError(
            "the deployments cannot be registered",
            where=service.home,
            found=(done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1],
            fix="check `segem doctor`; if Prefect was upgraded or downgraded, go back to the version before",
        )
    known.write_text(made_of, encoding="ascii")


def _unpause() -> None:
    """Let the server hand out runs again, which a service that ends puts a stop to."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolUpdate

    from flows.launch.deployments import POOL

    with get_client(sync_client=True) as client:
        client.update_work_pool(POOL, WorkPoolUpdate(is_paused=False))


def _fingerprint(service: Service) -> str:
    import flows

    root = Path(flows.__file__).parents[1]
    digest = hashlib.sha256(f"{service.workspace} {sys.executable} {version('prefect')}".encode())
    for folder in PACKAGES:
        for path in sorted((root / folder).rglob("*.*")):
            if path.suffix in {".py", ".yaml"}:
                digest.update(f"{path.relative_to(root)}".encode() + path.read_bytes())
    return digest.hexdigest()

"""What `segem doctor` says of the service of a workspace."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.metadata import version

from flows.launch.service import Service
from segem.config.notices import load_notices, require_login
from segem.errors import SegemError
from segem.stages.doctor import LOW_DISK_GB, Finding

LARGE_GB = 2.0


def check_service(service: Service) -> Iterator[Finding]:
    """Check who is told of failures, and the service without starting anything; nothing where there never was any.

    Parameters
    ----------
    service : Service
        Of the workspace.

    Yields
    ------
    Finding
        About the notices, the process, the database, the schedules and the password.
    """
    yield from _check_notices(service)
    if not service.database.exists():
        return
    process = service.running()
    text = (
        f"process {process} at {service.address()}" if process else "stopped; schedules fire while `segem serve` runs"
    )
    yield Finding("service", "ok" if process else "note", text)
    yield _check_database(service)
    yield _check_schedules(service)
    exposed = [path for path in (service.root, service.settings_file) if path.stat().st_mode & 0o077]
    if exposed:
        yield Finding("password", "bad", f"others can read {exposed[0]}; chmod go-rwx {exposed[0]}")


def _check_notices(service: Service) -> Iterator[Finding]:
    """Read who is told when a campaign fails: at the failure itself it is too late to learn that nobody is."""
    try:
        found = load_notices(service.workspace)
        require_login(found)
    except SegemError as error:
        yield Finding("notices", "bad", str(error))
        return
    told = [f"mail to {', '.join(found.mail.to)}"] if found.mail else []
    told += ["a webhook"] if found.webhook else []
    if told:
        yield Finding("notices", "ok", f"failures are told by {' and by '.join(told)}")


def _check_database(service: Service) -> Finding:
    gigabytes = sum(path.stat().st_size for path in service.home.glob("prefect.db*")) / 1e9
    free = shutil.disk_usage(service.home).free / 1e9
    text = f"{gigabytes:.2f} GB of runs and logs, {free:.0f} GB free, Prefect {version('prefect')}"
    if free < LOW_DISK_GB:
        return Finding("service data", "bad", f"{text}; free some space, or the server stops")
    if gigabytes > LARGE_GB:
        return Finding("service data", "note", f"{text}; delete old flow runs on Prefect's page")
    return Finding("service data", "ok", text)


def _check_schedules(service: Service) -> Finding:
    """Ask the server for the schedules, as they are, and not as somebody meant them to be."""
    if service.running() is None:
        return Finding("schedules", "note", "not looked at, the service is stopped; see `segem schedule list`")
    from flows.launch.schedules import list_schedules

    try:
        found = list_schedules(service)
    except SegemError as error:
        return Finding("schedules", "bad", str(error))
    active = [f"{one.name} (next {one.next})" for one in found if one.active]
    paused = len(found) - len(active)
    text = ", ".join(active) or "none is active; see `segem schedule add --help`"
    return Finding("schedules", "ok" if active else "note", text + (f"; {paused} paused" if paused else ""))

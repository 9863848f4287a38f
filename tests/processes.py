"""Starts programs for the tests and leaves none of them behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from flows.launch.local import PREFECT_SETTINGS

ROOT = Path(__file__).resolve().parents[1]


def clean_environment(**changes: str) -> dict[str, str]:
    """Return this environment without any Prefect setting but the quiet ones and `changes`."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    return {**kept, **PREFECT_SETTINGS, **changes}


@contextmanager
def started(
    command: list[str], log: Path, environment: Mapping[str, str], cwd: Path = ROOT
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in a process group of its own; whatever is left of the group in the end is killed."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=dict(environment), cwd=cwd, start_new_session=True
        )
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes], patience_s: float = 15.0) -> None:
    """End a program as a user would, then whatever it started and left behind, by force."""
    family = _family(process.pid)
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait(patience_s)


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


PATIENCE = float(os.environ.get("SEGEM_PATIENCE", "1"))
"""How many times as long as they need on a quiet machine tests wait for something to happen."""


def wait_for(what: Callable[[], bool], seconds: float, log: Path | None = None) -> None:
    """Return as soon as `what` holds; fail the test when it never does."""
    seconds *= PATIENCE
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            tail = log.read_text(errors="replace")[-3000:] if log and log.exists() else ""
            raise AssertionError(f"not within {seconds:.0f} s\n{tail}")
        time.sleep(0.2)


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def listening(pid: int) -> set[str]:
    """Return the addresses on which a process and its children accept connections."""
    connections = [c for member in _family(pid) for c in member.net_connections()]
    return {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}


def python(code: str) -> list[str]:
    """Return the command that runs `code` from the repository root."""
    return [sys.executable, "-c", code]

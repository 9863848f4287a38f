"""A systemd unit of the user that serves a workspace, from the boot of the machine on where that is allowed."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from segem.config.service import ServeConfig
from segem.errors import WorkspaceError

UNIT = """\
[Unit]
Description=segem: campaigns of {workspace}

[Service]
Type=exec
ExecStart={python} -m segem serve --workspace {quoted} --port {port} --at-once {at_once}
# A service that was killed finds everything again: what ran is continued from its ledger.
Restart=on-failure
RestartSec=5
# Only the service itself is told to stop: it ends the runs first, then the worker, then the server.
KillMode=mixed
TimeoutStopSec=120
UMask=0077

[Install]
WantedBy=default.target
"""


@dataclass(frozen=True)
class Installed:
    """A unit that was written, and what to type next."""

    unit: str
    """The file."""
    checked: str
    """What systemd says of it."""
    start: str
    """Command that starts the service, now and whenever you log in."""
    boot: str
    """Command that starts it at boot, without anybody logging in."""
    look: str
    """Command that shows the address, and where the password is kept."""
    stop: str
    """Command that stops it; what runs is finished first with `segem serve --drain`."""


def install(workspace: Path, config: ServeConfig) -> Installed:
    """Write the unit of a workspace.

    Parameters
    ----------
    workspace : Path
        Root of the workspace, absolute.
    config : ServeConfig
        Port, and how many flow runs work at a time.

    Returns
    -------
    Installed

    Raises
    ------
    WorkspaceError
        When the unit cannot be written, or systemd finds it wrong.
    """
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    text = UNIT.format(
        workspace=str(workspace).replace("%", "%%"),
        # A dollar sign begins a variable, in arguments only.
        quoted=_quote(str(workspace)).replace("$", "$$"),
        python=_quote(sys.executable),
        port=config.port,
        at_once=config.at_once,
    )
    folder = home / "systemd" / "user"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = _choose_file(folder, workspace, text)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WorkspaceError(
            "the unit cannot be written", where=folder, found=error.strerror, fix="check the rights of this folder"
        ) from error
    name = path.name
    return Installed(
        unit=str(path),
        checked=_check(path),
        start=f"systemctl --user daemon-reload && systemctl --user enable --now {name}",
        boot="loginctl enable-linger",
        look=f"journalctl --user -u {name} -n 20",
        stop=f"systemctl --user disable --now {name}",
    )


def _choose_file(folder: Path, workspace: Path, text: str) -> Path:
    """Return the file of the unit of a workspace; one of another workspace that is called alike keeps its own."""
    called = re.sub(r"[^A-Za-z0-9]+", "-", workspace.name).strip("-") or "workspace"
    plain = folder / f"segem-{called}.service"
    told_apart = folder / f"segem-{called}-{hashlib.sha256(str(workspace).encode()).hexdigest()[:8]}.service"
    described = next(line for line in text.splitlines() if line.startswith("Description="))
    if told_apart.exists():
        return told_apart
    taken = plain.exists() and described not in plain.read_text(encoding="utf-8", errors="replace").splitlines()
    return told_apart if taken else plain


def _quote(text: str) -> str:
    """Return a path as systemd reads it: a percent sign begins a specifier, spaces and quotes end a word."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if re.search(r"[\s'\"\\;]", text) else escaped


def _check(path: Path) -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        return "not checked: there is no systemd-analyze here"
    # No manual pages: they say nothing about this unit, and may not be installed. The folder is where a user's systemd
    # would keep its sockets; without a session there is none, and the check needs only its name.
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(  # noqa: S603 - systemd, and a path of ours
            [program, "verify", "--user", "--man=no", str(path)],
            env={"XDG_RUNTIME_DIR": folder, **os.environ},
            capture_output=True,
            text=True,
            check=False,
        )
    ours = [line for line in done.stderr.splitlines() if path.name in line]
    if done.returncode and ours:
        raise WorkspaceError(
            "systemd finds the unit wrong", where=path, found="; ".join(ours), fix="correct it there, by hand"
        )
    return "systemd-analyze verify finds nothing wrong" if not done.returncode else "could not be checked here"

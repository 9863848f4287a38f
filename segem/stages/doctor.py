"""Says what segem finds on this machine, what is missing and how to get it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import tempfile
from dataclasses import dataclass
from typing import Literal

from segem.errors import SegemError
from segem.io.workspace import Workspace
from segem.learn.artefact import list_models
from segem.learn.engine import gpu_name

PACKAGES = (
    "prefect",
    "fastapi",
    "sqlalchemy",
    "pydantic",
    "torch",
    "monai",
    "zarr",
    "tifffile",
    "dask",
    "scikit-learn",
)
FASTER = {
    "openvino": "nets run slower on a CPU without it, and 8-bit inference needs it",
    "nncf": "8-bit inference needs it",
}
LOW_DISK_GB = 5.0


_version = importlib.metadata.version


@dataclass(frozen=True)
class Finding:
    """One line of the examination."""

    topic: str
    state: Literal["ok", "note", "bad"]
    text: str


def doctor(workspace: Workspace) -> list[Finding]:
    """Return what was found; segem can work when none of it is ``bad``."""
    findings = [Finding("python", "ok", f"{platform.python_version()} on {platform.platform(terse=True)}")]
    for package in PACKAGES:
        try:
            findings.append(Finding(package, "ok", _version(package)))
        except importlib.metadata.PackageNotFoundError:
            findings.append(Finding(package, "bad", "not installed; install segem again"))
    for package, gain in FASTER.items():
        found = importlib.util.find_spec(package) is not None
        missing = f"not installed; {gain}. Get it with pip install -e '.[cpu]' in the clone of segem"
        findings.append(Finding(package, "ok" if found else "note", _version(package) if found else missing))
    cores = len(os.sched_getaffinity(0))
    findings.append(Finding("cpu", "ok", f"{cores} cores"))
    gpu = gpu_name()
    findings.append(Finding("gpu", "ok" if gpu else "note", gpu or "none; inference runs on the CPU"))
    models = sorted({name for name, _ in list_models(workspace)})
    findings.append(
        Finding("models", "ok" if models else "bad", ", ".join(models) or "none; the installation is incomplete")
    )
    try:
        workspace.prepare()
        with tempfile.TemporaryFile(dir=workspace.root):
            free = shutil.disk_usage(workspace.root).free / 1e9
        state: Literal["ok", "note"] = "ok" if free > LOW_DISK_GB else "note"
        findings.append(Finding("workspace", state, f"{workspace.root} is writable, {free:.0f} GB free"))
    except (SegemError, OSError) as error:
        findings.append(Finding("workspace", "bad", str(error)))
    server = os.environ.get("PREFECT_API_URL")
    findings.append(Finding("prefect server", "ok", server or "none set; `segem run` starts a private one on loopback"))
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    findings.append(
        Finding("browser", "ok" if browser else "note", browser or "no Chromium; only the page tests need it")
    )
    return findings

"""Checks what segem finds on this machine, what is missing and how to get it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from dataclasses import dataclass
from typing import Literal

from segem.errors import SegemError
from segem.io.workspace import Workspace, check_writable
from segem.learn.artefact import list_models
from segem.learn.engine import gpu_name
from segem.learn.processor import NO_BYTE_UNITS, find_byte_units

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
GET_FASTER = "Get it with pip install -e '.[cpu]' in the clone of segem"
LOW_DISK_GB = 5.0


State = Literal["ok", "note", "bad"]


@dataclass(frozen=True)
class Finding:
    """One thing that was checked."""

    topic: str
    state: State
    text: str


def doctor(workspace: Workspace) -> list[Finding]:
    """Check the installation and the machine; segem can work when no finding is ``bad``."""
    server = os.environ.get("PREFECT_API_URL") or "none set; `segem run` starts a private one on loopback"
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    gpu = gpu_name()
    return [
        Finding("python", "ok", f"{platform.python_version()} on {platform.platform(terse=True)}"),
        *(_check_package(name, "bad", "not installed; install segem again") for name in PACKAGES),
        *(_check_package(name, "note", f"not installed; {gain}. {GET_FASTER}") for name, gain in FASTER.items()),
        Finding("cpu", "ok", f"{len(os.sched_getaffinity(0))} cores"),
        _check_byte_units(),
        Finding("gpu", "ok" if gpu else "note", gpu or "none; inference runs on the CPU"),
        _check_models(workspace),
        _check_workspace(workspace),
        Finding("prefect server", "ok", server),
        Finding("browser", "ok" if browser else "note", browser or "no Chromium; only the page tests need it"),
    ]


def _check_package(name: str, state: State, missing: str) -> Finding:
    """Report the version of a package, or `state` and what to do where it is missing."""
    try:
        return Finding(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, state, missing)


def _check_byte_units() -> Finding:
    units = find_byte_units()
    if units is None:
        return Finding("8 bits", "note", "this system does not tell; measure with `segem bench`")
    if units:
        return Finding("8 bits", "ok", f"the processor multiplies in 8 bits ({', '.join(units)})")
    return Finding("8 bits", "note", NO_BYTE_UNITS)


def _check_models(workspace: Workspace) -> Finding:
    models = sorted({name for name, _ in list_models(workspace)})
    return Finding("models", "ok" if models else "bad", ", ".join(models) or "none; the installation is incomplete")


def _check_workspace(workspace: Workspace) -> Finding:
    # Nothing is made: whoever asks what is missing has not decided yet where the workspace is to be.
    there = next(place for place in (workspace.root, *workspace.root.absolute().parents) if place.exists())
    try:
        check_writable(there)
        workspace.check()
        free = shutil.disk_usage(there).free / 1e9
    except (SegemError, OSError) as error:
        return Finding("workspace", "bad", str(error))
    what = "is writable" if there == workspace.root else "can be made"
    return Finding("workspace", "ok" if free > LOW_DISK_GB else "note", f"{workspace.root} {what}, {free:.0f} GB free")

"""One measurement in a process of its own: the task goes in as a file, the figures come out as a file."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from contenders.case import Case, Stack, make_net, make_volume

EDGE_PX = 128
"""How far from the edge of the image the inner part begins, where padding plays no role."""
PATIENCE_SECONDS = 3600


class MeasurementError(Exception):
    """A contender could not be measured, and why."""


def call(task: dict[str, Any], kill_after: float | None = None) -> dict[str, Any]:
    """Carry out a task in a new process and return its figures.

    Parameters
    ----------
    task : dict
        What `carry_out` takes.
    kill_after : float, optional
        Kill the process so many seconds after it has begun to predict.

    Raises
    ------
    MeasurementError
        With the last line that the process wrote.
    """
    threads = str(task["case"]["threads"])
    with tempfile.TemporaryDirectory() as folder:
        files = {name: str(Path(folder) / name) for name in ("figures", "begun")}
        path = Path(folder) / "task.json"
        path.write_text(json.dumps(task | files), encoding="utf-8")
        with (Path(folder) / "log").open("w+b") as log:
            process = subprocess.Popen(
                [sys.executable, sys.argv[0], "--carry-out", str(path)],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
            )
            if kill_after is not None:
                while not Path(files["begun"]).exists() and process.poll() is None:
                    time.sleep(0.01)
                time.sleep(kill_after)
                os.killpg(process.pid, signal.SIGKILL)
                if process.wait() != -signal.SIGKILL:
                    raise MeasurementError("it was over before it could be killed")
                return {}
            try:
                process.wait(PATIENCE_SECONDS)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
            log.seek(0)
            lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
        if process.returncode:
            raise MeasurementError(_reason(lines) or f"exit code {process.returncode}")
        figures: dict[str, Any] = json.loads(Path(files["figures"]).read_text(encoding="utf-8"))
    return figures


def _reason(lines: list[str]) -> str:
    """Return what a traceback ends with, which may have several lines."""
    ends = [i for i, line in enumerate(lines) if re.match(r"[\w.]*(Error|Exception|Killed)\b", line)]
    return " ".join(" ".join(lines[ends[-1] if ends else -1 :]).split())[:300]


def carry_out(path: Path) -> None:
    """Carry out the task in a file, in this process."""
    task = json.loads(path.read_text(encoding="utf-8"))
    case = Case(**{**task["case"], "folder": Path(task["case"]["folder"])})
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: case.threads])
    torch.set_num_threads(case.threads)
    figures = {"prepare": _prepare, "time": _time, "memory": _memory, "sweep": _sweep}[task["kind"]](task, case)
    Path(task["figures"]).write_text(json.dumps(figures), encoding="utf-8")


def _prepare(task: dict[str, Any], case: Case) -> dict[str, Any]:
    shutil.rmtree(case.workspace.root / "runs", ignore_errors=True)  # of earlier measurements
    make_volume(case.folder, Path(task["source"]), task["size"])
    make_net(case)
    for sections in task["depths"]:
        case.stack(sections).make(with_reference=sections in task["references"])
    return {}


def _time(task: dict[str, Any], case: Case) -> dict[str, Any]:
    started = time.perf_counter()
    run = _Run(task, case)
    on_disk = run.contender.read is not None
    run(case.stack(1))
    first = time.perf_counter() - started
    stack = case.stack(task["disk_sections" if on_disk else "sections"])
    seconds, returned, folder = run.predict(stack)
    startup = 0.0
    if on_disk:
        # What twice the sections take more is the pace; the rest of a call does not depend on their number.
        half = run.predict(case.stack(task["disk_sections"] // 2))[0]
        startup = max(0.0, 2 * half - seconds)
    probabilities = run.probabilities(stack, returned, folder)
    differs = np.abs(probabilities - stack.reference)
    inside = differs[:, EDGE_PX:-EDGE_PX, EDGE_PX:-EDGE_PX]
    megapixels = stack.input.numel() / 1e6
    return {
        "megapixels_per_second": megapixels / seconds,
        "steady": megapixels / (seconds - startup),
        "startup_seconds": startup,
        "first_call_seconds": first,
        "difference": float(differs.max()),
        "difference_inside": float(inside.max()) if inside.size else None,
        "class_differs": float(((probabilities >= 0.5) != (stack.reference >= 0.5)).mean()),
        "peak_mb": _peak_mb(),
    }


def _memory(task: dict[str, Any], case: Case) -> dict[str, Any]:
    run = _Run(task, case)
    idle = _peak_mb()
    run.predict(case.stack(task["sections"]))
    return {"peak_mb": _peak_mb(), "before_mb": idle}


def _sweep(task: dict[str, Any], case: Case) -> dict[str, Any]:
    run = _Run(task, case)
    Path(task["begun"]).touch()
    seconds, probabilities = run(case.stack(task["sections"]), Path(task["out"]))
    return {"seconds": seconds, "digest": hashlib.sha256(np.ascontiguousarray(probabilities).data).hexdigest()}


class _Run:
    """A contender that has started."""

    def __init__(self, task: dict[str, Any], case: Case) -> None:
        from contenders import BY_NAME

        self.contender = BY_NAME[task["contender"]]
        self._predict = self.contender.start(case)
        self._scratch = tempfile.TemporaryDirectory(prefix="out-")

    def predict(self, stack: Stack, folder: Path | None = None) -> tuple[float, Any, Path]:
        """Return the seconds it took, what was returned, and where it may have written."""
        if self.contender.read is None:
            _ = stack.input  # what works in memory finds it there
        folder = folder or Path(tempfile.mkdtemp(dir=self._scratch.name))
        folder.mkdir(exist_ok=True)
        started = time.perf_counter()
        returned = self._predict(stack, folder)
        return time.perf_counter() - started, returned, folder

    def probabilities(self, stack: Stack, returned: Any, folder: Path) -> NDArray[np.float32]:
        """Return what was predicted, (N, H, W)."""
        if self.contender.read is not None:
            return self.contender.read(stack, folder)
        logits = torch.as_tensor(np.asarray(returned)).float().reshape(stack.input.squeeze(1).shape)
        return torch.sigmoid(logits).numpy()

    def __call__(self, stack: Stack, folder: Path | None = None) -> tuple[float, NDArray[np.float32]]:
        """Return the seconds it took, and probabilities (N, H, W)."""
        seconds, returned, folder = self.predict(stack, folder)
        return seconds, self.probabilities(stack, returned, folder)


def _peak_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return round(int(line.split()[1]) / 1024, 1)
    return float("nan")

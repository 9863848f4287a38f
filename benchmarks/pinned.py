"""Trainings side by side, one to a core, each measured by its own processor time."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace

import segem.learn.train
from segem.progress import track


def run_pinned(commands: Mapping[str, Sequence[str]], logs: Path) -> None:
    """Run commands in processes of their own, as many at a time as there are cores; what each says goes to its log."""
    cores: SimpleQueue[int] = SimpleQueue()
    for core in sorted(os.sched_getaffinity(0)):
        cores.put(core)

    def one(name: str) -> None:
        core = cores.get()
        try:
            with (logs / f"{name}.log").open("w") as log:
                command = ["taskset", "-c", str(core), *commands[name]]
                environment = {**os.environ, "OMP_NUM_THREADS": "1"}
                subprocess.run(command, env=environment, stdout=log, stderr=log, check=False)
        finally:
            cores.put(core)

    with ThreadPoolExecutor(cores.qsize()) as pool, track("train", len(commands), "model") as advance:
        for future in [pool.submit(one, name) for name in commands]:
            future.result()
            advance(1)


def run_resumable(name: str, command: Sequence[str], logs: Path, *, account: Path, pause: Path | None) -> None:
    """Run one command on one core, stopped while the file `pause` exists, and add its processor time to an account.

    When this process is told to end, so is the command, which must go on from where it was when it is run again.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (logs / "driver.lock").open("w") as lock, (logs / f"{name}.log").open("a") as log:
        # Another one that is just ending is waited for.
        fcntl.flock(lock, fcntl.LOCK_EX)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
        core = str(max(os.sched_getaffinity(0)))
        process = subprocess.Popen(
            ["taskset", "-c", core, *command], env=environment, stdout=log, stderr=log, preexec_fn=_end_with_parent
        )
        used, paused, status = 0.0, False, None
        try:
            while status is None:
                if paused != (pause is not None and pause.exists()):
                    paused = not paused
                    process.send_signal(signal.SIGSTOP if paused else signal.SIGCONT)
                time.sleep(1)
                status, used = _ended(process.pid)
        finally:
            if status is None:
                process.kill()
                _, status, usage = os.wait4(process.pid, 0)
                used = usage.ru_utime + usage.ru_stime
            process.returncode = os.waitstatus_to_exitcode(status)
            known = json.loads(account.read_text()) if account.is_file() else {}
            known[name] = round(known.get(name, 0) + used / 60, 1)
            account.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
        print(f"{name}: {'done' if process.returncode == 0 else f'failed, see {log.name}'}", flush=True)


def _ended(pid: int) -> tuple[int | None, float]:
    """Return how a process ended, None while it runs, and the seconds of processor time that it took."""
    found, status, usage = os.wait4(pid, os.WNOHANG)
    return (status, usage.ru_utime + usage.ru_stime) if found else (None, 0.0)


def _end_with_parent() -> None:
    # Also when the parent is killed at once: nobody would be left to stop it.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def count_processor_time() -> None:
    """Let the budget of a training in this process be processor time, so that other programs cost it nothing."""
    segem.learn.train.time = SimpleNamespace(monotonic=time.process_time)  # type: ignore[assignment, attr-defined]

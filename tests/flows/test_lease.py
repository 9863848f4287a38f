"""What tells a living flow run from a dead one: a lock that the system gives back, not an event."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from flows.launch.lease import Lease, expired, join, leases_in, take
from segem.io.holder import this_process
from tests.processes import ROOT, clean_environment

HOLD = """
import sys, time
from pathlib import Path
from flows.launch.lease import join, take
folder = Path(sys.argv[1])
held = take(folder, "run") if sys.argv[2] == "take" else join(folder / "run.lease")
print("gone" if held is None else "held", flush=True)
time.sleep(60 if held is not None else 0)
"""


def hold(folder: Path, how: str) -> subprocess.Popen[str]:
    """Return a process that holds the lease until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), how],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=clean_environment(),
    )
    assert process.stdout.readline().strip() == "held"
    return process


def is_expired(folder: Path) -> bool:
    with expired(Lease(folder / "run.lease")) as dead:
        return dead


def kill(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def test_nobody_joins_a_closed_lease_until_it_is_taken_again(tmp_path: Path) -> None:
    os.close(take(tmp_path, "run"))
    (lease,) = leases_in(tmp_path)
    holders = lease.holders()
    assert not lease.is_closed()
    lease.close()
    assert lease.is_closed()
    assert lease.holders() == holders
    assert join(lease.path) is None
    assert is_expired(tmp_path)
    os.close(take(tmp_path, "run"))
    assert not lease.is_closed()
    descriptor = join(lease.path)
    assert descriptor is not None
    os.close(descriptor)


def test_a_lease_is_held_until_the_last_of_its_processes_is_gone(tmp_path: Path) -> None:
    assert not is_expired(tmp_path), "there is none yet: nobody has picked the run up"
    worker = hold(tmp_path, "take")
    run = hold(tmp_path, "join")
    assert not is_expired(tmp_path)
    (lease,) = leases_in(tmp_path)
    assert [one.pid for one in lease.holders()] == [worker.pid, run.pid]
    assert lease.worker_lives()
    assert lease.process().pid == run.pid

    kill(worker)
    assert not is_expired(tmp_path), "the run outlives its worker"
    assert not lease.worker_lives()
    kill(run)
    assert is_expired(tmp_path)
    assert lease.process() is None


def test_a_run_whose_worker_died_before_it_began_is_dead_and_does_not_begin(tmp_path: Path) -> None:
    worker = hold(tmp_path, "take")
    kill(worker)
    with expired(Lease(tmp_path / "run.lease")) as dead:
        assert dead
        late = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path), "join"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=clean_environment(),
        )
        # It waits for the lock, or comes after it: either way it must not work on what was found dead.
        time.sleep(0.5)
        (tmp_path / "run.lease").unlink()
    assert late.communicate(timeout=120)[0].strip() == "gone"


def test_a_lease_that_is_taken_again_forgets_who_held_it(tmp_path: Path) -> None:
    os.close(take(tmp_path, "run"))
    (tmp_path / "run.lease").write_text("nobody\n")
    held = take(tmp_path, "run")
    assert Lease(tmp_path / "run.lease").holders() == [this_process()]
    os.close(held)


def test_a_lease_that_names_nobody_is_one_of_a_worker_killed_at_once(tmp_path: Path) -> None:
    (tmp_path / "run.lease").touch()
    assert is_expired(tmp_path)
    assert not Lease(tmp_path / "run.lease").worker_lives()


def test_a_lease_of_another_machine_is_never_found_expired(tmp_path: Path) -> None:
    (tmp_path / "run.lease").write_text(replace(this_process(), host="elsewhere").text() + "\n")
    assert not is_expired(tmp_path)

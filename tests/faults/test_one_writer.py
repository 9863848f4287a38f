"""Of two processes that write one result, the second is refused and told who is in the way."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
import time
from itertools import count
from pathlib import Path

import pytest

from segem.cli import main
from tests.faults import harness
from tests.faults.conftest import Undisturbed


def segment_by_command(root: Path) -> None:
    """Do as the command line does, with stderr in a file."""
    with (root / f"{os.getpid()}.err").open("w") as errors:
        os.dup2(errors.fileno(), 2)
        sys.argv = ["segem", "segment", "noise", "--model", "tiny", "--run", "r", "--workspace", str(root)]
        main()


def is_held(lock: Path) -> bool:
    with lock.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.mark.slow
def test_a_second_process_is_refused_while_the_first_one_lives(undisturbed: Undisturbed, tmp_path: Path) -> None:
    refused = 0
    for attempt in count():
        if refused == max(4, harness.TIMES * 2 // 5):
            break
        assert attempt < 100, "the first one is always done before it can be stopped"
        workspace = undisturbed.copy(tmp_path / str(attempt))
        first = undisturbed.context.Process(target=harness.segment_noise, args=(workspace.root,))
        first.start()
        assert first.pid is not None
        lock = workspace.run("r") / ".noise.volume.lock"
        while not (lock.exists() and lock.read_text()) and first.is_alive():
            time.sleep(0.001)
        os.kill(first.pid, signal.SIGSTOP)
        try:
            if not is_held(lock):
                # On a busy machine it may be done before it is stopped.
                continue
            second = undisturbed.context.Process(target=segment_by_command, args=(workspace.root,))
            second.start()
            second.join()
            error = (workspace.root / f"{second.pid}.err").read_text().splitlines()
        finally:
            os.kill(first.pid, signal.SIGCONT)
            first.join()
        assert first.exitcode == 0
        assert harness.output_digest(workspace) == undisturbed.digest, "the first one is not disturbed"
        assert (second.exitcode, len(error)) == (1, 1), error
        assert error[0].startswith("error: ")
        assert f"process {first.pid} on {socket.gethostname()}" in error[0]
        assert "Fix: wait" in error[0]
        refused += 1

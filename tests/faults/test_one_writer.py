"""Of two processes that write one result, the second is refused and told who is in the way."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
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


@pytest.mark.slow
def test_a_second_process_is_refused_while_the_first_one_lives(undisturbed: Undisturbed, tmp_path: Path) -> None:
    refused = 0
    for attempt in range(max(4, harness.TIMES * 2 // 5)):
        workspace = undisturbed.copy(tmp_path / str(attempt))
        first = undisturbed.context.Process(target=harness.segment_noise, args=(workspace.root,))
        first.start()
        assert first.pid is not None
        lock = workspace.run("r") / ".noise.volume.lock"
        while not (lock.exists() and lock.read_text()) and first.is_alive():
            time.sleep(0.001)
        os.kill(first.pid, signal.SIGSTOP)
        try:
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
    assert refused >= 4

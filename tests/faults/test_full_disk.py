"""A disk that is full, at whichever write, ends a run with one clear line; with space it goes on as if nothing was."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from segem.cli import main
from segem.io.workspace import Workspace
from segem.stages.segmentation.verify import verify
from tests.faults import harness
from tests.faults.conftest import Undisturbed

KTH = sorted({round(1 + 49 * n / max(1, harness.TIMES - 1)) for n in range(harness.TIMES)})
"""Of 1 to 50; all of them when the machine shall do its worst."""


def segment_by_command(root: Path, errors: Path) -> None:
    """Segment by the command line, and let what it says on stderr go to a file."""
    with errors.open("w") as file:
        os.dup2(file.fileno(), 2)
    options = {"--model": "tiny", "--runtime": "torch", "--run": "r", "--workspace": str(root)}
    sys.argv = ["segem", "segment", "noise", *chain.from_iterable(options.items())]
    main()


def segment_until_full(root: Path, kth: int) -> None:
    """Segment by the command line in a process for which the disk is full from the k-th file on."""
    seen = 0
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT

    def full(event: str, args: tuple[object, ...]) -> None:
        nonlocal seen
        creates = event in ("os.mkdir", "os.rename") or (event == "open" and int(args[2] or 0) & writing)  # type: ignore[call-overload]
        if creates and str(root) in str(args[0]) and "runs" in str(args[0]):
            seen += 1
            if seen >= kth:
                raise OSError(errno.ENOSPC, "No space left on device", str(args[0]))

    sys.addaudithook(full)
    segment_by_command(root, root / "stderr")


def require_clear_end(undisturbed: Undisturbed, workspace: Workspace, code: int | None) -> bool:
    """Check that a run without space said so and counts as unfinished; tell whether it ran out at all."""
    if code == 0:
        assert harness.output_digest(workspace) == undisturbed.digest, "done is done"
        return False
    error = (workspace.root / "stderr").read_text().splitlines()
    assert code == 1, error
    assert len(error) == 1, error
    assert error[0].startswith("error: ")
    assert "Fix: " in error[0]
    assert any(word in error[0] for word in ("No space left", "disk is full", "unable to open database")), error
    if (workspace.run("r") / "run.json").is_file():
        assert verify("r", workspace) != [], "what ran out of space never counts as done"
    return True


@pytest.mark.slow
@pytest.mark.parametrize("kth", KTH)
def test_no_space_from_the_kth_file_on(undisturbed: Undisturbed, tmp_path: Path, kth: int) -> None:
    workspace = undisturbed.copy(tmp_path / "workspace")
    process = undisturbed.context.Process(target=segment_until_full, args=(workspace.root, kth))
    process.start()
    process.join()
    assert require_clear_end(undisturbed, workspace, process.exitcode), "fifty files are fewer than a run needs"
    kept = harness.finished_blocks(workspace)
    harness.run_to_the_end(undisturbed.context, harness.segment_noise, workspace.root)
    assert harness.last_counts(workspace) == (harness.BLOCKS - kept, kept)
    assert harness.output_digest(workspace) == undisturbed.digest


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a disk of 16 MB of its own; only root may make one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if made.returncode != 0:
        pytest.skip(f"no disk of its own: {made.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
def test_no_space_on_a_real_disk(undisturbed: Undisturbed, small_disk: Path) -> None:
    used = sum(file.stat().st_blocks * 512 for file in undisturbed.reference.run("r").rglob("*") if file.is_file())
    ran_out, errors = 0, small_disk.parent / "stderr"
    for kth in KTH:
        workspace = undisturbed.copy(small_disk / "workspace")
        ballast = small_disk / "ballast"
        leave = used * kth // 50
        free = shutil.disk_usage(small_disk).free
        ballast.write_bytes(bytes(max(0, free - leave)))
        process = undisturbed.context.Process(target=segment_by_command, args=(workspace.root, errors))
        process.start()
        process.join()
        ballast.unlink()
        shutil.copy(errors, workspace.root / "stderr")
        ran_out += require_clear_end(undisturbed, workspace, process.exitcode)
        kept = harness.finished_blocks(workspace)
        harness.run_to_the_end(undisturbed.context, harness.segment_noise, workspace.root)
        assert harness.last_counts(workspace) == (harness.BLOCKS - kept, kept)
        assert harness.output_digest(workspace) == undisturbed.digest
        shutil.rmtree(workspace.root)
    assert ran_out >= len(KTH) // 2

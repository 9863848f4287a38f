"""What all tests share: how long they compute, where real data lie, and what is said of tests that could not run."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from segem.progress import warnings_told

# Timings on a busy machine say nothing; on a build machine the same examples must come up every time.
settings.register_profile("segem", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.register_profile("proof", deadline=None, max_examples=2000)
settings.load_profile("segem")

# What a test reads is plain text of one width, even where a build machine asks for colour, and xdist for 80 columns.
# typer looks at these when it is imported.
for name in ("COLUMNS", "FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS"):
    os.environ.pop(name, None)

# In the background of a script, tests and the processes they start would inherit that Ctrl-C is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

# With a worker for each core, a second thread of one would only take the core of another. torch is not imported yet.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def warnings_on_stderr() -> Iterator[None]:
    """Print what stages warn of, as the command line does, for tests that call a stage themselves."""
    with warnings_told():
        yield


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Keep tiny nets from waiting for threads that share a busy machine."""
    # Not for every test: most need no torch, which takes a second to import.
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end what was not tested on this machine, and why."""
    reasons = Counter(report.longrepr[2] for report in terminalreporter.stats.get("skipped", ()))
    if reasons:
        terminalreporter.section("not tested here", sep="!", yellow=True, bold=True)
    for reason, tests in sorted(reasons.items()):
        terminalreporter.write_line(f"{tests} skipped: {reason.removeprefix('Skipped: ')}")


@pytest.fixture(scope="session")
def em_data() -> Path:
    """Return the folder of real EM stacks, or skip the test and say why."""
    folder = Path(os.environ.get("SEGEM_TEST_DATA", ROOT / ".." / "shared" / "data")).resolve()
    if not (folder / "isbi2012" / "train-volume.tif").is_file():
        pytest.skip(f"no real EM data at {folder}; set SEGEM_TEST_DATA")
    return folder

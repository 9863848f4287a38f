"""Fixtures every room of the tests shares."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from segem.progress import warnings_told

# Timings on a busy machine say nothing; on a build machine the same examples must come up every time.
settings.register_profile("segem", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("segem")

# In the background of a script, tests and the processes they start would inherit that Ctrl-C is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def warnings_on_stderr() -> Iterator[None]:
    """Print what stages warn of, as the command line does, for tests that call a stage themselves."""
    with warnings_told():
        yield


@pytest.fixture(scope="session")
def em_data() -> Path:
    """Return the folder of real EM stacks, or skip the test and say why."""
    folder = Path(os.environ.get("SEGEM_TEST_DATA", ROOT / ".." / "shared" / "data")).resolve()
    if not (folder / "isbi2012" / "train-volume.tif").is_file():
        pytest.skip(f"no real EM data at {folder}; set SEGEM_TEST_DATA")
    return folder

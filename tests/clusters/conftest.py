"""A SLURM for the tests of jobs."""

from __future__ import annotations

from collections.abc import Iterator

import dask
import pytest

from tests.clusters.slurm_machine import Slurm, slurm
from tests.processes import ROOT


# Not for longer: what the tests of other files start must not find this environment.
@pytest.fixture(scope="module")
def slurm_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with pytest.MonkeyPatch.context() as patch:
        # dask-jobqueue writes a file into the user's configuration when it is imported.
        patch.setattr(dask.config, "PATH", str(tmp_path_factory.mktemp("dask-configuration")))
        # Jobs begin with this environment.
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("OMP_NUM_THREADS", "1")
        with slurm() as machine:
            yield machine

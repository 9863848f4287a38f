"""An ingest that is killed with SIGKILL leaves no half volume, and the next one ends at the same bytes."""

from __future__ import annotations

import hashlib
import random
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import tifffile

from segem.config import IngestConfig, LabelSource
from segem.errors import InputError
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.stages.volumes.ingest import ingest
from tests.faults import harness

SHAPE = (48, 300, 300)


def ingest_noise(root: Path) -> None:
    """Ingest the stack beside a workspace, with its labels."""
    labels = LabelSource(source=root.parent / "labels.tif", membrane="nonzero")
    config = IngestConfig(name="v", source=root.parent / "raw.tif", voxel_nm=(50, 4, 4), labels=labels)
    ingest(config, Workspace(root))


def digest_of(volume: Path) -> str:
    """Return the sha256 of all chunks and of the metadata, but for times."""
    digest = hashlib.sha256()
    for file in sorted(path for path in volume.rglob("*") if path.is_file()):
        digest.update(str(file.relative_to(volume)).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a stack, labels, and what an undisturbed ingest makes of them."""
    folder = tmp_path_factory.mktemp("sources")
    rng = np.random.default_rng(0)
    tifffile.imwrite(folder / "raw.tif", rng.integers(0, 256, SHAPE, np.uint8), photometric="minisblack")
    tifffile.imwrite(folder / "labels.tif", rng.integers(0, 2, SHAPE, np.uint8), photometric="minisblack")
    return folder


@pytest.mark.slow
def test_a_killed_ingest_leaves_nothing_half_done(sources: Path) -> None:
    context = harness.processes()
    seconds = harness.run_to_the_end(context, ingest_noise, sources / "whole")
    expected = digest_of(Workspace(sources / "whole").volume("v"))
    hits = 0
    for seed in count():
        if seed >= harness.TIMES and hits >= harness.TIMES // 2:
            break
        assert seed < 10 * harness.TIMES, "kills must hit the work"
        rng, root = random.Random(seed), sources / str(seed)
        for _ in range(1 + seed % 3):
            fresh, moment = not root.exists(), harness.random_moment(rng, seconds)
            hit = harness.run_and_kill(context, ingest_noise, root, moment)
            hits += hit
            if fresh and not hit:
                # The first run, by which moments are drawn, was slower than this one.
                seconds = max(moment, 0.7 * seconds)
            # Whoever asks at this moment finds the whole volume or none.
            try:
                found = Volume.open(Workspace(root).volume("v"))
            except InputError:
                continue
            assert digest_of(found.path) == expected
        harness.run_to_the_end(context, ingest_noise, root)
        assert digest_of(Workspace(root).volume("v")) == expected
        assert not list(root.rglob("*.partial"))

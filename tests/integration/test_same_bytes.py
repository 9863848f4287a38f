"""One result, whatever computes it: any engine, any number of workers and threads, blocks in any order."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import segem.execute.local_cluster
from segem.config import ExecutionConfig, SegmentConfig
from segem.io import shards
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.learn.runtimes.base import TilePool
from segem.plan import Block
from segem.stages.segmentation import segment as stage
from tests.integration.conftest import make_artefact, make_volume
from tests.processes import listening

# Windows that overlap within and across blocks: voxels are sums, and a sum depends on its order.
BLENDED = SegmentConfig(model="tiny", stitch="hann", tile_px=96)
SHAPE, BLOCKS = (5, 300, 290), 12


def shuffled(blocks: Iterable[Block]) -> Iterable[Block]:
    return random.Random(3).sample(list(blocks), BLOCKS)


def backwards(blocks: Iterable[Block]) -> Iterable[Block]:
    return reversed(list(blocks))


ORDERS: list[Callable[[Iterable[Block]], Iterable[Block]]] = [iter, backwards, shuffled]


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Return a workspace whose volume has blocks along every axis, small as it is."""
    folder = tmp_path_factory.mktemp("same-bytes")
    workspace = Workspace(folder / "workspace")
    workspace.prepare()
    make_artefact(workspace, seed=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "_SHARD_EDGE", 256)
        patch.setattr(shards, "_SHARD_VOXELS", 2 * 256 * 256)
        make_volume(workspace, folder / "source", SHAPE)
        yield workspace


@pytest.fixture(scope="module")
def expected(noise: Workspace) -> str:
    return digest_of(noise, "expected", ExecutionConfig(device="cpu"))


def digest_of(workspace: Workspace, run: str, execution: ExecutionConfig) -> str:
    assert stage.segment("noise", run, BLENDED, execution, workspace).computed == BLOCKS
    result = Volume.open(workspace.result(run, "noise"))
    layers = np.asarray(result.raw[...]), np.asarray(result.label("membrane")[...])
    return hashlib.sha256(b"".join(layer.tobytes() for layer in layers)).hexdigest()


def digests(workspace: Workspace, name: str, execution: ExecutionConfig) -> list[str]:
    """Segment with blocks in three orders, twice each; every time in a new run."""
    found = []
    for turn, order in enumerate(2 * ORDERS):
        taken: list[Block] = []

        def noted(blocks: Iterable[Block], order: Any = order, taken: list[Block] = taken) -> Iterator[Block]:
            for block in order(blocks):
                taken.append(block)
                yield block

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stage, "_reading_order", lambda *_, noted=noted: noted)
            found.append(digest_of(workspace, f"{name}-{turn}", execution))
        assert len(taken) == BLOCKS
        assert (taken == sorted(taken, key=lambda block: block.index)) == (order is iter)
    return found


@pytest.mark.parametrize("threads", [1, 2])
def test_the_loop_gives_one_result(
    noise: Workspace, expected: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = set()
    evaluate = TilePool.evaluate

    def noted(self: TilePool, inputs: Any) -> Any:
        used.add(self.threads)
        return evaluate(self, inputs)

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(threads)))
    monkeypatch.setattr(TilePool, "evaluate", noted)
    assert set(digests(noise, f"loop-{threads}", ExecutionConfig(device="cpu"))) == {expected}
    assert used == {threads}


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_dask_gives_the_same_result(
    noise: Workspace, expected: str, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with segem.execute.local_cluster._cluster(workers, tmp_path) as client:
        assert len(client.scheduler_info()["workers"]) == workers
        # Scheduler, workers and what shows them to people.
        assert listening(os.getpid()) == {"127.0.0.1"}

        @contextmanager
        def running(*_: object) -> Iterator[Any]:
            yield client

        # Starting the processes takes longer than all that they are asked for here.
        monkeypatch.setattr(segem.execute.local_cluster, "_cluster", running)
        execution = ExecutionConfig(engine="dask", workers=workers, device="cpu")
        assert set(digests(noise, f"dask-{workers}", execution)) == {expected}

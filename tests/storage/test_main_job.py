"""The main job on a store: as on disk, through kills and through a store that refuses one request in five."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Mapping
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path
from time import sleep

import numpy as np
import pytest
import tifffile

from segem.config import BaselineConfig, CellsConfig, IngestConfig, LabelSource
from segem.io.ledger import Ledger, PhaseKey
from segem.io.objects import Objects
from segem.io.shards import missing_shards
from segem.io.storage import storage_of, use_storage
from segem.io.storage_copy import take_up
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.stages.reporting.write import report
from segem.stages.segmentation.baseline import baseline
from segem.stages.segmentation.cells import find_cells_of_run
from segem.stages.segmentation.export import export
from segem.stages.segmentation.repair import repair
from segem.stages.segmentation.segment import segment
from segem.stages.segmentation.verify import verify
from segem.stages.volumes.ingest import ingest
from tests.faults.harness import CONFIG, QUIET
from tests.integration.conftest import make_artefact
from tests.storage.server import Store, shards_of

pytestmark = [
    pytest.mark.slow,
    # Of botocore, which moto's server uses.
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]

KILLS = int(os.environ.get("SEGEM_STORAGE_KILLS", "2"))
SHAPE = (24, 64, 64)
REQUESTS = 600
"""About as many as the job sends to the store."""
LAYERS = ("probability", "membrane", "baseline", "cells")


def do_main_job(root: Path) -> None:
    """Ingest a stack with labels, find its membranes in both ways, divide it into cells, and report."""
    # The server of processes was started before there was a store.
    os.environ.update(json.loads((root.parent / "environment.json").read_text()))
    workspace = Workspace(root)
    labels = LabelSource(source=root.parent / "labels.tif", membrane="nonzero")
    ingest(IngestConfig(name="v", source=root.parent / "raw.tif", voxel_nm=(50, 4, 4), labels=labels), workspace)
    baseline("v", "r", BaselineConfig(sigma_px=1.0), workspace, QUIET)
    segment("v", "r", CONFIG, QUIET, workspace)
    find_cells_of_run("v", "r", CellsConfig(), QUIET, workspace)
    report("r", workspace)


class Made:
    """All that the main job has made of a workspace."""

    def __init__(self, workspace: Workspace, store: Store, out: Path) -> None:
        volumes = (workspace.volume("v"), workspace.result("r", "v"))
        self.shards = [_shards(Volume.open(path), store) for path in volumes]
        with Ledger(workspace.ledger("r")) as ledger:
            keys = [PhaseKey("v", step, phase) for step in ("segment", "baseline", "cells") for phase in PHASES]
            self.rows = [ledger.rows(key) for key in keys]
        scores = json.loads((workspace.report("r") / "report.json").read_text())
        self.scores = [volume["iou"] for volume in scores["volumes"]]
        self.exported = [
            export("r", "v", layer, out / f"{layer}.tif", workspace, force=True).read_bytes() for layer in LAYERS
        ]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Made) and vars(self) == vars(other)


PHASES = ("blocks", "count", "sections", "cells", "links")


def _shards(volume: Volume, store: Store) -> Mapping[str, bytes]:
    if volume.place is None:
        return shards_of(volume.path)
    assert not shards_of(volume.path), "on the disk lies nothing of what lies in the store"
    return {key: value for key, value in store.content(volume.place).items() if not key.endswith("zarr.json")}


@pytest.fixture(scope="module")
def context() -> ForkServerContext:
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.storage.test_main_job", "s3fs", "tests.faults.harness"])
    return context


@pytest.fixture(scope="module")
def folder(served: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a stack, its labels, and how the store is spoken to."""
    folder, rng = tmp_path_factory.mktemp("job"), np.random.default_rng(0)
    tifffile.imwrite(folder / "raw.tif", rng.integers(0, 256, SHAPE, np.uint8), photometric="minisblack")
    tifffile.imwrite(folder / "labels.tif", rng.integers(0, 2, SHAPE, np.uint8), photometric="minisblack")
    (folder / "environment.json").write_text(json.dumps(served.environment))
    return folder


def new_workspace(folder: Path, name: str, store: Store | None) -> Workspace:
    workspace = Workspace(folder / name)
    if store is not None:
        use_storage(workspace, store.prefix())
    make_artefact(workspace, seed=0)
    return workspace


def finish(context: ForkServerContext, workspace: Workspace) -> None:
    process = context.Process(target=do_main_job, args=(workspace.root,))
    process.start()
    process.join()
    assert process.exitcode == 0


@pytest.fixture(scope="module")
def on_disk(context: ForkServerContext, folder: Path, served: Store) -> Made:
    """What an undisturbed run makes on the local disk."""
    workspace = new_workspace(folder, "local", None)
    finish(context, workspace)
    return Made(workspace, served, folder)


@pytest.fixture(scope="module")
def busy(context: ForkServerContext, folder: Path, served: Store) -> Workspace:
    """A workspace whose store has refused one request in five."""
    workspace = new_workspace(folder, "busy", served)
    served.refuse_every = 5
    finish(context, workspace)
    served.refuse_every = 0
    return workspace


def test_the_same_as_on_disk_where_one_request_in_five_is_refused(
    busy: Workspace, folder: Path, store: Store, on_disk: Made
) -> None:
    assert store.refused > 50
    assert Made(busy, store, folder) == on_disk
    # On another machine, with a block lost since.
    storage = storage_of(busy)
    assert storage is not None
    taken = Workspace(folder / "taken")
    take_up(storage.objects.url, taken)
    result = Volume.open(taken.result("r", "v"))
    assert result.place is not None
    Objects(result.place).remove(["0/c/1/0/0", "labels/membrane/0/c/2/0/0"])
    assert missing_shards(result.raw) == ["c/1/0/0"]
    assert {fault.step for fault in verify("r", taken)} == {"segment"}
    assert repair("r", taken, QUIET).left == ()
    assert Made(taken, store, folder) == on_disk


def test_the_same_as_on_disk_after_any_kill(
    context: ForkServerContext, busy: Workspace, folder: Path, store: Store, on_disk: Made
) -> None:
    hits, rng, requests = 0, random.Random(0), REQUESTS
    for number in range(-(-KILLS // 4)):
        workspace = new_workspace(folder, f"killed-{number}", store)
        for attempt in range(min(4, KILLS)):
            # What resumes asks for less.
            hits += run_and_kill(context, workspace, store, rng.randrange(requests // (1 + attempt)))
        finish(context, workspace)
        assert Made(workspace, store, folder) == on_disk
        assert verify("r", workspace) == []
        for path in (workspace.volume("v"), workspace.result("r", "v")):
            require_one_version(workspace, path)
    assert hits >= KILLS // 2, "kills must hit the work"


def run_and_kill(context: ForkServerContext, workspace: Workspace, store: Store, requests: int) -> bool:
    """Kill the job as soon as it has sent so many requests, and tell whether that was what ended it."""
    before = len(store.asked)
    process = context.Process(target=do_main_job, args=(workspace.root,))
    process.start()
    while process.is_alive() and len(store.asked) - before < requests:
        sleep(0.001)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def require_one_version(workspace: Workspace, path: Path) -> None:
    """Check that what killed processes have left of a volume in the storage is gone."""
    storage, place = storage_of(workspace), Volume.open(path).place
    assert storage is not None
    assert place is not None
    beside = storage.objects.within(*path.parent.relative_to(workspace.root).parts)
    assert list(beside.list_folders()) == [place.rpartition("/")[2]]

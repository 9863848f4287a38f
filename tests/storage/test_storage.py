"""A workspace whose arrays lie in a store: one owner, one version of each volume, nothing that reads as zeros."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from time import sleep
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import tifffile
import zarr

from segem.config import ExecutionConfig, IngestConfig, Url
from segem.errors import ConfigError, InputError, StorageError, WorkspaceError
from segem.geometry import Box, VoxelSize
from segem.io import objects, storage_copy
from segem.io.blocks import put_block, read_block
from segem.io.objects import Objects
from segem.io.readers import open_stack
from segem.io.retention import remove_run, sweep_removed
from segem.io.reviewed import open_log, replay
from segem.io.shards import missing_shards
from segem.io.storage import read_storage_url, storage_of, use_storage
from segem.io.storage_copy import kept, save_copy, take_up
from segem.io.volume import Volume, create_volume
from segem.io.workspace import Workspace
from segem.records.review import Place
from segem.review.session import Review
from segem.review.threed import add_three_d
from segem.stages.campaign import Campaign
from segem.stages.forecast import forecast_campaign
from segem.stages.volumes.ingest import ingest
from tests.fabricate import add_model, add_volume, decide, guess, tissue
from tests.storage.server import SECRET, Store, shards_of

pytestmark = [
    # Of botocore, which moto's server uses.
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]

LARGE = np.random.default_rng(0).integers(0, 256, (10, 260, 300), np.uint8)
"""Of two shards, of several chunks each."""
DATA = LARGE[:2, :80, :80]


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "FIRST_PAUSE_SECONDS", 0.001)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> IngestConfig:
    return config_of(DATA, tmp_path_factory.mktemp("source") / "a.tif")


def config_of(data: np.ndarray, source: Path) -> IngestConfig:
    tifffile.imwrite(source, data, photometric="minisblack")
    return IngestConfig(name="a", source=source, voxel_nm=(50, 4, 4))


@pytest.fixture
def workspace(store: Store, tmp_path: Path) -> Workspace:
    return use_storage(Workspace(tmp_path / "w"), store.prefix()).workspace


def place_of(workspace: Workspace) -> str:
    place = Volume.open(workspace.volume("a")).place
    assert place is not None
    return place


def test_the_same_bytes_as_on_disk(store: Store, workspace: Workspace, tmp_path: Path) -> None:
    config = config_of(LARGE, tmp_path / "a.tif")
    ingest(config, workspace)
    ingest(config, Workspace(tmp_path / "local"))
    stored = store.content(place_of(workspace))
    on_disk = shards_of(Workspace(tmp_path / "local").volume("a"))
    assert {key: value for key, value in stored.items() if not key.endswith("zarr.json")} == on_disk
    assert ingest(config, workspace).skipped
    volume = Volume.open(workspace.volume("a"))
    box = Box((3, 100, 50), (9, 259, 290))
    assert np.array_equal(read_block(volume.raw, box, ""), LARGE[box.slices])
    # By zarr as well: what it reads is never the fill value.
    assert np.array_equal(volume.raw[:], LARGE)
    assert not put_block(volume.raw, Box.of_shape(LARGE.shape), LARGE)


def test_others_open_it_by_its_url_and_find_no_array_of_zeros_in_the_workspace(
    store: Store, workspace: Workspace, config: IngestConfig, tmp_path: Path
) -> None:
    ingest(config, workspace)
    for key, content in store.content(place_of(workspace)).items():
        (tmp_path / "copy" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / key).write_bytes(content)
    copy = Volume.open(tmp_path / "copy")
    assert copy.place is None
    assert np.array_equal(copy.raw[:], DATA)
    assert [np.asarray(level).shape for level in copy.levels()] == [
        level.shape for level in Volume.open(workspace.volume("a")).levels()
    ]
    here = zarr.open_group(str(workspace.volume("a")), mode="r")
    with pytest.raises(KeyError):
        here["0"]
    with pytest.raises(InputError):
        open_stack(workspace.volume("a"))


def test_a_lost_shard_is_missed_and_a_flipped_bit_noticed(
    store: Store, workspace: Workspace, config: IngestConfig
) -> None:
    ingest(config, workspace)
    volume, below = Volume.open(workspace.volume("a")), Objects(Url(f"{place_of(workspace)}/0"))
    whole = below.read("c/0/0/0")
    below.write("c/0/0/0", whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    with pytest.raises(WorkspaceError, match=r"s3://.*/0/c/0/0/0: a block of the volume cannot be read"):
        read_block(volume.raw, Box.of_shape(DATA.shape), "")
    for content in (b"", whole[:-3], whole[1000:]):
        below.write("c/0/0/0", content)
        with pytest.raises(WorkspaceError, match=r"too short|checksum"):
            read_block(volume.raw, Box.of_shape(DATA.shape), "")
    below.remove(["c/0/0/0"])
    assert missing_shards(volume.raw) == ["c/0/0/0"]
    with pytest.raises(WorkspaceError, match=r"s3://.*/0/c/0/0/0: a block of the volume is missing"):
        read_block(volume.raw, Box.of_shape(DATA.shape), "")
    # So it is read again from the source.
    assert not ingest(config, workspace).skipped
    assert np.array_equal(read_block(Volume.open(workspace.volume("a")).raw, Box.of_shape(DATA.shape), ""), DATA)


def test_a_store_that_does_not_answer_is_no_damage(store: Store, workspace: Workspace, config: IngestConfig) -> None:
    ingest(config, workspace)
    volume = Volume.open(workspace.volume("a"))
    store.refuse_all = True
    with pytest.raises(StorageError, match="does not answer"):
        put_block(volume.raw, Box.of_shape(DATA.shape), DATA)
    with pytest.raises(StorageError, match="does not answer"):
        ingest(config, workspace)


def test_of_every_volume_one_version_stays(store: Store, workspace: Workspace, config: IngestConfig) -> None:
    ingest(config, workspace)
    first = place_of(workspace)
    ingest(config, workspace, again=True)
    assert place_of(workspace) != first
    # What a killed ingest leaves has no name in the workspace.
    left = Objects(Url(first))
    left.write("0/c/0/0/0", b"half")
    # Names that begin alike are another volume's.
    other = Objects(workspace_url(workspace)).within("volumes", "a.b.00000000.ome.zarr")
    other.write("zarr.json", b"{}")
    ingest(config, workspace, again=True)
    assert list(left.list_keys()) == []
    assert list(other.list_keys()) == ["zarr.json"]
    folders = list(Objects(workspace_url(workspace)).within("volumes").list_folders())
    assert folders == sorted([other.url.rpartition("/")[2], place_of(workspace).rpartition("/")[2]])


def workspace_url(workspace: Workspace) -> Url:
    storage = storage_of(workspace)
    assert storage is not None
    return storage.objects.url


def test_a_label_that_is_made_again_holds_nothing_of_the_one_before(store: Store, workspace: Workspace) -> None:
    storage = storage_of(workspace)
    assert storage is not None
    path = workspace.volume("a")
    volume = create_volume(
        path,
        shape=(2, 64, 64),
        dtype=np.uint8,
        voxel_size=VoxelSize(50, 4, 4),
        labels={},
        attributes={},
        place=storage.choose_place(path),
    )
    for _ in range(2):
        volume.add_label("cells", np.uint32)
        assert missing_shards(volume.label("cells")) == ["c/0/0/0"]
        put_block(volume.label("cells"), Box.of_shape((2, 64, 64)), np.ones((2, 64, 64), np.uint32))
        assert missing_shards(volume.label("cells")) == []


def test_a_storage_has_one_owner(store: Store, workspace: Workspace, config: IngestConfig, tmp_path: Path) -> None:
    url = workspace_url(workspace)
    with pytest.raises(ConfigError, match=r"another workspace keeps its arrays there; found .*/w on "):
        use_storage(Workspace(tmp_path / "other"), url)
    assert use_storage(workspace, url).claim == 1
    with pytest.raises(ConfigError, match="has arrays already"):
        use_storage(workspace, store.prefix())
    local = Workspace(tmp_path / "local")
    ingest(config, local)
    with pytest.raises(ConfigError, match="has arrays already"):
        use_storage(local, store.prefix())


def test_a_lost_machine_is_taken_up(store: Store, workspace: Workspace, config: IngestConfig, tmp_path: Path) -> None:
    ingest(config, workspace)
    model = workspace.models / "tiny" / "1" / "weights.safetensors"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"weights")
    (model.parent.parent / "current").symlink_to("1")
    # Passwords of a service never leave the machine.
    (workspace.root / "settings.env").write_text("PASSWORD=x")
    (workspace.root / "runs" / ".dask-1").mkdir(parents=True)
    (workspace.root / "runs" / ".dask-1" / "client_key").write_text("PASSWORD=x")
    storage = storage_of(workspace)
    assert storage is not None
    save_copy(storage)
    url = workspace_url(workspace)
    taken = Workspace(tmp_path / "taken")
    take_up(url, taken)
    assert ingest(config, taken).skipped
    assert (taken.models / "tiny" / "current" / "weights.safetensors").read_bytes() == b"weights"
    assert not (taken.root / "settings.env").exists()
    for work in (lambda: ingest(config, workspace, again=True), lambda: save_copy(storage)):
        with pytest.raises(StorageError, match=r"belongs to another one by now; found .*/taken on "):
            work()
    assert ingest(config, taken).skipped
    with pytest.raises(WorkspaceError, match="something lies where the workspace is to be"):
        take_up(url, taken)
    everything = b"".join(store.content(url).values()) + b"".join(
        file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()
    )
    assert SECRET.encode() not in everything
    assert b"PASSWORD" not in b"".join(store.content(url).values())


def test_a_damaged_copy_is_not_taken_up(
    store: Store, workspace: Workspace, config: IngestConfig, tmp_path: Path
) -> None:
    ingest(config, workspace)
    files = Objects(workspace_url(workspace)).within("copy", "files")
    key = next(files.list_keys())
    files.write(key, files.read(key)[:-1])
    with pytest.raises(StorageError, match="a file of the copy is missing or damaged"):
        take_up(workspace_url(workspace), Workspace(tmp_path / "taken"))
    assert not (tmp_path / "taken").exists()
    # Nothing has changed for the owner.
    assert not ingest(config, workspace, again=True).skipped
    # What is missing is sent anew.
    files.remove(list(files.list_keys())[:2])
    storage = storage_of(workspace)
    assert storage is not None
    save_copy(storage)
    take_up(workspace_url(workspace), Workspace(tmp_path / "taken"))
    assert ingest(config, Workspace(tmp_path / "taken")).skipped
    with pytest.raises(StorageError, match="no workspace keeps its arrays there"):
        take_up(store.prefix(), Workspace(tmp_path / "none"))


def test_the_copy_is_brought_up_to_date_while_work_goes_on(
    store: Store, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_copy, "EVERY_SECONDS", 0.01)
    files, content = Objects(workspace_url(workspace)).within("copy", "files"), b"what is known so far"
    workspace.run("r").mkdir()
    with kept(workspace):
        (workspace.run("r") / "run.json").write_bytes(content)
        while sha256(content).hexdigest() not in files.list_keys():
            sleep(0.01)


def test_a_run_that_is_removed_leaves_nothing(store: Store, workspace: Workspace) -> None:
    image, truth = tissue((2, 48, 48))
    add_volume(workspace, "cortex", image)
    below = Objects(workspace_url(workspace)).within("runs")
    for run in ("gone", "killed", "stays"):
        add_model(workspace, run, "cortex", guess(truth))
    remove_run(workspace, "gone")
    # Killed between the two: what is hidden still says what there is in the storage.
    workspace.run("killed").rename(workspace.root / "runs" / f".killed.{'0' * 32}.partial")
    assert list(below.list_folders()) == ["killed", "stays"]
    sweep_removed(workspace)
    assert list(below.list_folders()) == ["stays"]
    assert [path.name for path in (workspace.root / "runs").iterdir()] == ["stays"]


def test_a_review_is_replayed_as_on_disk(store: Store, workspace: Workspace, tmp_path: Path) -> None:
    image, truth = tissue((2, 48, 48))
    corrected = []
    for space in (workspace, Workspace(tmp_path / "local")):
        space.prepare()
        add_volume(space, "cortex", image)
        add_model(space, "r", "cortex", guess(truth))
        decide(space, "r", Place(volume="cortex", z=1, y=8, x=8, height=32, width=32), truth)
        with open_log(space, "r") as log:
            layer = replay(space, "r", "cortex", log)
        corrected.append(read_block(layer, Box.of_shape((2, 48, 48)), ""))
    assert np.array_equal(corrected[0], corrected[1])
    assert np.array_equal(corrected[0][1, 8:40, 8:40] == 1, truth[1, 8:40, 8:40] == 1)
    assert Volume.open(workspace.result("r", "cortex")).place is not None


def test_what_serves_or_measures_the_disk_is_refused(store: Store, workspace: Workspace) -> None:
    both = SimpleNamespace(workspace=workspace, run="r")
    with pytest.raises(ConfigError, match="--3d shows volumes on the disk of this machine; found they lie in s3://"):
        add_three_d(cast("Review", both))
    with pytest.raises(ConfigError, match="a forecast is made of trials on the disk of the workspace"):
        forecast_campaign(cast("Campaign", both), ExecutionConfig(), lambda *_: pytest.fail("a trial"))


@pytest.mark.parametrize(
    "url", ["s3://bucket", "s3://bucket/", "https://host/a", "/tmp/a", "s3://key:secret@bucket/a", "s3://b/a?x=1"]
)
def test_what_is_no_url_of_a_storage_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="not the URL of a storage") as caught:
        read_storage_url(url)
    assert "secret@" not in str(caught.value)

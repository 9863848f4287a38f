"""Stacks in an inbox: each whole one is taken once, whatever happens to it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

from segem.config import load_manifest
from segem.config.service import InboxConfig
from segem.errors import InputError, WorkspaceError
from segem.io.workspace import Workspace
from segem.stages.inbox import Look, close_batch, look_into
from tests.unit.io.readers.test_tiff_sets import write_set


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


@pytest.fixture
def template(tmp_path: Path) -> Path:
    volume = {"name": "like-this", "source": "x.tif", "voxel_nm": [50, 4, 4], "window": [0, 200]}
    path = tmp_path / "lab.yaml"
    path.write_text(yaml.safe_dump({"name": "lab", "volumes": [volume], "accept": ["iou >= .5"]}))
    return path


def drop(path: Path, seed: int) -> Path:
    tifffile.imwrite(path, np.random.default_rng(seed).integers(0, 255, (2, 16, 16), dtype=np.uint8))
    return path


def look(
    inbox: Path, template: Path, tmp_path: Path, meanwhile: Callable[[], object] = lambda: None
) -> tuple[Look, list[float]]:
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        meanwhile()

    return look_into(InboxConfig(inbox=inbox), template, Workspace(tmp_path / "w"), wait=wait), waited


def names(found: Look) -> list[str]:
    return [one.name for batch in found.batches for one in batch.stacks]


def close(found: Look, inbox: Path, tmp_path: Path, **failed: str) -> None:
    for batch in found.batches:
        close_batch(batch, failed, InboxConfig(inbox=inbox), Workspace(tmp_path / "w"))


def test_each_whole_stack_is_taken_once_and_the_others_are_named(inbox: Path, template: Path, tmp_path: Path) -> None:
    drop(inbox / "a.tif", 1)
    shutil.copy(drop(inbox / "b.tif", 2), inbox / "copy of b.tif")
    drop(inbox / "growing.tif", 3)
    drop(inbox / "renamed.tif", 4)
    (inbox / "corrupt.tif").write_bytes(b"II*\0 this is no stack")
    for ignored in (".hidden.tif", "c.tif.part", "notes.txt"):
        (inbox / ignored).write_bytes(b"x")
    (inbox / "empty").mkdir()

    def meanwhile() -> None:
        with (inbox / "growing.tif").open("ab") as file:
            file.write(b"more")
        (inbox / "renamed.tif").rename(inbox / "its name.tif")

    found, waited = look(inbox, template, tmp_path, meanwhile)
    assert waited == [30.0]
    assert names(found) == ["a.tif", "b.tif", "corrupt.tif"], "whether it can be read, its ingest will say"
    assert found.remarks == {
        "copy of b.tif": "the same as b.tif",
        "growing.tif": "still growing",
        "its name.tif": "still growing",
    }
    close(found, inbox, tmp_path, corrupt="no TIFF")

    again, _ = look(inbox, template, tmp_path)
    assert names(again) == ["growing.tif", "its name.tif"]
    close(again, inbox, tmp_path)
    (inbox / "a.tif").rename(inbox / "a again.tif")
    (inbox / "b.tif").unlink()
    last, _ = look(inbox, template, tmp_path)
    assert names(last) == []
    assert last.remarks == {"a again.tif": "the same as a.tif"}
    nothing, waited = look(inbox, template, tmp_path)
    assert (nothing.batches, dict(nothing.remarks), waited) == ((), {}, []), "what is known is not read again"

    (log,) = (tmp_path / "w/inbox").glob("inbox-*/stacks.json")
    fates = {one["name"]: (one["fate"], one["reason"]) for one in json.loads(log.read_text())["stacks"]}
    assert fates["corrupt.tif"] == ("failed", "no TIFF")
    assert fates["a.tif"] == ("done", None)
    assert fates["a again.tif"] == ("duplicate", "a.tif")


def test_a_name_that_is_not_text_stops_no_other_stack(inbox: Path, template: Path, tmp_path: Path) -> None:
    drop(inbox / "good.tif", 1)
    drop(inbox / "x.tif", 2).rename(inbox / os.fsdecode(b"Pr\xe4parat.tif"))
    (inbox / "sections").mkdir()
    for z in range(2):
        drop(inbox / "sections" / f"{z}.tif", 3 + z).rename(inbox / "sections" / os.fsdecode(b"Pr\xe4parat %d.tif" % z))
    found, _ = look(inbox, template, tmp_path)
    assert names(found) == ["good.tif", "sections"]
    assert found.remarks == {"Pr\\udce4parat.tif": "its name is not UTF-8; rename it, and it is taken"}


@pytest.mark.parametrize("mark", ["a.tif.done", "a.done"])
def test_a_stack_that_is_declared_whole_is_taken_at_once(
    inbox: Path, template: Path, tmp_path: Path, mark: str
) -> None:
    drop(inbox / "a.tif", 1)
    (inbox / mark).touch()
    found, waited = look(inbox, template, tmp_path)
    assert (names(found), waited) == (["a.tif"], [])


def test_a_batch_is_a_campaign_like_the_template(inbox: Path, template: Path, tmp_path: Path) -> None:
    drop(inbox / "Big brain #2.ome.tif", 1)
    found, _ = look(inbox, template, tmp_path)
    (batch,) = found.batches
    made = load_manifest(batch.manifest)
    (volume,) = made.volumes
    assert volume.name == "Big-brain-2"
    assert volume.source == inbox / "Big brain #2.ome.tif"
    assert volume.voxel_nm == (50, 4, 4)
    assert volume.window == (0, 200)
    assert volume.labels is None
    assert made.accept == load_manifest(template).accept
    assert batch.run.startswith("lab-")


def test_what_was_taken_and_not_finished_is_taken_up_again(inbox: Path, template: Path, tmp_path: Path) -> None:
    drop(inbox / "a.tif", 1)
    first, _ = look(inbox, template, tmp_path)
    drop(inbox / "b.tif", 2)
    second, _ = look(inbox, template, tmp_path)
    assert second.batches[0] == first.batches[0], "the same run, so that finished blocks are kept"
    assert [one.name for one in second.batches[1].stacks] == ["b.tif"]
    close(second, inbox, tmp_path)
    assert names(look(inbox, template, tmp_path)[0]) == []


def test_another_stack_of_the_same_name_is_another_volume(inbox: Path, template: Path, tmp_path: Path) -> None:
    drop(inbox / "a.tif", 1)
    close(look(inbox, template, tmp_path)[0], inbox, tmp_path)
    drop(inbox / "a.tif", 2)
    (stack,) = look(inbox, template, tmp_path)[0].batches[0].stacks
    assert stack.volume == f"a-{stack.digest[:8]}"


def test_a_stack_that_changes_while_it_is_read_is_left_alone(
    inbox: Path, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(inbox / "a.tif", 1)

    def grow(path: Path) -> str:
        with path.open("ab") as file:
            file.write(b"more")
        return "digest"

    monkeypatch.setattr("segem.stages.inbox._digest", grow)
    found, _ = look(inbox, template, tmp_path)
    assert (names(found), found.remarks) == ([], {"a.tif": "still growing"})


def test_a_folder_of_sections_is_one_stack(inbox: Path, template: Path, tmp_path: Path) -> None:
    (inbox / "sections").mkdir()
    for z in range(2):
        tifffile.imwrite(inbox / "sections" / f"{z}.tif", np.full((8, 8), z, np.uint8))
    found, _ = look(inbox, template, tmp_path, lambda: tifffile.imwrite(inbox / "sections/2.tif", np.zeros((8, 8))))
    assert found.remarks == {"sections": "still growing"}
    assert names(look(inbox, template, tmp_path)[0]) == ["sections"]


def test_files_that_make_one_stack_together_are_one_stack(inbox: Path, template: Path, tmp_path: Path) -> None:
    set_of_files = write_set(inbox)
    first, *others = sorted(path.name for path in set_of_files)
    assert len(others) == 4
    drop(inbox / "alone.tif", 1)
    found, _ = look(inbox, template, tmp_path)
    assert (sorted(names(found)), found.remarks) == (sorted(["alone.tif", first]), {})
    close(found, inbox, tmp_path)
    shutil.copytree(inbox, tmp_path / "set", ignore=shutil.ignore_patterns("alone.tif"))
    shutil.move(tmp_path / "set", inbox)
    again, _ = look(inbox, template, tmp_path)
    assert (names(again), again.remarks) == ([], {"set": f"the same as {first}"})


def test_the_labels_of_the_template_are_those_of_its_own_volume(inbox: Path, template: Path, tmp_path: Path) -> None:
    values = yaml.safe_load(template.read_text())
    labels = {"source": "labels.tif", "membrane": "zero"}
    values["volumes"][0] |= {"labels": labels, "second_labels": labels}
    template.write_text(yaml.safe_dump(values))
    drop(inbox / "a.tif", 1)
    found, _ = look(inbox, template, tmp_path)
    (volume,) = load_manifest(found.batches[0].manifest).volumes
    assert (volume.labels, volume.second_labels) == (None, None)


def test_what_is_wrong_is_said(inbox: Path, template: Path, tmp_path: Path) -> None:
    look(inbox, template, tmp_path)
    (log,) = (tmp_path / "w/inbox").glob("inbox-*/stacks.json")
    log.write_text("{")
    with pytest.raises(WorkspaceError, match=r"is damaged.*Fix: restore it"):
        look(inbox, template, tmp_path)
    log.unlink()
    inbox.rmdir()
    with pytest.raises(InputError, match=r"no such inbox.*Fix: make the folder"):
        look(inbox, template, tmp_path)

"""What a schedule would fail of in the night is told when it is added."""

from __future__ import annotations

from pathlib import Path

import pytest

from segem.cli.service import _rooted, _tell_what_is_missing
from segem.config import ExecutionConfig, Manifest
from segem.io.workspace import Workspace


def told(manifest: Manifest, folder: Path, caplog: pytest.LogCaptureFixture, *, sources: bool = True) -> str:
    caplog.clear()
    _tell_what_is_missing(manifest, Workspace(folder / "work"), sources=sources)
    return caplog.text


def manifest_of(folder: Path, model: str, *stacks: str) -> Manifest:
    volumes = [{"name": stack, "source": str(folder / f"{stack}.tif"), "voxel_nm": [50, 4, 4]} for stack in stacks]
    return Manifest.model_validate({"name": "nightly", "model": model, "volumes": volumes})


def test_nothing_where_all_is_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.tif").touch()
    assert told(manifest_of(tmp_path, "unet-em", "a"), tmp_path, caplog) == ""


def test_a_model_that_is_not_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.tif").touch()
    assert "unet-en: there is no such model yet" in told(manifest_of(tmp_path, "unet-en", "a"), tmp_path, caplog)


def test_paths_count_from_the_workspace_in_which_runs_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.tif").touch()
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    manifest = manifest_of(tmp_path, "./mine", "a")
    assert f"{tmp_path}/work/mine: there is no such model yet" in told(manifest, tmp_path, caplog)
    (tmp_path / "work/mine").mkdir(parents=True)
    assert told(manifest, tmp_path, caplog) == ""


def test_the_file_of_a_scheduler_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _rooted(ExecutionConfig(cluster="scheduler.json")).cluster == f"{tmp_path}/scheduler.json"
    for kept in (None, "slurm", "tls://head:8786"):
        assert _rooted(ExecutionConfig(cluster=kept)).cluster == kept


def test_sources_that_are_not_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = manifest_of(tmp_path, "unet-em", "a", "b")
    text = told(manifest, tmp_path, caplog)
    assert f"a: {tmp_path}/a.tif does not exist yet" in text
    assert "so with 1 more" in text
    # An inbox takes the stacks that come; those of the manifest only say how.
    assert told(manifest, tmp_path, caplog, sources=False) == ""

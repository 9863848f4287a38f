"""What a schedule would fail of in the night is told when it is added."""

from __future__ import annotations

from pathlib import Path

import pytest

from segem.cli.service import _tell_what_is_missing
from segem.config import Manifest
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


@pytest.mark.parametrize("model", ["unet-en", "./unet-em"])
def test_a_model_that_is_not_there(model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.tif").touch()
    assert f"{model}: there is no such model yet" in told(manifest_of(tmp_path, model, "a"), tmp_path, caplog)


def test_sources_that_are_not_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = manifest_of(tmp_path, "unet-em", "a", "b")
    text = told(manifest, tmp_path, caplog)
    assert f"a: {tmp_path}/a.tif does not exist yet" in text
    assert "so with 1 more" in text
    # An inbox takes the stacks that come; those of the manifest only say how.
    assert told(manifest, tmp_path, caplog, sources=False) == ""

"""The speed of a machine: what is measured, what is said of a runtime that is missing, what is left behind."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path

import pytest

from segem.cli import main
from segem.cli.show import show_speeds
from segem.config import BenchConfig
from segem.errors import ConfigError, ModelError
from segem.io.workspace import Workspace
from segem.learn.artefact import Artefact
from segem.stages.segmentation import bench as stage


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def config(artefact: Artefact, shape: tuple[int, int, int] = (10, 96, 96)) -> BenchConfig:
    return BenchConfig(model=str(artefact.path), size_px=96, shape=shape, device="cpu")


def test_a_speed_for_each_runtime_or_why_there_is_none(artefact: Artefact, workspace: Workspace, scratch: Path) -> None:
    result = stage.bench(config(artefact), workspace)
    assert [speed.runtime for speed in result.runtimes] == list(stage.RUNTIMES)
    torch = result.runtimes[0]
    assert torch.megapixels_per_second > 0
    assert torch.startup_seconds >= 0
    voxels = math.prod(result.shape) / 1e6
    assert torch.expected_seconds == pytest.approx(torch.startup_seconds + voxels / torch.megapixels_per_second)
    for speed in result.runtimes:
        assert (speed.megapixels_per_second is None) == bool(speed.unavailable)
    assert all(rate > 0 for rate in result.gemm_gflops)
    assert list(scratch.iterdir()) == [], "nothing is left behind"
    assert not workspace.runs()
    assert not workspace.volumes()


def test_the_halo_of_large_sections_is_counted(
    artefact: Artefact, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "_seconds", lambda volume, *_: volume.shape[0] * 1.0)
    small, large = (
        stage.bench(config(artefact, shape), workspace).runtimes[0] for shape in ((16, 1024, 1024), (1, 4096, 4096))
    )
    assert large.megapixels_per_second == small.megapixels_per_second
    assert 1.01 < large.expected_seconds / small.expected_seconds < 1.5


def test_a_missing_runtime_is_said_and_a_broken_torch_ends_it(
    artefact: Artefact, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def only_torch(volume: object, runtime: str, *_: object) -> float:
        if runtime != "torch":
            raise ConfigError(f"no {runtime} here", fix="install it")
        return 1.0

    monkeypatch.setattr(stage, "_seconds", only_torch)
    result = stage.bench(config(artefact), workspace)
    assert [bool(speed.unavailable) for speed in result.runtimes] == [False, True, True]
    show_speeds(result)
    assert "no openvino here. Fix: install it" in capsys.readouterr().out

    def broken(*_: object) -> float:
        raise ModelError("NaN")

    monkeypatch.setattr(stage, "_seconds", broken)
    with pytest.raises(ModelError):
        stage.bench(config(artefact), workspace)


def test_the_command_prints_json(
    artefact: Artefact, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "--model", str(artefact.path), "--size", "64", "--shape", "2,64,64", "--json"]
    monkeypatch.setattr("sys.argv", ["segem", *words, "--workspace", str(workspace.root)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert not caught.value.code
    values = json.loads(capsys.readouterr().out)
    assert values["shape"] == [2, 64, 64]
    assert values["runtimes"][0]["runtime"] == "torch"

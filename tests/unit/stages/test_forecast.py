"""What a forecast makes of the trials of a few sections."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from segem.config import BUNDLED_MODEL, ExecutionConfig, LabelSource, VolumeEntry
from segem.errors import InputError
from segem.io.readers import open_stack
from segem.io.workspace import Workspace
from segem.stages import forecast as module
from segem.stages.campaign import open_campaign
from segem.stages.forecast import Trial, Trials, choose_depths, choose_sections, forecast_campaign
from segem.stages.volumes.ingest import ingest

MB = 10**6


def trials_of(disk_a_section: int, memory: int) -> Trials:
    return Trials(
        3.0,
        Trial(2, 9.0, MB, memory),
        Trial(2, 4.0, MB, memory + MB),
        Trial(6, 8.0, MB + 4 * disk_a_section, memory + MB),
    )


def test_what_a_volume_takes_by_itself_is_told_from_its_sections() -> None:
    trials = trials_of(disk_a_section=100, memory=1)
    assert trials.extrapolate(6) == (8.0, MB + 400)
    assert trials.extrapolate(102) == (104.0, MB + 10_000)
    assert trials.start_seconds == 8.0, "what is loaded once, and the start of the process"


def test_what_a_second_campaign_of_a_process_holds_is_no_part_of_the_first() -> None:
    assert Trials(0.0, Trial(2, 1.0, 1, 70), Trial(2, 1.0, 1, 90), Trial(6, 1.0, 1, 95)).memory_bytes == 75


def test_a_larger_trial_that_was_quicker_makes_no_section_free_of_time_before_it() -> None:
    trials = Trials(0.0, Trial(2, 5.0, 1, 1), Trial(2, 5.0, 10, 1), Trial(6, 4.0, 30, 1))
    assert trials.extrapolate(1002) == (5.0, 5010)
    assert Trials(0.0, Trial(2, 1.0, 1, 1), Trial(2, 5.0, 1, 1), Trial(6, 9.0, 2, 1)).start_seconds == 0.0


@pytest.mark.parametrize("shape", [(1, 64, 64), (30, 512, 512), (4, 4096, 4096), (1000, 20_000, 20_000)])
@pytest.mark.parametrize("cores", [1, 2, 64])
def test_trials_keep_every_core_busy_and_are_never_deeper_than_the_volume(
    shape: tuple[int, int, int], cores: int
) -> None:
    small, large = choose_depths(shape, cores)
    assert 1 <= small <= large <= shape[0]
    assert small >= min(cores, shape[0])


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in "ab":
        tifffile.imwrite(tmp_path / f"{name}.tif", rng.integers(0, 255, (10, 64, 64), np.uint8))
    (tmp_path / "broken.tif").write_bytes(b"")
    volumes = ", ".join(
        f"{{name: {name}, source: {name}.tif, voxel_nm: [50, 4, 4], priority: {priority}}}"
        for name, priority in (("a", 0), ("broken", 0), ("b", 7))
    )
    path = tmp_path / "m.yaml"
    path.write_text(f"{{name: m, model: {BUNDLED_MODEL}, volumes: [{volumes}]}}", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("free", "memory", "refused"),
    [
        (100 * MB, 10, {"broken": "empty"}),
        (3 * MB, 10, {"broken": "empty", "a": "does not fit the disk"}),
        (100 * MB, 2000, {"broken": "empty", "a": "does not fit the memory", "b": "does not fit the memory"}),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, memory: int, refused: dict[str, str]
) -> None:
    monkeypatch.setattr(module, "free_bytes", lambda _: free)
    monkeypatch.setattr(module, "_try", lambda *_: trials_of(MB // 8, memory * MB))
    job = open_campaign(manifest, "r", tmp_path / "w")

    def never(*_: object, **__: object) -> tuple[float, list[Trial]]:
        raise AssertionError("trials are taken by another process")

    found = forecast_campaign(job, ExecutionConfig(memory=1500 * MB), never)

    assert [volume.name for volume in found.volumes] == ["b", "a", "broken"], "in the order they would be taken"
    assert found.refused().keys() == refused.keys()
    for name, reason in refused.items():
        assert reason in found.refused()[name]
    # Two of ten sections take a megabyte, eight more an eighth of one each; two such volumes.
    assert found.disk_bytes == 4 * MB
    assert (found.start_seconds, found.seconds) == (8.0, 8.0 + 2 * 12.0)
    assert not (tmp_path / "w/runs/r").exists(), "nothing is begun"


def test_trials_take_sections_that_are_labelled(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for folder, numbers in (("raw", range(40)), ("labels", range(33, 38))):
        (tmp_path / folder).mkdir()
        for z in numbers:
            tifffile.imwrite(tmp_path / folder / f"{z}.tif", rng.integers(0, 256, (64, 64), np.uint8) // 2 * 2)
    labels = LabelSource(source=tmp_path / "labels", membrane="zero")
    volume = VolumeEntry(name="a", source=tmp_path / "raw", voxel_nm=(50, 4, 4), labels=labels, box="4:39,:,:")
    with open_stack(volume.source, volume) as stack:
        chosen = choose_sections(volume, stack, (2, 6, 20, 35))
        assert choose_sections(volume.model_copy(update={"labels": None}), stack, (2, 35)) == [(4, 6), (4, 39)]
    assert chosen == [(33, 35), (33, 39), (19, 39), (4, 39)]
    # Of the first sections nothing is known, and ingest says so.
    with pytest.raises(InputError, match="nothing is known of the labels"):
        ingest(volume.model_copy(update={"box": "4:6,:,:"}).ingest_config(), Workspace(tmp_path / "w"))
    for start, stop in chosen:
        config = volume.model_copy(update={"name": f"a{start}-{stop}", "box": f"{start}:{stop},:,:"}).ingest_config()
        assert ingest(config, Workspace(tmp_path / "w")).shape[0] == stop - start

"""What a process may take decides the size of its tiles."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from segem.config import ExecutionConfig
from segem.errors import ConfigError
from segem.stages.segmentation.budget import DEFAULT_MEMORY, RESIDENT, TILES_IN_FLIGHT, Budget, allowed_memory

PIXEL, WEIGHTS = 1000.0, 300_000_000


def tile_px(memory: int | None, weights: int) -> int:
    return Budget.for_tiles(PIXEL, 64, ExecutionConfig(memory=memory), "net", weights).tile_px


def test_tiles_fill_what_libraries_and_weights_leave() -> None:
    assert tile_px(2_000_000_000, WEIGHTS) == math.isqrt(int((2e9 - RESIDENT - WEIGHTS) / TILES_IN_FLIGHT / PIXEL))


def test_weights_cost_no_tile_where_no_memory_was_asked_for() -> None:
    assert tile_px(None, 10 * DEFAULT_MEMORY) == tile_px(None, 0)


def test_a_net_whose_weights_do_not_fit_is_refused_with_what_it_needs() -> None:
    with pytest.raises(ConfigError, match=r"expected 2\.7 GB or more, found 1\.0 GB"):
        tile_px(1_000_000_000, 2_000_000_000)


def limits(folder: Path, groups: str, **files: str) -> list[int]:
    (folder / "groups").write_text(groups)
    for name, limit in files.items():
        file = folder / name.replace("__", "/").replace("memory_max", "memory.max")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(limit)
    return sorted(allowed_memory(folder / "groups", folder))


def test_the_limit_of_every_group_around_the_process_counts(tmp_path: Path) -> None:
    job = {"slurm__job_7__memory_max": "3000\n", "slurm__memory_max": "max\n", "memory_max": "9000\n"}
    assert limits(tmp_path, "0::/slurm/job_7/step_0\n", **job) == [3000, 9000]


def test_limits_of_the_first_version_of_control_groups(tmp_path: Path) -> None:
    limit = tmp_path / "memory" / "job" / "memory.limit_in_bytes"
    limit.parent.mkdir(parents=True)
    limit.write_text("5000")
    assert limits(tmp_path, "8:pids:/other\n4:memory:/job\n") == [5000]


def test_without_limits_there_are_none(tmp_path: Path) -> None:
    assert limits(tmp_path, "0::/\n", memory_max="max") == []
    assert list(allowed_memory(tmp_path / "absent", tmp_path)) == []

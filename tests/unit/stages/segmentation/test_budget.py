"""What a process may take decides the size of its tiles."""

from __future__ import annotations

import math

import pytest

from segem.config import ExecutionConfig
from segem.errors import ConfigError
from segem.stages.segmentation.budget import DEFAULT_MEMORY, RESIDENT, TILES_IN_FLIGHT, Budget

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

"""What looks painted: labels of any kind, and nothing that a microscope has recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from segem.io.readers import open_stack
from segem.kernels.painted import PaintedTally


def tally_of(section: NDArray[Any]) -> PaintedTally:
    tally = PaintedTally()
    tally.add(section)
    return tally


def test_padding_says_nothing_about_the_rest():
    noise = np.random.default_rng(0).integers(1, 256, (64, 64))
    noise[:48] = 0
    assert tally_of(noise).share < 0.05
    cells = np.kron(np.arange(1, 65).reshape(8, 8), np.ones((8, 8), int))
    cells[:32] = 0
    # Of 63 neighbours in a row of eight cells, seven differ.
    assert tally_of(cells).share == pytest.approx(56 / 63, abs=0.02)


def test_nothing_counted_is_not_painted():
    assert not tally_of(np.zeros((8, 8), np.uint8)).looks_painted
    assert not tally_of(np.full((8, 8), np.nan)).looks_painted
    assert not PaintedTally().looks_painted


@pytest.mark.parametrize(
    ("path", "painted"),
    [
        ("isbi2012/train-volume.tif", False),
        ("isbi2012/test-volume.tif", False),
        ("vnc/stack1/raw", False),
        ("vnc/stack2/raw", False),
        ("snemi/ac3/raw", False),
        ("snemi/ac4/raw", False),
        ("fibsem/raw", False),
        ("formats/test_tiff_Zeiss_SEM_512pix.tif", False),
        ("isbi2012/train-labels.tif", True),
        ("vnc/stack1/labels", True),
        ("snemi/ac3/ids", True),
        ("snemi/ac4/ids", True),
        ("formats/train-gt.lzf.h5", True),
    ],
)
def test_real_stacks_and_labels_are_far_apart(em_data: Path, path: str, painted: bool):
    with open_stack(em_data / path) as stack:
        tally = tally_of(stack.section(stack.shape[0] // 2))
    assert tally.looks_painted is painted
    assert not 0.1 < tally.share < 0.85

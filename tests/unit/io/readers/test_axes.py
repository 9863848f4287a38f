"""What axes mean where nobody names them."""

from __future__ import annotations

import pytest

from segem.config import Selection
from segem.errors import InputError
from segem.io.readers.axes import arrange


def test_sections_as_the_last_axis_are_asked_about() -> None:
    with pytest.raises(InputError, match=r"the last axis may be 6 sections or 6 columns.*--axes: yxz"):
        arrange("???", (96, 128, 6), Selection(), where="a.npy")
    assert arrange("???", (96, 128, 6), Selection(axes="yxz"), where="a.npy").shape == (6, 96, 128)
    assert arrange("???", (96, 128, 6), Selection(axes="zyx"), where="a.npy").shape == (96, 128, 6)


@pytest.mark.parametrize("shape", [(6, 96, 128), (24, 512, 512), (4, 500, 30), (1, 5, 64), (100, 250, 250)])
def test_stacks_by_convention_are_taken(shape: tuple[int, int, int]) -> None:
    assert arrange("???", shape, Selection(), where="a.npy").shape == shape

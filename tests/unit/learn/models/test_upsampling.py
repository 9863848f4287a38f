"""Each way of up-sampling against torch's own and against how it is explained."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional as F

from segem.learn.models.upsampling import STEPS, bed_of_nails, bilinear, max_pool, max_unpool, nearest, transposed


def maps(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("factor", [2, 3, 8])
def test_bed_of_nails_is_a_transposed_convolution_by_a_single_one(factor: int) -> None:
    x = maps(2, 3, 5, 4)
    kernel = torch.zeros(3, 1, factor, factor, dtype=torch.float64)
    kernel[..., 0, 0] = 1
    assert torch.equal(bed_of_nails(x, factor), F.conv_transpose2d(x, kernel, stride=factor, groups=3))


@pytest.mark.parametrize("factor", [2, 3])
def test_nearest_fills_squares(factor: int) -> None:
    x = maps(1, 2, 3, 4)
    assert torch.equal(nearest(x, factor), x.repeat_interleave(factor, -1).repeat_interleave(factor, -2))


def test_unpooling_equals_that_of_torch_also_where_values_tie() -> None:
    x = maps(2, 3, 8, 6).relu()
    x[..., :2] = 0
    values, indices = max_pool(x)
    assert torch.equal(values, F.max_pool2d(x, 2))
    moved = maps(*values.shape)
    assert torch.equal(max_unpool(moved, indices), F.max_unpool2d(moved, indices, [2, 2]))


@pytest.mark.parametrize("factor", [2, 4])
def test_bilinear_follows_its_formula(factor: int) -> None:
    x = maps(1, 1, 4, 5)
    found = bilinear(x, factor)[0, 0]
    last_row, last_column = 3, 4
    for row, column in itertools.product(range(4 * factor), range(5 * factor)):
        # Centres of pixels, and the border repeats what is outermost.
        y = min(max((row + 0.5) / factor - 0.5, 0), last_row)
        z = min(max((column + 0.5) / factor - 0.5, 0), last_column)
        up, left = min(int(y), last_row - 1), min(int(z), last_column - 1)
        d3, d1 = y - up, z - left
        d4, d2 = 1 - d3, 1 - d1
        v1, v2, v3, v4 = x[0, 0, up : up + 2, left : left + 2].flatten().tolist()
        q1, q2 = v1 * d2 + v2 * d1, v3 * d2 + v4 * d1
        assert float(found[row, column]) == pytest.approx(q1 * d4 + q2 * d3, abs=1e-12)


def test_a_transposed_convolution_is_the_transpose_of_a_convolution() -> None:
    up = transposed(3, 2, kernel=4).double().requires_grad_(False)
    assert up.bias is not None
    up.bias.data.zero_()
    small, large = maps(1, 3, 5, 6), maps(1, 2, 10, 12)
    down = F.conv2d(large, up.weight, stride=2, padding=1)
    assert float((up(small) * large).sum()) == pytest.approx(float((small * down).sum()), abs=1e-9)


@pytest.mark.parametrize(
    ("kind", "grow"), [("nearest", nearest), ("bed_of_nails", bed_of_nails), ("bilinear", bilinear)]
)
def test_what_is_seen_is_what_gradients_show(kind: str, grow) -> None:
    x = maps(1, 1, 1, 20).requires_grad_()
    larger = grow(x)[0, 0, 0]
    for first, last in itertools.product(range(16, 20), range(20, 24)):
        (gradient,) = torch.autograd.grad(larger[first : last + 1].sum(), x, retain_graph=True)
        reached = gradient.flatten().nonzero().flatten()
        assert STEPS[kind].sees(first, last) == (int(reached[0]), int(reached[-1]))  # type: ignore[index]

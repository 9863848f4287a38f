"""Computes wide 3x3 convolutions with half of the multiplications; results differ by rounding only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

PAYS_FROM = 128
"""Fewest channels, in and out, for which the saving outweighs the extra passes over memory; measured, see ADR 9."""

# F(4, 3) at the points 0, 1, -1, 2, -2 and infinity: four outputs of a filter of three taps from six inputs, with six
# multiplications instead of twelve. Points of small magnitude keep the factors, and with them the rounding, small.
# Each sum of inputs is given as the first of the six rows it uses, the step between rows, and their factors.
_OUTPUTS = 4
_INPUTS = (
    (0, 2, (4, -5, 1)),
    (1, 1, (-4, -4, 1, 1)),
    (1, 1, (4, -4, -1, 1)),
    (1, 1, (-2, -1, 2, 1)),
    (1, 1, (2, -1, -2, 1)),
    (1, 2, (4, -5, 1)),
)
# The integers are exact; one division by their common denominator is all that rounds.
_FILTERS = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24


def halve_multiplications(model: Any, least: int = PAYS_FROM) -> Any:
    """Rewrite the wide 3x3 convolutions of an OpenVINO model, in place.

    Four rows of the output are computed from six rows of the input: six sums of input rows, each convolved with a 1x3
    filter, give the four rows as sums. Columns are left alone: with them too, the sums would take 2.25 times the memory
    of the image instead of 1.5, and rounding would grow.

    Parameters
    ----------
    model : openvino.Model
        Float32. Convolutions of 3x3 with stride and dilation 1 that are padded by 1 are rewritten.
    least : int
        Channels that a convolution must have at least, in and out.

    Returns
    -------
    openvino.Model
        The same.

    Notes
    -----
    Lavin and Gray (2016), doi:10.1109/CVPR.2016.435, in one dimension.

    Examples
    --------
    >>> from segem.learn.runtimes.openvino import import_openvino
    >>> from torch import nn, zeros
    >>> model = import_openvino().convert_model(nn.Conv2d(2, 3, 3, padding=1), example_input=zeros(1, 2, 8, 8))
    >>> model = halve_multiplications(model, least=2)
    >>> sum(op.get_type_name() == "Convolution" for op in model.get_ops())
    6
    """
    for op in model.get_ordered_ops():
        if op.get_type_name() == "Convolution" and _is_meant(op, least):
            op.output(0).replace(_rewritten(op.input_value(0), op.input_value(1).get_node().data))
    return model


def _is_meant(convolution: Any, least: int) -> bool:
    # Grouped convolutions are another operator (GroupConvolution), and filters that are computed are no Constant:
    # neither is rewritten.
    filters = convolution.input_value(1).get_node()
    settings = convolution.get_attributes()
    return (
        filters.get_type_name() == "Constant"
        and list(filters.shape[2:]) == [3, 3]
        and min(filters.shape[:2]) >= least
        and all(list(settings[name]) == [1, 1] for name in ("strides", "dilations", "pads_begin", "pads_end"))
    )


def _rewritten(x: Any, filters: NDArray[np.float32]) -> Any:
    """Return the output that stands for a convolution of `x` with (out, in, 3, 3) filters."""
    from openvino import opset13 as ops

    channels_in = filters.shape[1]
    products = []
    for (first, step, factors), taps in zip(_INPUTS, _FILTERS, strict=True):
        # A sum of rows is a convolution of each channel by itself with a stride of one tile, so OpenVINO runs it as
        # such.
        sums = np.tile(np.array(factors, np.float32).reshape(1, 1, 1, -1, 1), (channels_in, 1, 1, 1, 1))
        # A tile's six input rows begin one above its four output rows. Zeros below the image complete the last tile.
        last = first + step * (len(factors) - 1)
        rows = ops.group_convolution(
            x, sums, strides=[_OUTPUTS, 1], pads_begin=[1 - first, 0], pads_end=[last - 1, 0], dilations=[step, 1]
        )
        # In double precision: filters are transformed once, so their rounding would be in every pixel.
        row_filters = np.einsum("h,oihw->oiw", taps, filters.astype(np.float64)).astype(np.float32)[:, :, np.newaxis]
        products.append(
            ops.convolution(rows, row_filters, strides=[1, 1], pads_begin=[0, 1], pads_end=[0, 1], dilations=[1, 1])
        )
    zero, one, minus_one, two, minus_two, infinity = products
    # The factors of +1 and -1, and of +2 and -2, differ in sign only, so their sums and differences are shared.
    even, odd = ops.add(one, minus_one), ops.subtract(one, minus_one)
    even_2, odd_2 = ops.add(two, minus_two), ops.subtract(two, minus_two)
    outputs = [
        ops.add(ops.add(zero, even), even_2),
        ops.add(odd, ops.multiply(odd_2, np.float32(2))),
        ops.add(even, ops.multiply(even_2, np.float32(4))),
        ops.add(ops.add(odd, ops.multiply(odd_2, np.float32(8))), infinity),
    ]
    # The size is read from the input while it runs, so one compiled model takes tiles of every size.
    height, width = (ops.gather(ops.shape_of(x), np.array([axis]), np.int64(0)) for axis in (2, 3))
    # Four rows joined side by side lie in memory as if stacked, so a reshape interleaves them without a copy.
    tiled = ops.concat(outputs, axis=3)
    image = ops.reshape(tiled, ops.concat([np.array([0, 0, -1]), width], axis=0), special_zero=True)
    return ops.slice(image, np.array([0]), height, np.array([1]), np.array([2])).output(0)

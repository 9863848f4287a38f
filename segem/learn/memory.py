"""How much memory a net needs for a tile, found by going through its layers without computing them."""

from __future__ import annotations

import copy
import weakref
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten

from segem.learn.winograd import PAYS_FROM

SCRATCH = 1.25
"""What convolutions need besides their inputs and outputs, measured with oneDNN and OpenVINO."""

WIDE_SCRATCH = 3
"""What a wide 3x3 convolution needs besides, in multiples of its output, where `segem.learn.winograd` rewrites it.

OpenVINO takes about half of it from what other layers have freed; the other half stays until the net is done. Measured
on U-Nets, FCN, a chain of such convolutions, and DeepLab v1, which takes a tenth more than this.
"""


def activation_bytes(net: nn.Module, shape: tuple[int, ...]) -> int:
    """Return about how many bytes a net holds at most while it evaluates one input.

    What is alive at each moment is added up. Nothing is computed: meta tensors have sizes only.

    Parameters
    ----------
    net : Module
        In evaluation mode, on any device.
    shape : tuple of int
        (C, H, W) of the input.

    Returns
    -------
    int

    Examples
    --------
    >>> activation_bytes(nn.Identity(), (1, 10, 10))
    500
    """
    net, x = copy.deepcopy(net).to("meta"), torch.zeros(1, *shape, device="meta")
    with torch.inference_mode(), _Living() as living:
        living.count(x)
        net(x)
    return int(max(living.peak + living.widest / 2, living.peak_wide) * SCRATCH)


class _Living(TorchFunctionMode):
    """Adds up the bytes of all tensors that are alive.

    It follows the functions that a net calls, not the operations below them: that would load torch's compiler, which
    takes seconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = self.peak_wide = self.widest = self._alive = 0
        self._seen: dict[int, int] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in tree_flatten(out)[0]:
            if isinstance(value, Tensor):
                self.count(value)
        if func is torch.conv2d and args[1].shape[2:] == (3, 3) and min(args[1].shape[:2]) >= PAYS_FROM:
            self.widest = max(self.widest, WIDE_SCRATCH * out.nbytes)
            self.peak_wide = max(self.peak_wide, self._alive + WIDE_SCRATCH * out.nbytes)
        return out

    def count(self, tensor: Tensor) -> None:
        """Take note of a tensor; those that share their memory count once."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if not self._seen.get(key):
            self._alive += storage.nbytes()
            self.peak = max(self.peak, self._alive)
        self._seen[key] = self._seen.get(key, 0) + 1
        weakref.finalize(tensor, partial(self._gone, key, storage.nbytes()))

    def _gone(self, key: int, nbytes: int) -> None:
        self._seen[key] -= 1
        if not self._seen[key]:
            del self._seen[key]
            self._alive -= nbytes

"""How much memory a net needs for a tile, found by following its tensors without computing them."""

from __future__ import annotations

import copy
import math
import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten

from segem.learn.winograd import PAYS_FROM

SCRATCH = 1.25
"""Factor for what convolutions need besides inputs and outputs; measured with oneDNN and OpenVINO."""

WIDE_SCRATCH = 3
"""Extra memory of a wide 3x3 convolution that `segem.learn.winograd` rewrites, in multiples of its output.

OpenVINO takes about half of it from memory that other layers have freed; the other half is held until the net is done.
Measured on U-Nets, FCN, a chain of such convolutions, and DeepLab v1, which takes a tenth more than this.
"""


_SHUFFLES = {torch.pixel_shuffle: True, torch.pixel_unshuffle: False}
"""Whether the image becomes larger."""


def activation_bytes(net: nn.Module, shape: tuple[int, ...]) -> int:
    """Estimate the most bytes a net holds while it evaluates one input.

    The tensors alive at each moment are added up. Nothing is computed: a batch of no images has sizes only.

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
    device = next((parameter.device for parameter in net.parameters()), None)
    try:
        living = _follow(net, torch.zeros(0, *shape, device=device))
    except RuntimeError:
        # Some operations take no empty batch. Not for every net: torch's meta functions take 1.5 s to import.
        living = _follow(copy.deepcopy(net).to("meta"), torch.zeros(1, *shape, device="meta"))
    # The half of the scratch that is held to the end adds to the peak wherever that is; all of it adds to what is alive
    # at its own layer. The larger of the two is needed.
    return int(max(living.peak + living.widest / 2, living.peak_wide) * SCRATCH)


def _follow(net: nn.Module, x: Tensor) -> _Living:
    living = _Living()
    with torch.inference_mode(), living:
        living.count(x)
        net(x)
    return living


class _ImagesJoinedError(RuntimeError):
    """A net makes several images of one along the batch axis, where a batch of no images has nothing to count."""


class _Living(TorchFunctionMode):
    """Adds up the bytes of all tensors that are alive.

    It follows the torch functions that a net calls and not the operators below them: a mode for those would load
    torch's compiler, which takes seconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = self.peak_wide = self.widest = self._alive = 0
        self._seen: dict[int, int] = {}
        self._bytes: dict[int, int] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = _shuffled(*args, rise=_SHUFFLES[func]) if func in _SHUFFLES else func(*args, **(kwargs or {}))
        if func is torch.cat and not len(out) and (kwargs or {}).get("dim", *args[1:] or (0,)) == 0:
            raise _ImagesJoinedError
        for value in tree_flatten(out)[0]:
            if isinstance(value, Tensor):
                self.count(value)
        # The same condition as in winograd, on the same shapes: only there is scratch of this size needed.
        if func is torch.conv2d and args[1].shape[2:] == (3, 3) and min(args[1].shape[:2]) >= PAYS_FROM:
            scratch = WIDE_SCRATCH * _bytes_of(out)
            self.widest = max(self.widest, scratch)
            self.peak_wide = max(self.peak_wide, self._alive + scratch)
        return out

    def count(self, tensor: Tensor) -> None:
        """Record a tensor; tensors that share their memory count once."""
        key = tensor.untyped_storage()._cdata
        if not self._seen.get(key):
            # Whatever comes later with the same storage is a view.
            self._bytes[key] = _bytes_of(tensor)
            self._alive += self._bytes[key]
            self.peak = max(self.peak, self._alive)
        self._seen[key] = self._seen.get(key, 0) + 1
        # Python frees a tensor as soon as the net drops it, so its end of life is that of the real computation.
        weakref.finalize(tensor, self._gone, key)

    def _gone(self, key: int) -> None:
        self._seen[key] -= 1
        if not self._seen[key]:
            del self._seen[key]
            self._alive -= self._bytes.pop(key)


def _shuffled(x: Tensor, factor: int, *, rise: bool) -> Tensor:
    # Torch gives these back as they are where they hold nothing.
    images, channels, height, width = x.shape
    if rise:
        return x.new_empty(images, channels // factor**2, height * factor, width * factor)
    return x.new_empty(images, channels * factor**2, height // factor, width // factor)


def _bytes_of(tensor: Tensor) -> int:
    """Return the bytes of a tensor; a batch of no images counts as one."""
    return math.prod(max(1, size) for size in tensor.shape) * tensor.element_size()

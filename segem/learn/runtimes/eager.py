"""Eager torch: tile by tile on a processor, in batches that fit its memory on a GPU.

The tests of this project run on a processor. They cover the code of the batches too, but streams, pinned memory and
mixed precision on a real GPU are untested.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from itertools import groupby, islice
from threading import Lock

import numpy as np
import torch
from torch import Tensor, nn

from segem.errors import BlockError
from segem.learn.allocator import keep_activations
from segem.learn.fold import folded
from segem.learn.memory import activation_bytes
from segem.learn.runtimes.base import Channels, Probability, TilePool, instructions, sigmoid

LARGEST_BATCH = 32
SHARE_OF_FREE_MEMORY = 0.5


def eager_name(device: torch.device) -> str:
    """Return what computes, without its version."""
    precision = " mixed" if device.type == "cuda" else ""
    return f"torch {device.type}{precision}{instructions(device)}"


class EagerCpu:
    """A net evaluated by torch on the processor, batch norm folded and channels last.

    Parameters
    ----------
    net : Module
        In evaluation mode, (B, C, H, W) to (B, 1, H, W) logits.
    threads : int
        Tiles evaluated at the same time.
    """

    def __init__(self, net: nn.Module, threads: int) -> None:
        keep_activations()
        # Folding, channels last and kept activations together reach nine tenths of the speed of a plain matrix
        # multiplication, where torch as it comes reaches a third (ADR 7).
        self._net = folded(net).to(memory_format=torch.channels_last)
        self._pool = TilePool(self._forward, threads)

    def evaluate(self, inputs: Iterable[Channels]) -> Iterator[Probability]:
        """Yield the membrane probability of each input, in order."""
        return self._pool.evaluate(inputs)

    def close(self) -> None:
        """Stop the threads and free the net."""
        self._pool.close()
        del self._net

    def _forward(self, channels: Channels) -> Probability:
        with torch.inference_mode():
            x = torch.from_numpy(np.ascontiguousarray(channels))[None]
            logits = self._net(x.contiguous(memory_format=torch.channels_last))
            probability: Probability = sigmoid(logits)[0, 0].numpy()
            return probability


class EagerBatches:
    """A net evaluated by torch on a GPU: tiles of one shape in batches, the next one copied while one is computed.

    A batch that does not fit the device's memory is halved and tried again; the smaller size is kept.

    Parameters
    ----------
    net : Module
        In evaluation mode, (B, C, H, W) to (B, 1, H, W) logits.
    device : torch.device
        Where to compute.
    batch : int, optional
        Largest number of tiles in a batch; by free memory when absent.
    """

    def __init__(self, net: nn.Module, device: torch.device, batch: int | None = None) -> None:
        self.device = device
        self.batch = batch
        self._cuda = device.type == "cuda"
        self._turn = Lock()
        self._net = folded(net).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def evaluate(self, inputs: Iterable[Channels]) -> Iterator[Probability]:
        """Yield the membrane probability of each input, in order."""
        # One block at a time has the device to itself, since a batch is as large as its memory allows.
        with self._turn:
            found = [p for shape, alike in groupby(inputs, key=np.shape) for p in self._same_shape(iter(alike), shape)]
        yield from found

    def close(self) -> None:
        """Hold nothing; the device frees its memory with the object."""

    def _same_shape(self, inputs: Iterator[Channels], shape: tuple[int, ...]) -> Iterator[Probability]:
        waiting: deque[tuple[list[Channels], Tensor]] = deque()
        while True:
            tiles = list(islice(inputs, self._batch_for(shape)))
            if tiles:
                waiting.append((tiles, self._sent(tiles)))
            if not waiting:
                return
            # One batch is on its way to the device while the one before it is computed.
            if len(waiting) > 1 or not tiles:
                yield from self._computed(*waiting.popleft())

    def _batch_for(self, shape: tuple[int, ...]) -> int:
        if self.batch is None:
            # Only CUDA says how much of its memory is free; elsewhere tiles go one by one.
            if not self._cuda:
                return 1
            free = SHARE_OF_FREE_MEMORY * torch.cuda.mem_get_info(self.device)[0]
            self.batch = max(1, min(LARGEST_BATCH, int(free / activation_bytes(self._net, shape))))
        return self.batch

    def _sent(self, tiles: list[Channels]) -> Tensor:
        host = torch.from_numpy(np.stack(tiles))
        if self._cuda:
            # Only from pinned memory is a copy asynchronous.
            host = host.pin_memory()
        return host.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)

    def _computed(self, tiles: list[Channels], x: Tensor) -> Iterator[Probability]:
        try:
            with torch.inference_mode(), torch.autocast("cuda") if self._cuda else nullcontext():
                logits = self._net(x).float()
                # Tile by tile, so that NaN in one does not condemn the others of its batch.
                probability = torch.stack([sigmoid(tile) for tile in logits])[:, 0].cpu().numpy()
        except torch.OutOfMemoryError:
            if len(tiles) == 1:
                raise BlockError(
                    "one tile does not fit the memory of the device",
                    where=f"tile of {tiles[0].shape}",
                    fix="give a smaller --tile-px or --memory, or --device cpu",
                ) from None
            probability = None
        if probability is not None:
            yield from probability
            return
        # Outside the handler, whose traceback would keep the tensors of the failed attempt alive.
        if self._cuda:
            torch.cuda.empty_cache()
        self.batch = half = max(1, len(tiles) // 2)
        for start in range(0, len(tiles), half):
            part = tiles[start : start + half]
            yield from self._computed(part, self._sent(part))

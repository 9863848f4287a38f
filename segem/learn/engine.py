"""Prediction of one block: arrays in, arrays out."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import segem.geometry
import segem.kernels.blend
import segem.kernels.normalize
import segem.kernels.threshold
import segem.learn.fold
import segem.learn.models.registry
import segem.learn.models.unet
import segem.plan
from segem.config import Device
from segem.errors import BlockError, ConfigError
from segem.geometry import Box, around
from segem.kernels.blend import axis_weights
from segem.kernels.normalize import IntensityStatistics, zscore
from segem.learn.allocator import keep_activations
from segem.learn.fold import folded
from segem.plan import Block, Plan, Tile

_COMPUTE_PATH: tuple[ModuleType, ...] = (
    segem.geometry,
    segem.plan,
    segem.kernels.blend,
    segem.kernels.normalize,
    segem.kernels.threshold,
    segem.learn.fold,
    segem.learn.models.registry,
    segem.learn.models.unet,
)


@cache
def compute_digest() -> str:
    """Return the sha256 of the source code a voxel passes through; changed code makes other blocks."""
    modules = (*_COMPUTE_PATH, inspect.getmodule(compute_digest))
    digest = hashlib.sha256()
    for module in modules:
        digest.update(inspect.getsource(module).encode() if module is not None else b"")
    return digest.hexdigest()


def choose_device(device: Device) -> torch.device:
    """Return the torch device; ``auto`` takes CUDA, then Apple's MPS, then the CPU.

    Raises
    ------
    ConfigError
        When the device asked for is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name, available in there.items() if available))
    if not there[device]:
        raise ConfigError(f"no {device} device here", expected=device, found="cpu", fix="use --device auto")
    return torch.device(device)


def runtime_name(device: Device) -> str:
    """Return what computes, for block identities and model cards: another version may round otherwise."""
    return f"torch {torch.__version__} {choose_device(device).type}"


def gpu_name() -> str | None:
    """Return the name of the first CUDA device, or None."""
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


class Engine:
    """A net ready to predict, with a pool of threads that evaluate tiles side by side.

    Every tile is evaluated by one thread: the order of a convolution's sums depends on how many threads share it, so
    this is what makes the bytes of the result independent of the number of workers and cores.

    Parameters
    ----------
    net : Module
        In evaluation mode, (B, C, H, W) to (B, 1, H, W) logits.
    device : torch.device
        Where to compute.
    context_sections : int
        Sections the net takes as channels.
    threads : int, optional
        Tiles evaluated at the same time on a CPU; all cores when absent.
    """

    def __init__(
        self, net: nn.Module, device: torch.device, context_sections: int = 1, threads: int | None = None
    ) -> None:
        keep_activations()
        self.device = device
        self.context_sections = context_sections
        self.net = folded(net).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        workers = 1 if device.type != "cpu" else threads or len(os.sched_getaffinity(0))
        self._pool = ThreadPoolExecutor(workers, "tile", initializer=torch.set_num_threads, initargs=(1,))

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(cancel_futures=True)

    def probability(self, channels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the membrane probability (H, W) of one input (C, H, W) of z-scores."""
        with torch.inference_mode():
            x = torch.from_numpy(np.ascontiguousarray(channels))[None].to(self.device)
            logits = self.net(x.contiguous(memory_format=torch.channels_last))
            # The sigmoid would turn an infinite logit into a sound 0 or 1; as NaN it is found.
            logits = logits.masked_fill(~torch.isfinite(logits), torch.nan)
            probability: NDArray[np.float32] = torch.sigmoid(logits)[0, 0].float().cpu().numpy()
            return probability

    def predict_block(
        self,
        plan: Plan,
        block: Block,
        voxels: NDArray[np.uint8] | NDArray[np.uint16],
        statistics: IntensityStatistics,
        on_tile: Callable[[int], None] = lambda _: None,
    ) -> NDArray[np.float32]:
        """Return the membrane probability of a block's write box.

        Parameters
        ----------
        plan : Plan
            The plan the block is part of.
        block : Block
            What to compute.
        voxels : (z, y, x) uint8 or uint16
            The raw intensities of ``block.read``.
        statistics : IntensityStatistics
            Of the whole volume.
        on_tile : callable
            Called with the number of voxels each finished tile wrote.

        Returns
        -------
        (z, y, x) float32
            In 0..1, of the shape of ``block.write``.

        Raises
        ------
        BlockError
            When the input or the output is not finite: NaN must never turn into "no membrane".
        """
        if voxels.shape != block.read.shape:
            raise BlockError(
                "wrong input shape", where=block.write, expected=block.read.shape, found=voxels.shape, fix="run again"
            )
        inputs = (self._channels(tile, block, voxels, statistics) for tile in block.tiles)
        weights = _Weights(plan) if plan.tiling.mode == "gaussian" else None
        out = np.zeros(block.write.shape, np.float32)
        # Tiles come back in the order of the plan, so sums of overlapping ones are always taken in the same order.
        with self._evaluated(inputs) as evaluated:
            for tile, probability in zip(block.tiles, evaluated, strict=True):
                if not np.isfinite(probability).all():
                    raise BlockError(
                        "the net gave NaN or infinity", where=f"tile {tile.read}", fix="check the model's weights"
                    )
                part = tile.write.relative_to(tile.read.start).slices[1:]
                target = out[tile.write.relative_to(block.write.start).slices][0]
                if weights is None:
                    target[:] = probability[part]
                else:
                    target += probability[part] * weights.of(tile)
                on_tile(tile.write.size)
        return np.clip(out, 0, 1)

    @contextmanager
    def _evaluated(self, inputs: Iterator[NDArray[np.float32]]) -> Iterator[Iterator[NDArray[np.float32]]]:
        futures = [self._pool.submit(self.probability, channels) for channels in inputs]
        try:
            yield (future.result() for future in futures)
        finally:
            for future in futures:
                future.cancel()

    def _channels(
        self, tile: Tile, block: Block, voxels: NDArray[np.uint8] | NDArray[np.uint16], statistics: IntensityStatistics
    ) -> NDArray[np.float32]:
        """Cut the sections around a tile; beyond the first and last section of the volume, those repeat."""
        z = tile.write.start[0]
        wanted = [z + dz for dz in around(self.context_sections)]
        sections = np.clip(wanted, block.read.start[0], block.read.stop[0] - 1)
        _, rows, columns = tile.read.relative_to(block.read.start).slices
        return zscore(voxels[sections - block.read.start[0], rows, columns], statistics)


class _Weights:
    """The blending weights of a plan, by where a tile starts."""

    def __init__(self, plan: Plan) -> None:
        self._axes: list[dict[int, NDArray[np.float32]]] = []
        for axis in (1, 2):
            windows = plan.windows(axis)
            weights = axis_weights(plan.shape[axis], plan.tiling.core_px[axis - 1], windows)
            self._axes.append({start: w for (start, _), w in zip(windows, weights, strict=True)})

    def of(self, tile: Tile) -> NDArray[np.float32]:
        """Return the weights of the part that a tile writes, (y, x) float32."""
        part: Box = tile.write.relative_to(tile.read.start)
        y, x = (axis[start] for axis, start in zip(self._axes, tile.read.start[1:], strict=True))
        return np.outer(y[part.slices[1]], x[part.slices[2]])

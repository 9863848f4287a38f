"""Prediction of one block: arrays in, arrays out."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from segem.config import RuntimeName, Window
from segem.errors import BlockError, ModelError
from segem.geometry import Box, around
from segem.kernels.blend import axis_weights
from segem.kernels.normalize import IntensityStatistics, zscore
from segem.kernels.threshold import quantize_probability
from segem.kernels.views import turn, turn_back
from segem.learn.runtimes.base import Channels, Probability
from segem.learn.runtimes.choice import choose_device, open_runtime
from segem.plan import Block, Plan, Tile

__all__ = ["Engine", "choose_device", "gpu_name", "tile_channels"]


def gpu_name() -> str | None:
    """Return the name of the first CUDA device, or None."""
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


class Engine:
    """A net ready to predict blocks.

    Parameters
    ----------
    net : Module
        In evaluation mode, (B, C, H, W) to (B, 1, H, W) logits.
    device : torch.device
        Where to compute.
    context_sections : int
        Sections the net takes as channels.
    threads : int, optional
        Tiles evaluated at the same time on a CPU, each by one thread; all cores when absent.
    views : {1, 2, 4, 8}
        Flips and quarter turns of each tile whose probabilities are averaged.
    runtime : {"torch", "openvino", "openvino-int8"}
        Library that evaluates the net.
    quantized : Path, optional
        The 8-bit model of ``openvino-int8``.

    Raises
    ------
    ModelError
        When a weight is NaN or infinite: a runtime may hide that in a plausible output.
    """

    def __init__(
        self,
        net: nn.Module,
        device: torch.device,
        context_sections: int = 1,
        threads: int | None = None,
        *,
        views: int = 1,
        runtime: RuntimeName = "torch",
        quantized: Path | None = None,
    ) -> None:
        for key, value in net.state_dict().items():
            if value.is_floating_point() and not torch.isfinite(value).all():
                raise ModelError(
                    "the weights are not finite", found=f"NaN or infinity in {key}", fix="load the model again"
                )
        self.context_sections = context_sections
        self.views = views
        # The cores this process may use, which in a container or a batch job are fewer than the machine has.
        threads = threads or len(os.sched_getaffinity(0))
        self.runtime = open_runtime(net, runtime, device, context_sections, threads, quantized)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the threads and free the net."""
        self.runtime.close()

    def probability(self, channels: Channels) -> Probability:
        """Return the membrane probability (H, W) of one input (C, H, W) of z-scores."""
        return next(self.probabilities([channels]))

    def probabilities(self, inputs: Iterable[Channels]) -> Iterator[Probability]:
        """Yield the membrane probability of each input, in order."""
        return self.runtime.evaluate(inputs)

    def averaged(self, inputs: Iterable[Channels], stride_px: int) -> Iterator[Probability]:
        """Yield the probability of each input, averaged over its views.

        Inputs are first padded at the bottom and the right to a multiple of the net's stride, as the net itself would
        do. Without that, padding a flipped view would shift the lattice of the poolings.
        """
        if self.views == 1:
            yield from self.probabilities(inputs)
            return
        # The runtime reads inputs ahead of what it yields, so sizes wait here for their outputs.
        sizes: deque[tuple[int, int]] = deque()

        def all_views() -> Iterator[Channels]:
            for channels in inputs:
                height, width = channels.shape[1:]
                sizes.append((height, width))
                filled = np.pad(channels, ((0, 0), (0, -height % stride_px), (0, -width % stride_px)))
                yield from (np.ascontiguousarray(turn(filled, view)) for view in range(self.views))

        # One stream of all views of all tiles keeps every thread busy across the ends of tiles.
        found = self.probabilities(all_views())
        while views := list(islice(found, self.views)):
            total = sum(turn_back(probability, view) for view, probability in enumerate(views))
            height, width = sizes.popleft()
            mean: Probability = np.asarray(total, np.float32)[:height, :width] / np.float32(self.views)
            yield mean

    def predict_block(
        self,
        plan: Plan,
        block: Block,
        voxels: NDArray[np.uint8] | NDArray[np.uint16],
        statistics: IntensityStatistics,
        on_tile: Callable[[int], None] = lambda _: None,
        *,
        stored: bool = False,
    ) -> NDArray[Any]:
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
        stored : bool
            Whether to return the 8 bits that are stored of a probability; tiles that do not overlap are then never held
            as floats together.

        Returns
        -------
        (z, y, x) float32 in 0..1, or uint8 in 0..255
            Of the shape of ``block.write``.

        Raises
        ------
        BlockError
            When the input or the output is not finite: NaN must never turn into "no membrane".
        """
        if voxels.shape != block.read.shape:
            raise BlockError(
                "wrong input shape", where=block.write, expected=block.read.shape, found=voxels.shape, fix="run again"
            )
        # Integers are always finite, so this costs nothing unless something is wrong.
        if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
            raise BlockError("the input holds NaN or infinity", where=block.read, fix="ingest the source again")
        _require_finite(statistics)
        # A generator: z-scores take four times the memory of 8-bit voxels, so only tiles in flight hold them.
        inputs = (tile_channels(tile, block, voxels, statistics, self.context_sections) for tile in block.tiles)
        weights = _Weights(plan, plan.tiling.window) if plan.tiling.window else None
        out = np.zeros(block.write.shape, np.uint8 if stored and weights is None else np.float32)
        # Tiles come back in the order of the plan, so overlapping ones are always summed in the same order.
        for tile, probability in zip(block.tiles, self.averaged(inputs, plan.tiling.stride_px), strict=True):
            # The maximum is NaN if any value is, and one reduction is quicker than a test of every value.
            if not np.isfinite(probability.max()):
                raise BlockError(
                    "the net gave NaN or infinity", where=f"tile {tile.read}", fix="check the model's weights"
                )
            part = tile.write.relative_to(tile.read.start).slices[1:]
            target = out[tile.write.relative_to(block.write.start).slices][0]
            if weights is None:
                target[:] = quantize_probability(probability[part]) if stored else probability[part]
            else:
                target += probability[part] * weights.of(tile)
            on_tile(tile.write.size)
        if weights is None:
            return out
        # Rounding may carry a sum of weighted probabilities just past 1; a single probability never is.
        np.clip(out, 0, 1, out=out)
        return quantize_probability(out) if stored else out


def tile_channels(
    tile: Tile,
    block: Block,
    voxels: NDArray[np.uint8] | NDArray[np.uint16],
    statistics: IntensityStatistics,
    context_sections: int,
) -> Channels:
    """Return a net's input for a tile, (C, H, W) z-scores; beyond the ends of the volume the last section repeats."""
    wanted = [tile.write.start[0] + dz for dz in around(context_sections)]
    sections = np.clip(wanted, block.read.start[0], block.read.stop[0] - 1)
    _, rows, columns = tile.read.relative_to(block.read.start).slices
    # By the statistics of the volume and not of the tile, or the same tissue would look different in each tile.
    return zscore(voxels[sections - block.read.start[0], rows, columns], statistics)


def _require_finite(statistics: IntensityStatistics) -> None:
    # The voxels are whole numbers, so their z-scores are finite whenever these two are.
    if not np.isfinite([statistics.mean, statistics.std]).all():
        raise BlockError(
            "the statistics of the volume are NaN or infinite",
            found=f"mean {statistics.mean}, std {statistics.std}",
            fix="ingest the volume again",
        )


class _Weights:
    """The blending weights of a plan, by the start of a tile."""

    def __init__(self, plan: Plan, form: Window) -> None:
        self._axes: list[dict[int, NDArray[np.float32]]] = []
        for axis in (1, 2):
            windows = plan.windows(axis)
            weights = axis_weights(plan.shape[axis], plan.tiling.core_px[axis - 1], windows, form)
            self._axes.append({start: w for (start, _), w in zip(windows, weights, strict=True)})

    def of(self, tile: Tile) -> NDArray[np.float32]:
        """Return the weights of the part that a tile writes, (y, x) float32."""
        part: Box = tile.write.relative_to(tile.read.start)
        y, x = (axis[start] for axis, start in zip(self._axes, tile.read.start[1:], strict=True))
        # Windows are separable: two vectors for each position take far less memory than a map for each tile.
        return np.outer(y[part.slices[1]], x[part.slices[2]])

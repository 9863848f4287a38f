"""A net that costs nothing and a volume that compresses badly: what is left to measure is everything else."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage
from torch import nn

from segem.config import Config, SynthConfig
from segem.geometry import ZYX, VoxelSize, grid
from segem.io.volume import Volume, create_volume, write_block
from segem.io.workspace import Workspace
from segem.kernels.normalize import IntensityStatistics, histogram
from segem.kernels.synth import draw_sections
from segem.learn.artefact import save_artefact
from segem.learn.models.registry import ZOO
from segem.learn.models.spec import Geometry, ModelSpec
from segem.records.card import ModelCard

NAME = "free"
_PATTERN_PX = 1024


class FreeOptions(Config):
    """What the net pretends to need."""

    context_sections: int = Field(default=1, ge=1)
    halo_px: int = Field(default=0, ge=0)


class FreeNet(nn.Module):
    """Hands on the middle one of its sections as logits."""

    def __init__(self, context_sections: int) -> None:
        super().__init__()
        self.middle = context_sections // 2
        # An artefact has weights.
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, 1, H, W) of (B, C, H, W)."""
        return x[:, self.middle : self.middle + 1]


ZOO[NAME] = ModelSpec(
    name=NAME,
    summary="hands on its middle section",
    source="none",
    options=FreeOptions,
    build=lambda options: FreeNet(options.context_sections),
    geometry=lambda options: Geometry(16, options.halo_px, options.context_sections),
)


def save_free_net(workspace: Workspace, *, context: int = 1, halo_px: int = 0) -> str:
    """Save the net as a model of the workspace and return its name."""
    options = {"context_sections": context, "halo_px": halo_px}
    card = ModelCard(name=NAME, architecture=NAME, options=options, threshold=0.5)
    save_artefact(workspace.models / NAME / "1", card, FreeNet(context))
    return NAME


def add_noise_volume(workspace: Workspace, name: str, shape: ZYX) -> Volume:
    """Write a volume of grainy synthetic EM shard by shard; it is never in memory as a whole.

    One drawn section is shifted from shard to shard, so that no two are the same.
    """
    drawn = pattern()
    volume = create_volume(
        workspace.volume(name),
        shape=shape,
        dtype=np.uint8,
        voxel_size=VoxelSize(50, 4, 4),
        labels={},
        attributes={
            "source_digest": f"synthetic {shape}",
            "statistics": IntensityStatistics.from_histogram(histogram(drawn)).to_dict() | {"constant_sections": []},
            "warnings": [],
        },
    )
    for (z, y, x), box in grid(volume.shape, volume.write_block):
        depth, height, width = box.shape
        block = np.empty(box.shape, np.uint8)
        for k in range(depth):
            shifted = np.roll(drawn, (127 * (z + 31 * y) + 61 * k, 211 * (x + 17 * z)), (0, 1))
            rows, columns = (-(-n // _PATTERN_PX) for n in (height, width))
            block[k] = np.tile(shifted, (rows, columns))[:height, :width]
        write_block(volume.raw, box, block)
    return volume


def pattern() -> NDArray[np.uint8]:
    """Return one grainy section, (y, x)."""
    (section,) = draw_sections(SynthConfig(shape=(1, _PATTERN_PX, _PATTERN_PX)))
    grain = ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 12, section.image.shape), 0.6)
    grainy: NDArray[np.uint8] = np.clip(section.image + grain, 0, 255).astype(np.uint8)
    return grainy

"""An encoder and its mirror image, with a choice of how the maps grow again."""

from __future__ import annotations

from itertools import pairwise

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from segem.learn.models.receptive_field import Step, Window, longest_px, reach_px
from segem.learn.models.spec import Geometry, ModelSpec, NetOptions
from segem.learn.models.unet import DoubleConv
from segem.learn.models.upsampling import STEPS, Kind, Upsampling, max_pool


class SegNetOptions(NetOptions):
    """Options of the encoder-decoder."""

    features: int = Field(default=32, ge=1, le=256)
    depth: int = Field(default=4, ge=1, le=7)
    upsampling: Kind = "max_unpool"


class SegNet(nn.Module):
    """Encoder-decoder without skip connections: what the poolings lost comes back by up-sampling alone.

    Parameters
    ----------
    channels_in : int
        Adjacent sections the net sees at once.
    features : int
        Channels of the first level; each deeper level doubles them, up to eight times as many.
    depth : int
        Number of poolings.
    upsampling : {"nearest", "bed_of_nails", "bilinear", "max_unpool", "transposed"}
        How maps are doubled on the way back.

    Notes
    -----
    Badrinarayanan, Kendall and Cipolla (2017), doi:10.1109/TPAMI.2016.2644615, who take the encoder of VGG-16 and
    unpool with the remembered indices. Here every level has two convolutions on either side, and one logit stands for
    two classes. Inputs are padded with zeros to a multiple of the stride at the bottom and the right. The remembered
    indices never leave their 2x2 square, so they say the same in a tile as in the whole section.

    Examples
    --------
    >>> import torch
    >>> SegNet(features=4, depth=2)(torch.zeros(1, 1, 30, 41)).shape
    torch.Size([1, 1, 30, 41])
    """

    def __init__(
        self, channels_in: int = 1, features: int = 32, depth: int = 4, upsampling: Kind = "max_unpool"
    ) -> None:
        super().__init__()
        self.stride = 2**depth
        # Eight times at most, as in VGG16, on which the published net is built.
        widths = [features * min(2**level, 8) for level in range(depth)]
        self.encoder = nn.ModuleList(DoubleConv(a, b) for a, b in pairwise([channels_in, *widths]))
        self.up = nn.ModuleList(Upsampling(upsampling, width) for width in reversed(widths))
        self.decoder = nn.ModuleList(DoubleConv(a, b) for a, b in pairwise([*reversed(widths), features]))
        self.head = nn.Conv2d(features, 1, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 1, H, W) of (B, channels_in, H, W)."""
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % self.stride, 0, -height % self.stride))
        remembered = []
        for block in self.encoder:
            # The indices are all that passes from the encoder to the decoder of the same level.
            x, indices = max_pool(block(x))
            remembered.append(indices)
        for up, block, indices in zip(self.up, self.decoder, reversed(remembered), strict=True):
            x = block(up(x, indices))
        logits: Tensor = self.head(x)[..., :height, :width]
        return logits


def segnet_steps(depth: int, upsampling: Kind) -> tuple[Step, ...]:
    """Return what happens from the input to the logits of a `SegNet`; the two convolutions of a level see 5 pixels."""
    level = Window(5, padding=2)
    return (level, Window(2, 2)) * depth + (STEPS[upsampling], level) * depth


def segnet_halo_px(depth: int, upsampling: Kind) -> int:
    """Return the context a `SegNet` needs around a core that starts and ends on its lattice.

    Examples
    --------
    >>> [segnet_halo_px(4, kind) for kind in ("nearest", "bilinear")]
    [64, 80]
    """
    return reach_px(segnet_steps(depth, upsampling), 2**depth)


SPECS = (
    ModelSpec(
        name="segnet",
        summary="encoder-decoder without skips; nearest, bed of nails, bilinear, max-unpooling or transposed",
        source="Badrinarayanan et al. 2017, doi:10.1109/TPAMI.2016.2644615",
        options=SegNetOptions,
        build=lambda o: SegNet(o.context_sections, o.features, o.depth, o.upsampling),
        geometry=lambda o: Geometry(2**o.depth, segnet_halo_px(o.depth, o.upsampling), o.context_sections),
        receptive_field_px=lambda o: longest_px(segnet_steps(o.depth, o.upsampling), 2**o.depth),
        encoder="encoder.",
    ),
)

"""The sliding-window classifier that won ISBI 2012, and two ways to slide it without computing anything twice."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segem.learn.models.mirror import mirrored
from segem.learn.models.spec import Geometry, ModelSpec, NetOptions

PATCH_PX = 95
BORDER_PX = PATCH_PX // 2
POOLINGS = 4
FRAGMENTS_PX = 2**POOLINGS
"""Spacing of the output pixels that one fragment of the last pooling computes."""


class PatchNet(nn.Module):
    """Net N4: classifies the centre of a window of 95x95 pixels as membrane or not.

    Four times a convolution and a 2x2 max-pooling (4x4, 5x5, 4x4 and 4x4 kernels, 48 maps each), then fully connected
    layers of 200 and 2 neurons. These are written as convolutions, with the same 219,290 weights in all, so the net
    takes larger images as they are.

    Parameters
    ----------
    channels_in : int
        Adjacent sections the net sees at once.

    Notes
    -----
    Ciresan, Giusti, Gambardella and Schmidhuber (2012), *Deep neural networks segment neuronal membranes in electron
    microscopy images*, NIPS 25. ReLU and He's initialisation are a choice made here. The paper's foveation and
    non-uniform sampling of the window are left out: they treat a pixel differently in each window, so with them there
    is no dense evaluation.

    There are three ways to label every pixel, with the same result except for rounding: `logits_patchwise` as in 2012,
    `logits_atrous` with gaps in the kernels, `logits_fragments` with the image split into fragments. `forward` takes
    the last, the fastest on a processor: the same multiplications as with gaps, but in plain convolutions.

    Examples
    --------
    >>> net = PatchNet()
    >>> sum(p.numel() for p in net.parameters())
    219290
    >>> net(torch.zeros(1, 1, 5, 7)).shape
    torch.Size([1, 1, 5, 7])
    """

    def __init__(self, channels_in: int = 1) -> None:
        super().__init__()
        shapes = ((channels_in, 4), (48, 5), (48, 4), (48, 4))
        self.convolutions = nn.ModuleList(nn.Conv2d(channels, 48, kernel) for channels, kernel in shapes)
        self.hidden = nn.Conv2d(48, 200, 3)
        self.head = nn.Conv2d(200, 2, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 1, H, W) of (B, channels_in, H, W), computed at all pixels at once."""
        return self.logits_fragments(x)

    def logits_of_patches(self, patches: Tensor) -> Tensor:
        """Return the logit of each patch's centre.

        Parameters
        ----------
        patches : Tensor, (B, channels_in, 95, 95)

        Returns
        -------
        Tensor, (B, 1, 1, 1)
        """
        x = patches
        for convolution in self.convolutions:
            x = F.max_pool2d(F.relu(convolution(x)), 2)
        return self._difference(self.head(F.relu(self.hidden(x))))

    def logits_patchwise(self, x: Tensor, batch: int = 256) -> Tensor:
        """Return logits (B, 1, H, W) of (B, channels_in, H, W), cut into a patch for each pixel.

        Parameters
        ----------
        x : Tensor, (B, channels_in, H, W)
        batch : int
            Patches computed at a time.

        Returns
        -------
        Tensor, (B, 1, H, W)
        """
        count, _, height, width = x.shape
        bordered = mirrored(x, BORDER_PX, (BORDER_PX, BORDER_PX))
        windows = bordered.unfold(2, PATCH_PX, 1).unfold(3, PATCH_PX, 1)
        each = torch.cartesian_prod(torch.arange(count), torch.arange(height), torch.arange(width))
        found = [
            self.logits_of_patches(windows[b, :, y, x]) for b, y, x in (part.T for part in torch.split(each, batch))
        ]
        return torch.cat(found).view(count, 1, height, width)

    def logits_atrous(self, x: Tensor) -> Tensor:
        """Return logits (B, 1, H, W) of (B, channels_in, H, W) with kernels that have gaps.

        Poolings step by one pixel instead of two, and every later kernel skips the pixels that belong to other windows.

        Notes
        -----
        Li, Zhao and Wang (2014), arXiv:1412.4526.
        """
        x = mirrored(x, BORDER_PX, (BORDER_PX, BORDER_PX))
        gap = 1
        for convolution in self.convolutions:
            # A pooling of stride 1 keeps the windows of all pixels, interleaved; those of one pixel are `gap` apart.
            x = F.max_pool2d(F.relu(_with_gaps(convolution, x, gap)), 2, stride=1, dilation=gap)
            gap *= 2
        return self._difference(self.head(F.relu(_with_gaps(self.hidden, x, gap))))

    def logits_fragments(self, x: Tensor) -> Tensor:
        """Return logits (B, 1, H, W) of (B, channels_in, H, W) by max-pooling fragments.

        Every pooling is done four times, from each of the four pixels of a square; the four results become images of
        their own, and are put together in the end.

        Notes
        -----
        Giusti et al. (2013), arXiv:1302.1700.
        """
        height, width = x.shape[-2:]
        # Fragments are of one size only where the output is a multiple of 16.
        x = mirrored(x, BORDER_PX, (BORDER_PX + -height % FRAGMENTS_PX, BORDER_PX + -width % FRAGMENTS_PX))
        for convolution in self.convolutions:
            x = _fragments(F.relu(convolution(x)))
        x = self._difference(self.head(F.relu(self.hidden(x))))
        for _ in range(POOLINGS):
            x = F.pixel_shuffle(torch.cat(x.chunk(4), dim=1), 2)
        return x[..., :height, :width]

    @staticmethod
    def _difference(logits: Tensor) -> Tensor:
        # The softmax of two classes is the sigmoid of their difference, and all nets of the zoo give one logit.
        return logits[:, 1:] - logits[:, :1]


def _with_gaps(convolution: nn.Module, x: Tensor, gap: int) -> Tensor:
    weights: Callable[[str], Tensor] = convolution.get_parameter
    return F.conv2d(x, weights("weight"), weights("bias"), dilation=gap)


def _fragments(x: Tensor) -> Tensor:
    # The newest fragments are outermost along the batch, so the last pooling is undone first.
    return torch.cat([F.max_pool2d(x[..., y:, x_:], 2) for y in (0, 1) for x_ in (0, 1)])


SPECS = (
    ModelSpec(
        name="patchnet",
        summary="sliding window of 95x95 pixels, evaluated at all pixels at once",
        source="Ciresan et al. 2012, NIPS 25; Giusti et al. 2013, arXiv:1302.1700",
        options=NetOptions,
        build=lambda o: PatchNet(o.context_sections),
        geometry=lambda o: Geometry(1, BORDER_PX, o.context_sections),
        receptive_field_px=lambda _: PATCH_PX,
        learning_rate=1e-3,
        batch=64,
        sampling="patches",
    ),
)

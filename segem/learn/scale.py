"""A net at other pixel sizes than it learned at: sections are resampled on the way in, logits on the way out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segem.config import Resampling
from segem.errors import ConfigError
from segem.geometry import VoxelSize, ceil_div, round_up
from segem.learn.artefact import Artefact, geometry_of, load_net
from segem.learn.models.spec import Geometry
from segem.records.card import ModelCard

Net = nn.Module
"""What computes a tile."""
MOST = 4
"""How many times larger or smaller pixels may be than those a model learned from; beyond, a volume is refused."""
_CERTAIN = 1e-6
"""Nearest that a mean of probabilities comes to 0 and 1, whose logits are not finite; stored are steps of 1/255."""


@dataclass(frozen=True)
class Scale:
    """A ratio of pixel sizes, in whole pixels, so that every tile is resampled as the whole section would be.

    Parameters
    ----------
    net_px, source_px : int
        So many pixels of the net cover as much as so many of the volume.
    """

    net_px: int = 1
    source_px: int = 1

    @property
    def factor(self) -> float:
        """Pixels of the net for one of the volume, along an axis."""
        return self.net_px / self.source_px

    @property
    def pair(self) -> tuple[int, int]:
        """Both numbers, as records have them."""
        return self.net_px, self.source_px

    def times(self, other: Scale) -> Scale:
        """Return one scale after another.

        Examples
        --------
        >>> Scale(3, 4).times(Scale(2, 1))
        Scale(net_px=3, source_px=2)
        """
        ratio = Fraction(*self.pair) * Fraction(*other.pair)
        return Scale(ratio.numerator, ratio.denominator)


AS_IS = Scale()
SEVERAL = (AS_IS, Scale(3, 2), Scale(2, 1))
"""At which sizes a model is shown tissue that it does not know, from the one it learned at on. Thin membranes need more
pixels than those it knows, and no label says how many."""
SCALES = tuple(
    Scale(net_px, source_px)
    for net_px in range(1, MOST + 1)
    for source_px in range(1, MOST + 1)
    if math.gcd(net_px, source_px) == 1
)


def find_scale(voxel: VoxelSize, card: ModelCard) -> Scale | None:
    """Return how a volume is resampled for a model: to the nearest pixel size it learned at, by the nearest ratio.

    Pixels within 15 % of what the model learned at, those of a card that does not say, and those whose two edges ask
    for different ratios are left as they are. For pixels more than four times larger or smaller there is no scale.

    Examples
    --------
    >>> from segem.records.card import LearnedAt
    >>> card = ModelCard(name="m", architecture="unet", threshold=0.5)
    >>> card = card.model_copy(update={"learned_at": LearnedAt(pixel_nm=(4, 6), section_nm=(30, 50))})
    >>> [find_scale(VoxelSize(50, nm, nm), card) for nm in (5, 8, 2, 40)]
    [Scale(net_px=1, source_px=1), Scale(net_px=4, source_px=3), Scale(net_px=1, source_px=2), None]
    """
    if card.learned_at is None:
        return AS_IS
    smallest, largest = card.learned_at.pixel_nm
    found = set()
    for pixel in (voxel.y, voxel.x):
        wanted = pixel / min(max(pixel, smallest), largest)
        if not 1 / MOST <= wanted <= MOST:
            return None
        found.add(min(SCALES, key=lambda scale: abs(math.log(scale.factor / wanted))))
    return found.pop() if len(found) == 1 else AS_IS


def choose_scale(voxel: VoxelSize, card: ModelCard) -> Scale:
    """Return the same, where there must be a scale.

    Raises
    ------
    ConfigError
        When there is none.
    """
    scale = find_scale(voxel, card)
    if scale is None and card.learned_at is not None:
        smallest, largest = card.learned_at.pixel_nm
        raise ConfigError(
            "the pixels are too far from those the model learned at",
            where=card.name,
            expected=f"{smallest / MOST:.3g} to {largest * MOST:.3g} nm",
            found=f"{voxel.y:g} x {voxel.x:g} nm",
            fix="check the voxel size of the volume, use another model, or take the pixels as they are with --resample "
            "never",
        )
    return scale or AS_IS


def choose_scales(voxel: VoxelSize, card: ModelCard, resample: Resampling) -> tuple[Scale, ...]:
    """Return all scales at which a run shows a volume to a model; the first suits the model's pixel size.

    Raises
    ------
    ConfigError
        When the pixels are too far from those the model learned at.
    """
    return scales_of(AS_IS if resample == "never" else choose_scale(voxel, card), resample)


def scales_of(scale: Scale, resample: Resampling) -> tuple[Scale, ...]:
    """Return the same, from the scale that suits the model's pixel size.

    Examples
    --------
    >>> scales_of(Scale(3, 4), "auto")
    (Scale(net_px=3, source_px=4),)
    >>> [one.pair for one in scales_of(Scale(3, 4), "several")]
    [(3, 4), (9, 8), (3, 2)]
    """
    return tuple(scale.times(finer) for finer in SEVERAL) if resample == "several" else (scale,)


def geometry_at(card: ModelCard, *scales: Scale) -> Geometry:
    """Return stride and halo of a model, in pixels of the volume, that suit it at one or more scales.

    Raises
    ------
    ConfigError
        When the card does not fit its architecture.
    """
    return reduce(_join, (_geometry_at(geometry_of(card), scale) for scale in scales))


def net_at(artefact: Artefact, *scales: Scale) -> Net:
    """Return the calibrated net of a model, for pixels of the volume; of several scales, the mean probability.

    Raises
    ------
    ModelError
        When the weights are damaged, belong to another architecture or hold NaN or infinity.
    """
    net, channels_in = load_net(artefact), geometry_of(artefact.card).context_sections
    nets = [at_scale(net, scale, channels_in) for scale in scales]
    return nets[0] if len(nets) == 1 else MeanOfScales(nets).eval()


def _geometry_at(geometry: Geometry, scale: Scale) -> Geometry:
    if scale == AS_IS:
        return geometry
    stride_px = _stride_px(geometry.stride_px, scale)
    halo_px = geometry.halo_px
    if halo_px is not None:
        # Beside what the net sees, each resampling looks at its neighbours: of the logits, then of the image.
        to_net, back = _margin_px(scale.net_px, scale.source_px), _margin_px(scale.source_px, scale.net_px)
        halo_px = ceil_div((halo_px + back + 1) * scale.source_px, scale.net_px) + to_net + 1
        halo_px = round_up(halo_px, stride_px)
    return Geometry(stride_px, halo_px, geometry.context_sections)


def _join(one: Geometry, other: Geometry) -> Geometry:
    stride_px = math.lcm(one.stride_px, other.stride_px)
    halo_px = None
    if one.halo_px is not None and other.halo_px is not None:
        halo_px = round_up(max(one.halo_px, other.halo_px), stride_px)
    return Geometry(stride_px, halo_px, one.context_sections)


def at_scale(net: nn.Module, scale: Scale, channels_in: int) -> nn.Module:
    """Return a net for pixels of the volume: the net itself where it takes them as they are."""
    return net if scale == AS_IS else Rescaled(net, scale, channels_in).eval()


class Rescaled(nn.Module):
    """Gives the logits of a net that sees its input resampled, resampled back.

    Parameters
    ----------
    net : Module
        (B, C, H, W) to (B, 1, H, W) logits.
    scale : Scale
        Of the net's pixels.
    channels_in : int
        C.

    Notes
    -----
    Every `source_px` pixels become `net_px` by the same weights, so a tile that starts on the common lattice is
    resampled exactly as the whole section; interpolation by coordinates in floating point would not be.

    Examples
    --------
    >>> Rescaled(nn.Identity(), Scale(3, 2))(torch.ones(1, 1, 5, 7)).shape
    torch.Size([1, 1, 5, 7])
    """

    def __init__(self, net: nn.Module, scale: Scale, channels_in: int = 1) -> None:
        super().__init__()
        self.net = net
        self.into = Resample(scale.source_px, scale.net_px, channels_in)
        self.back = Resample(scale.net_px, scale.source_px)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of the size of the input."""
        logits: Tensor = self.back(self.net(self.into(x)))
        return logits[..., : x.shape[-2], : x.shape[-1]]


class MeanOfScales(nn.Module):
    """Gives the logit of the mean probability of nets that see the same image.

    Parameters
    ----------
    nets : sequence of Module
        (B, C, H, W) to (B, 1, H, W) logits.

    Examples
    --------
    Of .5 and .9:

    >>> class Constant(nn.Module):
    ...     def __init__(self, logit):
    ...         super().__init__()
    ...         self.logit = logit
    ...
    ...     def forward(self, x):
    ...         return torch.full_like(x, self.logit)
    >>> found = MeanOfScales([Constant(0.0), Constant(math.log(9))])(torch.ones(1, 1, 1, 1))
    >>> round(torch.sigmoid(found).item(), 4)
    0.7
    """

    def __init__(self, nets: Sequence[nn.Module]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of the size of the input."""
        # In 32 bits, as a GPU may give logits of 16, which know no number between these bounds and 1.
        probabilities = torch.stack([torch.sigmoid(net(x).float()) for net in self.nets])
        probability = probabilities.mean(0).clamp(_CERTAIN, 1 - _CERTAIN)
        return torch.log(probability) - torch.log1p(-probability)


class Resample(nn.Module):
    """Makes of every `before` pixels, along each axis, `after`: linearly, and averaged where they become fewer.

    Parameters
    ----------
    before, after : int
        Pixels. Where a section is no multiple of `before`, its last row and column are repeated.
    channels : int
        Of the images, each resampled by itself.

    Examples
    --------
    >>> Resample(2, 1)(torch.arange(4.0).repeat(4, 1)[None, None])[0, 0, 0].tolist()
    [0.625, 2.375]
    >>> Resample(1, 2)(torch.tensor([[[[0.0, 4.0]]]]))[0, 0, 0].tolist()
    [0.0, 1.0, 3.0, 4.0]
    """

    kernel: Tensor

    def __init__(self, before: int, after: int, channels: int = 1) -> None:
        super().__init__()
        self.before, self.after, self.channels = before, after, channels
        self.margin = _margin_px(after, before)
        weights = torch.tensor(_weights(before, after), dtype=torch.float64)
        # One output channel for each pixel that comes of a cell of the input; `pixel_shuffle` lays them side by side.
        kernel = torch.einsum("iy,jx->ijyx", weights, weights).flatten(0, 1)[:, None]
        # No part of a model: it follows from the scale.
        self.register_buffer("kernel", kernel.float().repeat(channels, 1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, H, W) images with another number of pixels."""
        height, width = x.shape[-2:]
        margin, before = self.margin, self.before
        x = F.pad(x, (margin, margin + -width % before, margin, margin + -height % before), mode="replicate")
        cells = F.conv2d(x, self.kernel, stride=before, groups=self.channels)
        return F.pixel_shuffle(cells, self.after)


def _stride_px(stride_px: int, scale: Scale) -> int:
    """Return the lattice of the volume whose points lie on that of the net."""
    return scale.source_px * (stride_px // math.gcd(stride_px, scale.net_px))


def _margin_px(after: int, before: int) -> int:
    """Return how many pixels beyond a cell of `before` its `after` pixels depend on."""
    # A triangle around the centre of each new pixel, as wide as it where pixels become fewer.
    radius = max(1.0, before / after)
    first = before / after / 2 - 0.5 - radius
    return max(0, math.ceil(-first) - 1) if first < 0 else 0


def _weights(before: int, after: int) -> list[list[float]]:
    """Return the weights of the pixels of a cell and its margin in each new one."""
    radius, margin = max(1.0, before / after), _margin_px(after, before)
    rows = []
    for i in range(after):
        centre = (i + 0.5) * before / after - 0.5
        row = [max(0.0, 1 - abs(k - centre) / radius) for k in range(-margin, before + margin)]
        rows.append([value / sum(row) for value in row])
    return rows

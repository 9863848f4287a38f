"""Every model of the zoo by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import Field
from torch import nn

from segem.config import Config, parse
from segem.errors import ModelError
from segem.learn.models.unet import UNet, unet_halo_px


class UNetOptions(Config):
    """Options of the practical U-Net."""

    context_sections: int = Field(default=1, ge=1, le=31)
    """Adjacent sections seen at once; odd, 1 = a single section."""
    features: int = Field(default=16, ge=1, le=256)
    depth: int = Field(default=4, ge=1, le=7)


@dataclass(frozen=True)
class Geometry:
    """What a planner must know of a net.

    Parameters
    ----------
    stride_px : int
        Tiles must start on multiples of this.
    halo_px : int or None
        Context for exact output; None where the net sees the whole section.
    context_sections : int
        Sections the net takes as channels.
    """

    stride_px: int
    halo_px: int | None
    context_sections: int


@dataclass(frozen=True)
class ModelSpec:
    """One entry of the zoo."""

    name: str
    summary: str
    source: str
    options: type[Config]
    build: Callable[[Any], nn.Module]
    geometry: Callable[[Any], Geometry]


def _build_unet(options: UNetOptions) -> nn.Module:
    return UNet(options.context_sections, 1, options.features, options.depth)


def _unet_geometry(options: UNetOptions) -> Geometry:
    return Geometry(2**options.depth, unet_halo_px(options.depth), options.context_sections)


ZOO: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        ModelSpec(
            name="unet",
            summary="same-padding U-Net with batch norm, any input size",
            source="Ronneberger et al. 2015, doi:10.1007/978-3-319-24574-4_28",
            options=UNetOptions,
            build=_build_unet,
            geometry=_unet_geometry,
        ),
    )
}


def spec_of(name: str) -> ModelSpec:
    """Return the entry of the zoo with this name.

    Raises
    ------
    ModelError
        When there is none.
    """
    if name not in ZOO:
        known = ", ".join(sorted(ZOO))
        raise ModelError("no such architecture", where=name, found=f"known: {known}", fix="choose one of these")
    return ZOO[name]


def build(name: str, architecture: dict[str, Any] | None = None) -> nn.Module:
    """Return a freshly initialised net.

    Parameters
    ----------
    name : str
        Name in the zoo.
    architecture : dict, optional
        Options of that entry.

    Returns
    -------
    Module
        Takes (B, context_sections, H, W) float32 and returns (B, 1, H, W) logits.

    Examples
    --------
    >>> build("unet", {"features": 4, "depth": 2}).stride
    4
    """
    spec = spec_of(name)
    return spec.build(parse(spec.options, architecture or {}, where=name))


def resolved(name: str, architecture: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the options of a net with every default spelled out, so that a card outlives a change of defaults.

    Examples
    --------
    >>> resolved("unet", {"depth": 3})
    {'context_sections': 1, 'features': 16, 'depth': 3}
    """
    return parse(spec_of(name).options, architecture or {}, where=name).model_dump(mode="json")


def geometry(name: str, architecture: dict[str, Any] | None = None) -> Geometry:
    """Return stride, halo and context of a net without building it.

    Examples
    --------
    >>> geometry("unet", {"depth": 4}).halo_px
    96
    """
    spec = spec_of(name)
    return spec.geometry(parse(spec.options, architecture or {}, where=name))

"""Every model of the zoo by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from segem.config import Config, TrainConfig, parse
from segem.errors import ConfigError, ModelError
from segem.learn.models import deeplab_v1, deeplab_v2, deeplab_v3, fcn, fullres, patchnet, segnet, unet, unet2015, vgg
from segem.learn.models.spec import Geometry, ModelSpec, SideOutput

FAMILIES = (patchnet, fullres, segnet, unet2015, unet, vgg, fcn, deeplab_v1, deeplab_v2, deeplab_v3)
"""In the order in which the field came to them."""

ZOO: dict[str, ModelSpec] = {spec.name: spec for family in FAMILIES for spec in family.SPECS}


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


def options_of(name: str, architecture: dict[str, Any] | None = None) -> Config:
    """Return the options of a net, those that are not given by default.

    Raises
    ------
    ConfigError
        When there is no such option, or not with this value.
    """
    return parse(spec_of(name).options, architecture or {}, where=name, called=lambda key: f"option {key}")


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
    return spec.build(options_of(name, architecture))


def resolved(name: str, architecture: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the options of a net with every default spelled out, so that a card outlives a change of defaults.

    Examples
    --------
    >>> resolved("unet", {"depth": 3})
    {'context_sections': 1, 'features': 16, 'depth': 3, 'shuffle_px': 1}
    """
    return options_of(name, architecture).model_dump(mode="json")


def geometry(name: str, architecture: dict[str, Any] | None = None) -> Geometry:
    """Return stride, halo and context of a net without building it.

    Examples
    --------
    >>> geometry("unet", {"depth": 4}).halo_px
    96
    """
    spec = spec_of(name)
    return spec.geometry(options_of(name, architecture))


def recipe(config: TrainConfig) -> TrainConfig:
    """Return how a net is trained, with what was left open filled in as suits its architecture.

    Examples
    --------
    >>> recipe(TrainConfig(model="unet", steps=1)).batch
    4
    """
    spec = spec_of(config.model)
    suits = {
        "architecture": resolved(config.model, config.architecture),
        "batch": config.batch or spec.batch,
        "learning_rate": config.learning_rate or spec.learning_rate,
    }
    return config.model_copy(update=suits)


def pretrain(name: str, net: nn.Module, source: str) -> None:
    """Fill a fresh net with what a classifier learned on ImageNet; what the classifier has not, stays as it is.

    Parameters
    ----------
    name : str
        Name in the zoo.
    net : Module
        That net.
    source : str
        ``imagenet`` for torchvision's download, or the path of a ``.pth`` or ``.safetensors`` file of the classifier.

    Raises
    ------
    ModelError
        When the net shares no layers with a classifier, or the weights cannot be had or do not fit.
    """
    spec = spec_of(name)
    if spec.pretrained is None:
        known = ", ".join(sorted(other for other, entry in ZOO.items() if entry.pretrained is not None))
        raise ModelError(
            "this architecture takes no pretrained weights", where=name, fix=f"train from scratch, or take {known}"
        )
    spec.pretrained(net, "imagenet" if source == "imagenet" else Path(source))


def encoder_of(name: str) -> str:
    """Return what the names of the weights of an architecture's contracting part begin with.

    Raises
    ------
    ConfigError
        When it has no such part.

    Examples
    --------
    >>> encoder_of("unet")
    'down.'
    """
    prefix = spec_of(name).encoder
    if not prefix:
        known = ", ".join(sorted(other for other, entry in ZOO.items() if entry.encoder))
        raise ConfigError(
            "this architecture has no encoder that could be frozen",
            where=name,
            fix=f"leave out --freeze, or take {known}",
        )
    return prefix


def side_outputs(name: str, architecture: dict[str, Any] | None = None) -> tuple[SideOutput, ...]:
    """Return the levels of a net's decoder that deep supervision is for.

    Raises
    ------
    ConfigError
        When there are none.

    Examples
    --------
    >>> [side.stride_px for side in side_outputs("unet", {"depth": 4})]
    [2, 4]
    """
    sides = spec_of(name).sides(options_of(name, architecture))
    if not sides:
        known = ", ".join(sorted(other for other, entry in ZOO.items() if entry.sides(entry.options())))
        raise ConfigError(
            "this net has no coarser outputs that could be supervised",
            where=name,
            fix=f"leave out --deep-supervision, or take {known} with --option depth=3 or more",
        )
    return sides


def patch_px(name: str, architecture: dict[str, Any] | None = None) -> int | None:
    """Return the edge of the patches whose centres a net learns to tell; None where it learns from whole crops.

    Examples
    --------
    >>> patch_px("patchnet"), patch_px("unet")
    (95, None)
    """
    spec = spec_of(name)
    if spec.sampling == "crops":
        return None
    return spec.receptive_field_px(options_of(name, architecture))

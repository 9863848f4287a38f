"""Refuses, before anything is read, a training that surely does not fit the machine."""

from __future__ import annotations

import math
from collections.abc import Sequence

from segem.config import Device, TrainConfig
from segem.errors import ConfigError
from segem.learn.cost import parameter_count, tile_bytes
from segem.learn.models.registry import options_of, patch_px, spec_of
from segem.learn.runtimes.choice import choose_device
from segem.stages.segmentation.budget import half_of_the_machine
from segem.stages.training.labelled import LabelledVolume

_BYTES_A_PARAMETER = 5 * 4
"""While it is trained: its value, gradient and average, and two numbers of the optimiser."""
_BYTES_A_PIXEL = 4 + 4 + 1
"""While a net is trained on it: its grey value, its weight and its truth."""


def require_training_memory(config: TrainConfig, device: Device) -> None:
    """Raise where the weights of a net or the crops of one step surely do not fit the machine while it is trained.

    Of a crop, what evaluating it takes is counted, which is less than training takes.

    Raises
    ------
    ConfigError
        Naming what would be needed.
    """
    if choose_device(device).type != "cpu":
        return
    model, options = config.model, options_of(config.model, config.architecture)
    count = parameter_count(spec_of(model), options)
    needed, there = count * _BYTES_A_PARAMETER, 2 * half_of_the_machine()
    if needed > there:
        raise ConfigError(
            "the net is too large for this machine",
            where=model,
            expected=f"at most {there / 1e9:.1f} GB while it is trained",
            found=f"{needed / 1e9:.1f} GB for {count:,} parameters",
            fix="choose smaller values for the options of the architecture (`segem models show` lists them)",
        )
    batch = config.batch or spec_of(model).batch
    # A net of patches evaluates whole sections in another way than it is trained on patches.
    crop = 0 if patch_px(model, config.architecture) else tile_bytes(spec_of(model), options, config.crop_px)
    if needed + batch * crop > there:
        raise ConfigError(
            "so many crops to a step do not fit this machine",
            where=model,
            expected=f"at most {there / 1e9:.1f} GB while it is trained",
            found=f"more than {(needed + batch * crop) / 1e9:.1f} GB with --batch {batch}",
            fix="give a smaller --batch, or leave it out",
        )


def require_section_memory(volumes: Sequence[LabelledVolume]) -> None:
    """Raise where the sections that a net is trained on surely do not fit the machine: all of them are held at once.

    Raises
    ------
    ConfigError
        Naming what would be needed.
    """
    pixels = sum((one.train[1] - one.train[0]) * math.prod(one.volume.shape[1:]) for one in volumes)
    needed, there = _BYTES_A_PIXEL * pixels, 2 * half_of_the_machine()
    if needed > there:
        raise ConfigError(
            "the training sections do not fit into memory",
            where=", ".join(one.name for one in volumes),
            expected=f"at most {there / 1e9:.1f} GB",
            found=f"{needed / 1e9:.1f} GB or more",
            fix="name fewer sections as train in the manifest, or leave a volume out",
        )

"""Refuses a training that cannot fit the machine, before anything is read."""

from __future__ import annotations

import math
from collections.abc import Sequence

from segem.config import Device, TrainConfig
from segem.errors import ConfigError
from segem.geometry import Range
from segem.io.reviewed_labels import ReviewedVolume
from segem.io.volume import Volume
from segem.learn.cost import parameter_count, tile_bytes
from segem.learn.models.registry import options_of, patch_px, spec_of
from segem.learn.runtimes.choice import choose_device
from segem.records.card import ModelCard
from segem.stages.segmentation.budget import half_of_the_machine
from segem.stages.training.labelled import AROUND_PX, LabelledVolume

_BYTES_A_PARAMETER = 5 * 4
"""In training: its value, gradient and average, and two moments of the optimiser, in float32."""
_TRAINED, _VALIDATED = 4 + 4 + 1, 4 + 1 + 4 + 4 + 1
"""Bytes of a pixel to train on: its z-score and weight in float32, and its truth in 8 bits. Of one that validates: its
z-score and truth, its logit, and both of the latter once more where they are fitted to each other."""


def require_training_memory(config: TrainConfig, device: Device, teacher: ModelCard | None = None) -> None:
    """Raise where the weights of a net or the crops of one step cannot fit the machine in training.

    A crop is counted with the memory of evaluating it, a lower bound of what training takes. A teacher evaluates the
    same crops while the net's own layers are held.

    Raises
    ------
    ConfigError
        It names what would be needed.
    """
    # On a GPU its own memory decides, and torch says so in the first step.
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
    # A net for patches evaluates sections in another way than patches, so its memory there says nothing.
    crop = 0 if patch_px(model, config.architecture) else tile_bytes(spec_of(model), options, config.crop_px)
    if teacher is not None:
        spec, taught = spec_of(teacher.architecture), options_of(teacher.architecture, teacher.options)
        needed += 4 * parameter_count(spec, taught)
        crop += tile_bytes(spec, taught, config.crop_px)
    if needed + batch * crop > there:
        raise ConfigError(
            "so many crops to a step do not fit this machine",
            where=model,
            expected=f"at most {there / 1e9:.1f} GB while it is trained",
            found=f"more than {(needed + batch * crop) / 1e9:.1f} GB with --batch {batch}",
            fix="give a smaller --batch, or leave it out",
        )


def require_section_memory(volumes: Sequence[LabelledVolume]) -> None:
    """Raise where training and validation sections cannot fit the machine: all of them are in memory at once.

    Test sections are not: they are read one by one.

    Raises
    ------
    ConfigError
        It names what would be needed.
    """
    trained = sum(_count_pixels(one.volume, one.train) for one in volumes)
    validated = sum(_count_pixels(one.volume, one.validation) for one in volumes)
    needed, there = _TRAINED * trained + _VALIDATED * validated, 2 * half_of_the_machine()
    if needed > there:
        raise ConfigError(
            "the training and validation sections do not fit into memory",
            where=", ".join(one.name for one in volumes),
            expected=f"at most {there / 1e9:.1f} GB",
            found=f"{needed / 1e9:.1f} GB or more",
            fix="name fewer sections as train or validation in the manifest, or leave a volume out",
        )


def _count_pixels(volume: Volume, sections: Range) -> int:
    """Return how many pixels of some sections are read."""
    if isinstance(volume, ReviewedVolume):
        windows = (volume.find_window(z, AROUND_PX) for z in volume.reviewed_sections(sections))
        return sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in windows)
    return (sections[1] - sections[0]) * math.prod(volume.shape[1:])

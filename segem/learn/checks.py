"""Checks of sections before a net is trained on them, and of its output."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from numpy.typing import NDArray

from segem.errors import InputError, ModelError
from segem.kernels.truth import is_known, is_membrane

if TYPE_CHECKING:
    from segem.learn.sections import LabelledSection

logger = logging.getLogger(__name__)

LEAST_PX = 32
"""Shortest edge of a section that has tissue to learn from around its pixels."""


def check_sections(sections: Sequence[LabelledSection], part: str) -> None:
    """Raise where a net could not be trained or validated on sections.

    Parameters
    ----------
    sections : sequence of LabelledSection
        Those of one part of the split.
    part : {"train", "validation"}
        Which one, for the message.

    Raises
    ------
    InputError
        When there are none, when they are too small, when a volume shows one grey level only, when nothing of its truth
        is known or when the truth is of one class only: all of it together, and of each volume that validates.
    """
    if not sections:
        raise InputError(f"no {part} sections", fix=f"give at least one labelled section to {part}")
    for section in sections:
        if min(section.truth.shape) < LEAST_PX:
            raise InputError(
                f"the {part} sections are too small to learn from",
                where=section.volume,
                expected=f"{LEAST_PX} x {LEAST_PX} px or more",
                found=_size(section),
                fix="give larger sections, or leave this volume out",
            )
    volumes = list(dict.fromkeys(section.volume for section in sections))
    for volume in volumes:
        images = [section.image for section in sections if section.volume == volume]
        if len({value for image in images for value in (image.min(), image.max())}) == 1:
            raise InputError(
                f"the images of the {part} sections show one grey level only",
                where=volume,
                fix="check the source of this volume, or leave it out",
            )
        if not any(is_known(section.truth).any() for section in sections if section.volume == volume):
            refuse_unlabelled(part, volume)
    _check_classes(sections, part)
    if part == "validation":
        # In a volume of one class, IoU is best at an extreme threshold, which would suit no other volume.
        for volume in volumes:
            _check_classes([section for section in sections if section.volume == volume], part)


def _check_classes(sections: Sequence[LabelledSection], part: str) -> None:
    known = sum(int(np.count_nonzero(is_known(section.truth))) for section in sections)
    membrane = sum(int(np.count_nonzero(is_membrane(section.truth))) for section in sections) / known
    # A net trained on one class learns to say it everywhere, with a loss that falls as if all were well.
    if not 0 < membrane < 1:
        raise InputError(
            f"the {part} labels hold one class only",
            where=", ".join(sorted({section.volume for section in sections})),
            expected="membrane and background",
            found=f"{membrane:.0%} membrane",
            fix="check the labels and their polarity (membrane: zero or nonzero)",
        )


def check_predicted(values: NDArray[np.float32], where: object, again: str = "train the model") -> None:
    """Raise where a model gives NaN or infinity for a section; `again` is what to do over.

    Raises
    ------
    ModelError
        Then.
    """
    if not np.isfinite(values).all():
        raise ModelError(
            "the model gives values that are not finite",
            where=where,
            found="NaN or infinity",
            fix=f"{again} again with a lower --learning-rate",
        )


def refuse_unlabelled(part: str, volume: str) -> NoReturn:
    """Raise for a volume of which no pixel of one part of the split is painted.

    Raises
    ------
    InputError
        Always.
    """
    raise InputError(
        f"nothing is known of the {part} sections: each of their pixels has the value to ignore",
        where=volume,
        fix="paint some tissue there, name other sections in the split, or correct the value (ignore, --ignore)",
    )


def warn_of_small_sections(sections: Sequence[LabelledSection], crop_px: int) -> None:
    """Warn which volumes have sections that are smaller than a crop."""
    for volume, size in {s.volume: _size(s) for s in sections if min(s.truth.shape) < crop_px}.items():
        logger.warning(
            "%s: its sections of %s are smaller than the %d x %d px that training shows at once, so they are continued "
            "by their mirror image",
            volume,
            size,
            crop_px,
            crop_px,
        )


def _size(section: LabelledSection) -> str:
    height, width = section.truth.shape
    return f"{height} x {width} px"

"""How the intensities of a source are stored in a volume."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.config import IngestConfig
from segem.errors import InputError
from segem.io.readers import Stack
from segem.kernels.scaling import STORED_TYPES, Scaling, ValueSurvey
from segem.kernels.wrapped import doubt_sign
from segem.progress import track
from segem.stages.volumes.slabs import count_sections, read_slabs


def check_type(raw: Stack) -> None:
    """Raise where voxels are no real numbers."""
    if raw.dtype.kind not in "biuf":
        raise InputError(
            "intensities of an unsupported type",
            where=raw.source,
            expected="whole or floating-point numbers",
            found=raw.dtype,
            fix="convert it to 8 or 16 bit grey (Fiji: Image > Type > 16-bit)",
        )


def choose_scaling(raw: Stack, config: IngestConfig) -> tuple[Scaling, int]:
    """Return how the intensities of a source are stored, and how many of them are no numbers.

    Raises
    ------
    InputError
        When none of them is a number, or the source cannot be read.
    """
    if raw.dtype in STORED_TYPES:
        return Scaling(raw.dtype), 0
    survey = ValueSurvey(raw.shape)
    # Of other types all values must be seen first; that is another pass over the source.
    with track(f"survey {config.name}", raw.shape[0], "section") as advance:
        for box, slab in read_slabs(raw, raw.chunk):
            survey.add(box, slab)
            advance(count_sections(box, raw.shape))
    try:
        return survey.choose(config.window), survey.not_numbers
    except InputError as error:
        raise InputError("not one voxel is a number", where=raw.source, fix="check the source") from error


def warn_of_scaling(
    scaling: Scaling, config: IngestConfig, counts: NDArray[np.int64], source: np.dtype[Any]
) -> Iterator[str]:
    """Yield what the user should know of how intensities are stored.

    Parameters
    ----------
    scaling : Scaling
        How they are.
    config : IngestConfig
        Of the volume.
    counts : (n,) int64
        How many voxels have each intensity, as stored.
    source : dtype
        Of the source.
    """
    if scaling.clipped is not None and config.window is None:
        low, high = scaling.clipped
        yield f"intensities below {low:g} or above {high:g} were clipped, to keep the others apart: --window sets both"
    # Other scales are those of other types.
    if scaling.scale == 1 and (doubt := doubt_sign(counts, int(scaling.offset), source)):
        yield doubt


def window_of(config: IngestConfig, scaling: Scaling) -> tuple[int, int] | None:
    """Return the window that the user gave, as stored intensities."""
    if config.window is None:
        return None
    low, high = (min(max(scaling.level(end), 0), np.iinfo(scaling.dtype).max) for end in config.window)
    return math.floor(low), math.ceil(high)

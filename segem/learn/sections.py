"""A section with its truth, as input for training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LabelledSection:
    """One section with its truth.

    Parameters
    ----------
    volume : str
        Volume the section belongs to.
    image : (C, H, W) float32
        Z-scores by the statistics of the volume: the section itself in the middle, its neighbours around it.
    truth : (H, W) uint8
        1 = membrane, 2 = unknown.
    weight : float
        How often its volume is drawn, relative to the others.
    rehearsed : bool
        Whether the base model was trained on it, so that its output there is to be kept.
    pixel_nm : tuple of float, optional
        Pixel size along (y, x) in nanometres; None where it is unknown.
    """

    volume: str
    image: NDArray[np.float32]
    truth: NDArray[np.uint8]
    weight: float = 1.0
    rehearsed: bool = False
    pixel_nm: tuple[float, float] | None = None

"""What scores a volume can be expected to have where nobody has labelled it, or why nothing is said."""

from __future__ import annotations

from segem.records.base import Record


class Estimate(Record):
    """A score that is expected, with the interval that holds the true one in 90 of 100 volumes."""

    value: float
    low: float
    high: float


class Expected(Record):
    """Estimates from calibrated probabilities; nothing of it was measured on this volume."""

    iou: Estimate
    """Membrane IoU of the model's mask."""
    v_rand: Estimate | None
    """V_rand of the model's probability: what the labelled volumes that it resembles have; None where they hold no
    cell, one section alone, or sections of another size. Rougher than the IoU, and its interval holds less often."""
    distance: float
    """How far the tissue lies from what the estimate was fitted on: 0 is within, and 2 is too far."""
    like: str
    """Name of the labelled volume that it resembles most."""


class Abstains(Record):
    """No estimate is given."""

    abstains: str
    """Why, in a sentence."""
    reasons: tuple[str, ...] = ()
    """What is unlike the sections that the estimate was fitted on, the most unlike first."""

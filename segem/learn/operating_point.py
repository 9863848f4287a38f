"""Calibration and threshold of a trained net, both from labelled sections it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from segem.kernels.metrics.divisions import choose_limit
from segem.kernels.metrics.iou import Confusion
from segem.kernels.threshold import quantize_probability
from segem.learn.checks import check_predicted, check_sections
from segem.learn.platt import fit_calibration
from segem.learn.predict import predict_section
from segem.learn.sections import LabelledSection
from segem.records.card import Calibration

THRESHOLDS = np.round(np.arange(0.1, 0.96, 0.025), 3)


def calibrate(net: nn.Module, sections: Sequence[LabelledSection], device: torch.device | str = "cpu") -> Calibration:
    """Return the calibration of a net, fitted to labelled sections; each volume counts the same.

    Raises
    ------
    InputError, ModelError
        When there is nothing to fit to, or the net gives NaN or infinity.
    """
    check_sections(sections, "validation")
    volumes: dict[str, list[tuple[NDArray[np.float32], NDArray[np.uint8]]]] = {}
    for section in sections:
        # Logits, which calibration maps by a line; probabilities near 0 and 1 have lost their differences to rounding.
        logits = predict_section(net, section.image, device, of_logits=lambda x: x)
        check_predicted(logits, f"a validation section of {section.volume}")
        volumes.setdefault(section.volume, []).append((logits, section.truth))
    return fit_calibration(list(volumes.values()))


def choose_merge_below(
    net: nn.Module, sections: Sequence[LabelledSection], device: torch.device | str = "cpu"
) -> float | None:
    """Return from which mean probability on a border divides two cells; None where no section holds a cell."""
    # The 8 bits that a run stores and divides.
    return choose_limit(
        (one.volume, one.truth, quantize_probability(predict_section(net, one.image, device))) for one in sections
    )


def choose_threshold(
    net: nn.Module, sections: Sequence[LabelledSection], device: torch.device | str = "cpu"
) -> tuple[float, float]:
    """Return the threshold with the best membrane IoU, averaged over volumes, and that IoU."""
    pooled: dict[str, list[Confusion]] = {}
    for section in sections:
        probability = predict_section(net, section.image, device)
        counts = [Confusion.count(section.truth, (probability >= t).astype(np.uint8)) for t in THRESHOLDS]
        before = pooled.get(section.volume)
        pooled[section.volume] = counts if before is None else [a + b for a, b in zip(before, counts, strict=True)]
    # Pixels are pooled within a volume, so that a section without membrane does not count as much as a full one;
    # volumes count alike, so that a large one does not decide alone.
    curve = np.mean([[c.iou for c in counts] for counts in pooled.values()], axis=0)
    best = int(np.argmax(curve))
    return float(THRESHOLDS[best]), float(curve[best])

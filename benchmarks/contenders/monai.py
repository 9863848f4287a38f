"""MONAI's sliding window; the sections of a stack are its batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from contenders.case import Case, Stack

WINDOW_PX = 256


def default(case: Case) -> Callable[[Stack, Path], Tensor]:
    """Use the overlap and weights that MONAI takes when nothing is said."""
    return _sliding_window(case, WINDOW_PX, sw_batch_size=4)


def gaussian(case: Case) -> Callable[[Stack, Path], Tensor]:
    """Use the settings usual for quality."""
    return _sliding_window(case, WINDOW_PX, sw_batch_size=4, overlap=0.5, mode="gaussian")


def whole(case: Case) -> Callable[[Stack, Path], Tensor]:
    """Use the settings fastest for sections that fit into memory."""
    return _sliding_window(case, None, sw_batch_size=1)


def _sliding_window(case: Case, window_px: int | None, **settings: Any) -> Callable[[Stack, Path], Tensor]:
    from monai.inferers import sliding_window_inference

    net = case.net()

    def predict(stack: Stack, _: Path) -> Tensor:
        roi = tuple(stack.input.shape[-2:]) if window_px is None else (window_px, window_px)
        with torch.inference_mode():
            logits: Tensor = sliding_window_inference(stack.input, roi, predictor=net, **settings)
        return logits

    return predict

"""The net alone, on whole sections: what any tool around it can reach at best."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from contenders.case import Case, Stack


def whole_sections(forward: Callable[[Tensor], Tensor]) -> Callable[[Stack, Path], Tensor]:
    """Return what predicts section after section."""

    def predict(stack: Stack, _: Path) -> Tensor:
        logits = torch.empty_like(stack.input)
        with torch.inference_mode():
            for z, section in enumerate(stack.input):
                logits[z] = forward(section[None])[0]
        return logits

    return predict


def eager(case: Case) -> Callable[[Stack, Path], Tensor]:
    """Run the net as it is."""
    return whole_sections(case.net())


def optimised(case: Case) -> Callable[[Stack, Path], Tensor]:
    """Run the net as segem does in torch."""
    return whole_sections(case.optimised_net())


def openvino(case: Case) -> Callable[[Stack, Path], Tensor]:
    """Run the net compiled by OpenVINO."""
    import openvino as ov

    from segem.learn.fold import folded

    model = ov.convert_model(folded(case.net()), example_input=torch.zeros(1, 1, 64, 64))
    # Without the hint, processors with bfloat16 would compute in it.
    settings = {"INFERENCE_NUM_THREADS": case.threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()
    return whole_sections(lambda x: torch.from_numpy(request.infer({0: x.numpy()})[0]))

"""segem's whole pipeline: a volume in, and a checked result with ledger, mask and pyramid on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contenders.case import Case, Stack
from segem.config import ExecutionConfig, SegmentConfig, parse
from segem.io.volume import Volume
from segem.stages.segmentation.segment import segment


def start(case: Case, **settings: Any) -> Callable[[Stack, Path], None]:
    """Return what segments a stack; the folder's name is that of the run."""
    config = parse(SegmentConfig, {"model": str(case.artefact), **settings})

    def predict(stack: Stack, folder: Path) -> None:
        segment(stack.name, folder.name, config, ExecutionConfig(device="cpu"), case.workspace)

    return predict


def read(stack: Stack, folder: Path) -> NDArray[np.float32]:
    """Return the probabilities of a run."""
    result = Volume.open(stack.case.workspace.result(folder.name, stack.name))
    return np.asarray(result.raw[:], np.float32) / np.float32(255)

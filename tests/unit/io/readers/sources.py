"""A source read whole, or refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segem.config import Selection, Url
from segem.errors import InputError
from segem.geometry import Box
from segem.io.readers import Stack, open_stack


def opened(source: Path | Url, **chosen: Any) -> Stack:
    return open_stack(source, Selection(**chosen))


def read(source: Path | Url, **chosen: Any) -> np.ndarray:
    with opened(source, **chosen) as stack:
        return stack.read(Box.of_shape(stack.shape))


def refused(source: Path | Url, **chosen: Any) -> str:
    with pytest.raises(InputError) as caught:
        read(source, **chosen)
    assert "\n" not in str(caught.value)
    return str(caught.value)

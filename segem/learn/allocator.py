"""Makes glibc keep the memory of activations instead of returning it to the system after every layer."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEEP_UP_TO = 2**30


@cache
def keep_activations() -> bool:
    """Raise the sizes from which glibc maps and unmaps memory; once per process.

    Activations of a section are tens to hundreds of megabytes, and by default each is mapped afresh, page by page, for
    every layer. Only glibc knows these settings; elsewhere nothing changes.

    Returns
    -------
    bool
        Whether the settings were taken.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _KEEP_UP_TO)) and bool(mallopt(_M_TRIM_THRESHOLD, _KEEP_UP_TO))

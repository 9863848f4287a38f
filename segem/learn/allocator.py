"""Makes glibc keep the memory of activations instead of returning it to the system after every layer."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_KEEP_UP_TO = 2**30


@cache
def keep_activations() -> bool:
    """Raise the sizes from which glibc maps and unmaps memory, and let all threads share it; once per process.

    Activations of a section are tens to hundreds of megabytes, and by default each is mapped afresh, page by page, for
    every layer. Kept by each thread for itself, they would pile up; so there is one heap for all, and the peak of a
    long run is that of a short one. Only glibc knows these settings; elsewhere nothing changes. Heaps that threads
    have by then stay in use, so this is to be called early.

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
    settings = {_M_ARENA_MAX: 1, _M_MMAP_THRESHOLD: _KEEP_UP_TO, _M_TRIM_THRESHOLD: _KEEP_UP_TO}
    taken = [bool(mallopt(key, value)) for key, value in settings.items()]
    return all(taken)

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

    Activations of a section are tens to hundreds of megabytes, and by default each is mapped again, page by page, for
    every layer. If each thread kept its own they would pile up, so all threads share one heap, and the peak of a long
    run is that of a short one. Only glibc has these settings; elsewhere nothing changes. Threads that have a heap
    already keep it, so call this early.

    Returns
    -------
    bool
        Whether the settings were accepted.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # Setting a threshold also stops glibc from adapting it to what was freed last.
    settings = {_M_ARENA_MAX: 1, _M_MMAP_THRESHOLD: _KEEP_UP_TO, _M_TRIM_THRESHOLD: _KEEP_UP_TO}
    taken = [bool(mallopt(key, value)) for key, value in settings.items()]
    return all(taken)

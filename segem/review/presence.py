"""Who looks at what just now, so that two people do not correct the same place without knowing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

FORGOTTEN_SECONDS = 12.0
"""A page asks for news every few seconds; one that has not for so long is closed or asleep."""


@dataclass(frozen=True)
class Where:
    """A person's place: volume, section and the middle of what is shown."""

    person: str
    volume: str
    z: int
    y: int
    x: int


@dataclass
class Presence:
    """The places of all open pages.

    Examples
    --------
    >>> presence = Presence()
    >>> presence.note("tab-1", Where("Ana", "cortex", 3, 10, 10))
    []
    >>> [other.person for other in presence.note("tab-2", Where("Bo", "cortex", 3, 90, 90))]
    ['Ana']
    """

    clock: Callable[[], float] = time.monotonic
    _places: dict[str, tuple[float, Where]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, page: str, where: Where) -> list[Where]:
        """Note where the person of a page is, and return who else is in that section: others, and other pages."""
        now = self.clock()
        with self._lock:
            self._places = {key: seen for key, seen in self._places.items() if now - seen[0] < FORGOTTEN_SECONDS}
            self._places[page] = (now, where)
            here = (where.volume, where.z)
            return [
                other for key, (_, other) in self._places.items() if key != page and (other.volume, other.z) == here
            ]

"""Labels of a source become a truth: membrane, background, or unknown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.config import LabelSource
from segem.errors import InputError
from segem.io.readers import Stack
from segem.kernels.truth import UNKNOWN

# Membranes are thin: with more than this fraction of membrane, the polarity is probably inverted.
_PLAUSIBLE_MEMBRANE = 0.5


class TruthTally:
    """Turns label sections into truth by an explicit polarity, and counts their voxels."""

    def __init__(self, stack: Stack, labels: LabelSource) -> None:
        self.stack = stack
        self.polarity, self.ignore = labels.membrane, labels.ignore
        self.membrane = self.known = 0
        self.unknown_sections: list[int] = []
        self.values: set[Any] = set()

    def add(self, z: int, section: NDArray[Any]) -> NDArray[np.uint8]:
        """Count a section, and return its truth, uint8: 1 on membrane, 0 on background, and `UNKNOWN` elsewhere."""
        if z in self.stack.masked:
            self.unknown_sections.append(z)
            return np.full(section.shape, UNKNOWN, np.uint8)
        # NaN is no class: "nonzero" would make it membrane, and "zero" background.
        if section.dtype.kind == "f" and not np.isfinite(section).all():
            raise InputError(
                "the labels hold values that are not numbers",
                where=self.stack.label_of(z),
                found="NaN or infinity",
                fix="replace them by the value of background",
            )
        if self.polarity == "zero":
            chosen = section == 0
        elif self.polarity == "nonzero":
            chosen = section != 0
        else:
            chosen = section == self.polarity
        # For messages only: labels of cells may hold millions of values.
        if len(self.values) < 20:
            self.values.update(np.unique(section)[:20].tolist())
        truth: NDArray[np.uint8] = chosen.astype(np.uint8)
        # After the polarity, since the value to ignore is also zero, nonzero or a value of its own.
        if self.ignore is not None:
            truth[section == self.ignore] = UNKNOWN
        known = int(np.count_nonzero(truth != UNKNOWN))
        if known == 0:
            self.unknown_sections.append(z)
        self.known += known
        self.membrane += int(np.count_nonzero(truth == 1))
        return truth

    @property
    def fraction(self) -> float:
        """Fraction of membrane in the known voxels."""
        return self.membrane / self.known

    def check(self) -> None:
        """Raise where the labels do not hold the values that were given."""
        if self.known == 0:
            raise InputError(
                "every voxel of the labels has the value to ignore",
                where=self.stack.source,
                found=f"value {self.ignore} only",
                fix="correct the value (ignore, --ignore), or leave the labels out",
            )
        if self.membrane == 0 and self.polarity not in ("zero", "nonzero"):
            raise InputError(
                f"no voxel of the labels has the value {self.polarity} that means membrane",
                where=self.stack.source,
                found=f"values {', '.join(str(value) for value in sorted(self.values)[:20])}",
                fix="correct the polarity: zero, nonzero or one of these values",
            )

    def facts(self) -> dict[str, Any]:
        """Return the facts about the labels that the volume keeps."""
        facts = {
            "source": str(self.stack.source),
            "membrane": self.polarity,
            "membrane_fraction": self.fraction,
        }
        if self.ignore is None and not self.stack.masked:
            return facts
        share = {"known_fraction": self.known / self._voxels, "unknown_sections": self.unknown_sections}
        return facts | {"ignore": self.ignore} | share

    def warnings(self) -> Iterator[str]:
        """Yield what is doubtful about the labels."""
        yield from self.stack.warnings
        if self.fraction in (0.0, 1.0):
            yield f"the labels hold one class only: {self.fraction:.0%} membrane"
        elif self.fraction > _PLAUSIBLE_MEMBRANE:
            yield f"{self.fraction:.0%} of the labels is membrane: check the polarity (now: {self.polarity})"
        if self.ignore is not None and self.known == self._voxels:
            yield f"no voxel of the labels has the value {self.ignore} to ignore: all of them count"

    @property
    def _voxels(self) -> int:
        # As Python integers, which do not overflow.
        return int(np.prod(self.stack.shape, dtype=object))

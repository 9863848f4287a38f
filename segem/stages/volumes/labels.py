"""Labels of a source become a truth: membrane, background, or unknown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.config import LabelSource
from segem.errors import InputError
from segem.geometry import VoxelSize, name_sections
from segem.io.readers import Stack
from segem.io.seen import merge_ranges
from segem.kernels.instances import is_any, outline_cells
from segem.kernels.normalize import histogram
from segem.kernels.truth import UNKNOWN

# Membranes are thin: with more than this fraction of membrane, the polarity is probably inverted.
_PLAUSIBLE_MEMBRANE = 0.5
# Labels of cells may hold millions of values; so many are told apart.
_MOST_VALUES = 1000
_SHOWN_VALUES, _SHOWN_RANGES = 20, 5
# Stray pixels of 0 are no areas that nobody painted.
_DOUBTFUL_ZERO = 0.01
# What resizing or JPEG leaves between two values that were painted; few others would be classes that were meant.
_FEWEST_BETWEEN = 16


class TruthTally:
    """Turns label sections into truth by an explicit polarity, and counts their voxels."""

    def __init__(self, stack: Stack, labels: LabelSource, voxel_size: VoxelSize) -> None:
        self.stack, self.labels = stack, labels
        self.pixel_nm = voxel_size.y, voxel_size.x
        self.membrane = self.known = self.ignored = 0
        self.unknown_sections: list[int] = []
        self.of_one_value: list[int] = []
        self.of_both_classes: list[int] = []
        self.without_membrane: list[int] = []
        self.values: Counter[Any] = Counter()
        self.zeros = self.painted = 0
        self._check_border()

    def add(self, z: int, section: NDArray[Any], outside: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
        """Count a section, and return its truth, uint8: 1 on membrane, 0 on background, and `UNKNOWN` elsewhere.

        Where there is no tissue, nothing is known, whatever the labels say.
        """
        if z in self.stack.masked:
            # Put in for a section that is missing, so nothing is known of it.
            self.unknown_sections.append(z)
            return np.full(section.shape, UNKNOWN, np.uint8)
        self._check_numbers(z, section)
        labels = self.labels
        self._note_values(section)
        ignored = is_any(section, labels.ignored)
        self.ignored += int(np.count_nonzero(ignored))
        if labels.membrane == "borders" and labels.border_nm is not None and labels.zero_means is not None:
            truth = outline_cells(section, labels.border_nm, self.pixel_nm, labels.zero_means, labels.ignored)
        else:
            chosen = section != 0 if labels.values is None else is_any(section, labels.values)
            truth = chosen.astype(np.uint8)
            # After the polarity, since the value to ignore is also zero, nonzero or a value of its own.
            truth[ignored] = UNKNOWN
        tissue = section if outside is None else section[~outside]
        if outside is not None:
            truth[outside] = UNKNOWN
        known = int(np.count_nonzero(truth != UNKNOWN))
        # A section that is ignored as a whole has been accounted for.
        if known and tissue.min() == tissue.max():
            self.of_one_value.append(z)
            if labels.unpainted == "unknown":
                truth[...], known = UNKNOWN, 0
        if known == 0:
            self.unknown_sections.append(z)
        elif z not in self.of_one_value[-1:]:
            self.zeros += int(np.count_nonzero(tissue == 0))
            self.painted += tissue.size
        membrane = int(np.count_nonzero(truth == 1))
        if 0 < membrane < known:
            self.of_both_classes.append(z)
        elif known and not membrane:
            self.without_membrane.append(z)
        self.known += known
        self.membrane += membrane
        return truth

    @property
    def fraction(self) -> float:
        """Fraction of membrane in the known voxels."""
        return self.membrane / self.known

    def check(self) -> None:
        """Raise where the labels do not hold the values that were given."""
        if self.known == 0:
            ignored = self.ignored == self._voxels
            raise InputError(
                "every voxel of the labels has the value to ignore" if ignored else "nothing is known of the labels",
                where=self.stack.source,
                found=f"value {self._listed()} only" if len(self.values) == 1 else f"values {self._listed()}",
                fix="correct what is unknown (ignore, --ignore, --unpainted, --zero-means), or leave the labels out",
            )
        if self.membrane == 0 and isinstance(self.labels.membrane, (int, tuple)):
            raise InputError(
                f"no voxel of the labels has the value {write_values(self.labels.membrane)} that means membrane",
                where=self.stack.source,
                found=f"values {self._listed()}",
                fix="correct the polarity: zero, nonzero or some of these values",
            )

    def facts(self) -> dict[str, Any]:
        """Return the facts about the labels that the volume keeps."""
        labels = self.labels
        facts: dict[str, Any] = {
            "source": str(self.stack.source),
            "membrane": labels.membrane,
            "membrane_fraction": self.fraction,
        }
        if labels.membrane == "borders":
            facts |= {"border_nm": labels.border_nm, "zero_means": labels.zero_means}
        if labels.ignore is not None:
            facts["ignore"] = labels.ignore
        if labels.unpainted == "unknown":
            facts["unpainted"] = labels.unpainted
        if self.without_membrane:
            facts["sections_without_membrane"] = self.without_membrane
        if labels.ignore is None and self.known == self._voxels:
            return facts
        return facts | {"known_fraction": self.known / self._voxels, "unknown_sections": self.unknown_sections}

    def warnings(self) -> Iterator[str]:
        """Yield what is doubtful about the labels."""
        yield from self.stack.warnings
        polarity = write_values(self.labels.membrane)
        if self.fraction in (0.0, 1.0):
            yield f"the labels hold one class only: {self.fraction:.0%} membrane"
        elif self.fraction > _PLAUSIBLE_MEMBRANE:
            yield f"{self.fraction:.0%} of the labels is membrane: check the polarity (now: {polarity})"
        yield from self._warn_of_unpainted()
        yield from self._warn_of_zero()
        yield from self._warn_of_values(polarity)
        if self.labels.ignored and not self.ignored:
            values = write_values(self.labels.ignored)
            yield f"no voxel of the labels has the value {values} to ignore: all of them count"

    def _warn_of_unpainted(self) -> Iterator[str]:
        sections = self.stack.shape[0]
        # Where each section has one value, the whole has one class, which is told already.
        if self.labels.unpainted == "unknown" or not 0 < len(self.of_one_value) < sections:
            return
        ranges = merge_ranges((z, z + 1) for z in self.of_one_value)
        more = ", ..." if len(ranges) > _SHOWN_RANGES else ""
        listed = f"{name_sections(ranges[:_SHOWN_RANGES])}{more}"
        yield (
            f"{len(self.of_one_value)} of {sections} label sections hold one value only ({listed}), which counts as it "
            "does elsewhere: if nobody has painted them, give --unpainted unknown (in a manifest unpainted: unknown)"
        )

    def _warn_of_zero(self) -> Iterator[str]:
        """Yield a question where 0 and a value that was painted both mean background."""
        values = self.labels.values or (0,)
        others = [value for value in self.values if value != 0 and value not in (*values, *self.labels.ignored)]
        if 0 in (*values, *self.labels.ignored) or not others or self.zeros <= _DOUBTFUL_ZERO * self.painted:
            return
        background = ", ".join(f"{value:g}" for value in sorted(others)[:5]) + (", ..." if len(others) > 5 else "")
        yield (
            f"{self.zeros / self.painted:.0%} of the sections that were painted is 0, which counts as background like "
            f"{background}: if 0 means not labelled, give --ignore 0 (ignore: 0 in a manifest)"
        )

    def _warn_of_values(self, polarity: str) -> Iterator[str]:
        if self.labels.membrane == "borders":
            return
        painted = Counter({value: count for value, count in self.values.items() if value not in self.labels.ignored})
        several = self.labels.membrane in ("zero", "nonzero") and len(painted) > 2
        if not several and not _is_blurred(painted):
            return
        count = f"{len(painted)} values" if len(painted) < _MOST_VALUES else f"{_MOST_VALUES} values or more"
        ways = ["if they were resized or saved as JPEG, make them again by nearest neighbour and without loss"]
        if several:
            ways += [
                "if the values number cells, give --membrane borders",
                "if they are classes, name those that mean membrane (--membrane 1,2) and not labelled (--ignore)",
            ]
        why = f"where {polarity} expects two" if several else "most of them between the two that are most frequent"
        yield f"the labels hold {count} ({self._listed(5)}), {why}: {'; '.join(ways)}"

    def _note_values(self, section: NDArray[Any]) -> None:
        if section.dtype in (np.bool_, np.uint8, np.uint16):
            counts = histogram(section.view(np.uint8) if section.dtype == np.bool_ else section)
            self.values.update({int(value): int(counts[value]) for value in np.flatnonzero(counts)})
        elif len(self.values) < _MOST_VALUES:
            values, counts = np.unique(section, return_counts=True)
            most = np.argsort(counts, kind="stable")[::-1][: _MOST_VALUES - len(self.values)]
            self.values.update(dict(zip(values[most].tolist(), counts[most].tolist(), strict=True)))

    def _listed(self, most: int = _SHOWN_VALUES) -> str:
        values = sorted(self.values)
        more = ", ..." if len(values) > most else ""
        return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values[:most]) + more

    def _check_border(self) -> None:
        width, pixel = self.labels.border_nm, max(self.pixel_nm)
        if width is not None and width < 2 * pixel:
            raise InputError(
                "a membrane between cells that touch needs a pixel in each of them",
                where=self.stack.source,
                expected=f"a border of {2 * pixel:g} nm or more, with pixels of {pixel:g} nm",
                found=f"border_nm {width:g}",
                fix="give a wider border (border_nm, --border-nm), or correct the voxel size",
            )

    def _check_numbers(self, z: int, section: NDArray[Any]) -> None:
        if section.dtype.kind != "f":
            return
        # NaN is no class: "nonzero" would make it membrane, and "zero" background.
        if not np.isfinite(section).all():
            raise InputError(
                "the labels hold values that are not numbers",
                where=self.stack.label_of(z),
                found="NaN or infinity",
                fix="give them a value of their own, and name it by --ignore (ignore in a manifest)",
            )
        if self.labels.membrane != "borders":
            return
        if (section != np.rint(section)).any():
            raise InputError(
                "the labels do not number cells",
                where=self.stack.label_of(z),
                expected="whole numbers",
                found="values between them",
                fix="if the labels were resized, do it again by nearest neighbour; write whole numbers",
            )
        # Beyond it, neighbouring numbers are one to a float, and cells that touch would be one.
        exact = 2 ** (np.finfo(section.dtype).nmant + 1)
        if np.abs(section).max() >= exact:
            raise InputError(
                "the numbers of the cells are too large for their type",
                where=self.stack.label_of(z),
                expected=f"less than {exact} in {section.dtype}",
                found=f"{float(np.abs(section).max()):.0f}",
                fix="store the numbers as integers (uint32 or uint64)",
            )

    @property
    def _voxels(self) -> int:
        # As Python integers, which do not overflow.
        return int(np.prod(self.stack.shape, dtype=object))


def write_values(values: str | int | tuple[int, ...]) -> str:
    """Return a polarity, or values to ignore, as they are typed.

    Examples
    --------
    >>> write_values("zero"), write_values(255), write_values((0, 32))
    ('zero', '255', '0,32')
    """
    return ",".join(map(str, values)) if isinstance(values, tuple) else str(values)


def _is_blurred(counts: Counter[Any]) -> bool:
    """Return whether many values lie between two that hold most voxels, as after resizing or JPEG."""
    if len(counts) < 2 + _FEWEST_BETWEEN:
        return False
    low, high = sorted(value for value, _ in counts.most_common(2))
    between = sum(low < value < high for value in counts)
    return between >= max(_FEWEST_BETWEEN, len(counts) // 2) and 2 * (counts[low] + counts[high]) >= counts.total()
